"""Mode ipvs, in a kernel that has IP_VS: a virtual machine, with the API server inside too."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.vm
def test_ipvs_from_start_to_end(tmp_path, certificate):
    """Programmed, restarted without a gap (INV-03), found lost and written again (INV-07), left at the end (CLN-05)."""
    command = [sys.executable, "-m", "tests.server.ipvs_story", str(tmp_path), *certificate]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    server = "-A -t 172.30.0.41:80 -s rr"
    assert server in seen["first"], seen["log"]
    assert "-a -t 172.30.0.41:80 -r 10.180.0.1:80 -m -w 1" in seen["first"]
    assert seen["failed"] == 0, seen["failures"]
    assert seen["calls"] > 100
    assert seen["losses"] == 2, seen["log"]
    assert {"Starting", "IPVSDeprecation"} <= set(seen["events"]), "IPVS-22"
    assert seen["code"] == 0
    assert server in seen["after"]
