"""Same recording and options, same digest: whatever the machine, speed, kernel and hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.replay.kernels import open_kernel
from harness.replay.session import ReplayOptions, ReplaySession

DEMO = "recordings/demo.jsonl"
DEMO_DIGEST = "39737abbabd48d805bbfcdc6cf22940f1ad37d28cbbff422389cb989539d40b8"
"""Pinned: another machine must find the same; a change of the programs changes it, knowingly."""


def digest(kernel: str = "memory", verify: str = "none", **options) -> str:
    with open_kernel(kernel, options.get("mode", "nftables")) as target:
        result = ReplaySession(DEMO, ReplayOptions(verify=verify, **options), target, lambda *_: None).run()
    assert result.verified in (True, "unknown"), result.differences
    return result.digest


def test_the_demo_recording_has_the_digest_that_every_machine_finds():
    assert digest() == DEMO_DIGEST


def test_the_real_kernel_does_not_change_it(kernel_namespaces):
    assert digest("netns", "full") == DEMO_DIGEST


@pytest.mark.parametrize("speed", [1e5, 3e4])
def test_speed_does_not_change_it(speed):
    assert digest(speed=speed) == DEMO_DIGEST


def test_verifying_does_not_change_it():
    assert digest(verify="full") == DEMO_DIGEST


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_hash_seed_does_not_change_it(seed):
    command = [sys.executable, "-m", "harness", "replay", DEMO, "--kernel", "memory", "--expect-digest", DEMO_DIGEST]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_other_options_give_other_digests():
    assert len({DEMO_DIGEST, digest(min_sync_period=0), digest(node="node-0002"), digest(pod_networks=())}) == 4
