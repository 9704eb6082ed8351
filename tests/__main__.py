"""All tests, several pytest processes at a time: `python -m tests [pytest's own options]`.

Most of the time goes into waiting (for probes, brokers, another kernel), so folders that wait share the machine with
folders that compute.  What fails among others is looked at again alone: a test that passes then is told as unsteady,
one that fails again has failed.  Each part's output is shown when the part ends; the last line counts everything.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PARTS = {
    "packets": ("cases", "iptables", "conntrack", "userspace"),
    "nodes": ("ipvs", "server", "deploy"),
    "clusters": ("chaos", "lab", "loadtests", "chaos_report"),
}
"""Folders by part; what is in none of them makes one more."""

NO_TESTS = 5
LOOK_SECONDS = 0.5


def parts() -> dict[str, list[str]]:
    """Every folder and file of tests in exactly one part."""
    named = {folder for folders in PARTS.values() for folder in folders}
    rest = [path.name for path in ROOT.iterdir() if _holds_tests(path) and path.name not in named]
    found = {name: [f"tests/{folder}" for folder in folders] for name, folders in PARTS.items()}
    return {**found, "rest": [f"tests/{name}" for name in sorted(rest)]}


def _holds_tests(path: Path) -> bool:
    return any(path.rglob("test_*.py")) if path.is_dir() else bool(re.fullmatch(r"test_.*\.py", path.name))


def counted(output: str) -> Counter[str]:
    """Outcomes in pytest's closing line: passed, failed, errors, skipped..."""
    lines = [line for line in output.splitlines() if re.search(r"\d+ \w+.* in [\d.]+s", line)]
    return Counter(
        {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", lines[-1].split(" in ")[0])} if lines else {}
    )


def start(name: str, folder: Path, paths: list[str], options: list[str]) -> subprocess.Popen:
    """A pytest of its own, with a cache of its own that remembers what failed; its output goes to a file."""
    command = [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={folder / name}.cache", *paths, *options]
    with open(folder / name, "wb") as log:
        return subprocess.Popen(command, cwd=ROOT.parent, stdout=log, stderr=subprocess.STDOUT)


def run_all(folder: Path, options: list[str], counts: dict[str, Counter[str]]) -> list[str]:
    """Run every part, its outcomes into `counts`; the names of those that failed."""
    began, failed = time.monotonic(), []
    running = {name: start(name, folder, paths, options) for name, paths in parts().items()}
    try:
        while running:
            time.sleep(LOOK_SECONDS)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                code = running.pop(name).returncode
                output = (folder / name).read_text(errors="replace")
                print(f"===== {name}, after {time.monotonic() - began:.0f} s\n{output}", flush=True)
                counts[name] = counted(output)
                if code and not (code == NO_TESTS and options):
                    failed.append(name)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def look_again(name: str, folder: Path, options: list[str], counts: Counter[str]) -> int:
    """Run alone what failed among others: what passes now is told as unsteady, what fails again has failed."""
    again = ["--last-failed", "--last-failed-no-failures", "none"]
    code = start(name, folder, parts()[name], [*options, *again]).wait()
    output = (folder / name).read_text(errors="replace")
    print(f"===== {name}: a second look at what failed\n{output}", flush=True)
    found = counted(output)
    if code == 0 and found["passed"]:
        print(f"UNSTEADY: {found['passed']} tests of {name} failed among others and passed alone", flush=True)
        counts["passed"] += found["passed"]
        counts["failed"] = counts["errors"] = counts["error"] = 0
    return code


def main(options: list[str]) -> int:
    """Run everything; pytest's exit code of the first part that failed for good, or 0."""
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="harness-tests-") as name:
        folder = Path(name)
        codes = [look_again(part, folder, options, counts[part]) for part in run_all(folder, options, counts)]
    total = sum(counts.values(), Counter())
    failed = total["failed"] + total["errors"] + total["error"]
    print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
