"""Settings, from the environment, else from the TOML file named in TOLLKEEPER_CONFIG, else defaults.

What a product service needs stands here: which log, and where this machine keeps its state.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.log.kafka_settings import KAFKA_NAMES, KafkaSettings, kafka_settings
from tollkeeper.log.sqlite_schema import stored_partitions

CONFIG = "TOLLKEEPER_CONFIG"
PREFIX = "TOLLKEEPER_"
RUN_NAMES = ("http", "log_format", "log_level", "stuck_after_s")
"""Read by `app.run_settings`; known here, since one file holds all settings."""
SERVER_NAMES = ("webhook_allow", "recovery_s", "retire_after_s")
"""Read by `app.settings`."""
NAMES = (
    *("home", "log", "redis", "sql", "partitions", "session_timeout_s"),
    *KAFKA_NAMES,
    *RUN_NAMES,
    *SERVER_NAMES,
)
DEFAULT_HOME = "~/.tollkeeper"
DEFAULT_PARTITIONS = 8
LOG_FILE = "log.sqlite"
DEFAULT_SESSION_TIMEOUT_S = 6.0


class LogSettings(msgspec.Struct, frozen=True):
    """Where the log and the spool are; `partitions` is fixed once a log exists.

    Without `kafka` the log is the embedded one. A consumer that gives no sign of life for
    `session_timeout_s` loses its partitions to others.
    """

    home: Path
    partitions: int = DEFAULT_PARTITIONS
    session_timeout_s: float = DEFAULT_SESSION_TIMEOUT_S
    kafka: KafkaSettings | None = None

    @property
    def log_path(self) -> Path:
        """The embedded log's file."""
        return self.home / LOG_FILE

    @property
    def spool_dir(self) -> Path:
        """Where this machine's emitters keep what the log hasn't acknowledged."""
        return self.home / "spool"


def load_log_settings(environ: Mapping[str, str]) -> LogSettings:
    """The settings in force. InvalidInput names what is unknown or not possible in this release."""
    return log_settings(read_values(environ))


def read_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Every setting that was given, as text; the environment goes before the file."""
    values = _from_file(environ.get(CONFIG, ""))
    for name in NAMES:
        given = environ.get(PREFIX + name.upper())
        if given:
            values[name] = given
    return values


def log_settings(values: Mapping[str, str]) -> LogSettings:
    """What of these values is about the log. InvalidInput names the setting and its rule."""
    home = home_of(values)
    partitions = _partitions(values.get("partitions"), home)
    session_timeout_s = _session(values.get("session_timeout_s") or DEFAULT_SESSION_TIMEOUT_S)
    kafka = None
    if values.get("log"):
        kafka = kafka_settings(values, partitions=partitions, session_timeout_s=session_timeout_s)
    return LogSettings(home, partitions, session_timeout_s, kafka)


def home_of(values: Mapping[str, str]) -> Path:
    """The folder of this machine's state. Raises InvalidInput unless it is an absolute path."""
    home = Path(values.get("home") or DEFAULT_HOME).expanduser()
    if not home.is_absolute():
        raise InvalidInput(
            "TOLLKEEPER_HOME", f"must be an absolute path, not {home}: services start anywhere"
        )
    return home


def _from_file(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        found = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            CONFIG, f"names {path}, which can't be read: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(CONFIG, f"names {path}, which isn't TOML: {error}") from error
    unknown = sorted(set(found) - set(NAMES))
    if unknown:
        raise InvalidInput(
            CONFIG, f"has the unknown setting {unknown[0]}; known are {', '.join(NAMES)}"
        )
    return {name: str(value) for name, value in found.items()}


def _partitions(text: str | None, home: Path) -> int:
    """As given, else as the log in this home has it, else the default."""
    if not text:
        return stored_partitions(home / LOG_FILE) or DEFAULT_PARTITIONS
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise InvalidInput("TOLLKEEPER_PARTITIONS", f"must be 1 to 10000, not {text!r}")
    return int(text)


def _session(given: str | float) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 300.0:
        raise InvalidInput("TOLLKEEPER_SESSION_TIMEOUT_S", f"must be 1 to 300, not {given!r}")
    return seconds
