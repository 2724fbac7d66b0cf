"""A line of the logs can be read by people and taken apart by programs, whatever its values hold."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support import homes

from tollkeeper.logline import LogLine, failure
from tollkeeper.organizations.commands import OpenOrganization


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "drained"),
        ({"emitter": "em-1", "sent": 3}, "drained emitter=em-1 sent=3"),
        ({"cause": "disk is full"}, 'drained cause="disk is full"'),
        ({"cause": 'say "no"'}, 'drained cause="say \\"no\\""'),
        ({"cause": "a\nforged line=1"}, 'drained cause="a\\nforged line=1"'),
        ({"key": "a=b", "none": None, "empty": ""}, 'drained key="a=b" none=null empty=""'),
        ({"partitions": [0, 3]}, 'drained partitions="[0, 3]"'),
    ],
)
def test_values_are_quoted_where_they_would_be_read_as_something_else(
    fields: dict[str, object], shown: str
) -> None:
    assert str(LogLine("drained", **fields)) == shown


def test_any_handler_of_the_standard_library_prints_it(caplog: pytest.LogCaptureFixture) -> None:
    try:
        Path("/no/such/file").read_bytes()
    except OSError as error:
        logging.getLogger("tollkeeper.test").warning(LogLine("not_read", **failure(error)))
    assert "not_read error=FileNotFoundError cause=" in caplog.text
    assert "/no/such/file" in caplog.text


def test_what_a_command_decided_can_be_followed_to_its_place_on_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with homes.opened_app(tmp_path) as app, caplog.at_level(logging.DEBUG, "tollkeeper.outbox"):
        homes.handle(
            app, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann")
        )
    (line,) = [one.msg for one in caplog.records if isinstance(one.msg, LogLine)]
    assert line.name == "relayed"
    assert line.fields["stream"] == "organization/acme"
    assert line.fields["command_id"] == "test-OpenOrganization-0"
    assert {"version", "partition", "offset"} <= set(line.fields)
