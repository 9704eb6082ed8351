"""An ordinary user's account, as after a login: no root, Debian's PATH, a home and a runtime folder of its own.

Tests that run as root become such a user in a mount namespace where the interpreter is within reach, whatever
folder it was installed below. Others are that user already.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/bin:/usr/bin:/bin"
USER = 65534
RUNTIME = f"/run/user/{USER}"
SECONDS = 120


class Account:
    """Runs commands as that user; `home` is its current folder too."""

    def __init__(self, home: Path, become: list[str], runtime: str) -> None:
        self.home, self._become, self.runtime = home, become, runtime
        self.environment = {
            "HOME": str(home), "PATH": PATH, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": runtime,
        }  # fmt: skip

    def run(self, *command: str | Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
        """What a command printed; a variable that is None is unset."""
        return subprocess.run(
            [*self._become, *map(str, command)], cwd=self.home, capture_output=True, text=True, timeout=SECONDS,
            env=self._variables(variables), stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def start(self, *command: str | Path, **options) -> subprocess.Popen:
        """The same, started."""
        return subprocess.Popen([*self._become, *map(str, command)], cwd=self.home, env=self.environment, **options)

    def harness(self, *arguments: str | Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
        """The `harness` command."""
        return self.run(sys.executable, "-m", "harness", *arguments, **variables)

    def _variables(self, changed: dict[str, str | None]) -> dict[str, str]:
        return {name: value for name, value in (self.environment | changed).items() if value is not None}


@contextmanager
def account() -> Iterator[Account]:
    """An account with an empty home, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="harness-home-") as name:
        home = Path(name)
        if os.geteuid() != 0:
            yield Account(home, [], os.environ.get("XDG_RUNTIME_DIR", name))
            return
        staging, kept = home / ".staging", home / ".runtime"
        staging.mkdir()
        kept.mkdir()
        for folder in (home, kept):
            os.chown(folder, USER, USER)
        words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all"]
        # Where systemd has it, and the same folder for all commands, although each has its own mounts.
        login = f"mount -t tmpfs -o mode=755 tmpfs /run\nmkdir -p {RUNTIME}\n{_bind(kept, Path(RUNTIME))}"
        script = f'{_within_reach(staging)}\n{login}\ncd "$PWD" && exec "$@"'
        yield Account(home, ["unshare", "-m", "sh", "-ec", script, "sh", *words, "--"], RUNTIME)


def without_namespaces(account: Account) -> Account:
    """The same account where nobody may make a namespace, as on many CI runners."""
    limited = 'echo 1 >/proc/sys/user/max_user_namespaces; exec unshare -U --map-user=1000 "$@"'
    return Account(account.home, [*account._become, "unshare", "-Ur", "sh", "-ec", limited, "sh"], account.runtime)


def _within_reach(staging: Path) -> str:
    """A script that mounts what tests need over folders that only root may pass."""
    needed = {Path(each).resolve() for each in (sys.base_prefix, sys.prefix, ROOT)}
    barred = {folder: barrier for folder in needed if (barrier := _barrier(folder))}
    lines = []
    for number, folder in enumerate(barred):
        aside = staging / str(number)
        lines += [f"mkdir -p {shlex.quote(str(aside))}", _bind(folder, aside)]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(barrier))}" for barrier in set(barred.values())]
    for number, folder in enumerate(barred):
        lines += [f"mkdir -p {shlex.quote(str(folder))}", _bind(staging / str(number), folder)]
    return "\n".join(lines)


def _barrier(folder: Path) -> Path | None:
    """The outermost of its parents that other users may not pass."""
    return next((each for each in reversed(folder.parents) if not each.stat().st_mode & 0o001), None)


def _bind(source: Path, target: Path) -> str:
    return f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(target))}"
