"""One lab for tests that only use it; destructive tests start their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.lab.control import LabClient
from harness.lab.launch import lab
from harness.lab.topology import LabOptions


@pytest.fixture(scope="session")
def cluster(kernel_namespaces, tmp_path_factory):
    """A small lab in nftables mode."""
    with lab(
        LabOptions(nodes=2, pods=4, min_sync_period_seconds=0.05), tmp_path_factory.mktemp("lab") / "lab"
    ) as client:
        yield client


def curl(client: LabClient, where: str | None, url: str) -> str:
    """The answer's body, empty when there is none within five seconds."""
    return client.run(where, ["curl", "-s", "-m", "5", url]).stdout.decode()


def marked(folder: Path) -> list[str]:
    """Processes that have the folder in their command line, this one left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and int(entry.name) != os.getpid():
            found.append(entry.name)
    return found
