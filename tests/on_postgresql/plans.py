"""The plan of every statement that one engine runs on PostgreSQL, with the rows that it really reads.

Each is explained and run right before it runs for itself, inside a savepoint that is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event

_PLANNED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


class Plans:
    """Notes plans from now on."""

    def __init__(self, engine: Engine) -> None:
        self.noted: list[tuple[str, dict[str, Any]]] = []
        event.listen(engine, "before_cursor_execute", self._note)

    def walking(self, tables: tuple[str, ...], most_rows: int) -> list[str]:
        """Each access that read more rows of one of these tables, or all of them, with its statement."""
        return [
            f"{node['Node Type']} of {node['Relation Name']} reads {_rows_read(node)} rows in "
            f"{statement}"
            for statement, plan in self.noted
            for node in _nodes(plan)
            if node.get("Relation Name") in tables
            if node["Node Type"] == "Seq Scan" or _rows_read(node) > most_rows
        ]

    def _note(
        self,
        connection: Any,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        many: bool,
    ) -> None:
        if not statement.lstrip().startswith(_PLANNED):
            return
        with connection.connection.driver_connection.cursor() as cursor:
            cursor.execute("SAVEPOINT plans")
            cursor.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters[0] if many else parameters
            )
            ((explained,),) = cursor.fetchone()
            cursor.execute("ROLLBACK TO SAVEPOINT plans")
        self.noted.append((" ".join(statement.split()), explained["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _rows_read(node: dict[str, Any]) -> int:
    """What came out of a node and what it threw away, in all of its loops."""
    thrown = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    each = node["Actual Rows"] + sum(node.get(name, 0) for name in thrown)
    return int(each * node["Actual Loops"])
