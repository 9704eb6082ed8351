"""docs/lab.md documents the commands' options and the network."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from harness.cli.commands.lab import up
from harness.lab.topology import LabOptions, nodes_of, service_manifests

PAGE = Path("docs/lab.md").read_text()
COMMANDS = re.findall(r"^    (harness .*)$", PAGE, re.MULTILINE)


def test_documented_commands_run_in_order(kernel_namespaces, tmp_path):
    """As written, with a state directory of their own."""
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": os.getcwd()}

    def started(line: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *shlex.split(line)]
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    try:
        for line in COMMANDS:
            with started(line) as process:
                if " forward " in line:
                    assert "8089" in process.stdout.readline()
                    process.send_signal(signal.SIGTERM)
                out, _ = process.communicate(timeout=240)
            assert process.returncode == 0 or " forward " in line, f"{line}: {out}"
    finally:
        with started("harness lab down") as process:
            process.communicate(timeout=120)


def test_every_option_of_up_is_in_its_table_with_its_default():
    rows = PAGE.split("## Options of")[1].split("## ")[0]
    documented = {}
    for names, defaults in re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", rows, re.MULTILINE):
        listed = re.findall(r"`(--[a-z-]+)`", names)
        values = defaults.strip().split(", ") if len(listed) > 1 else [defaults.strip()]
        documented |= dict(zip(listed, values * (len(listed) if len(values) == 1 else 1), strict=True))
    options = {option.opts[0]: option for option in up.params if option.opts[0] not in ("-h", "--help", "-q", "-v")}
    assert documented.keys() == options.keys()
    for name, option in options.items():
        if name not in ("--lab", "--exit-notice", "--restart-after", "--kube-version"):
            assert documented[name] == str(option.default), name


def test_documented_addresses_are_those_of_a_lab():
    for node in nodes_of(LabOptions(nodes=2)):
        assert f"{node.name} {node.address}" in PAGE and node.pod_network in PAGE
    for service in service_manifests():
        name, spec = service["metadata"]["name"], service["spec"]
        ports = ", ".join(f"{p['name']} {p['port']} ({p['nodePort']})" for p in spec["ports"])
        assert f"| `{name}` | {spec['clusterIP']} | {ports} |" in PAGE
