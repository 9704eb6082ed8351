"""Runs in a virtual machine for `test_ipvs.py` with arguments RECORDING OUT: loads one program into IP_VS both ways."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from engine.addresses import parse_network
from engine.backends.ipvs.program import IpvsProgram
from engine.config import ProxyConfig
from engine.kernel.interface import Applied
from engine.kernel.ipvs import IpvsKernel
from engine.proxier import Proxier
from harness.log import open_source


class Keeping:
    """Keeps the programs without applying them."""

    def __init__(self) -> None:
        self.programs: list[IpvsProgram] = []

    def apply(self, program: IpvsProgram):
        self.programs.append(program)
        return Applied(0)


def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command and capture its output."""
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def resident_mib() -> float:
    """Current memory of this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def main(recording_path: str, out: str) -> None:
    """Write the figures to OUT."""
    before = resident_mib()
    keeping = Keeping()
    with open_source(recording_path) as recording:
        pods = tuple(parse_network(text) for text in recording.header.cluster["clusterCIDR"].split(","))
        proxier = Proxier("ipvs", ProxyConfig(pod_networks=pods), keeping, time.perf_counter)
        for event in recording:
            proxier.state.observe(event.type, event.resource, event.object)
        proxier.sync()
    state_mib = resident_mib() - before
    program = next(p for p in keeping.programs if p.family == 4)
    kernel = Timed(socket.socket, run)
    started = time.perf_counter()
    kernel.apply(program)
    applied = time.perf_counter() - started
    held = sorted(run(["ipvsadm", "-Sn"]).stdout.splitlines())
    run(["ipvsadm", "-C"])
    text = "".join(f"{line}\n" for line in program.server_lines()).encode()
    started = time.perf_counter()
    done = run(["ipvsadm", "-R"], text)
    reference = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    figures = {
        "servers": len(program.servers_added), "destinations": len(program.destinations_added),
        "netlink_seconds": kernel.seconds, "apply_seconds": applied, "ipvsadm_seconds": reference,
        "held": len(held), "state_mib": state_mib,
        "held_by_ipvsadm": len(held) if sorted(run(["ipvsadm", "-Sn"]).stdout.splitlines()) == held else 0,
    }  # fmt: skip
    Path(out).write_text(json.dumps(figures))


class Timed(IpvsKernel):
    """Measures the IP_VS part, including encoding."""

    seconds = 0.0

    def _servers(self, program, known) -> int:
        started = time.perf_counter()
        sent = super()._servers(program, known)
        self.seconds += time.perf_counter() - started
        return sent


if __name__ == "__main__":
    main(*sys.argv[1:])
