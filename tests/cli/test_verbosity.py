"""`-q`, `-v` and counts in words: the same in every command."""

from __future__ import annotations

import json
import re

import click
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.wording import plural

DEMO = "recordings/demo.jsonl"
MEMORY = ("--kernel", "memory", "--until", "20", "--verify", "none")
PAGES = [
    ["compare", DEMO, "--kube-versions", "1.30,1.37"],
    ["copy", DEMO, "OUT"],
    ["doctor"],
    ["diff", DEMO, DEMO],
    ["inspect", DEMO],
    ["chaos", "list"],
    ["chaos", "plan", "pod-kill"],
    ["chaos", "validate", "pod-kill"],
    ["redact", DEMO, "OUT"],
    ["replay", DEMO, *MEMORY],
    ["synth", "OUT", "--services", "20", "--churn", "10"],
    ["trace", DEMO, "--from", "external:203.0.113.7", "--to", "svc:contingency-team/users-gateway:http"],
    ["validate", DEMO],
]
DATA = [
    ["completion", "bash"],
    ["inspect", DEMO, "--at", "20"],
    ["plan", DEMO, "--mode", "iptables", "--family", "4"],
    ["replay", DEMO, *MEMORY, "--json", "-"],
    ["chaos", "plan", "pod-kill", "-o", "yaml"],
]


def leaves(command: click.Command, words: tuple[str, ...] = ()):
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name in command.list_commands(click.Context(command)):
        yield from leaves(command.get_command(click.Context(command), name), (*words, name))


def test_every_command_has_both_options():
    for words, command in leaves(main):
        flags = {flag for option in command.params for flag in option.opts}
        assert {"-q", "-v"} <= flags or words == ("lab", "exec"), words


@pytest.mark.parametrize("words", PAGES, ids=lambda words: " ".join(words[:2]))
def test_a_quiet_command_prints_no_page(tmp_path, kernel_namespaces, words):
    words = [str(tmp_path / "out.jsonl") if word == "OUT" else word for word in words]
    done = CliRunner().invoke(main, [*words, "-q"])
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize("words", DATA, ids=lambda words: " ".join(words[:2]))
def test_a_quiet_command_prints_the_data_that_was_asked_for(words):
    quiet, usual = (CliRunner().invoke(main, [*words, *more]) for more in (["-q"], []))
    assert quiet.exit_code == 0 and quiet.stderr == ""
    assert quiet.stdout[:80] == usual.stdout[:80] and quiet.stdout


def test_a_quiet_command_reports_errors():
    done = CliRunner().invoke(main, ["validate", "nowhere.jsonl", "-q"])
    assert done.exit_code == 2 and done.stderr.startswith("nowhere.jsonl: cannot be read")


def test_a_verbose_command_reports_durations_and_the_place_of_a_failure():
    assert re.search(r"^checking, took \d", CliRunner().invoke(main, ["validate", DEMO, "-v"]).stderr, re.MULTILINE)
    done = CliRunner().invoke(main, ["replay", "nowhere.jsonl", "-v"])
    assert done.exit_code == 2 and "error: nowhere.jsonl: cannot be read" in done.stderr and "reader.py" in done.stderr
    assert "reader.py" not in CliRunner().invoke(main, ["replay", "nowhere.jsonl"]).stderr


def test_counts_have_their_plural():
    assert [plural(n, "event") for n in (0, 1, 2, 1000)] == ["0 events", "1 event", "2 events", "1,000 events"]
    assert plural(2, "stretch", "stretches") == "2 stretches"


@pytest.fixture
def one_of_each(tmp_path):
    """A cluster of one node, one Service and one endpoint."""
    objects = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "spec": {"podCIDR": "10.1.0.0/24"},
         "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
         "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"port": 80}],
         "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
         "endpoints": [{"addresses": ["10.1.0.5"], "nodeName": "a", "conditions": {"ready": True}}]},
    ]  # fmt: skip
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    return path


@pytest.mark.parametrize(
    "command",
    [["replay", "--kernel", "memory"], ["inspect"], ["validate"], ["redact", "OUT"], ["import", "OUT"], ["copy", "OUT"],
     ["compare", "--kube-versions", "1.30,1.37"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_count_of_one_is_singular(one_of_each, tmp_path, command):
    words = [command[0], str(one_of_each), *(str(tmp_path / "out.jsonl") if w == "OUT" else w for w in command[1:])]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert not re.findall(r"(?<![\d.,:])1 (?!s\b)[A-Za-z]+s\b", done.output), done.output
