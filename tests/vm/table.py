"""Every mode on every kernel, as a table in docs/kernels.md: `make kernels`, or `python -m tests.vm.table [IMAGE...]`.

    image -> one boot -> row by row in there -> build/kernels.json -> docs/kernels.md

What the file holds of the same commit is not run again, so that a run which was ended goes on; another commit, or
`--fresh`, begins again.  IMAGE `here` is the kernel of this machine, without a virtual one.  Wherever it ends, the page
shows what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from harness.places import vm

ROOT = Path(__file__).resolve().parents[2]
PAGE, RESULTS = ROOT / "docs/kernels.md", ROOT / "build/kernels.json"
BEGIN, END = "<!-- made by make kernels -->", "<!-- end -->"
IMAGES = ("here", "linux-image-amd64", "linux-image-6.12-amd64")
EMULATION = "emulation"
ROW_SECONDS = 3600
MEMORY_MIB = 4096

DEMO = ["recordings/demo.jsonl", "--until", "10s", "--check-every", "1000"]
"""The first sync and the changes of 10 s, looked at twice: emulated, the whole of it takes half an hour."""
LARGE = ["recordings/10k-svc.jsonl", "--until", "10s", "--check-every", "1000", "--verify", "readback"]
"""The first sync and 30 changes."""
REPLAYS = {
    "nftables": [*DEMO, "--mode", "nftables"],
    "iptables (nft)": [*DEMO, "--mode", "iptables", "--iptables-variant", "nft"],
    "iptables (legacy)": [*DEMO, "--mode", "iptables", "--iptables-variant", "legacy"],
    "ipvs": [*DEMO, "--mode", "ipvs"],
    "userspace": [*DEMO, "--mode", "userspace"],
    "nftables, 10,000 Services": [*LARGE, "--mode", "nftables"],
}
TESTS = ["tests/netlink/test_connection.py", "tests/netlink/test_refusals.py", "tests/engine/test_kernel.py"]
EXPERIMENT = "tests/vm/packet-delay.yaml"
OUT = "/tmp/packet-delay"
COMMANDS = {
    **{name: ["-m", "harness", "replay", *options, "--kernel", "netns", "--json", "-"]
       for name, options in REPLAYS.items()},
    "tests": ["-m", "pytest", "-q", "-m", "not vm", "-p", "no:cacheprovider", "-o", "timeout=1800", *TESTS],
    "experiment": ["-m", "harness", "chaos", "run", EXPERIMENT, "--out", OUT],
}  # fmt: skip
"""By row; each is a Python of its own."""
Runner = Callable[[list[str]], tuple[int, str, str]]
"""Exit code, output and errors of a command, somewhere."""


def main(arguments: list[str]) -> int:
    """0 when everything held on every kernel."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.table", description="Every mode on every kernel.")
    parser.add_argument("--fresh", action="store_true", help="run again what has been run")
    parser.add_argument("images", nargs="*", metavar="IMAGE", default=IMAGES)
    asked = parser.parse_args(arguments)
    kept = Kept(commit(), fresh=asked.fresh)
    problems = []
    try:
        for image in asked.images:
            try:
                _fill(image, kept)
            except vm.VmError as error:
                problems.append(f"{image}: {error}")
    finally:
        page = PAGE.read_text()
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text(kept.kernels)}{END}{rest.partition(END)[2]}")
    problems += [f"{name}: digests differ" for name in differing(kept.kernels)]
    problems += [f"{kernel['release']}: {name}" for kernel in kept.kernels.values() for name in failed(kernel)]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


def commit() -> str:
    """What is checked out, "" where this is not a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    return done.stdout.strip()


class Kept:
    """Rows by kernel, of one commit, in a file that is whole at every moment."""

    def __init__(self, commit: str, *, fresh: bool, path: Path = RESULTS) -> None:
        self._commit, self._path = commit, path
        found = json.loads(path.read_text()) if path.exists() and not fresh else {}
        self.kernels: dict[str, dict] = found["kernels"] if found.get("commit") == commit else {}

    def left(self, image: str) -> list[str]:
        """The rows that are still to be run."""
        return [name for name in COMMANDS if name not in self.kernels.get(image, {}).get("rows", {})]

    def add(self, image: str, facts: dict[str, str], name: str, row: dict) -> None:
        """One row, on disk before this returns."""
        kernel = self.kernels.setdefault(image, {"rows": {}})
        kernel |= facts
        kernel["rows"][name] = row
        self._path.parent.mkdir(exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"commit": self._commit, "kernels": self.kernels}, indent=1))
        os.replace(part, self._path)


def _fill(image: str, kept: Kept) -> None:
    """Run the rows that are not there yet, each written down as it ends; a machine that dies is booted again."""
    while kept.left(image):
        with _somewhere(image) as (facts, run):
            for name in kept.left(image):
                began = time.monotonic()
                try:
                    row, alive = _row(name, *run([sys.executable, *_command(name, facts["by"])])), True
                except (vm.VmError, subprocess.TimeoutExpired) as error:
                    row, alive = {"why": str(error), "died": True}, image == "here"
                row["seconds"] = round(time.monotonic() - began, 1)
                kept.add(image, facts, name, row)
                print(f"{facts['release']} {name}: {row}", file=sys.stderr, flush=True)
                if not alive:
                    break


def _command(name: str, by: str) -> list[str]:
    """Arguments of Python; under emulation only by readback, as packets would take as long as all the rest."""
    hasty = by == EMULATION and name in REPLAYS and "--verify" not in REPLAYS[name]
    return [*COMMANDS[name], *(["--verify", "readback"] if hasty else [])]


@contextmanager
def _somewhere(image: str) -> Iterator[tuple[dict[str, str], Runner]]:
    """A runner of commands on that kernel, and the kernel's name."""
    if image == "here":
        yield {"release": platform.release(), "by": "this machine"}, _here
        return
    with vm.booted(image, memory_mib=MEMORY_MIB) as guest:

        def run(command: list[str]) -> tuple[int, str, str]:
            out, errors = bytearray(), bytearray()
            limits = vm.TimeLimit(ROW_SECONDS)
            code = guest.run(command, stdout=out.extend, stderr=errors.extend, limits=limits)
            return code, out.decode(errors="replace"), errors.decode(errors="replace")

        by = {"tcg": EMULATION, "kvm": "KVM"}[guest.accelerator]
        yield {"release": vm.resolve(image).release, "by": by}, run


def _here(command: list[str]) -> tuple[int, str, str]:
    with tempfile.TemporaryDirectory(prefix="harness-kernels-") as folder:
        command = [word.replace(OUT, f"{folder}/run") for word in command]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=ROW_SECONDS, env=os.environ)
    return done.returncode, done.stdout, done.stderr


def _row(name: str, code: int, output: str, errors: str) -> dict:
    """What is kept of one command."""
    if name == "experiment":
        why = "" if code == 0 else (output + errors)[-3000:]
        return {"verdict": {0: "true", 1: "false", 3: "unknown"}.get(code, "not run"), "why": why}
    if name == "tests":
        lines = output.strip().splitlines() or ["no output"]
        return {"code": code, "summary": lines[-1].strip("= "), "why": output[-3000:] if code else ""}
    if not output.startswith("{"):
        return {"why": errors[-1000:]}
    result = json.loads(output)
    hidden = ("kind", "machine", "release")
    work = result["change"]["work_seconds"]
    return {
        "tools": ", ".join(f"{key} {value}" for key, value in result["kernel"].items() if key not in hidden),
        "digest": result["digest"], "verified": result["verified"], "connections": result["connections"],
        "first": result["initial"]["seconds"], "change": work and work["p50"], "why": result["differences"][:1],
    }  # fmt: skip


def failed(kernel: dict) -> list[str]:
    """Rows that failed or did not end; a feature that a kernel lacks is no failure."""
    rows = kernel["rows"]
    bad = [name for name, row in rows.items() if row.get("died")]
    bad += [name for name in REPLAYS if rows.get(name, {}).get("verified") not in (None, True)]
    bad += ["tests"] if rows.get("tests", {}).get("code", 0) else []
    experiment = rows.get("experiment")
    lacking = experiment and "the kernel has no" in experiment["why"]
    return bad + (["experiment"] if experiment and experiment.get("verdict") != "true" and not lacking else [])


def differing(results: dict) -> list[str]:
    """Replays whose digests are not the same on all kernels."""
    digests: dict[str, set[str]] = {}
    for kernel in results.values():
        for name, row in kernel["rows"].items():
            if row.get("digest"):
                digests.setdefault(name, set()).add(row["digest"])
    return [name for name, found in digests.items() if len(found) > 1]


def text(results: dict) -> str:
    """The table, and what cannot be a row of it."""
    lines = [
        "| kernel | by | mode | tools | verified | first sync | one change (p50) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kernel in results.values():
        for name in REPLAYS:
            if row := kernel["rows"].get(name):
                lines.append(f"| {' | '.join([kernel['release'], kernel['by'], name, *_cells(row)])} |")
    digests = differing(results)
    lines += ["", f"Digests differ: {', '.join(digests)}." if digests else "Digests are equal on all of them.", ""]
    for kernel in results.values():
        rows = kernel["rows"]
        tests = rows.get("tests", {}).get("summary", "not run")
        lines.append(f"- {kernel['release']}: kernel tests {tests}; experiment `{EXPERIMENT}`: {_verdict(rows)}")
    return "\n".join(lines) + "\n"


def _verdict(rows: dict) -> str:
    """With the first reason, where it is not true."""
    row = rows.get("experiment", {"verdict": "not run", "why": ""})
    reasons = [line.strip(" ?") for line in row["why"].splitlines() if line.startswith("  ")]
    return row.get("verdict", "not run") + (f" ({shorten(reasons[0], 100, placeholder=' ...')})" if reasons else "")


def _cells(row: dict) -> list[str]:
    if "digest" not in row:
        reason = (row["why"].strip().splitlines() or ["no output"])[-1]
        return ["-", f"not run: {reason.removeprefix('error: ').partition(';')[0]}", "-", "-"]
    how = f"{row['connections']:,} connections" if row["connections"] else "read back"
    verified = {True: f"yes, {how}", False: "no"}.get(row["verified"], "not asked")
    change = "-" if row["change"] is None else f"{row['change'] * 1e3:.1f} ms"
    return [row["tools"], verified, f"{row['first']:.2f} s", change]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
