"""docs/lab.md says what the commands take and what the network is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import main
from harness.cli.lab import up
from harness.lab.topology import LabOptions, nodes_of, service_manifests

PAGE = Path("docs/lab.md").read_text()
COMMANDS = re.findall(r"^    (harness .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line):
    command, words = main, shlex.split(line)[1:]
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(click.Context(command), name)
    if command.name == "replay":
        words[0] = "recordings/demo.jsonl"
    command.make_context(command.name, words)


def test_every_option_of_up_is_in_its_table_with_its_default():
    rows = PAGE.split("## Options of")[1].split("## ")[0]
    told = {}
    for names, defaults in re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", rows, re.MULTILINE):
        listed = re.findall(r"`(--[a-z-]+)`", names)
        values = defaults.strip().split(", ") if len(listed) > 1 else [defaults.strip()]
        told |= dict(zip(listed, values * (len(listed) if len(values) == 1 else 1), strict=True))
    options = {option.opts[0]: option for option in up.params if option.opts[0] not in ("-h", "--help", "-q", "-v")}
    assert told.keys() == options.keys()
    for name, option in options.items():
        if name not in ("--lab", "--exit-notice", "--restart-after", "--kube-version"):
            assert told[name] == str(option.default), name


def test_its_addresses_are_the_lab_s():
    for node in nodes_of(LabOptions(nodes=2)):
        assert f"{node.name} {node.address}" in PAGE and node.pod_network in PAGE
    for service in service_manifests():
        name, spec = service["metadata"]["name"], service["spec"]
        ports = ", ".join(f"{p['name']} {p['port']} ({p['nodePort']})" for p in spec["ports"])
        assert f"| `{name}` | {spec['clusterIP']} | {ports} |" in PAGE
