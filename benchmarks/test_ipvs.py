"""The IP_VS part of a first sync by pipelined netlink, relative to `ipvsadm -R`; in a virtual machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.places import vm

INSIDE = Path(__file__).with_name("ipvs_inside.py")


@pytest.mark.timeout(900)
def test_first_sync(benchmark, recording_of, figure, tmp_path):
    """10,000 Services x 10 endpoints (500 if emulated), both ways in one kernel; memory of the engine's state."""
    found: list[dict] = []

    def boot() -> None:
        out = tmp_path / "figures.json"
        errors = bytearray()
        with vm.booted(memory_mib=4096, writable=[str(tmp_path)]) as guest:
            services = 500 if guest.accelerator == "tcg" else 10_000
            command = [sys.executable, str(INSIDE), str(recording_of(services, 10)), str(out)]
            code = guest.run(command, stdout=errors.extend, stderr=errors.extend)
        assert code == 0, errors.decode(errors="replace")
        found.append(json.loads(out.read_text()))

    benchmark.pedantic(boot, rounds=1)
    (seen,) = found
    assert seen["held"] == seen["held_by_ipvsadm"], "both ways lead to the same virtual servers"
    ratio = seen["ipvsadm_seconds"] / seen["netlink_seconds"]
    what = f"ipvs: {seen['servers']:,} virtual servers, {seen['destinations']:,} destinations"
    figure(what, f"{seen['netlink_seconds']:.2f} s", "", f"ipvsadm -R {seen['ipvsadm_seconds']:.2f} s")
    figure("  faster than ipvsadm -R", f"{ratio:.1f} x", ">= 5 x")
    figure("  whole apply: sets, rules, addresses, servers", f"{seen['apply_seconds']:.2f} s")
    figure("  memory of the engine's state", f"{seen['state_mib']:.0f} MiB", "<= 250 MiB")
