"""The commands that README.md and docs/*.md show, and a folder in which they can be run as written.

`python -m tests.docs.commands` writes the outputs that pages show (`<!-- output of: COMMAND -->`) again.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard
from click.testing import CliRunner

from chaos.judge import judge_folder
from engine.server.main import main as proxy_engine
from harness.cli import main
from tests.chaos_report.runs import ordinary

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("harness", "proxy-engine")
_SHOWN = re.compile(
    r"^ {4,}(?:\$ )?((?:\w+=\S+ )*(?:harness|proxy-engine|make) .*)$|^ +- run: \.venv/bin/((?:harness) .*)$", re.M
)
"""In a shell, and in a workflow."""
_ENDS = (";", "&", "&&", "|", ">", ">>")
SERVING = ("explore", "record", "serve")
"""Commands that go on until they are stopped."""
OUTPUT = re.compile(r"^<!-- output of: (.+) -->\n\n((?: {4}.*\n)+)", re.M)
"""A command's output as shown on a page."""

NOT_RUN = {
    "kafka://": "needs a broker: tests/kafka",
    "--kafka": "needs a broker: tests/kafka",
    "--in-cluster": "needs a cluster: tests/record",
    "harness kafka": "starts a broker: tests/kafka",
    "harness shrink prod.jsonl small.jsonl --while harness": "replays hundreds of times: tests/shrink",
    "harness shrink dump.json": "replays hundreds of times: tests/shrink",
    "harness lab": "starts a cluster's dataplane: tests/lab/test_documentation.py",
    "harness chaos run": "starts a lab, or changes a cluster: tests/chaos",
    "harness chaos heal": "changes a cluster: tests/chaos",
    "--target kube": "needs a cluster: tests/chaos",
    "--kernel vm": "starts a virtual machine: tests/vm",
    "--mode ipvs --kernel": "starts a virtual machine where IP_VS is missing: tests/ipvs",
    "harness fleet recordings/10k-svc.jsonl": "computes 500 views: tests/fleet",
    "--scheduler": "needs a scheduler: tests/fleet",
    "--verify-nodes": "sends packets after each of its syncs: tests/fleet",
    "--cases harness/conformance": "sends some thousand packets for a minute: tests/cases/test_acceptance.py",
    "--services 100000": "writes 250 MB: tests/synth",
    "--nodes 5000": "writes to a folder that machines share: tests/synth",
    "harness replay recordings/demo.jsonl --json": "as many packets as on README.md: tests/cli/test_replay.py",
    "harness replay recordings/demo.jsonl --min": "as many packets as on README.md: tests/replay/test_determinism.py",
    "harness replay recordings/10k-svc.jsonl": "sends packets for a minute: tests/replay/test_verification.py",
    "harness replay lab.jsonl": "replays what a lab recorded: tests/lab/test_documentation.py",
    "harness bench --profile quick": "measures for minutes: tests/bench",
    "harness bench --profile nightly": "measures for an hour: tests/bench",
    "harness bench --baseline": "measures for minutes: tests/bench",
    "harness bench --external": "measures for minutes: tests/bench",
    "harness bench --rows": "measures for minutes: tests/bench",
    "harness conformance --mode": "starts proxies, for minutes: tests/conformance",
    "--fuzz": "starts proxies, for minutes: tests/conformance",
    "--external": "needs other proxies: tests/external",
    "harness compare recordings": "replays in every mode: tests/cli/test_compare.py",
    "proxy-engine --config": "needs a cluster, programs this host: tests/server",
    "proxy-engine --kubeconfig": "needs a cluster, programs this host: tests/server",
}
"""Commands that are parsed and not run, by a part of their text, and why."""


class Command(NamedTuple):
    """One command of a page, without what the shell does with its output."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """As typed."""
        return " ".join(self.words)

    @property
    def serves(self) -> bool:
        """Whether it goes on until it is stopped."""
        return self.words[1] in SERVING and not self.not_run

    @property
    def not_run(self) -> str | None:
        """Why it is not run."""
        return next((reason for part, reason in NOT_RUN.items() if part in self.text), None)


def shown() -> Iterator[Command]:
    """Every command of every page, in order."""
    for page in PAGES:
        text = page.read_text()
        for found in _SHOWN.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            for words in _commands(found[1] or found[2]):
                yield Command(page.name, line, words)


def _commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of one line of shell; a comment ends it."""
    words = shlex.shlex(line, posix=True, punctuation_chars=";&|><")
    words.whitespace_split = True
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in _ENDS:
            command.append(word)
            continue
        while command and "=" in command[0]:
            command.pop(0)
        if command and command[0] in (*PROGRAMS, "make"):
            yield tuple(command)
        command = []


def make_folder(folder: Path) -> None:
    """Input of the commands: the shipped recordings and cases, and substitutes for a user's own files."""
    for name in ("recordings", "tests"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(Path(__file__).with_name("dump.json"), folder)
    demo, rules = ((ROOT / "recordings" / name).read_bytes() for name in ("demo.jsonl", "rules.jsonl"))
    for name in ("before.jsonl", "demo.jsonl", "prod.jsonl"):
        (folder / name).write_bytes(demo)
    (folder / "after.jsonl").write_bytes(rules)
    for name in ("prod.jsonl.zst", "public.jsonl.zst"):
        (folder / name).write_bytes(zstandard.compress(demo))
    for name, script in SCRIPTS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "chaos-node-drain-kube").mkdir()
    for name in ("chaos-pod-kill-nftables", "gate-monday", "gate-tuesday"):
        judge_folder(ordinary(folder / name))
    memory = ("--kernel", "memory", "--no-verify", "--json")
    for words in (
        ("replay", str(folder / "dump.json"), *memory, str(folder / "before.json")),
        ("replay", str(folder / "demo.jsonl"), *memory, str(folder / "demo.json")),
        ("fleet", str(folder / "dump.json"), "--workers", "0", "--sample", "0", "--json", str(folder / "fleet.json")),
    ):
        run(("harness", *words))
    shutil.copy(folder / "before.json", folder / "after.json")


SCRIPTS = {
    "fails.sh": """! grep -q '"DELETED"' "$1\"""",
    "reproduce.sh": """echo connection refused; ! grep -q '"DELETED"' "$1\"""",
}
"""What a user looks for: a failure that needs one event."""


def run(words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and output."""
    if words[0] == "proxy-engine":
        return proxy_engine(list(words[1:])), ""
    done = CliRunner().invoke(main, words[1:])
    return done.exit_code, done.output


def renewed(page: str) -> str:
    """The page with its outputs updated, as printed in the current folder."""
    return OUTPUT.sub(_shown_again, page)


def _shown_again(found: re.Match[str]) -> str:
    _, printed = run(tuple(found[1].split()))
    return f"<!-- output of: {found[1]} -->\n\n{_indented(printed)}"


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as user:
        make_folder(Path(user))
        os.chdir(user)
        for each in PAGES:
            each.write_text(renewed(each.read_text()))
