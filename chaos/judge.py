"""Computes the verdict on a run's folder and writes it, with the reports, at the run's end or later."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.report import write_reports
from chaos.verdict import Verdict, judge

VERDICT = "verdict.json"


def judge_folder(folder: Path) -> Verdict:
    """Judge a run's folder and write verdict and reports into it."""
    verdict = judge(folder)
    (folder / VERDICT).write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=1))
    write_reports(folder, verdict)
    return verdict
