"""The house style holds in every file; and each check is shown to find what it is there to find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support import tidy
from support.project import ROOT, SOURCE_ROOTS, project_files

Check = Callable[[str, str], list[str]]
EVERYWHERE: tuple[Check, ...] = (
    tidy.long_functions,
    tidy.long_file,
    tidy.missing_module_docstring,
    tidy.missing_future_annotations,
    tidy.unreasoned_ignores,
)


def python_files(*folders: str) -> list[tuple[str, str]]:
    """Name and text of every Python file below the folders, or of all."""
    return [
        (name, (ROOT / name).read_text("utf-8"))
        for name in project_files()
        if name.endswith(".py") and (not folders or name.split("/")[0] in folders)
    ]


def text_files() -> list[tuple[str, str]]:
    """Name and text of every file that isn't binary."""
    found = []
    for name in project_files():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data:
            found.append((name, data.decode("utf-8", "replace")))
    return found


def findings(check: Check, checked: list[tuple[str, str]]) -> list[str]:
    """All that a check finds in the files."""
    return [finding for name, text in checked for finding in check(name, text)]


def test_there_are_files_to_check() -> None:
    assert len(python_files(*SOURCE_ROOTS)) > 30
    assert "tests/test_tidy.py" in project_files()
    assert "pyproject.toml" in dict(text_files())


def test_test_modules_have_names_of_their_own() -> None:
    """pytest collects them by their last name alone, and stops at the second."""
    names = [Path(name).name for name, _ in python_files("tests") if "/test_" in name]
    assert sorted(name for name, count in Counter(names).items() if count > 1) == []


@pytest.mark.parametrize("check", EVERYWHERE)
def test_every_python_file_keeps(check: Check) -> None:
    assert findings(check, python_files()) == []


def test_public_functions_and_classes_have_docstrings() -> None:
    assert findings(tidy.missing_docstrings, python_files(*SOURCE_ROOTS)) == []


def test_no_test_waits_for_a_fixed_time() -> None:
    assert findings(tidy.sleeps, python_files("tests")) == []


def test_every_line_of_the_logs_has_a_name_and_fields() -> None:
    assert findings(tidy.plain_logging, python_files(*SOURCE_ROOTS)) == []


def test_the_namespace_package_has_no_init_in_any_root() -> None:
    """One __init__.py would hide the other three portions of `tollkeeper`."""
    for root in SOURCE_ROOTS:
        assert not (ROOT / root / "tollkeeper" / "__init__.py").exists()
        assert not (ROOT / root / "__init__.py").exists()


def test_a_source_root_holds_nothing_but_its_portion_of_the_package() -> None:
    """What else lay there would become a top-level module of every editable install."""
    tops = {
        tuple(name.split("/")[:2]) for name in project_files() if name.split("/")[0] in SOURCE_ROOTS
    }
    assert tops == {(root, "tollkeeper") for root in SOURCE_ROOTS}


def test_no_file_names_a_machine_s_path() -> None:
    assert findings(partial(tidy.machine_paths, root=ROOT), text_files()) == []


def test_no_file_names_a_package_index() -> None:
    assert findings(tidy.registry_addresses, text_files()) == []


# In pieces, so that the samples aren't found in this file.
HOST = "https://host.example"
DASHES = "--"


def lines(count: int) -> str:
    return "x = 1\n" * count


def function(length: int, *, decorator: str = "") -> str:
    return f"{decorator}def f():\n" + "    pass\n" * (length - 1)


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (tidy.long_functions, function(51), function(50)),
        (tidy.long_functions, "async " + function(51), function(50, decorator="@g\n")),
        (
            tidy.long_functions,
            "class C:\n    def f(self):\n" + "        pass\n" * 50,
            "class C: ...",
        ),
        (tidy.long_file, lines(401), lines(400)),
        (tidy.long_file, "# long:\n" + lines(400), "# long: a table\n" + lines(400)),
        (tidy.long_file, lines(400) + "# long: too late\n", '"""D."""\n# long: why\n' + lines(400)),
        (tidy.missing_module_docstring, "x = 1\n", '"""What it does."""\n'),
        (tidy.missing_module_docstring, "", '"""D."""\nx = 1\n'),
        (tidy.missing_future_annotations, '"""D."""\nx = 1\n', '"""D."""\n'),
        (
            tidy.missing_future_annotations,
            "from __future__ import division\n",
            "from __future__ import annotations\nx = 1\n",
        ),
        (tidy.missing_docstrings, "def f(): ...\n", "def _f(): ...\n"),
        (
            tidy.missing_docstrings,
            "class C: ...\n",
            'class C:\n    """D."""\n    def f(self): ...\n',
        ),
        (tidy.missing_docstrings, "async def f(): ...\n", "@overload\ndef f(): ...\n"),
        (tidy.sleeps, "import time\ntime.sleep(1)\n", "import time\ntime.monotonic()\n"),
        (tidy.sleeps, "from time import sleep\n", "from time import monotonic\n"),
        (tidy.sleeps, "f(wait=time.sleep)\n", "asyncio.sleep(0)\n"),
        (tidy.plain_logging, 'logger.info("x %s", y)\n', 'logger.info(LogLine("x", y=y))\n'),
        (tidy.plain_logging, 'logging.error("x")\n', 'parser.error("x")\n'),
        (tidy.unreasoned_ignores, "x = 1  # noqa\n", 'x = "# noqa"\n'),
        (
            tidy.unreasoned_ignores,
            "x = 1  # noqa: E501\n",
            "x = 1  # noqa: E501 - a long address\n",
        ),
        (
            tidy.unreasoned_ignores,
            "x = 1  # type: ignore # it is known\n",
            "x = 1  # type: ignore[misc] # it is known\n",
        ),
        (
            tidy.unreasoned_ignores,
            "x = 1  # type: ignore[misc]\n",
            "x = 1  # noqa: B008, S110 # both are meant\n",
        ),
        (tidy.unreasoned_ignores, "# ruff: noqa\n", "# a reason for noqa\n"),
        (tidy.unreasoned_ignores, "x = 1  # pragma: no cover\n", "x = 1  # plain words\n"),
        (tidy.registry_addresses, f"see {HOST}/simple/", f"see {HOST}/a"),
        (tidy.registry_addresses, f"pip {DASHES}index-url x", "pip install x"),
        (tidy.registry_addresses, f"UV {DASHES}find-links" + "=x", "find links"),
    ],
)
def test_a_check_finds_the_bad_and_lets_the_good_be(check: Check, bad: str, good: str) -> None:
    assert len(check("sample.py", bad)) == 1
    assert check("sample.py", bad)[0].startswith("sample.py:")
    assert check("sample.py", good) == []


@pytest.mark.parametrize(
    "line", [f"-i {HOST}", f"{DASHES}find-links x", "a @ file:///b.whl", "a @ git+ssh://b"]
)
def test_a_lock_holds_no_address_at_all(line: str) -> None:
    good = "# make lock\na==1 \\\n    --hash=sha256:00\n    # via b (pyproject.toml)\n"
    assert tidy.registry_addresses("x.lock", good) == []
    assert len(tidy.registry_addresses("x.lock", good + line)) == 1


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("cd /place/of/project", True),
        ("see '/place/of/other/file'", True),
        ("/" + "home/anna/x", True),
        ('"/' + 'root/x"', True),
        ("../shared/data and ~/project", False),
        ("a/place/of/project", False),
        ("/place/offer", False),
    ],
)
def test_paths_of_a_machine_are_found_where_they_begin(line: str, is_found: bool) -> None:
    found = tidy.machine_paths("x.md", f"first\n{line}\n", Path("/place/of/project"))
    assert found == (["x.md:2: holds a path of a machine"] if is_found else [])


def test_a_parent_that_many_projects_share_is_no_path_of_a_machine() -> None:
    assert tidy.machine_paths("x.md", "cd /tmp/anything", Path("/tmp/project")) == []
    assert tidy.machine_paths("x.md", "cd /tmp/project", Path("/tmp/project")) != []
