"""The pages of `harness plan --mode ipvs` load in a kernel that has IP_VS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ..cli.test_plan import dump, harness  # noqa: F401 (a fixture)


@pytest.mark.vm
def test_the_tools_load_the_sections(dump, tmp_path: Path):  # noqa: F811 (the fixture)
    folder = tmp_path / "ipvs"
    assert harness("plan", dump, "--mode", "ipvs", "--dir", str(folder)).returncode == 0
    # As proxy-engine does before it starts: the sections' sysctls are the module's.
    script = (
        f"set -e; modprobe ip_vs; {folder}/load.sh; ipvsadm -Sn; ipset list -n; iptables-save -t nat | grep -c KUBE"
    )
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = next(folder.glob("*ipv4-ipvsadm*")).read_text()
    servers = {line for line in wanted.splitlines() if line.startswith("-a")}
    assert servers and servers <= set(done.stdout.splitlines())
    assert "KUBE-CLUSTER-IP" in done.stdout
