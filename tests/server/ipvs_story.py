"""The daemon in mode ipvs, from start to end: runs inside user-mode Linux and prints what it saw as JSON.

python -m tests.server.ipvs_story FOLDER CERTIFICATE KEY
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from tests.cases.clusters import end, node, service, slice_
from tests.server.lab import ADDRESS, Lab, eventually

WAIT_SECONDS = 120


class Host:
    """The machine itself, in a namespace's place."""

    socket = staticmethod(socket.socket)

    def run(self, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command's result."""
        return subprocess.run(command, input=stdin, capture_output=True, check=False)


def main() -> None:
    """Start, lose everything, start again, end."""
    folder, *certificate = sys.argv[1:]
    host, seen = Host(), {}
    for command in ("ip link set lo up", f"ip address add {ADDRESS}/32 dev lo"):
        assert host.run(command.split()).returncode == 0
    lab = Lab(Path(folder), host, tuple(certificate), "ipvs", entered=True)
    lab.record([node(), service(), slice_(end("10.180.0.1"))], [("MODIFIED", slice_(end("10.180.2.1")))])
    lab.serve()
    daemon = lab.daemon(periods={"syncPeriod": "2s"})
    daemon.says('"Started"', WAIT_SECONDS)
    seen["first"] = servers(host)
    host.run(["ipvsadm", "-C"])
    eventually(lambda: "10.180.0.1:80" in servers(host), "the virtual servers, again", WAIT_SECONDS)
    seen["losses"] = daemon.count("Rules are gone")
    seen["events"] = eventually(lambda: len(found := lab.events()) > 1 and sorted(found), "its Events")
    seen["code"] = daemon.end()
    seen["after"] = servers(host)
    seen["log"] = daemon.text()
    print(json.dumps(seen))


def servers(host: Host) -> str:
    """What `ipvsadm -Sn` prints."""
    return host.run(["ipvsadm", "-Sn"]).stdout.decode()


if __name__ == "__main__":
    main()
