"""The log port and its adapters: ordered records per partition, groups, offsets. Knows no event."""
