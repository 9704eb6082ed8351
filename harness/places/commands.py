"""Runs commands with captured output and a time limit."""

from __future__ import annotations

import io
import os
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
    # Memory files: through a pipe nft prints thousands of small pieces, each of which would wake this process.
    with memory_file(stdin) as given, memory_file() as output:
        try:
            done = subprocess.run(words, stdin=given, stdout=output, stderr=subprocess.PIPE, check=False, timeout=limit)
            done.stdout = content(output)
            return done
        except subprocess.TimeoutExpired:
            name = next(word for word in command if word != "env" and "=" not in word)
            return subprocess.CompletedProcess(words, TIMED_OUT, b"", f"{name} timed out after {limit} s".encode())


def memory_file(content: bytes = b"") -> io.FileIO:
    """A file in memory, positioned at its start; it disappears when closed."""
    file = io.FileIO(os.memfd_create("command"), "r+")
    file.write(content)
    file.seek(0)
    return file


def content(file: io.FileIO) -> bytes:
    """The whole content of a file, regardless of its position."""
    file.seek(0)
    return file.readall()
