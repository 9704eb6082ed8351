"""Runs an experiment with chaostoolkit-lib in this process, then computes the verdict from the run's folder.

Chaos Toolkit runs the experiment (hypothesis, method, rollbacks, controls, journal); the verdict depends only on the
files that the run left, so that it can be recomputed.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.experiment import Experiment
from chaos.judge import judge_folder
from chaos.options import KEY, RunOptions
from chaos.session import RUN
from chaos.verdict import Verdict
from chaos.verdict.end_reason import ENDED
from chaos.verdict.journal import write_journal


def run_experiment(experiment: Experiment, options: RunOptions) -> Verdict:
    """Run, judge and report; the verdict is unknown if the run ended before it wrote its facts."""
    from chaoslib.experiment import run_experiment as run

    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    # Left by an earlier run in this folder; this one may end before it replaces them.
    for name in (RUN, ENDED):
        (folder / name).unlink(missing_ok=True)
    lab = experiment.lab
    options = options._replace(path=experiment.path, seed=experiment.seed, mode=lab.mode, judges=False)
    options = options._replace(external=lab.external)
    # A value for a key that is declared: Chaos Toolkit copies the declarations into its journal, but not the values.
    declared = {**(experiment.raw.get("configuration") or {}), KEY: None}
    journal = run({**experiment.raw, "configuration": declared}, settings={}, experiment_vars=({KEY: options}, {}))
    write_journal(folder, journal)
    return judge_folder(folder)


@contextmanager
def signals_seen() -> Iterator[list[int]]:
    """Records signals received meanwhile; filled in at the end.

    Chaos Toolkit handles SIGINT and SIGTERM itself and does not report them.
    """
    seen: list[int] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield seen
        finally:
            signal.set_wakeup_fd(before)
            theirs.close()
            seen += [number for number in ours.recv(4096) if number in (signal.SIGINT, signal.SIGTERM)]
