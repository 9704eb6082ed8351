"""All tests, several pytest processes at a time: `python -m tests [pytest's own options]`.

Most of the time goes into waiting (for probes, brokers, another kernel), so folders that wait share the machine with
folders that compute.  Each part's output is shown when the part ends; the last line counts everything.
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


def main(options: list[str]) -> int:
    """Run everything; pytest's exit code of the first part that failed, or 0."""
    began, total, worst = time.monotonic(), Counter(), 0
    with tempfile.TemporaryDirectory(prefix="harness-tests-") as folder:
        running = {}
        for name, paths in parts().items():
            with open(Path(folder, name), "wb") as log:
                command = [sys.executable, "-m", "pytest", "-q", *paths, *options]
                running[name] = subprocess.Popen(command, cwd=ROOT.parent, stdout=log, stderr=subprocess.STDOUT)
        try:
            while running:
                time.sleep(LOOK_SECONDS)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    code = running.pop(name).returncode
                    output = Path(folder, name).read_text(errors="replace")
                    print(f"===== {name}, after {time.monotonic() - began:.0f} s\n{output}", flush=True)
                    total += counted(output)
                    worst = worst or (0 if code == NO_TESTS and options else code)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    failed = total["failed"] + total["errors"] + total["error"]
    print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
