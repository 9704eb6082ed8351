"""Every command in README.md and docs/*.md is run as written where that is cheap, else parsed; outputs are as shown."""

from __future__ import annotations

import re

import click
import pytest

from engine.server.config.command_line import parse
from harness.cli import main

from .commands import NOT_RUN, OUTPUT, PAGES, ROOT, Command, make_folder, renewed, run, shown

COMMANDS = list(shown())
MAKE = [each for each in COMMANDS if each.words[0] == "make"]
TUTORIAL = [each for each in COMMANDS if each.page == "tutorial.md" and each not in MAKE]
SERVED = [each for each in COMMANDS if each not in MAKE and each.serves]
OTHERS = [each for each in COMMANDS if each not in MAKE + TUTORIAL + SERVED and not each.not_run]
RUN = list({each.words: each for each in reversed(OTHERS)}.values())[::-1]
"""Each once."""
PARSED = [each for each in COMMANDS if each not in MAKE and each.not_run]
EXIT_CODES = {"diff": 1}
"""Of commands that say something by another code than 0."""


def named(commands: list[Command]):
    return pytest.mark.parametrize("command", commands, ids=lambda each: f"{each.page}:{each.line} {each.text}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("user")
    make_folder(made)
    return made


@named(RUN)
def test_commands_shown_on_pages_run(command, folder, monkeypatch, request):
    if command.words[1] in ("replay", "conformance") or "netns" in command.words:
        request.getfixturevalue("kernel_namespaces")
    monkeypatch.chdir(folder)
    code, output = run(command.words)
    assert code == EXIT_CODES.get(command.words[1], 0), output


def test_the_tutorial_runs_from_top_to_bottom(folder, monkeypatch, kernel_namespaces):
    monkeypatch.chdir(folder)
    left_out = [each.text for each in TUTORIAL if each.text.startswith("harness chaos run")]
    assert len(TUTORIAL) > 9 and len(left_out) == 1, "a lab under load: tests/chaos runs that one"
    for each in TUTORIAL:
        if each.text not in left_out:
            code, output = run(each.words)
            assert code == EXIT_CODES.get(each.words[1], 0), output


@named(PARSED)
def test_commands_that_are_not_run_are_parsed(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    program, *arguments = (word for word in command.words if word != "...")
    if program == "proxy-engine":
        assert parse(arguments).values
        return
    context, found = click.Context(main), main
    while isinstance(found, click.Group):
        name, found, arguments = found.resolve_command(context, arguments)
    found.make_context(name, arguments, parent=context)


def test_commands_of_every_kind_are_found():
    assert len(RUN) > 40 and len(SERVED) > 8 and len(PARSED) > 30
    assert [part for part in NOT_RUN if not any(part in each.text for each in PARSED)] == [], "reasons for nothing"
    assert all((ROOT / reason.rpartition(": ")[2]).exists() for reason in NOT_RUN.values()), "who runs them instead"


def test_make_targets_on_pages_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {word for each in MAKE for word in each.words[1:]} <= set(targets)


WITH_OUTPUTS = [page for page in PAGES if OUTPUT.search(page.read_text())]


@pytest.mark.parametrize("page", WITH_OUTPUTS, ids=lambda page: page.name)
def test_output_shown_on_pages_is_printed(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert renewed(page.read_text()) == page.read_text(), "run: python -m tests.docs.commands"
