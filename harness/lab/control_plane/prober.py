"""Runs one readinessProbe once, from the node's namespace, as a kubelet does."""

from __future__ import annotations

import asyncio
from socket import socket

from harness.lab.control_plane.probes import Exec, HttpGet, Probe
from harness.lab.dataplane import network
from harness.lab.timed import holds


async def passes(probe: Probe, node: str, pod: str, address: str) -> bool:
    """Whether the probe succeeds within its timeout; `pod` names the namespace that commands run in."""
    try:
        return await holds(lambda: _passes(probe, node, pod, address), probe.timeout_seconds)
    except OSError:
        return False


async def _passes(probe: Probe, node: str, pod: str, address: str) -> bool:
    if isinstance(probe.action, Exec):
        return await _exits_well(network.inside(pod, list(probe.action.command)))
    with network.make_socket(node) as sock:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (address, probe.action.port))
        if not isinstance(probe.action, HttpGet):
            return True
        request = f"GET {probe.action.path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(sock, request.encode())
        return 200 <= await _status(sock) < 400


async def _status(sock: socket) -> int:
    """The status of an HTTP response; 0 for anything else."""
    answer = b""
    while b"\r\n" not in answer and len(answer) < 4096:
        chunk = await asyncio.get_running_loop().sock_recv(sock, 4096)
        if not chunk:
            break
        answer += chunk
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else 0


async def _exits_well(command: list[str]) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
