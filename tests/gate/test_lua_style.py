"""The house style in Lua: each function says its keys, arguments and answers; and each check can fail."""

from __future__ import annotations

import re

import pytest
from support.project import ROOT

from tollkeeper.gate import encoding
from tollkeeper.gate.library import PARTS

FOLDER = ROOT / "producers" / "tollkeeper" / "gate" / "lua"
MAX_FUNCTION_LINES, MAX_FILE_LINES, MAX_LINE = 50, 400, 120
REGISTERED = re.compile(r"^register\('(\w+)', (\w+), (GRANTS|FREES|READS)\)$", re.MULTILINE)


def texts() -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.lua")}


def long_functions(text: str) -> list[str]:
    """Functions that begin at the margin and end there, too."""
    found = re.findall(r"^local function (\w+)\(.*?^end$", text, re.MULTILINE | re.DOTALL)
    bodies = re.finditer(r"^local function .*?^end$", text, re.MULTILINE | re.DOTALL)
    lengths = [body[0].count("\n") + 1 for body in bodies]
    pairs = zip(found, lengths, strict=True)
    return [name for name, length in pairs if length > MAX_FUNCTION_LINES]


def without_header(text: str) -> list[str]:
    """Registered functions without a comment that names them, their keys, arguments and answers."""
    found = []
    for name, *_ in REGISTERED.findall(text):
        header = re.search(rf"^-- {name}: .*\n(--.*\n)+", text, re.MULTILINE)
        wanted = ("Keys:", "Arguments:", "Answers")
        if header is None or not all(word in header[0] for word in wanted):
            found.append(name)
    return found


def globals_of(text: str) -> list[str]:
    """Names that a function would leave to all others of the server; Redis refuses them only as they run."""
    return re.findall(r"^(?:function (\w+)|(\w+) =)", text, re.MULTILINE)


def test_every_file_is_a_part_of_the_library() -> None:
    assert set(texts()) == set(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_keeps_the_style(name: str) -> None:
    text = texts()[name]
    assert text.startswith("-- ")
    assert text.count("\n") <= MAX_FILE_LINES
    assert [line for line in text.splitlines() if len(line) > MAX_LINE] == []
    assert long_functions(text) == []
    assert without_header(text) == []
    assert globals_of(text) == []


def test_every_function_can_be_called_from_python() -> None:
    source = (ROOT / "producers" / "tollkeeper" / "gate" / "encoding.py").read_text("utf-8")
    registered = {name for text in texts().values() for name, *_ in REGISTERED.findall(text)}
    assert len(registered) > 15
    assert encoding.read_epoch().function in registered
    assert [name for name in registered if f'"{name}"' not in source] == []


def test_the_checks_find_what_they_are_there_to_find() -> None:
    body = "local function f()\n" + "  x()\n" * 49 + "end\n"
    assert long_functions(body) == ["f"]
    assert long_functions(body.replace("  x()\n", "", 1)) == []
    register = "register('f', f, GRANTS)\n"
    header = "-- f: does.\n--\n-- Keys: k.\n-- Arguments: a.\n-- Answers: b.\n"
    assert without_header(register) == ["f"]
    assert without_header(header + register) == []
    assert without_header(header.replace("Keys", "Kays") + register) == ["f"]
    assert len(globals_of("function f()\nend\ng = 1\nlocal h = 1\n")) == 2
