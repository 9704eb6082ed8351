"""Runs an experiment by chaostoolkit-lib, in this process, then judges the run's folder.

What the experiment does is Chaos Toolkit's (hypothesis, method, rollbacks, controls, journal); what it finds is
judged from the files that the run left, so that a verdict can be made again.
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

JOURNAL = "journal.json"


def run_experiment(
    experiment: Experiment, folder: Path, lab: Path | None, web_ui: bool = False, kube: KubeOptions | None = None
) -> Verdict:
    """Run, judge and report; the verdict is unknown when the run did not get as far as its facts.

    In a lab of its own, or in the one that runs in `lab`, or on the cluster `kube`.
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
    # Of an earlier run here, which this one may not get far enough to replace.
    (folder / RUN).unlink(missing_ok=True)
    journal = run(experiment.raw, settings={})
    (folder / JOURNAL).write_bytes(msgspec.json.format(msgspec.json.encode(journal, enc_hook=str), indent=1))
    return judge_folder(folder)


@contextmanager
def signals_seen() -> Iterator[list[int]]:
    """The numbers of signals that came in the meantime, filled in at the end.

    Chaos Toolkit takes SIGINT and SIGTERM for itself and says of neither that it came.
    """
    seen: list[int] = []
    ours, told = socket.socketpair()
    with ours, told:
        for end in (ours, told):
            end.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            yield seen
        finally:
            signal.set_wakeup_fd(before)
            told.close()
            seen += [number for number in ours.recv(4096) if number in (signal.SIGINT, signal.SIGTERM)]
