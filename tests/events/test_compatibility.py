"""Every version of every event reads every other, and a change that breaks this is caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.compatibility import full_transitive_faults, resolution_faults, shape_faults
from tollkeeper.events.registry import Registry, load_registry, registry

AVRO = Path(__file__).parents[2] / "schemas" / "tollkeeper" / "events" / "avro"
Source = dict[str, Any]


def _versions(schemas: Registry, event: str) -> list[Any]:
    return [schema for schema in schemas.by_id.values() if schema.event == event]


@pytest.mark.parametrize("event", sorted(registry().newest))
def test_all_versions_of_an_event_read_each_other(event: str) -> None:
    assert full_transitive_faults(_versions(registry(), event)) == []


@pytest.mark.parametrize("schema_id", sorted(registry().by_id))
def test_every_schema_contains_only_what_cant_become_a_bomb(schema_id: int) -> None:
    assert shape_faults(registry().by_id[schema_id].source) == []


def _record(*fields: Source) -> Source:
    return {"type": "record", "name": "Fact", "fields": list(fields)}


def _f(name: str, kind: Any, **default: Any) -> Source:
    return {"name": name, "type": kind, **default}


ENUM = {"type": "enum", "name": "Role", "symbols": ["a", "b"]}
ROW: Source = {"type": "record", "name": "Row", "fields": [_f("n", "long")]}
NODE = {"type": "record", "name": "Node", "fields": [_f("next", ["null", "Node"])]}
A = _f("a", "long")

# (reader, writer, a datum of the writer, whether the reader reads it)
RESOLUTIONS: list[tuple[str, Source, Source, Source, bool]] = [
    ("the same", _record(A), _record(A), {"a": 1}, True),
    (
        "field added with default",
        _record(A, _f("b", "long", default=0)),
        _record(A),
        {"a": 1},
        True,
    ),
    ("field added without default", _record(A, _f("b", "long")), _record(A), {"a": 1}, False),
    ("field removed", _record(A), _record(A, _f("b", "long")), {"a": 1, "b": 2}, True),
    (
        "order changed",
        _record(_f("b", "long"), A),
        _record(A, _f("b", "long")),
        {"a": 1, "b": 2},
        True,
    ),
    ("int to long", _record(A), _record(_f("a", "int")), {"a": 1}, True),
    ("long to int", _record(_f("a", "int")), _record(A), {"a": 1}, False),
    ("long to double", _record(_f("a", "double")), _record(A), {"a": 1}, True),
    ("double to long", _record(A), _record(_f("a", "double")), {"a": 1.5}, False),
    ("long to string", _record(_f("a", "string")), _record(A), {"a": 1}, False),
    ("string to bytes", _record(_f("a", "bytes")), _record(_f("a", "string")), {"a": "x"}, True),
    ("long to nullable", _record(_f("a", ["null", "long"])), _record(A), {"a": 1}, True),
    ("nullable to long", _record(A), _record(_f("a", ["null", "long"])), {"a": None}, False),
    (
        "a branch less",
        _record(_f("a", ["null", "long"])),
        _record(_f("a", ["null", "long", "string"])),
        {"a": "x"},
        False,
    ),
    (
        "a branch promoted",
        _record(_f("a", ["null", "double"])),
        _record(_f("a", ["null", "long"])),
        {"a": 1},
        True,
    ),
    (
        "a symbol less",
        _record(_f("a", ENUM | {"symbols": ["a"]})),
        _record(_f("a", ENUM)),
        {"a": "b"},
        False,
    ),
    (
        "a symbol less with default",
        _record(_f("a", ENUM | {"symbols": ["a"], "default": "a"})),
        _record(_f("a", ENUM)),
        {"a": "b"},
        True,
    ),
    (
        "a symbol more",
        _record(_f("a", ENUM)),
        _record(_f("a", ENUM | {"symbols": ["a"]})),
        {"a": "a"},
        True,
    ),
    (
        "a row's field added without default",
        _record(_f("a", {"type": "array", "items": ROW | {"fields": [_f("m", "long")]}})),
        _record(_f("a", {"type": "array", "items": ROW})),
        {"a": [{"n": 1}]},
        False,
    ),
    (
        "a row's field added with default",
        _record(
            _f(
                "a",
                {
                    "type": "array",
                    "items": ROW | {"fields": [_f("n", "long"), _f("m", "long", default=1)]},
                },
            )
        ),
        _record(_f("a", {"type": "array", "items": ROW})),
        {"a": [{"n": 1}]},
        True,
    ),
    (
        "array to map",
        _record(_f("a", {"type": "map", "values": "long"})),
        _record(_f("a", {"type": "array", "items": "long"})),
        {"a": [1]},
        False,
    ),
    (
        "recursive",
        _record(_f("a", NODE)),
        _record(_f("a", NODE)),
        {"a": {"next": {"next": None}}},
        True,
    ),
]


@pytest.mark.parametrize(
    ("name", "reader", "writer", "datum", "readable"),
    RESOLUTIONS,
    ids=[case[0] for case in RESOLUTIONS],
)
def test_the_check_says_what_the_avro_library_does(
    name: str, reader: Source, writer: Source, datum: Source, readable: bool
) -> None:
    assert (resolution_faults(reader, writer) == []) is readable
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, _parsed(writer), datum)
    buffer.seek(0)
    if readable:
        fastavro.schemaless_reader(buffer, _parsed(writer), _parsed(reader))
    else:
        with pytest.raises(fastavro.read.SchemaResolutionError):
            fastavro.schemaless_reader(buffer, _parsed(writer), _parsed(reader))


def _parsed(source: Source) -> Any:
    return fastavro.parse_schema(json.loads(json.dumps(source)))


def test_another_records_name_isnt_read() -> None:
    assert resolution_faults(_record(A), _record(A) | {"name": "Other"}) == [
        "(root): record Fact doesn't read Other"
    ]


def _without(field: str) -> Callable[[Source], None]:
    def change(source: Source) -> None:
        source["fields"] = [f for f in source["fields"] if f["name"] != field]

    return change


def _added(**field: Any) -> Callable[[Source], None]:
    return lambda source: source["fields"].append(field)


def _retyped(field: str, kind: Any, **default: Any) -> Callable[[Source], None]:
    def change(source: Source) -> None:
        next(f for f in source["fields"] if f["name"] == field).update(type=kind, **default)

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_without("hold_id"), None),
        (_added(name="project", type=["null", "string"], default=None), None),
        (_without("event_id"), "v1 reads v2: event_id: the writer lacks it and it has no default"),
        (_added(name="project", type="string"), "v2 reads v1: project: the writer lacks it"),
        (_retyped("input_tokens", "double"), "v1 reads v2: input_tokens: long doesn't read double"),
        (_retyped("member", ["null", "string"]), "v1 reads v2: member: string doesn't read null"),
        (
            _retyped("request_id", "string", default=""),
            "v2 reads v1: request_id: string doesn't read null",
        ),
        (_retyped("sequence", "string"), "sequence: string doesn't read long"),
    ],
)
def test_an_incompatible_next_version_of_usage_is_caught(
    tmp_path: Path, change: Callable[[Source], None], fault: str | None
) -> None:
    folder = _with_second_usage(tmp_path, change)
    faults = full_transitive_faults(_versions(load_registry(folder), "UsageRecorded"))
    if fault is None:
        assert faults == []
    else:
        assert any(fault in found for found in faults), faults


def test_the_third_version_is_compared_with_the_first_too(tmp_path: Path) -> None:
    """Dropped in the second and back without default in the third: neighbours hide this."""
    folder = _with_second_usage(tmp_path, _without("hold_id"))
    source = json.loads((folder / "UsageRecorded.v2.avsc").read_text())
    source["fields"].append({"name": "hold_id", "type": "long", "default": 0})
    (folder / "UsageRecorded.v3.avsc").write_text(json.dumps(source))
    _register(folder, 901, "UsageRecorded.v3.avsc")
    faults = full_transitive_faults(_versions(load_registry(folder), "UsageRecorded"))
    assert faults
    assert all("v1" in fault and "v3" in fault for fault in faults)


def _with_second_usage(tmp_path: Path, change: Callable[[Source], None]) -> Path:
    folder = tmp_path / "avro"
    shutil.copytree(AVRO, folder)
    source = json.loads((folder / "UsageRecorded.v1.avsc").read_text())
    change(source)
    (folder / "UsageRecorded.v2.avsc").write_text(json.dumps(source))
    _register(folder, 900, "UsageRecorded.v2.avsc")
    return folder


def _register(folder: Path, schema_id: int, name: str) -> None:
    with (folder / "registry.toml").open("a") as ids:
        ids.write(f'{schema_id} = "{name}"\n')


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (_record(_f("a", {"type": "array", "items": "null"})), "isn't among the types"),
        (_record(_f("a", {"type": "array", "items": "long"})), "isn't among the types"),
        (
            _record(
                _f("a", {"type": "array", "items": {"type": "record", "name": "E", "fields": []}})
            ),
            "takes no byte",
        ),
        (_record(_f("a", {"type": "map", "values": "long"})), "isn't among the types"),
        (_record(_f("a", ["null", "Fact"])), "isn't among the types"),
        (_record(_f("a", {"type": "array", "items": _record(A)})), "contains itself"),
        (
            _record(_f("a", {"type": "long", "logicalType": "timestamp-micros"})),
            "isn't among the types",
        ),
        (_record(_f("a", ["string", "null"])), "isn't among the types"),
        (_record(_f("a", "double")), "isn't among the types"),
        (_record(_f("a", "bytes")), "isn't among the types"),
        (_record(_f("a", "long", default="0")), "isn't of the field's type"),
        (_record(_f("a", ["null", "long"], default=0)), "isn't of the field's type"),
    ],
)
def test_a_schema_that_could_become_a_bomb_is_caught(source: Source, fault: str) -> None:
    assert any(fault in found for found in shape_faults(source)), shape_faults(source)


def test_the_ids_of_released_schemas_never_change() -> None:
    """Adding a line is right; a line that changes here would misread every log that exists."""
    ids = {number: f"{s.event}.v{s.version}" for number, s in registry().by_id.items()}
    assert {number: ids[number] for number in range(1, 21)} == {
        1: "UsageRecorded.v1",
        2: "OrganizationOpened.v1",
        3: "MemberAdded.v1",
        4: "MemberRemoved.v1",
        5: "RoleChanged.v1",
        6: "OwnershipTransferred.v1",
        7: "CreditsPurchased.v1",
        8: "CreditsVoided.v1",
        9: "SpendCapSet.v1",
        10: "PricesPublished.v1",
        11: "PricesWithdrawn.v1",
        12: "QuarantineReleased.v1",
        13: "QuarantineDiscarded.v1",
        14: "EmitterStarted.v1",
        15: "EmitterRetired.v1",
        16: "LimitReached.v1",
        17: "CallAdmitted.v1",
        18: "ThresholdsSet.v1",
        19: "GatePolicySet.v1",
        20: "DefaultGatePolicySet.v1",
    }


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda folder: (folder / "MemberAdded.v1.avsc").unlink(), "MemberAdded.v1.avsc"),
        (lambda folder: (folder / "Stray.v1.avsc").write_text("{}"), "Stray.v1.avsc"),
        (lambda folder: _register(folder, 900, "MemberAdded.v1.avsc"), "two ids"),
        (lambda folder: _register(folder, 900, "member_added.avsc"), "member_added.avsc"),
        (
            lambda folder: shutil.copy(
                AVRO / "MemberAdded.v1.avsc", folder / "RoleChanged.v1.avsc"
            ),
            "RoleChanged.v1",
        ),
    ],
)
def test_a_registry_that_contradicts_its_files_is_refused(
    tmp_path: Path, break_it: Callable[[Path], None], named: str
) -> None:
    folder = tmp_path / "avro"
    shutil.copytree(AVRO, folder)
    break_it(folder)
    with pytest.raises(BrokenInvariant, match=named):
        load_registry(folder)
