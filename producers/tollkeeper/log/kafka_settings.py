"""Where Apache Kafka is and how it is spoken to: addresses, topic, TLS and SASL."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from tollkeeper.errors import InvalidInput

SCHEME = "kafka://"
DEFAULT_TOPIC = "tollkeeper.events.v1"
SECURITY = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
KAFKA_NAMES = (
    "topic",
    "replication",
    "kafka_security",
    "kafka_ca_file",
    "kafka_cert_file",
    "kafka_key_file",
    "kafka_sasl_mechanism",
    "kafka_username",
    "kafka_password",
)

# At DEBUG kafka-python logs keys and values: usage, that is.
logging.getLogger("kafka").setLevel(logging.WARNING)


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster's topic. The password is never shown."""

    servers: tuple[str, ...]
    topic: str = DEFAULT_TOPIC
    partitions: int
    replication: int
    session_timeout_s: float = 6.0
    max_poll_interval_s: float = 300.0
    security: str = "PLAINTEXT"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"KafkaSettings({self.shown})"

    @property
    def shown(self) -> str:
        """For people: addresses and topic, without secrets."""
        return f"{SCHEME}{','.join(self.servers)}/{self.topic}"

    @property
    def client_options(self) -> dict[str, Any]:
        """What every client of kafka-python is given."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": "tollkeeper",
            "security_protocol": self.security,
            "reconnect_backoff_max_ms": 1_000,
        }
        if "SSL" in self.security:
            options["ssl_cafile"] = self.ca_file
            options["ssl_certfile"] = self.cert_file
            options["ssl_keyfile"] = self.key_file
        if "SASL" in self.security:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options


def kafka_settings(
    values: Mapping[str, str], *, partitions: int, session_timeout_s: float
) -> KafkaSettings:
    """From the settings' text values. InvalidInput names the setting and its rule."""
    servers = _servers(values["log"])
    security = values.get("kafka_security") or "PLAINTEXT"
    _one_of("kafka_security", security, SECURITY)
    mechanism = values.get("kafka_sasl_mechanism")
    if "SASL" in security:
        _one_of("kafka_sasl_mechanism", mechanism or "", MECHANISMS)
        for name in ("kafka_username", "kafka_password"):
            if not values.get(name):
                raise _invalid(name, f"must be set for {security}")
    return KafkaSettings(
        servers=servers,
        topic=values.get("topic") or DEFAULT_TOPIC,
        partitions=partitions,
        replication=_replication(values.get("replication"), len(servers)),
        session_timeout_s=session_timeout_s,
        security=security,
        ca_file=values.get("kafka_ca_file"),
        cert_file=values.get("kafka_cert_file"),
        key_file=values.get("kafka_key_file"),
        sasl_mechanism=mechanism,
        username=values.get("kafka_username"),
        password=values.get("kafka_password"),
    )


def _servers(address: str) -> tuple[str, ...]:
    if "@" in address:  # not shown: what stands there is a password
        raise _invalid(
            "log", "must name no user: see TOLLKEEPER_KAFKA_USERNAME and TOLLKEEPER_KAFKA_PASSWORD"
        )
    if not address.startswith(SCHEME):
        raise _invalid("log", f"must be {SCHEME}HOST:PORT,... or unset, not {address!r}")
    servers = tuple(address.removeprefix(SCHEME).rstrip("/").split(","))
    for server in servers:
        host, colon, port = server.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise _invalid("log", f"must name HOST:PORT, not {server!r}")
    return servers


def _replication(text: str | None, servers: int) -> int:
    """By default three copies, where there may be three brokers."""
    if not text:
        return 3 if servers >= 3 else 1
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10):
        raise _invalid("replication", f"must be 1 to 10, not {text!r}")
    return int(text)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise _invalid(name, f"must be one of {', '.join(known)}, not {value!r}")


def _invalid(name: str, rule: str) -> InvalidInput:
    return InvalidInput(f"TOLLKEEPER_{name.upper()}", rule)
