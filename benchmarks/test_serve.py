"""The served API: a list of 10,000 Services, and a thousand watchers that share one history."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest

RECORDING = Path(__file__).resolve().parent.parent / "recordings" / "10k-svc.jsonl"
WATCHERS, CHANGES = 1_000, 200


@pytest.fixture
def served():
    """(url, process) of the committed recording of 10,000 Services, before its first event."""
    command = [sys.executable, "-m", "harness", "serve", str(RECORDING), "--start-paused"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ready = process.stdout.readline()
    yield next(word for word in ready.split() if word.startswith("http")), psutil.Process(process.pid)
    process.terminate()
    process.communicate(timeout=30)


def test_a_list_of_all_services(benchmark, served, figure):
    """From request to last byte, the first and the second time; reference: the bare decoding in a client."""
    url = served[0] + "/api/v1/services"
    started = time.perf_counter()
    body = _read(url)
    first = time.perf_counter() - started
    benchmark.pedantic(lambda: _read(url), rounds=10)
    started = time.perf_counter()
    count = len(msgspec.json.decode(body)["items"])
    decoding = time.perf_counter() - started
    figure(f"list of {count:,} Services, first request", f"{first:.3f} s", "<= 1 s", f"decoding it {decoding:.3f} s")
    figure("  again", f"{benchmark.stats.stats.min:.3f} s", "", f"{len(body) / 1e6:.1f} MB")
    assert count >= 10_000


def test_a_thousand_watchers(benchmark, served, figure):
    """Memory per watcher, and the time until all have received the same changes; reference: a single watcher."""
    url, process = served
    alone = asyncio.run(_watch(url, process, 1))
    many = benchmark.pedantic(lambda: asyncio.run(_watch(url, process, WATCHERS)), rounds=1)
    per = many["memory"] / WATCHERS
    figure(
        f"memory of a watcher, of {WATCHERS:,}",
        f"{per / 1024:.0f} KiB",
        "<= 100 KiB",
        f"state {many['state']:,.0f} MiB",
    )
    figure("  growth while all receive changes", f"{many['growth'] / WATCHERS / 1024:.1f} KiB", "", "each")
    ratio = many["seconds"] / WATCHERS / alone["seconds"]
    figure(
        "  sending a change to one of them, against one alone",
        f"{ratio:.2f} x",
        "<= 1 x",
        f"{many['seconds']:.2f} s in all",
    )


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as reply:
        return reply.read()


async def _watch(url: str, process: psutil.Process, count: int) -> dict[str, float]:
    """Open `count` watches, step through changes, and wait until every watch has delivered them all."""
    status = json.loads(_read(url + "/control/status"))
    since = status["resources"]["endpointslices.discovery.k8s.io"]["resourceVersion"]
    watch = f"{url}/apis/discovery.k8s.io/v1/endpointslices?watch=1&resourceVersion={since}"
    before = process.memory_info().rss
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        streams = await asyncio.gather(*(session.get(watch) for _ in range(count)))
        opened = process.memory_info().rss
        started = time.perf_counter()
        async with session.post(f"{url}/control/step?count={CHANGES}") as reply:
            until = (await reply.json())["resources"]["endpointslices.discovery.k8s.io"]["resourceVersion"]
        await asyncio.gather(*(_told(stream, until) for stream in streams))
        seconds = time.perf_counter() - started
        delivered = process.memory_info().rss
    return {"memory": opened - before, "growth": delivered - opened, "seconds": seconds, "state": before / (1 << 20)}


async def _told(stream: aiohttp.ClientResponse, until: str) -> None:
    mark = f'"resourceVersion":"{until}"'.encode()
    tail = b""
    while mark not in tail:
        chunk = await stream.content.readany()
        assert chunk, "the watch ended early"
        tail = tail[-64:] + chunk
