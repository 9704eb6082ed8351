"""Facts about the machine that a benchmark ran on."""

from __future__ import annotations

import re
import shutil

from harness.bench.facts import TOOLS, facts


def test_every_tool_has_a_version_whatever_the_kernel_lacks():
    found = facts().tools
    there = {name for name in TOOLS if shutil.which(name)}
    assert there == found.keys() & set(TOOLS)
    assert [name for name in there if not re.match(r"v\d+\.\d+", found[name])] == []


def test_a_tool_that_does_not_start_is_read_and_an_odd_one_unknown(tmp_path, monkeypatch):
    for name, text in (("ipvsadm", "# ipvsadm v1.30 2019/07/02 (compiled with popt)"), ("nft", "# 1.2.3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\nexit 2\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = facts().tools
    assert (found["ipvsadm"], found["nft"], "iptables" in found) == ("v1.30", "unknown", False)
