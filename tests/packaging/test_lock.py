"""The lock pins with hashes all that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version
from support.project import ROOT


def locked(text: str) -> dict[str, tuple[str, int]]:
    """Each pinned package: its version and its number of hashes."""
    found: dict[str, tuple[str, int]] = {}
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    for entry in entries[1:]:
        pin = re.match(r"([a-z0-9.-]+)==(\S+)", entry)
        assert pin, entry
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        found[pin[1]] = pin[2], len(hashes)
    return found


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in found if requirement.name != "tollkeeper"]


def test_every_pinned_package_has_hashes() -> None:
    pins = locked((ROOT / "requirements.lock").read_text("utf-8"))
    assert len(pins) > 20
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins = locked((ROOT / "requirements.lock").read_text("utf-8"))
    for requirement in requirements():
        version, _ = pins[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(Version(version)), requirement


def test_the_build_backend_is_the_locked_one() -> None:
    """It is used without isolation, so a second version of it would be never tried."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    version, _ = locked((ROOT / "requirements.lock").read_text("utf-8"))["hatchling"]
    assert settings["build-system"]["requires"] == [f"hatchling=={version}"]


def test_the_lock_s_head_names_no_place() -> None:
    head = (ROOT / "requirements.lock").read_text("utf-8").splitlines()[:2]
    assert head[1].strip("# ") == "make lock"
    assert "/" not in "".join(head)


def test_the_server_s_lock_is_the_part_of_the_lock_that_runs() -> None:
    """The container image is installed from it: nothing untested, nothing missing, no test tools."""
    everything = locked((ROOT / "requirements.lock").read_text("utf-8"))
    served = locked((ROOT / "requirements-server.lock").read_text("utf-8"))
    assert served.items() <= everything.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["server"], "hatchling"]
    names = {Requirement(line).name.lower().replace("_", "-") for line in wanted}
    assert names <= served.keys()
    assert not served.keys() & {"pytest", "mypy", "testcontainers", "uv"}
