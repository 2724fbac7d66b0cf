"""The house style that no linter knows, as checks that answer what they find wrong in one file.

Each takes a file's name and text and answers findings as `name:line: rule`. Must not know which files
there are: `test_tidy.py` does.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400
HEAD_LINES = 10
_LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})

_DIRECTIVE = re.compile(
    r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore|ruff:\s*noqa|pragma:\s*no cover)"
)
# What is ignored is named in brackets or after a colon; then, after another #, a dash or in parentheses, why.
_REASONED = re.compile(
    r"#\s*(type:\s*ignore\[[\w, -]+\]|pyright:\s*ignore\[[\w, -]+\]|(ruff:\s*)?noqa:\s*[A-Z]+[0-9]+"
    r"(,\s*[A-Z]+[0-9]+)*|pragma:\s*no cover)\s*(#|-|–|—|:|\()\s*\S+\s+\S+"
)
_LONG = re.compile(r"^# long: \S+", re.MULTILINE)


def long_functions(name: str, text: str) -> list[str]:
    """Functions of more than MAX_FUNCTION_LINES lines, docstring included and decorators not."""
    return [
        f"{name}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def long_file(name: str, text: str) -> list[str]:
    """A file of more than MAX_FILE_LINES lines whose head doesn't give a reason."""
    lines = text.splitlines()
    if len(lines) <= MAX_FILE_LINES or _LONG.search("\n".join(lines[:HEAD_LINES])):
        return []
    return [f"{name}:1: has {len(lines)} lines, at most {MAX_FILE_LINES} without '# long: reason'"]


def missing_module_docstring(name: str, text: str) -> list[str]:
    """A module that doesn't say its one job."""
    if ast.get_docstring(ast.parse(text)):
        return []
    return [f"{name}:1: has no module docstring"]


def missing_future_annotations(name: str, text: str) -> list[str]:
    """A module with code that doesn't import annotations from __future__."""
    body = ast.parse(text).body
    code = [node for node in body if not (isinstance(node, ast.Expr) and node is body[0])]
    imported = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in code
    )
    return [] if imported or not code else [f"{name}:1: lacks 'from __future__ import annotations'"]


def missing_docstrings(name: str, text: str) -> list[str]:
    """Public functions and classes of a module without a docstring; methods keep their class's."""
    return [
        f"{name}:{node.lineno}: public {node.name} has no docstring"
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not _is_overload(node)
        and not ast.get_docstring(node)
    ]


def sleeps(name: str, text: str) -> list[str]:
    """Waiting for a fixed time, which is either too long or not long enough."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                found.append(f"{name}:{node.lineno}: time.sleep; wait for a condition instead")
            case ast.ImportFrom(module="time", names=names):
                if any(alias.name == "sleep" for alias in names):
                    found.append(f"{name}:{node.lineno}: imports sleep from time")
    return found


def plain_logging(name: str, text: str) -> list[str]:
    """A logger that isn't given a LogLine: its ids would be lost in prose."""
    return [
        f"{name}:{node.lineno}: logs something else than a LogLine"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _LEVELS
        and "log" in ast.unparse(node.func.value).lower()
        and not (node.args and ast.unparse(node.args[0]).startswith("LogLine("))
    ]


def unreasoned_ignores(name: str, text: str) -> list[str]:
    """Directives that quiet a linter without naming what they quiet and why."""
    return [
        f"{name}:{line}: '{comment.strip()[:40]}' names no rule or no reason"
        for line, comment in _comments(text)
        if _DIRECTIVE.search(comment) and not _REASONED.search(comment)
    ]


# The words are put together here, so that this file isn't found by its own search.
_HOMES = ("/" + "home/", "/" + "root/", "/" + "Users/", "C:\\" + "Users\\")
_ADDRESS = re.compile(
    r"(https?://\S*\b(simple|registry|index|mirror|proxy|nexus|artifactory|py" + r"pi)\b)"
    r"|(--(extra-)?index-url[ =])|(--find-links[ =])|(\b(index-url|find-links)\s*=)"
)
_SHARED_PARENTS = frozenset({"/", "/tmp", "/var", "/opt", "/srv", "/usr", "/mnt", "/data", "/app"})


def machine_paths(name: str, text: str, root: Path) -> list[str]:
    """Paths of somebody's home or of this very checkout, and of the folder that it lies in."""
    places = [str(root)]
    if str(root.parent) not in _SHARED_PARENTS:
        places.append(f"{root.parent}/")
    # A longer path may well contain a short one: only its begin tells a path of this machine.
    alternatives = "|".join(re.escape(place) for place in (*_HOMES, *places))
    pattern = re.compile(rf"(?<![\w./~-])({alternatives})")
    return [
        f"{name}:{number}: holds a path of a machine"
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def registry_addresses(name: str, text: str) -> list[str]:
    """Addresses of package indexes; in a lock file any address at all."""
    pattern = re.compile(r"\w+://|^-") if name.endswith(".lock") else _ADDRESS
    return [
        f"{name}:{number}: holds the address of a package index"
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(name, ast.Name) and name.id == "overload" for name in decorators)
