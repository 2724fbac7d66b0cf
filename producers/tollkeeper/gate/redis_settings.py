"""Which Redis is the gate's: the setting TOLLKEEPER_REDIS, else the embedded Valkey of the home.

For product services and consumers alike: it needs no SQL. The URL may hold a password, which is never
shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.log.settings import home_of, read_values

if TYPE_CHECKING:  # who only reads settings does without redis-py's import
    from tollkeeper.gate.functions import GateFunctions

SETTING = "TOLLKEEPER_REDIS"
HIDDEN = "hidden"
CLUSTERS = ("redis+cluster", "rediss+cluster")
SCHEMES = ("redis", "rediss", "unix", *CLUSTERS)
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""What may stand behind the `?` of a rediss:// or rediss+cluster:// URL: files."""


class RedisSettings(msgspec.Struct, frozen=True):
    """Without `url` it is the embedded Valkey of `home`, shared by all processes of that home."""

    home: Path
    url: str | None = None

    def __repr__(self) -> str:
        return f"RedisSettings({self.shown})"

    @property
    def is_embedded(self) -> bool:
        """Whether the server is this home's own, which is started when somebody first needs it."""
        return self.url is None

    @property
    def is_cluster(self) -> bool:
        """Whether there are several primaries."""
        return self.url is not None and urlsplit(self.url).scheme in CLUSTERS

    @property
    def shown(self) -> str:
        """For people: the address without its password."""
        if self.url is None:
            return "embedded"
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        user, host = parts.username or "", parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{user}:{HIDDEN}@{host}").geturl()


def load_redis_settings(environ: Mapping[str, str]) -> RedisSettings:
    """The settings in force. InvalidInput names what is wrong, never with the password."""
    return redis_settings(read_values(environ))


def redis_settings(values: Mapping[str, str]) -> RedisSettings:
    """What of these values is about Redis."""
    url = values.get("redis") or None
    if url is not None:
        _check(url)
    return RedisSettings(home_of(values), url)


def redis_url(settings: RedisSettings) -> str:
    """Where that Redis answers; starts the embedded one where it doesn't run.

    Raises GateUnavailable when the embedded one can't be started.
    """
    if settings.url is not None:
        return settings.url
    from tollkeeper.gate.embedded import embedded_gate  # services with a Redis do without it

    return embedded_gate(settings.home)


def open_functions(settings: RedisSettings, *, trusted_only: bool = False) -> GateFunctions:
    """The gate's functions on that Redis; starts the embedded one where it doesn't run. Close it.

    `trusted_only` is for who holds: see `functions.connect`. Raises GateUnavailable when the embedded
    one can't be started, or no node of a cluster answers.
    """
    from tollkeeper.gate.functions import GateFunctions, connect

    return GateFunctions(connect(redis_url(settings), trusted_only=trusted_only))


def open_running_functions(settings: RedisSettings) -> GateFunctions | None:
    """The same for who only follows or looks: None where the embedded one doesn't run, which is as good
    as empty. Raises GateUnavailable when no node of a cluster answers."""
    url = settings.url
    if url is None and (settings.home / "gate").exists():
        from tollkeeper.gate.embedded import running_gate

        url = running_gate(settings.home)
    if url is None:
        return None
    from tollkeeper.gate.functions import GateFunctions, connect

    return GateFunctions(connect(url))


def _check(url: str) -> None:
    parts = _split(url)
    if parts.scheme not in SCHEMES:
        raise InvalidInput(SETTING, f"must begin with {', '.join(f'{one}://' for one in SCHEMES)}")
    if parts.fragment or parts.netloc.count("@") > 1:
        raise InvalidInput(
            SETTING, "must have @, / and # of a password written as %40, %2F and %23"
        )
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    known = TLS_OPTIONS if parts.scheme.startswith("rediss") else ()
    if unknown := sorted(options - set(known)):
        raise InvalidInput(SETTING, f"has the unknown option {unknown[0]}")
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2] or not unquote(parts.path).startswith("/"):
            raise InvalidInput(SETTING, "must be unix:///PATH/TO/SOCKET")
        return
    if not parts.hostname:
        raise InvalidInput(SETTING, f"must be {parts.scheme}://HOST:PORT")
    database = parts.path.removeprefix("/")
    if database and (parts.scheme in CLUSTERS or not _is_number(database)):
        raise InvalidInput(
            SETTING, "must end with the number of a database, and a cluster has none"
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except (
        ValueError
    ):  # not shown: where the port is thought to be may stand a part of the password
        raise InvalidInput(SETTING, "must have a port number behind the host") from None
    return parts


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
