"""Another program holds the legacy tools' lock longer than these wait: the state is unknown, not lost."""

from __future__ import annotations

import fcntl
import subprocess

import pytest

from engine.kernel.interface import Intact, KernelError
from engine.kernel.iptables import IptablesKernel
from engine.kernel.iptables.variant import tool

from .programs import BOTH, observe, service, slice_, synced


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "xtables.lock"
    path.touch()
    with open(path) as held:
        yield held


@pytest.fixture
def kernel(namespace, lock):
    """Its tools use a lock of their own, and wait for it for a second."""

    def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        hasty = ["1" if word == "5" else word for word in command]
        return namespace.run(["env", f"XTABLES_LOCKFILE={lock.name}", *hasty], stdin)

    return IptablesKernel(run, "legacy", namespace.socket, lock.name)


def test_a_held_lock_is_not_mistaken_for_lost_rules(kernel, lock, namespace):
    proxier = synced(kernel, service(), slice_(*BOTH))
    assert kernel.intact(4) is Intact.YES
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert kernel.intact(4) is Intact.UNKNOWN
    observe(proxier, service(name="more", ip="172.30.0.60"))
    with pytest.raises(KernelError, match="lock"):
        proxier.sync()
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert kernel.intact(4) is Intact.YES
    assert proxier.sync().full
    namespace.run([tool("legacy", 4), "-t", "nat", "-F"])
    namespace.run([tool("legacy", 4), "-t", "nat", "-X"])
    assert kernel.intact(4) is Intact.NO


def test_a_held_lock_is_not_mistaken_for_a_missing_feature(kernel, lock):
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert kernel.missing((4,)) is None


def test_a_missing_tool_leaves_the_state_of_the_rules_unknown(namespace):
    kernel = IptablesKernel(lambda *_: subprocess.CompletedProcess([], 127, b"", b"not installed"), "legacy")
    assert kernel.intact(4) is Intact.UNKNOWN


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ("yes yes", "yes"),
        ("yes unknown", "unknown"),
        ("unknown no", "no"),
        ("no yes", "no"),
        ("", "yes"),
    ],
)
def test_one_missing_part_means_lost_rules(parts, whole):
    assert Intact.of(map(Intact, parts.split())) is Intact(whole)
