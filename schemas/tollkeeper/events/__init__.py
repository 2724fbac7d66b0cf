"""The facts on the log: their types, Avro schemas, codec and ids. Knows no log and no storage."""
