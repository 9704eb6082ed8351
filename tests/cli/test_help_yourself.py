"""Self-help: doctor, completion, mistyped names, the same formats everywhere."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from harness.cli import main
from harness.modes import MODES

DEMO = "recordings/demo.jsonl"


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


def completed(*words: str) -> list[str]:
    return [
        item.value for item in ShellComplete(main, {}, "harness", "_X").get_completions(list(words[:-1]), words[-1])
    ]


def test_the_doctor_reports_what_works_and_what_is_missing(kernel_namespaces):
    done = run("doctor", "-o", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {f"replay in mode {mode}" for mode in MODES} < set(found["works"])
    assert found["works"]["replay in mode nftables"] is None and found["tools"]["nft version"]
    assert {"harness", "python", "system", "kernel", "user"} <= set(found["machine"])
    page = run("doctor").output
    assert "yes  replay in mode nftables\n" in page and found["machine"]["kernel"] in page


def test_the_doctor_reports_what_a_replay_needs(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("doctor")
    assert done.exit_code == 1
    assert "no   user and network namespaces: unshare is not installed (package util-linux)\n" in done.output
    assert "no   replay in mode nftables: as for user and network namespaces\n" in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell):
    done = run("completion", shell)
    assert done.exit_code == 0 and f"_HARNESS_COMPLETE={shell}_complete" in done.output


def test_completion_knows_commands_nodes_services_and_experiments():
    assert completed("rep") == ["replay"]
    assert "node-0001" in completed("replay", DEMO, "--node", "node-")
    assert all(name.startswith("svc:") for name in completed("trace", DEMO, "--to", "svc:"))
    assert "svc:contingency-team/users-gateway:" in completed("trace", DEMO, "--to", "svc:cont")
    assert "pod-kill" in completed("chaos", "run", "pod")
    assert completed("replay", "/nowhere.jsonl", "--node", "n") == []


@pytest.mark.parametrize(("typed", "meant"), [("reply", "replay"), ("validat", "validate"), ("redactt", "redact")])
def test_a_mistyped_command_is_answered_with_the_right_one(typed, meant):
    done = run(typed)
    assert done.exit_code == 2 and f"no such command: {typed}; did you mean {meant}" in done.output
    assert "`harness --help`" in run("xyzzy").output


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", DEMO],
        ["diff", DEMO, DEMO],
        ["chaos", "list"],
        ["chaos", "plan", "pod-kill"],
        ["trace", DEMO, "--from", "external:203.0.113.7", "--to", "svc:contingency-team/users-gateway:http"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_formats_are_the_same_everywhere(arguments):
    as_json, as_yaml = run(*arguments, "-o", "json"), run(*arguments, "-o", "yaml")
    assert as_json.exit_code == as_yaml.exit_code == run(*arguments, "-o", "table").exit_code == 0, as_json.output
    assert json.loads(as_json.stdout) == yaml.safe_load(as_yaml.stdout)


def test_every_command_with_json_has_the_formats():
    context = main.make_context("harness", ["--help-not"], resilient_parsing=True)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        for each in (command, *getattr(command, "commands", {}).values()):
            options = {option for parameter in each.params for option in parameter.opts}
            assert "--json" not in options or "--output" in options, (name, each.name)


def test_help_lists_every_command_without_importing_it():
    """The lines are those that the commands themselves would give."""
    script = (
        "import sys; from click.testing import CliRunner; from harness.cli import main;"
        "print(CliRunner().invoke(main, ['--help']).output);"
        "late = {'rich', 'msgspec', 'faker', 'chaos.cli', 'harness.cli.commands.replay'};"
        "sys.exit(' '.join(late & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with click.Context(main) as ctx:
        for name in main.list_commands(ctx):
            command = main.get_command(ctx, name)
            room = 78 - 6 - max(map(len, main.list_commands(ctx)))
            assert command and f"{name} {command.get_short_help_str(room)}" in " ".join(done.stdout.split())
