"""The Avro schemas of all events and versions, kept in files under fixed ids.

`avro/registry.toml` maps an id to its file, `avro/<Event>.v<version>.avsc`. A file that was
released never changes, and an id is never given twice. Must not know the events' types or rules.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import fastavro
import msgspec

from tollkeeper.errors import BrokenInvariant

AvroSchema = dict[str, Any]
"""A schema as JSON: fastavro's own type for it."""

_FILE = re.compile(r"([A-Z][A-Za-z]*)\.v([1-9][0-9]*)\.avsc")


class Schema(msgspec.Struct, frozen=True):
    """One version of one event's schema. `parsed` is fastavro's form, `source` the file's."""

    schema_id: int
    event: str
    version: int
    source: AvroSchema
    parsed: AvroSchema


class Registry(msgspec.Struct, frozen=True):
    """All schemas, by id; `newest` is what each event is written with."""

    by_id: Mapping[int, Schema]
    newest: Mapping[str, Schema]


@cache
def registry() -> Registry:
    """The registry that this release ships."""
    return load_registry(resources.files("tollkeeper.events") / "avro")


def load_registry(folder: Traversable) -> Registry:
    """Read a registry from a folder; BrokenInvariant when files and ids don't fit together."""
    ids = tomllib.loads((folder / "registry.toml").read_text())["schemas"]
    stored = {entry.name for entry in folder.iterdir() if entry.name.endswith(".avsc")}
    if different := stored ^ set(ids.values()):
        raise BrokenInvariant(
            f"registry.toml and the files differ in {', '.join(sorted(different))}"
        )
    if len(ids) != len(stored):
        raise BrokenInvariant("registry.toml: one schema has two ids")
    by_id = {int(number): _load(folder, int(number), name) for number, name in ids.items()}
    newest: dict[str, Schema] = {}
    for schema in sorted(by_id.values(), key=lambda schema: schema.version):
        newest[schema.event] = schema
    return Registry(by_id, newest)


def _load(folder: Traversable, schema_id: int, name: str) -> Schema:
    parts = _FILE.fullmatch(name)
    if parts is None:
        raise BrokenInvariant(f"{name}: a schema's file is named <Event>.v<version>.avsc")
    event, version = parts[1], int(parts[2])
    source: AvroSchema = json.loads((folder / name).read_text())
    if source["name"] != event:
        raise BrokenInvariant(f"{name}: holds the schema of {source['name']}")
    # A copy: fastavro marks what it has parsed, and `source` is to be the file's content.
    parsed: AvroSchema = fastavro.parse_schema(json.loads(json.dumps(source)))
    return Schema(schema_id, event, version, source, parsed)
