"""The command line starts without what a command doesn't need, and its help fits every command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from app.commands import CommandLine
from support.homes import environment

from tollkeeper.app.cli import cli
from tollkeeper.app.cli.commands import PLACES


def paths(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    """Every command and subcommand."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.name == name
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from paths(command, *above, name)


ALL = list(paths(cli))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself(tk: CommandLine, path: tuple[str, ...]) -> None:
    shown = tk(*path, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert f"Usage: tollkeeper {' '.join(path)}" in shown.out
    assert not tk.home.exists()


def test_the_help_lists_every_command(tk: CommandLine) -> None:
    lines = tk("--help").out.splitlines()
    listed = {line.split()[0] for line in lines if line.startswith("  ")}
    assert set(PLACES) <= listed


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_load_neither_database_nor_tables(tmp_path: Path, option: str) -> None:
    program = (
        "import sys; from tollkeeper.app.cli import cli\n"
        f"cli.main([{option!r}], standalone_mode=False)\n"
        "print({'sqlalchemy', 'rich', 'fastavro'} & set(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stderr == "set()\n"
