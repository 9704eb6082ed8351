"""Runs an experiment with chaostoolkit-lib in this process, then computes the verdict from the run's folder.

Chaos Toolkit runs the experiment (hypothesis, method, rollbacks, controls, journal); the verdict depends only on the
files that the run left, so that it can be recomputed.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chaos import control
from chaos.experiment import Experiment
from chaos.judged import judge_folder
from chaos.session import RUN
from chaos.targets.kube.settings import KubeOptions
from chaos.verdict import Verdict
from chaos.verdict.ended import ENDED
from chaos.verdict.journal import write_journal


def run_experiment(
    experiment: Experiment, folder: Path, lab: Path | None, web_ui: bool = False, kube: KubeOptions | None = None
) -> Verdict:
    """Run, judge and report; the verdict is unknown if the run ended before it wrote its facts.

    It takes place in a new lab, in the running one with folder `lab`, or on the cluster `kube`.
    """
    from chaoslib.experiment import run_experiment as run

    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        control.PATH: experiment.path,
        control.SEED: str(experiment.seed),
        control.MODE: experiment.lab.mode,
        control.OUT: str(folder),
        control.LAB: str(lab or ""),
        control.KUBE: msgspec.json.encode(kube).decode() if kube else "",
        control.WEB_UI: "1" if web_ui else "",
    }
    # Left by an earlier run in this folder; this one may end before it replaces them.
    for name in (RUN, ENDED):
        (folder / name).unlink(missing_ok=True)
    journal = run(experiment.raw, settings={})
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
