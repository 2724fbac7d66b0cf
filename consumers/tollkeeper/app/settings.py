"""The settings of a whole Tollkeeper: those of the log, the gate's Redis and the database."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tollkeeper.enforcement.settings import RECOVERY_S, RETIRE_AFTER_S, EnforcementSettings
from tollkeeper.errors import InvalidInput
from tollkeeper.gate.redis_settings import RedisSettings, redis_settings
from tollkeeper.log.settings import LogSettings, log_settings, read_values
from tollkeeper.webhooks.addresses import ALLOWANCES


class Settings(LogSettings, frozen=True, kw_only=True):
    """`sql` is a SQLAlchemy URL; `webhook_allow` are some of `webhooks.addresses.ALLOWANCES`."""

    sql: str
    redis: RedisSettings
    webhook_allow: frozenset[str] = frozenset()
    enforcement: EnforcementSettings = EnforcementSettings()

    @property
    def is_sql_embedded(self) -> bool:
        """Whether the database is a file of this machine, which is made on first use."""
        return make_url(self.sql).get_backend_name() == "sqlite"

    @property
    def is_alone(self) -> bool:
        """Whether log and ledger are this home's own, so that no process elsewhere works on them."""
        return self.kafka is None and self.is_sql_embedded


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in force. InvalidInput names what is unknown or not possible in this release."""
    values = read_values(environ)
    log = log_settings(values)
    return Settings(
        home=log.home,
        partitions=log.partitions,
        session_timeout_s=log.session_timeout_s,
        kafka=log.kafka,
        sql=_sql_url(values.get("sql") or f"sqlite:///{log.home}/ledger.sqlite"),
        redis=redis_settings(values),
        webhook_allow=_webhook_allow(values.get("webhook_allow") or ""),
        enforcement=EnforcementSettings(
            recovery_s=_seconds(values, "recovery_s", RECOVERY_S, most=600.0),
            retire_after_s=_seconds(values, "retire_after_s", RETIRE_AFTER_S, most=86_400.0),
        ),
    )


def _seconds(values: Mapping[str, str], name: str, default: float, *, most: float) -> float:
    given = values.get(name) or str(default)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= most:
        raise InvalidInput(f"TOLLKEEPER_{name.upper()}", f"must be 1 to {most:g}, not {given!r}")
    return seconds


def _webhook_allow(text: str) -> frozenset[str]:
    words = frozenset(filter(None, (word.strip() for word in text.split(","))))
    if not words <= ALLOWANCES:
        known = ", ".join(sorted(ALLOWANCES))
        raise InvalidInput("TOLLKEEPER_WEBHOOK_ALLOW", f"must name some of {known}, not {text!r}")
    return words


def _sql_url(text: str) -> str:
    try:
        backend = make_url(text).get_backend_name()
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise InvalidInput(
            "TOLLKEEPER_SQL", "must be a SQLAlchemy URL such as postgresql://user@host/database"
        ) from None
    if "@" in (make_url(text).host or ""):  # not shown: what stands there is a part of the password
        raise InvalidInput(
            "TOLLKEEPER_SQL", "must have one @, before the host: write @ in a password as %40"
        )
    if backend == "postgres":
        raise InvalidInput("TOLLKEEPER_SQL", "must begin with postgresql://, not postgres://")
    if backend not in ("sqlite", "postgresql"):
        raise InvalidInput("TOLLKEEPER_SQL", f"must be a postgresql or sqlite URL, not {backend}")
    return text
