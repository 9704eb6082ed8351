"""A real Apache Kafka broker on this machine, for tests and experiments: one node, KRaft, on loopback.

Maven downloads it once (`pom.xml` beside this) into the user's cache.  Everything that a broker writes is
in its own folder; it is found and stopped by the pid file there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from harness import handover
from harness.extras import missing
from harness.failure import Failure
from harness.home import NoHome, cache_folder, state_folder
from harness.temporary import temporary_folder

POM = Path(__file__).with_name("pom.xml")
READY_SECONDS, STOP_SECONDS, DOWNLOAD_SECONDS = 120.0, 30.0, 1800.0
TRIES = 3
PORTS = (20_000, 32_000)
"""Range to search for free ports: below the kernel's ephemeral ports."""

JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
group.initial.rebalance.delay.ms=0
"""


BOUND = ("setpriv", "--pdeathsig", "KILL")
"""Command prefix: the command ends with the thread that started it."""


class BrokerError(Failure, RuntimeError):
    """The broker is not available or does not start; the message says why and what to do."""


@dataclass(frozen=True)
class Broker:
    """A broker's folder. Whether the broker is running is checked each time.

    `extra` are additional lines for PROPERTIES, in the same form; if a setting occurs twice, the last one applies.
    With `bound`, the broker ends when the thread that started it does, even by SIGKILL.
    """

    home: Path
    extra: str = ""
    bound: bool = False

    @property
    def pid(self) -> int | None:
        """The running broker's pid, or None. A pid reused by another process does not count."""
        try:
            pid, command = self._left()
        except (OSError, ValueError):
            return None
        return pid if str(self.home / "server.properties").encode() in command else None

    @property
    def port(self) -> int:
        """The current or last port; 0 if it never ran."""
        try:
            return int((self.home / "port").read_text())
        except (OSError, ValueError):
            return 0

    @property
    def bootstrap(self) -> str:
        """The bootstrap address for clients."""
        return f"127.0.0.1:{self.port}"

    def up(self, port: int = 0) -> None:
        """Start unless running; returns when it serves. The port is kept across restarts. BrokerError."""
        if self.pid:
            return
        if said := missing("kafka"):
            raise BrokerError(said)
        self._await_a_killed_one()
        classpath = fetch()
        self.home.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            self._configure(port or self.port or free_port())
            self._format(classpath)
            try:
                return self._ready_or_gone(self._start(classpath))
            except BrokerError:
                # Another process may take the free port before the JVM binds it.
                if attempt == TRIES - 1 or not self._lost_a_port():
                    raise

    def down(self, sig: int = signal.SIGTERM) -> bool:
        """Stop the broker and keep its data; returns whether it was running."""
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, sig)
        if not handover.ended(pid, STOP_SECONDS):
            os.kill(pid, signal.SIGKILL)
            handover.ended(pid, STOP_SECONDS)
        (self.home / "pid").unlink(missing_ok=True)
        return True

    def _left(self) -> tuple[int, bytes]:
        """The last broker's pid, and the command line of the process that has it; OSError or ValueError without one."""
        pid = int((self.home / "pid").read_text())
        return pid, Path(f"/proc/{pid}/cmdline").read_bytes()

    def _await_a_killed_one(self) -> None:
        """Wait for a killed broker: its command line is gone, but it still holds its port and the lock on its data."""
        with contextlib.suppress(OSError, ValueError):
            pid, command = self._left()
            if not command:
                handover.ended(pid, handover.HANDOVER_SECONDS)

    def _lost_a_port(self) -> bool:
        return b"Address already in use" in (self.home / "broker.log").read_bytes()[-20_000:]

    def _configure(self, port: int) -> None:
        (self.home / "port").write_text(str(port))
        text = (PROPERTIES + self.extra).format(port=port, controller=free_port(), data=self.home / "data")
        (self.home / "server.properties").write_text(text)

    def _format(self, classpath: str) -> None:
        if (self.home / "data" / "meta.properties").exists():
            return
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
        arguments = ["format", "-t", cluster, "-c", str(self.home / "server.properties")]
        done = _ended([_java(), *JVM, "-cp", classpath, "kafka.tools.StorageTool", *arguments], READY_SECONDS)
        if done.returncode:
            raise BrokerError(f"{self.home}: cannot be formatted: {done.stderr.strip() or done.stdout.strip()}")

    def _start(self, classpath: str) -> subprocess.Popen[bytes]:
        # For the native library that compresses: /tmp may forbid to execute, and a killed broker leaves it there.
        libraries = self.home / "libraries"
        shutil.rmtree(libraries, ignore_errors=True)
        libraries.mkdir()
        options = [*JVM, f"-Djava.io.tmpdir={libraries}"]
        command = [_java(), *options, "-cp", classpath, "kafka.Kafka", str(self.home / "server.properties")]
        if self.bound:
            command = [*BOUND, *command]
        with open(self.home / "broker.log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )
        (self.home / "pid").write_text(str(process.pid))
        return process

    def _ready_or_gone(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it is ready; if the wait is interrupted, for example by Ctrl-C, the broker is stopped too."""
        try:
            self._wait_until_ready(process)
        except BaseException:
            self.down(signal.SIGKILL)
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise BrokerError(f"the broker ended while it started; see {self.home / 'broker.log'}")
            if _listens(self.port):
                try:
                    KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=2_000).close()
                    return
                except KafkaError:
                    pass
            time.sleep(0.1)
        raise BrokerError(f"not ready after {READY_SECONDS:.0f} s; see {self.home / 'broker.log'}")


def default_home() -> Path:
    """The folder of the user's default broker."""
    try:
        return state_folder() / "kafka"
    except NoHome as error:
        raise BrokerError(str(error)) from None


def fetch() -> str:
    """The class path of Kafka, downloaded on the first call. BrokerError without Maven or network."""
    try:
        cache = cache_folder()
    except NoHome as error:
        raise BrokerError(str(error)) from None
    libraries = cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not libraries.is_dir():
        _java()
        cache.mkdir(parents=True, exist_ok=True)
        with temporary_folder("kafka", cache) as partial:
            _download(partial / "lib")
            try:
                (partial / "lib").rename(libraries)
            except OSError:
                if not libraries.is_dir():  # otherwise another process was faster
                    raise
    return f"{libraries}/*"


def _download(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise BrokerError("Maven is needed to fetch Kafka: sudo apt-get install maven")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    done = _ended(["mvn", "-B", "-q", "-ntp", "-f", str(POM), *goal], DOWNLOAD_SECONDS)
    if done.returncode:
        raise BrokerError(f"Maven cannot fetch Kafka:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def _ended(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BrokerError(f"{Path(command[0]).name} had not ended after {seconds:.0f} s") from None


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise BrokerError("Java 17 or newer is needed to run Kafka: sudo apt-get install default-jre-headless")
    return java


def free_port() -> int:
    """A TCP port below the ephemeral ones that nothing listens on."""
    for _ in range(100):
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise BrokerError(f"no free port from {PORTS[0]} to {PORTS[1]}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
