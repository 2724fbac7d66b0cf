"""Apache Kafka without Docker: one combined KRaft node from Maven Central's jars, on this machine's Java."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from support.project import ROOT
from support.waiting import eventually

VERSION = "4.3.1"
LIBS = ROOT / "build" / f"kafka-{VERSION}"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
STARTED_S = 60.0
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tollkeeper.tests</groupId><artifactId>broker</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},BEHIND://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},BEHIND://127.0.0.1:{proxy}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""


class LocalKafka:
    """A broker of a test's own, that can be killed, stopped and started again on its data.

    Who comes in by the port `behind` is told that the broker is at `proxy`, so that all connections
    of a client that was given the proxy's address go through the proxy.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tollkeeper-kafka-"))
        self.port, self.behind, self.proxy, controller = (free_port() for _ in range(4))
        self._properties = self._folder / "server.properties"
        self._properties.write_text(
            _PROPERTIES.format(
                port=self.port,
                behind=self.behind,
                proxy=self.proxy,
                controller=controller,
                folder=self._folder,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Where the broker keeps its logs, to be spoiled while it is down."""
        return self._folder / "data"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    def start(self) -> None:
        """Start the broker, on the data that it left, and wait until it answers."""
        if not self.data.exists():
            made = self._java("kafka.tools.StorageTool", "random-uuid")
            uuid = made.communicate(timeout=STARTED_S)[0].decode().split()[-1]
            formatted = self._java(
                "kafka.tools.StorageTool", "format", "-t", uuid, "-c", str(self._properties)
            )
            formatted.communicate(timeout=STARTED_S)
            assert formatted.returncode == 0
        self._process = self._java("-Xmx512m", "kafka.Kafka", str(self._properties), is_server=True)
        eventually(self._answers, STARTED_S, what="the Kafka broker")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the broker at once; its data stays."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STARTED_S)
            self._process = None

    def close(self) -> None:
        """End the broker and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _java(self, *arguments: str, is_server: bool = False) -> subprocess.Popen[bytes]:
        with (self._folder / "broker.log").open("ab") as log:
            return subprocess.Popen(
                ["java", "-cp", f"{libs()}/*", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log if is_server else subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
            )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "broker.log").read_text()[-2_000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def why_unavailable() -> str | None:
    """Why no local broker can be had; None when one can."""
    if shutil.which("java") is None:
        return "no java"
    if not LIBS.exists() and shutil.which("mvn") is None:
        return "no mvn to fetch Kafka's jars"
    return None


def libs() -> Path:
    """The folder of Kafka's jars, fetched once."""
    if not LIBS.exists():
        with tempfile.TemporaryDirectory() as folder:
            pom = Path(folder) / "pom.xml"
            pom.write_text(_POM.format(version=VERSION))
            partial = LIBS.with_name(f"{LIBS.name}.{os.getpid()}")
            subprocess.run(
                ["mvn", "-q", "-B", "-f", str(pom), PLUGIN, "-DincludeScope=runtime",
                 f"-DoutputDirectory={partial}"],
                check=True,
                timeout=600,
            )  # fmt: skip
            if LIBS.exists():
                shutil.rmtree(partial)
            else:
                partial.rename(LIBS)
    return LIBS


def free_port() -> int:
    """A port that nobody listens on right now, and that no outgoing connection is given.

    A server that is down for a moment must find its port again: were it one of those that the system
    hands out, whoever knocks meanwhile might be given it, and even be connected with itself.
    """
    for port in random.sample(range(12_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("none of a hundred ports is free")
