"""The Redis functions as one library, named by their content. Pure but for reading its own files.

A library's name is `tollkeeper_LAYOUT_DIGEST`, and so begins each of its functions. Two versions can be
loaded at once, and the epoch key names the one that decides: an upgrade loads the new one beside the old
one, and `take_over` is the moment from which it decides. Another LAYOUT says that keys or arguments
changed in a way that the other version would misread.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import msgspec

LAYOUT = 1
PARTS = (
    *("arguments", "primary", "terms", "organization", "records", "limits", "holds"),
    *("hold", "extend", "release", "apply", "warm", "deny", "reassert", "status", "copy"),
    *("epochs", "emitters", "publishing"),
)
"""In the order in which each uses what stands before it."""


class Library(msgspec.Struct, frozen=True):
    """A version of the functions: its name, and the text that Redis loads."""

    name: str
    text: str


@cache
def current_library() -> Library:
    """The version of this release."""
    return assemble(lua_source())


def layout_of(name: str) -> str:
    """What two versions have in common that keep their data in the same way."""
    return name.rsplit("_", 1)[0]


def named(library: Library, name: str) -> Library | None:
    """The same with calls of another version, which is loaded already; None where it would misread them."""
    if name == library.name:
        return library
    return Library(name, library.text) if layout_of(name) == layout_of(library.name) else None


def lua_source() -> str:
    """The text of all parts."""
    folder = resources.files("tollkeeper.gate") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in PARTS)


def assemble(source: str) -> Library:
    """The functions of this source under the name that its content gives them."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    name = f"tollkeeper_{LAYOUT}_{digest}"
    return Library(name, f"#!lua name={name}\nlocal LIBRARY = '{name}'\n{source}")


class Versioned:
    """Who asks one version of the functions, and may be told that another one decides."""

    def __init__(self, library: Library | None = None) -> None:
        self._library = library or current_library()

    @property
    def library(self) -> str:
        """The version's name."""
        return self._library.name

    def follow(self, name: str) -> bool:
        """Ask that version from now on, since it is the one that decides. False: its layout is another."""
        found = named(self._library, name)
        if found is not None:
            self._library = found
        return found is not None
