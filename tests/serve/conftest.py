"""Servers for these tests: in a thread of this process, or the command itself."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.apiserver import LiveApi

DEMO = Path(__file__).resolve().parents[2] / "recordings" / "demo.jsonl"
SECONDS = 60
"""Bound of every wait here."""


class Answer(NamedTuple):
    """An HTTP answer, its body decoded where it is JSON."""

    code: int
    body: dict | str
    headers: dict


def ask(
    url: str, method: str = "GET", body: object = None, tls: ssl.SSLContext | None = None, **headers: str
) -> Answer:
    """One request; never raises for an HTTP error. Underscores in header names become dashes."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS, context=tls) as reply:
            code, text, found = reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        code, text, found = error.code, error.read(), error.headers
    try:
        return Answer(code, json.loads(text), dict(found))
    except ValueError:
        return Answer(code, text.decode(), dict(found))


class Served:
    """A `harness serve` process."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "harness", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline()
        self.url = next((word for word in self.ready.split() if word.startswith("http")), "")

    def control(self, action: str, **query: object) -> dict:
        """POST to the control endpoint; the status after it."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        answer = ask(f"{self.url}/control/{action}?{asked}", "POST")
        assert answer.code == 200, answer
        return answer.body

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; its exit code and what it said on standard error."""
        self.process.send_signal(signum)
        return self.finished()

    def finished(self) -> tuple[int, str]:
        """Its exit code and standard error, once it has ended."""
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def serve():
    """serve(*arguments) -> Served; all end with the test."""
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(*arguments))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
        served.process.communicate(timeout=SECONDS)


@pytest.fixture
def api():
    """Live state on loopback."""
    with LiveApi() as live:
        yield live


@pytest.fixture(scope="session")
def kubectl():
    """kubectl(kubeconfig, *arguments) -> its output; without kubectl a reported skip, on CI a failure."""
    import shutil

    program = shutil.which("kubectl")
    if program is None:
        why = "NO KUBECTL: scripts/setup.sh installs it as root, else install kubernetes-client"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)

    def run(kubeconfig: Path, *arguments: str, code: int = 0) -> str:
        command = [
            program,
            "--kubeconfig",
            str(kubeconfig),
            "--cache-dir",
            str(kubeconfig.parent / "cache"),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run
