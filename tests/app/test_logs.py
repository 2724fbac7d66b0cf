"""Log lines: JSON that a program can rely on, text for people, and nothing of usage or secrets in them."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import pytest

from tollkeeper.app.logs import JsonLines, Sparingly, logging_to
from tollkeeper.app.run_settings import Address, load_run_settings
from tollkeeper.errors import InvalidInput
from tollkeeper.logline import LogLine

OWN = logging.getLogger("tollkeeper.somewhere")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(stream: io.StringIO, *, log_format: str | None = None, level: str = "info") -> str:
    with logging_to(stream, log_format=log_format, level=level):
        OWN.debug(LogLine("looked"))
        OWN.info(LogLine("folded", partition=3, event_id="e-1", at="forged"))
    OWN.warning(LogLine("too_late"))
    return stream.getvalue()


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_off_a_terminal_a_line_is_one_json_object_with_its_own_fields() -> None:
    (line,) = parsed(written(io.StringIO()))
    assert (line["event"], line["partition"], line["event_id"]) == ("folded", 3, "e-1")
    assert (line["level"], line["logger"]) == ("info", "tollkeeper.somewhere")
    assert line["at"].endswith("Z")  # no field takes the place of the line's own keys


def test_on_a_terminal_it_is_text_unless_told_otherwise() -> None:
    assert "info    folded partition=3 event_id=e-1" in written(Terminal())
    assert parsed(written(Terminal(), log_format="json"))[0]["event"] == "folded"
    assert "folded partition=3" in written(io.StringIO(), log_format="text")


def test_the_level_is_a_setting() -> None:
    assert [one["event"] for one in parsed(written(io.StringIO(), level="debug"))] == [
        "looked",
        "folded",
    ]
    assert written(io.StringIO(), level="warning") == ""


@pytest.mark.parametrize("library", ["kafka.producer.sender", "sqlalchemy.engine", "anything"])
def test_libraries_never_print_keys_and_values_whatever_the_level(library: str) -> None:
    stream = io.StringIO()
    with logging_to(stream, log_format="json", level="debug"):
        logging.getLogger(library).debug("key=%s value=%s", "acme", "usage")
        logging.getLogger(library).info("row %s", "usage")
        logging.getLogger(library).warning("the broker is away")
    (line,) = parsed(stream.getvalue())
    assert (line["event"], line["text"]) == ("message", "the broker is away")


def test_a_traceback_and_an_odd_file_name_stay_within_their_line() -> None:
    try:
        raise ValueError("odd \udcff name")
    except ValueError as error:
        message = LogLine("failed", cause=error)
        record = logging.LogRecord(
            OWN.name, logging.ERROR, __file__, 1, message, None, sys.exc_info()
        )
    (line,) = parsed(JsonLines().format(record))
    assert "Traceback" in line["traceback"]
    assert line["cause"] == "odd \udcff name"


def test_the_settings_of_a_process_that_stays() -> None:
    found = load_run_settings({})
    assert found.http == Address("127.0.0.1", 9464)
    assert (found.log_format, found.log_level, found.stuck_after_s) == (None, "info", 60.0)
    assert load_run_settings({"TOLLKEEPER_HTTP": "off"}).http is None
    assert load_run_settings({"TOLLKEEPER_HTTP": "[::1]:0"}).http == Address("::1", 0)
    given = load_run_settings({"TOLLKEEPER_LOG_LEVEL": "error"}, log_level="debug")
    assert given.log_level == "debug"  # the command line goes first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP", "9464"),
        ("HTTP", "localhost:65536"),
        ("HTTP", "localhost:"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("STUCK_AFTER_S", "0.9"),
        ("STUCK_AFTER_S", "3601"),
        ("STUCK_AFTER_S", "nan"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"TOLLKEEPER_{name}"):
        load_run_settings({f"TOLLKEEPER_{name}": value})


def test_a_library_that_repeats_itself_is_heard_once_a_minute() -> None:
    now = [0.0]
    sparingly = Sparingly(lambda: now[0])

    def record(name: str, place: int) -> logging.LogRecord:
        return logging.LogRecord(
            name, logging.WARNING, "conn.py", place, "lost %d", (now[0],), None
        )

    heard = [sparingly.filter(record("kafka.net", 1)) for _ in range(5)]
    assert heard == [True, False, False, False, False]
    assert sparingly.filter(record("kafka.net", 2))  # another place has other news
    assert all(sparingly.filter(record("tollkeeper.x", 1)) for _ in range(5))
    now[0] = 59.9
    assert not sparingly.filter(record("kafka.net", 1))
    now[0] = 60.0
    again = record("kafka.net", 1)
    assert sparingly.filter(again)
    assert json.loads(JsonLines().format(again))["held_back"] == 5
