"""Whether two versions of an event's schema can read each other's records (Avro schema resolution).

Also what our schemas may contain at all. Used before a schema is released, never while running. Must
not know which events there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any

from tollkeeper.events.registry import Schema

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_PROMOTIONS = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_Node = Any
"""A schema or a part of one, as JSON."""


def full_transitive_faults(versions: Iterable[Schema]) -> list[str]:
    """What keeps any version of one event from reading any other, in either direction."""
    faults = []
    for reader, writer in permutations(versions, 2):
        for fault in resolution_faults(reader.source, writer.source):
            faults.append(f"{reader.event}: v{reader.version} reads v{writer.version}: {fault}")
    return faults


def resolution_faults(reader: _Node, writer: _Node) -> list[str]:
    """What keeps `reader` from reading what was written with `writer`, by place in the schema."""
    return list(_Resolution(reader, writer).faults(reader, writer, ""))


class _Resolution:
    """One resolution; remembers the named types of both sides and the pairs under way."""

    def __init__(self, reader: _Node, writer: _Node) -> None:
        self._reader_names = dict(_named(reader))
        self._writer_names = dict(_named(writer))
        self._under_way: set[tuple[str, str]] = set()

    def faults(self, reader: _Node, writer: _Node, place: str) -> Iterator[str]:
        """The rules of the Avro specification, section "Schema Resolution"."""
        reader = self._reader_names.get(reader, reader) if isinstance(reader, str) else reader
        writer = self._writer_names.get(writer, writer) if isinstance(writer, str) else writer
        if isinstance(writer, list):
            for branch in writer:
                yield from self.faults(reader, branch, place)
        elif isinstance(reader, list):
            if all(any(self.faults(branch, writer, place)) for branch in reader):
                yield f"{place or '(root)'}: no branch of the reader takes {_kind(writer)}"
        elif (kind := _kind(reader)) != _kind(writer):
            if kind not in _PROMOTIONS.get(_kind(writer), ()):
                yield f"{place or '(root)'}: {kind} doesn't read {_kind(writer)}"
        elif kind == "record":
            yield from self._record(reader, writer, place)
        elif kind == "enum":
            yield from self._enum(reader, writer, place)
        elif kind == "fixed":
            if (reader["name"], reader["size"]) != (writer["name"], writer["size"]):
                yield f"{place}: fixed of another name or size"
        elif kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            yield from self.faults(reader[part], writer[part], f"{place}[]")

    def _record(self, reader: _Node, writer: _Node, place: str) -> Iterator[str]:
        pair = (reader["name"], writer["name"])
        if pair in self._under_way:
            return
        if reader["name"] != writer["name"]:
            yield f"{place or '(root)'}: record {reader['name']} doesn't read {writer['name']}"
            return
        self._under_way.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            inner = f"{place}.{field['name']}" if place else field["name"]
            if field["name"] in written:
                yield from self.faults(field["type"], written[field["name"]]["type"], inner)
            elif "default" not in field:
                yield f"{inner}: the writer lacks it and it has no default"
        self._under_way.discard(pair)

    def _enum(self, reader: _Node, writer: _Node, place: str) -> Iterator[str]:
        unknown = sorted(set(writer["symbols"]) - set(reader["symbols"]))
        if reader["name"] != writer["name"]:
            yield f"{place}: enum of another name"
        elif unknown and "default" not in reader:
            yield f"{place}: the reader lacks the symbols {', '.join(unknown)} and has no default"


def shape_faults(source: _Node) -> list[str]:
    """What our schemas don't contain, by place.

    Allowed are strings, longs, nullable ones with null first and as default, arrays of records, and
    records that don't contain themselves. So every element takes at least a byte, and no few bytes
    can become much: an array of nulls makes 400 MB of five bytes, and a recursive record ends the
    process.
    """
    return list(_shape(source, "", ()))


def _shape(node: _Node, place: str, outer: tuple[str, ...]) -> Iterator[str]:
    kind = _kind(node)
    if kind == "record" and node["name"] in outer:
        yield f"{place}: {node['name']} contains itself"
    elif kind == "record":
        if not node["fields"]:
            yield f"{place or '(root)'}: a record without fields takes no byte"
        for field in node["fields"]:
            inner = f"{place}.{field['name']}" if place else field["name"]
            yield from _default(field, inner)
            yield from _shape(field["type"], inner, (*outer, node["name"]))
    elif kind == "array" and _kind(node["items"]) == "record":
        yield from _shape(node["items"], f"{place}[]", outer)
    elif node not in ("string", "long", ["null", "string"], ["null", "long"]):
        yield f"{place or '(root)'}: {node!r} isn't among the types that we use"


def _default(field: _Node, place: str) -> Iterator[str]:
    if "default" not in field:
        return
    fitting = {"string": str, "long": int}.get(_kind(field["type"]), type(None))
    if type(field["default"]) is not fitting:
        yield f"{place}: the default {field['default']!r} isn't of the field's type"


def _kind(node: _Node) -> str:
    if isinstance(node, list):
        return "union"
    kind = node["type"] if isinstance(node, dict) else node
    return str(kind)


def _named(node: _Node) -> Iterator[tuple[str, _Node]]:
    """Every named type within a schema, by its name without namespace."""
    if isinstance(node, list):
        for branch in node:
            yield from _named(branch)
    elif isinstance(node, dict):
        if "name" in node and node["type"] not in _PRIMITIVES:
            yield node["name"], node
        for field in node.get("fields", ()):
            yield from _named(field["type"])
        for part in ("items", "values"):
            if part in node:
                yield from _named(node[part])
