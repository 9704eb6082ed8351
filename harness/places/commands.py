"""Runs commands with captured output and a time limit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from harness.places.vm import patience

SECONDS = 300
BYTES_PER_SECOND = 50_000
"""Tools with large input get more time; nft needs minutes for kube-proxy's rules."""
TIMED_OUT = 124
"""Exit status, as that of `timeout`."""


def run(command: Sequence[str], stdin: bytes = b"", within: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
    """The result; a command that exceeds its limit fails with a message.  `within` enters the place."""
    limit = patience() * (SECONDS + len(stdin) // BYTES_PER_SECOND)
    words = [*within, *command]
    try:
        return subprocess.run(words, input=stdin, capture_output=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        name = next(word for word in command if word != "env" and "=" not in word)
        return subprocess.CompletedProcess(words, TIMED_OUT, b"", f"{name} timed out after {limit} s".encode())
