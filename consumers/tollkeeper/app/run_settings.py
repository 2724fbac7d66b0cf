"""The settings of a process that stays: where it answers, how it logs, when it counts as stuck."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.log.settings import read_values

DEFAULT_HTTP = "127.0.0.1:9464"
DEFAULT_STUCK_AFTER_S = 60.0
OFF = "off"
FORMATS = ("json", "text")
LEVELS = ("debug", "info", "warning", "error")


class Address(msgspec.Struct, frozen=True):
    """Where to listen; port 0 is any that is free."""

    host: str
    port: int

    @property
    def shown(self) -> str:
        """As in an address bar: an IPv6 host stands in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class RunSettings(msgspec.Struct, frozen=True):
    """`http` is None when it is off, `log_format` None when the terminal decides."""

    http: Address | None
    log_format: str | None
    log_level: str
    stuck_after_s: float


def load_run_settings(
    environ: Mapping[str, str], *, log_format: str | None = None, log_level: str | None = None
) -> RunSettings:
    """The settings in force; what was given on the command line goes first. Raises InvalidInput."""
    values = read_values(environ)
    return RunSettings(
        http=_address(values.get("http") or DEFAULT_HTTP),
        log_format=_one_of("log_format", log_format or values.get("log_format"), FORMATS),
        log_level=_one_of("log_level", log_level or values.get("log_level"), LEVELS) or "info",
        stuck_after_s=_seconds(values.get("stuck_after_s") or str(DEFAULT_STUCK_AFTER_S)),
    )


def _address(text: str) -> Address | None:
    if text == OFF:
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise InvalidInput("TOLLKEEPER_HTTP", f"must be HOST:PORT or {OFF}, not {text!r}")
    return Address(host, int(port))


def _one_of(name: str, given: str | None, known: tuple[str, ...]) -> str | None:
    if given and given not in known:
        raise InvalidInput(
            f"TOLLKEEPER_{name.upper()}", f"must be one of {', '.join(known)}, not {given!r}"
        )
    return given or None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 3_600.0:
        raise InvalidInput("TOLLKEEPER_STUCK_AFTER_S", f"must be 1 to 3600, not {text!r}")
    return seconds
