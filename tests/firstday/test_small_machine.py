"""A small machine, such as a slim container: no /etc/protocols, no locale but ASCII."""

from __future__ import annotations

import pytest

from tests.firstday.account import ROOT
from tests.firstday.test_abuse import run

WITHOUT_NAMES = 'for f in protocols services; do mount --bind /dev/null /etc/$f; done; exec "$@"'
"""What package netbase installs, which slim images of Debian lack."""


@pytest.mark.parametrize(
    "options",
    [["--mode", "nftables"], *(["--mode", "iptables", "--iptables-variant", each] for each in ("legacy", "nft"))],
    ids=lambda options: options[-1],
)
def test_protocols_without_names_are_no_difference(kernel_namespaces, tmp_path, options):
    recording = str(ROOT / "tests/vm/data/small.jsonl")
    script = f"exec unshare -Urm bash -c '{WITHOUT_NAMES}' bash \"$@\""
    done = run(["replay", recording, *options, "--kernel", "netns", "--check-every", "1000"], tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert "verified: the kernel agreed" in done.stdout


def test_characters_that_the_terminal_lacks_are_replaced(tmp_path):
    command = ["replay", str(ROOT / "recordings/demo.jsonl"), "--kernel", "memory", "--verify", "none"]
    done = run(command, tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert "digest " in done.stdout and "?" in done.stdout
