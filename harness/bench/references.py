"""Fixed work that is measured along with every row, and slows down equally on a slower or busier machine.

`netlink`: 20,000 elements into an empty set of nf_tables, sent and acknowledged; `json`: a list of EndpointSlices,
decoded; `loop`: additions in Python.  Nothing of the engine runs while they are timed.

The shortest of many times is the one that was disturbed least (Jiahao Chen and Jarrett Revels, "Robust benchmarking in
noisy environments", IEEE HPEC 2016); of figures, too, the shortest is divided by them.
"""

from __future__ import annotations

import math
import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from engine.kernel.netlink import ACK, CREATE, NETFILTER, attribute, nested, nfnetlink, text, widen
from harness.kube.resources import Manifest
from harness.places.namespace import Namespace, NamespaceError

ELEMENTS, PART = 20_000, 2_500
SLICES, ENDPOINTS = 400, 10
TURNS = 200_000
REPEATS = 3
_BEGIN, _END, _NEWSETELEM = 0x10, 0x11, 0x0A0C
_IPV4, _SUBSYSTEM = 2, 10
_RULES = b"add table ip reference\nadd set ip reference addresses { type ipv4_addr; size 65536; }\n"
_FLUSH = b"flush set ip reference addresses\n"
ANSWER_SECONDS = 60


class References:
    """Context manager; `measure` may be called repeatedly."""

    def __enter__(self) -> References:
        self._stack = ExitStack()
        self._works: dict[str, Callable[[], None]] = {"json": _json(), "loop": _loop}
        self.samples: dict[str, list[tuple[float, float]]] = {}
        try:
            self._namespace = self._stack.enter_context(Namespace())
            self._works["netlink"] = self._netlink()
        except (NamespaceError, OSError):  # a kernel without nf_tables: the others remain
            self._works.pop("netlink", None)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def measure(self) -> None:
        """Run each of them a few times; samples are (seconds, CPU seconds)."""
        for _ in range(REPEATS):
            for name, work in self._works.items():
                if name == "netlink":
                    self._namespace.run(["nft", "-f", "-"], _FLUSH)
                began, used = time.perf_counter(), time.process_time()
                work()
                took = time.perf_counter() - began, time.process_time() - used
                self.samples.setdefault(name, []).append(took)

    def taken(self) -> dict[str, dict[str, float]]:
        """The shortest samples since the last call, as `seconds` and `cpu_seconds` by name."""
        found, self.samples = self.samples, {}
        return {
            name: {
                "seconds": min(s for s, _ in each),
                "cpu_seconds": min(c for _, c in each),
            }
            for name, each in sorted(found.items())
        }

    def _netlink(self) -> Callable[[], None]:
        if self._namespace.run(["nft", "-f", "-"], _RULES).returncode:
            raise OSError("no nf_tables")
        sock = self._stack.enter_context(self._namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER))
        widen(sock, 1 << 22, 1 << 22)
        sock.settimeout(ANSWER_SECONDS)
        batches = [_batch(start) for start in range(0, ELEMENTS, PART)]

        def send() -> None:
            for batch in batches:
                sock.send(batch)
                answer = sock.recv(1 << 16)
                if struct.unpack_from("=i", answer, 16)[0]:
                    raise OSError("the reference batch was refused")

        return send


def _batch(start: int) -> bytes:
    keys = [struct.pack(">I", 10 << 24 | number) for number in range(start, start + PART)]
    elements = b"".join(nested(1, nested(1, attribute(1, key))) for key in keys)
    body = text(1, "reference") + text(2, "addresses") + nested(3, elements)
    resource = socket.htons(_SUBSYSTEM)
    return (
        nfnetlink(_BEGIN, 0, 0, b"", resource)
        + nfnetlink(_NEWSETELEM, CREATE | ACK, _IPV4, body)
        + nfnetlink(_END, 0, 0, b"", resource)
    )


def _json() -> Callable[[], None]:
    draw = random.Random(1)
    document = msgspec.json.encode([_slice(draw, number) for number in range(SLICES)])

    def decode() -> None:
        msgspec.json.decode(document)

    return decode


def _slice(draw: random.Random, number: int) -> Manifest:
    endpoints = [
        {"addresses": [f"10.0.{number % 250}.{n}"], "conditions": {"ready": draw.random() > 0.1}, "nodeName": f"n-{n}"}
        for n in range(ENDPOINTS)
    ]
    return {"metadata": {"name": f"slice-{number}", "uid": f"{draw.getrandbits(128):x}"}, "endpoints": endpoints}


def _loop() -> None:
    total = 0
    for number in range(TURNS):
        total += number


def unit(references: dict[str, dict[str, float]], clock: str) -> float | None:
    """The geometric mean of the references by `seconds` or `cpu_seconds`; None if one of them took no time."""
    values = [each[clock] for each in references.values()]
    if not values or min(values) <= 0:
        return None
    return math.exp(sum(map(math.log, values)) / len(values))
