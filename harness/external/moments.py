"""The times at which the rules of a namespace changed, recorded by a separate process that nothing here delays."""

from __future__ import annotations

import bisect
import os
import select
import socket
import subprocess
import sys
import time

from engine.kernel.interface import KernelError
from engine.kernel.netlink import NETFILTER
from harness.places import vm
from harness.places.namespace import Namespace

START_SECONDS = 30.0


class Moments:
    """Context manager; times are on the monotonic clock."""

    def __init__(self, node: Namespace) -> None:
        self._node = node
        self._rest = b""
        self.times: list[float] = []
        self.sources: set[str] = set()

    def __enter__(self) -> Moments:
        netlink = self._node.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        raw = [
            self._node.socket(each, socket.SOCK_RAW, socket.IPPROTO_RAW) for each in (socket.AF_INET, socket.AF_INET6)
        ]
        sockets = [netlink, *raw]
        numbers = [sock.fileno() for sock in sockets]
        command = [sys.executable, "-m", "harness.external.moments_agent", *map(str, numbers), str(self._node.pid)]
        self._process = subprocess.Popen(
            command, pass_fds=numbers, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        for sock in sockets:
            sock.close()
        assert self._process.stdout, "it is a pipe"
        self._pipe = self._process.stdout.fileno()
        self._await_start()
        os.set_blocking(self._pipe, False)
        return self

    def _await_start(self) -> None:
        assert self._process.stdout, "it is a pipe"
        ready = select.select([self._pipe], [], [], START_SECONDS * vm.patience())[0]
        if not ready or self._process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise KernelError("the process that receives the kernel's notifications did not start")

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait(self, seconds: float) -> bool:
        """Whether the rules change within this time; changes since the last call count."""
        known, until = len(self.times), time.monotonic() + seconds
        while len(self.times) == known:
            left = until - time.monotonic()
            if not select.select([self._pipe], [], [], max(0.0, left))[0]:
                return False
            self._read()
        return True

    def _read(self) -> None:
        try:
            data = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            raise KernelError("the process that receives the kernel's notifications has ended")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            at, _, source = line.decode().partition(" ")
            self.times.append(float(at))
            self.sources.add(source)

    def last(self, after: float, before: float) -> float | None:
        """The time of the last change between two times, or None."""
        while self.wait(0):
            pass
        place = bisect.bisect_right(self.times, before)
        return self.times[place - 1] if place and self.times[place - 1] > after else None
