"""The floors on Kafka and PostgreSQL: what any fold has to do, and nothing around it.

`consume` reads the records with kafka-python; `decode` makes dictionaries of them with fastavro; `write`
puts the rows of a recorded fold into the same tables, one transaction a batch, with psycopg's COPY;
`loop` does all three in turn. Speaks as `folding_child` does.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from time import perf_counter

import psycopg
from bench.folding_child import say
from bench.recording import Row, Written
from fastavro import schemaless_reader
from kafka import KafkaConsumer, TopicPartition

from tollkeeper.app.settings import Settings, load_settings
from tollkeeper.events.registry import registry
from tollkeeper.ledger.collector import paused_collector
from tollkeeper.ledger.dialect_postgresql import ADD_STAGED_SPEND, copy_type, upsert_staged
from tollkeeper.ledger.tables import charge, spend
from tollkeeper.log.kafka_reading import FETCH_BYTES
from tollkeeper.outbox.database import open_engine
from tollkeeper.outbox.tables import metadata

BATCH = 5_000


class Bare:
    """One process's share: the recorded batches, and the partitions that they come from."""

    def __init__(self, settings: Settings, batches: list[Written]) -> None:
        assert settings.kafka is not None
        self.batches = batches
        self.ends: dict[int, int] = {}
        for batch in batches:
            self.ends.update(batch.ends)
        self._kafka = settings.kafka
        self._schemas = {one.schema_id.to_bytes(4): one.parsed for one in registry().by_id.values()}
        url = open_engine(settings.sql).url.set(drivername="postgresql")
        self._connection = psycopg.connect(url.render_as_string(hide_password=False))

    def values(self) -> Iterator[list[bytes]]:
        """The partitions' records from the beginning on, in lists of up to BATCH."""
        places = [TopicPartition(self._kafka.topic, one) for one in self.ends]
        consumer = KafkaConsumer(
            **self._kafka.client_options,
            group_id=None,
            metrics_enabled=False,
            enable_auto_commit=False,
            max_poll_records=BATCH,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        left, batch = sum(self.ends.values()), list[bytes]()
        while left:
            found = consumer.poll(timeout_ms=250, max_records=min(left, BATCH - len(batch)))
            for records in found.values():
                batch += [record.value for record in records]
                left -= len(records)
            if len(batch) == BATCH or (batch and not left):
                yield batch
                batch = []
        with suppress(Exception):
            consumer.close(autocommit=False)

    def decode(self, values: list[bytes]) -> list[object]:
        """Dictionaries."""
        schemas = self._schemas
        return [schemaless_reader(BytesIO(v[5:]), schemas[v[1:5]], None) for v in values]

    def write(self, batch: Written) -> None:
        """One transaction."""
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE consumer_offset SET next_offset = %s WHERE log_partition = %s",
                [(end, partition) for partition, end in batch.ends.items()],
            )
            self._copy(cursor, "charge", "charge", batch.charges)
            if batch.spend:
                self._stage(cursor, spend.name, batch.spend)
                cursor.execute(ADD_STAGED_SPEND)
            for table, rows in batch.upserts:
                self._stage(cursor, table, rows)
                cursor.execute(upsert_staged(metadata.tables[table]))
        self._connection.commit()

    def _stage(self, cursor: psycopg.Cursor[Row], table: str, rows: list[Row]) -> None:
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS staged_{table} (LIKE {table}) ON COMMIT DELETE ROWS"
        )
        self._copy(cursor, f"staged_{table}", table, rows)

    def _copy(self, cursor: psycopg.Cursor[Row], into: str, like: str, rows: list[Row]) -> None:
        table = metadata.tables[like]
        names = [column.name for column in table.columns]
        with cursor.copy(f"COPY {into} ({', '.join(names)}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types([copy_type(table, name) for name in names])
            for row in rows:
                copy.write_row(row)


def main(what: str, recorded: str) -> None:
    """Do it when told to, and say how many records it took how long."""
    bare = Bare(load_settings(os.environ), pickle.loads(Path(recorded).read_bytes()))
    values = list(bare.values()) if what in ("decode", "write") else []
    records = sum(bare.ends.values())
    assert charge.name == "charge"
    say("ready")
    sys.stdin.readline()
    with paused_collector():
        began = perf_counter()
        if what == "consume":
            assert sum(map(len, bare.values())) == records
        elif what == "decode":
            for batch in values:
                bare.decode(batch)
        elif what == "write":
            for written in bare.batches:
                bare.write(written)
        else:
            rows = iter(bare.batches)
            for batch in bare.values():
                decoded = bare.decode(batch)
                if (written_next := next(rows, None)) is not None:
                    bare.write(written_next)
                del decoded
            for rest in rows:
                bare.write(rest)
        took = perf_counter() - began
    say(json.dumps({"records": records, "seconds": took}))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(sys.argv[1], sys.argv[2])
