"""The log port and its adapters: ordered records per partition, groups, offsets. Knows no event.

`port` is the contract, `partitioner` says which partition an organization belongs to. `sqlite` is the
embedded adapter; its `sqlite_*` neighbours are its parts: the file and its transactions, the tables,
errors in words, queries, consumer groups, heartbeats and the consumer.
"""
