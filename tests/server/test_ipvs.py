"""Mode ipvs, in a kernel that has IP_VS: user-mode Linux, with the API server inside too."""

from __future__ import annotations

import json
import os
import sys

import pytest

from harness import uml


@pytest.mark.timeout(400)
def test_ipvs_from_start_to_end(tmp_path, certificate):
    """Programmed, restarted without a gap (INV-03), found lost and written anew (INV-07), left at the end (CLN-05)."""
    if not uml.installed():
        if os.environ.get("CI"):
            pytest.fail("user-mode-linux is not installed")
        pytest.skip("NO IPVS TEST OF THE DAEMON: user-mode-linux is not installed")
    out: list[bytes] = []
    errors: list[bytes] = []
    folders = [str(tmp_path), os.path.dirname(certificate[0])]
    command = [sys.executable, "-m", "tests.server.ipvs_story", str(tmp_path), *certificate]
    code = uml.run(command, writable=folders, stdout=out.append, stderr=errors.append)
    assert code == 0, b"".join(errors).decode()
    seen = json.loads(b"".join(out))
    server = "-A -t 172.30.0.41:80 -s rr"
    assert server in seen["first"], seen["log"]
    assert "-a -t 172.30.0.41:80 -r 10.180.0.1:80 -m -w 1" in seen["first"]
    assert seen["failed"] == 0, seen["failures"]
    assert seen["calls"] > 100
    assert seen["losses"] == 2, seen["log"]
    assert {"Starting", "IPVSDeprecation"} <= set(seen["events"]), "IPVS-22"
    assert seen["code"] == 0
    assert server in seen["after"]
