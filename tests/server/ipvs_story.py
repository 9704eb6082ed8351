"""The daemon in mode ipvs, from start to end: runs inside a virtual machine and prints what it saw as JSON.

python -m tests.server.ipvs_story FOLDER CERTIFICATE KEY
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.conformance.corpus.clusters import end, node, service, slice_
from tests.server.lab import ADDRESS, Lab, Process, eventually

WAIT_SECONDS = 120
TRAFFIC = [sys.executable, str(Path(__file__).with_name("traffic.py"))]
CLIENT, POD = (["ip", "netns", "exec", name] for name in ("client", "pod"))
NETWORK = f"""\
ip link set lo up
ip address add {ADDRESS}/32 dev lo
ip netns add client
ip link add client type veth peer name eth0 netns client
ip address add 192.0.2.1/24 dev client
ip link set client up
ip -n client address add 192.0.2.2/24 dev eth0
ip -n client link set eth0 up
ip -n client route add 172.30.0.0/16 via 192.0.2.1
ip netns add pod
ip link add pod type veth peer name eth0 netns pod
ip address add 10.180.0.254/24 dev pod
ip link set pod up
ip -n pod address add 10.180.0.1/24 dev eth0
ip -n pod link set eth0 up
"""
"""The pod knows no way to the client: a connection that is not masqueraded, as one while sets are empty, fails."""


class Host:
    """The machine itself, in a namespace's place."""

    socket = staticmethod(socket.socket)

    def run(self, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command's result."""
        return subprocess.run(command, input=stdin, capture_output=True, check=False)


def main() -> None:
    """Start, restart under traffic, lose everything, end."""
    folder, *certificate = sys.argv[1:]
    host, seen = Host(), {}
    for command in NETWORK.splitlines():
        assert (done := host.run(command.split())).returncode == 0, f"{command}: {done.stderr.decode()}"
    lab = Lab(Path(folder), host, tuple(certificate), "ipvs", entered=True)
    other = service(name="s2", ip="172.30.0.42")
    lab.record([node(), service(), other, slice_(end("10.180.0.1"))], [("MODIFIED", slice_(end("10.180.2.1")))])
    lab.serve()
    daemon = lab.daemon(periods={"syncPeriod": "2s"})
    daemon.says('"Started"', WAIT_SECONDS)
    seen["first"] = servers(host)
    daemon, seen["calls"], seen["failed"], seen["failures"] = restarted(lab, daemon)
    for command in ("ipvsadm -D -t 172.30.0.41:80", "ipvsadm -C"):
        host.run(command.split())
        eventually(lambda: "172.30.0.41:80 -r 10.180.0.1:80" in servers(host), command, WAIT_SECONDS)
    seen["losses"] = daemon.count("Rules have been removed")
    seen["events"] = eventually(lambda: len(found := lab.events()) > 1 and sorted(found), "its Events")
    seen["code"] = daemon.end()
    seen["after"] = servers(host)
    seen["log"] = daemon.text()
    print(json.dumps(seen))


def restarted(lab: Lab, daemon: Process) -> tuple[Process, int, int, str]:
    """A daemon after a restart, and what a client saw meanwhile: connections, failures, which."""
    with serving(POD, "serve", "10.180.0.1", "80"), serving(CLIENT, "call", "172.30.0.41", "80") as caller:
        daemon.end(hard=True)
        daemon = lab.daemon(periods={"syncPeriod": "2s"})
        daemon.says('"Started"', WAIT_SECONDS)
        out, failures = caller.communicate(timeout=WAIT_SECONDS)
    return daemon, *map(int, out.split()[-2:]), failures.decode()


@contextmanager
def serving(inside: list[str], *arguments: str) -> Iterator[subprocess.Popen]:
    """`traffic.py`, from its first word on until the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*inside, *TRAFFIC, *arguments], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def servers(host: Host) -> str:
    """What `ipvsadm -Sn` prints."""
    return host.run(["ipvsadm", "-Sn"]).stdout.decode()


if __name__ == "__main__":
    main()
