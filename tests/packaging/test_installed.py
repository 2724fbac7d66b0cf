"""Installed into a clean environment, from the wheel and editable, Tollkeeper is one importable name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.clean_environment import CleanEnvironment, build, run
from support.project import ROOT, SOURCE_ROOTS, project_files

from tollkeeper.gate.library import current_library

CORE = (
    *("errors", "failpoints", "logline", "money", "events", "rating"),
    *("log", "metering", "gate", "workloads"),
)
"""The SDK of product services: what works without the extra `server`."""

SERVER_ONLY = ("sqlalchemy", "alembic", "click", "rich")


def modules() -> list[str]:
    """Every module; Alembic itself runs its scripts, which can't be imported."""
    paths = (Path(name) for name in project_files() if name.split("/")[0] in SOURCE_ROOTS)
    found = []
    for path in paths:
        if path.suffix == ".py" and "migrations" not in path.parts and path.stem != "__main__":
            parts = path.with_suffix("").parts[1:]
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(found)


@pytest.fixture(scope="module")
def from_wheel(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    environment = CleanEnvironment(tmp_path_factory.mktemp("clean") / "venv")
    environment.install(str(build("wheel", tmp_path_factory.mktemp("wheel"))))
    return environment


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    environment = CleanEnvironment(tmp_path_factory.mktemp("clean") / "venv")
    environment.install("--editable", str(ROOT))
    return environment


@pytest.fixture(params=["from_wheel", "editable"])
def environment(request: pytest.FixtureRequest) -> CleanEnvironment:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, CleanEnvironment)
    return found


IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Blocked())
"""

IS_THERE = """
import importlib.util, sys
print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])
"""


def test_a_clean_environment_has_no_tollkeeper_until_it_is_installed(tmp_path: Path) -> None:
    clean = CleanEnvironment(tmp_path / "venv")
    assert clean.installed() == set()
    assert clean.python(IS_THERE, arguments=["tollkeeper", "msgspec"]).strip() == "['msgspec']"


def test_every_module_can_be_imported(environment: CleanEnvironment) -> None:
    names = modules()
    assert "tollkeeper.metering" in names
    assert "tollkeeper.events.usage" in names
    environment.python(IMPORT_ALL, arguments=names)


def test_no_source_root_and_no_test_becomes_a_top_level_name(environment: CleanEnvironment) -> None:
    names = ["tollkeeper", *SOURCE_ROOTS, "tests", "support", "bench"]
    assert environment.python(IS_THERE, arguments=names).strip() == "['tollkeeper']"


def test_the_wheel_puts_one_package_into_site_packages(from_wheel: CleanEnvironment) -> None:
    assert from_wheel.installed() == {"tollkeeper", "tollkeeper-0.1.0.dist-info"}


def test_the_editable_install_puts_one_path_file_there(editable: CleanEnvironment) -> None:
    assert editable.installed() == {"_tollkeeper.pth", "tollkeeper-0.1.0.dist-info"}
    paths = (editable.site_packages / "_tollkeeper.pth").read_text("utf-8").split()
    assert sorted(paths) == sorted(str(ROOT / root) for root in SOURCE_ROOTS)


def test_the_core_works_without_the_server_extra(from_wheel: CleanEnvironment) -> None:
    core = [name for name in modules() if "." in name and name.split(".")[1] in CORE]
    assert {name.split(".")[1] for name in core} == set(CORE)
    from_wheel.python(BLOCKED % (SERVER_ONLY,), IMPORT_ALL, arguments=core)


def test_the_block_on_the_server_extra_would_be_noticed(from_wheel: CleanEnvironment) -> None:
    with pytest.raises(AssertionError, match="blocked: sqlalchemy"):
        from_wheel.python(BLOCKED % (SERVER_ONLY,), "import tollkeeper.outbox.tables")


def test_the_schemas_come_along(environment: CleanEnvironment) -> None:
    """An event goes through the codec, which reads its Avro schemas from the installed files."""
    printed = environment.python(
        "from tollkeeper.events.codec import decode, encode",
        "from tollkeeper.events.organization import MemberRemoved",
        "event = MemberRemoved(organization='acme', version=1, command_id='c-1', actor='m-1',",
        "    occurred_at=1793000000000000, member='m-2')",
        "assert decode(encode(event)) == event",
        "print('same')",
    )
    assert printed.strip() == "same"


def test_the_gate_s_functions_come_along(environment: CleanEnvironment) -> None:
    """All parts of the library are read from the installed files, into the version of this release."""
    printed = environment.python(
        "from tollkeeper.gate.library import current_library", "print(current_library().name)"
    )
    assert printed.strip() == current_library().name


def test_a_user_s_type_checker_sees_the_types(from_wheel: CleanEnvironment, tmp_path: Path) -> None:
    """Without py.typed in the wheel, everything of Tollkeeper would be Any to its users."""
    (tmp_path / "user.py").write_text(
        "from tollkeeper.errors import InvalidInput\nreveal_type(InvalidInput('a', 'b').rule)\n"
    )
    python = str(from_wheel.binaries / "python")
    options = ["--python-executable", python, "--cache-dir", str(tmp_path / "cache"), "--strict"]
    printed = run([sys.executable, "-m", "mypy", *options, "user.py"], cwd=tmp_path)
    assert 'Revealed type is "str"' in printed.replace("builtins.", "")


def test_the_command_is_installed_and_answers(environment: CleanEnvironment) -> None:
    assert "Usage" in run([str(environment.binaries / "tollkeeper"), "--help"])
