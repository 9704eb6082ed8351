"""`python -m tests.mutants`: runs every bug against every gate, some in parallel, and prints a table."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.mutants.catalogue import Mutant, mutants, survivors
from tests.mutants.checkout import end_all, private_copy
from tests.mutants.gates import BROKEN, CAUGHT, GATES, MISSED, Figures, judge
from tests.mutants.results import Results
from tests.mutants.table import markdown, summary, write_into


class Runner:
    """Runs what is missing in `results`, which keeps every finding even if the run is interrupted.

    `again`: measure the unmodified engine, even where an earlier run did.
    """

    def __init__(self, results: Results, gates: list[str], again: bool) -> None:
        self._results, self._gates, self._again = results, gates, again
        self._measuring: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._figures: dict[tuple[str, str], Figures] = {}
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._began = time.monotonic()

    def _baseline(self, gate: str, mode: str) -> Figures:
        """The unmodified engine's figures, measured when a mutant first needs them.

        It must pass, otherwise the gate's findings are meaningless.
        """
        with self._measuring[gate, mode]:
            known = self._figures.get((gate, mode)) or (None if self._again else self._results.baseline(gate, mode))
            if known is None:
                with private_copy(None) as folder:
                    finding, known = judge(gate, mode, folder, {})
                if finding.outcome != MISSED:
                    raise click.ClickException(f"the unmodified engine fails {gate} in {mode}: {finding.why}")
                click.echo(f"unmodified engine  {gate:8} {mode:9} passes, {finding.seconds:.0f} s")
                self._results.set_baseline(gate, mode, known)
            self._figures[gate, mode] = known
            return known

    def run(self, chosen: list[Mutant], jobs: int, stop_when_caught: bool) -> None:
        """Every mutant against every gate that concerns it, in the gates' order."""
        self._total, self._began = len(chosen), time.monotonic()
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for _ in pool.map(lambda mutant: self._one(mutant, stop_when_caught), chosen):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                end_all()
                raise

    def _one(self, mutant: Mutant, stop_when_caught: bool) -> None:
        for gate in self._gates:
            if not GATES[gate].concerns(mutant):
                continue
            finding = self._results.finding(mutant.id, gate)
            if finding is None or finding.outcome == BROKEN:
                figures = self._baseline(gate, mutant.mode)
                with private_copy(mutant) as folder:
                    finding, _ = judge(gate, mutant.mode, folder, figures)
                self._results.add(mutant.id, gate, finding)
                click.echo(f"{mutant.id:22} {gate:8} {finding.outcome:7} {finding.seconds:5.0f} s  {finding.why[:110]}")
            if stop_when_caught and finding.outcome == CAUGHT:
                break
        with self._lock:
            self._done += 1
            left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
            if self._done % 10 == 0 or self._done == self._total:
                click.echo(f"-- {self._done} of {self._total}, about {left / 60:.0f} min left")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", nargs=-1)
@click.option("--gate", "gates", multiple=True, type=click.Choice(list(GATES)), help="Only these.  [default: all]")
@click.option("--mode", multiple=True, help="Only mutants of these modes.")
@click.option("--group", multiple=True, help="Only mutants of these groups: the files in tests/mutants/data.")
@click.option("--sample", type=int, help="Only so many, drawn with --seed.")
@click.option("--seed", default=1, show_default=True)
@click.option("--jobs", default=2, show_default=True, help="How many at a time.")
@click.option("--first", is_flag=True, help="A mutant that one gate has caught meets no further gate.")
@click.option("--again", is_flag=True, help="Forget what an earlier run found of the mutants and gates chosen.")
@click.option("--results", "path", default="build/mutants.json", show_default=True, type=click.Path(path_type=Path))
@click.option("--table", type=click.Path(path_type=Path), help="Put the table into this Markdown file.")
@click.option("--list", "only_list", is_flag=True, help="Run nothing: print what is known.")
def main(ids, gates, mode, group, sample, seed, jobs, first, again, path, table, only_list) -> None:
    """Put each bug of tests/mutants/data into a private copy of engine/ and report which gate detects it.

    IDS are mutants by id; all by default.  What is found is kept in --results at once, so that a run that is cut
    short goes on where it was.  Exit code 1: a mutant that every gate passed is not among the known survivors, or a
    gate broke down.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    every = mutants()
    chosen = [m for m in every if (not ids or m.id in ids) and (not mode or m.mode in mode)]
    chosen = [m for m in chosen if not group or m.group in group]
    unknown = set(ids) - {m.id for m in every}
    if unknown or not chosen:
        raise click.UsageError(f"no mutant {', '.join(sorted(unknown))}" if unknown else "no mutant is chosen")
    if sample:
        chosen = sorted(random.Random(seed).sample(chosen, min(sample, len(chosen))))
    results, names = Results(path), list(gates or GATES)
    if again and not only_list:
        results.forget({m.id for m in chosen}, names)
    if not only_list:
        Runner(results, names, again).run(chosen, jobs, first)
    if table:
        write_into(table, markdown(every, results, survivors()))
    text, wrong = summary(chosen, results, survivors())
    click.echo(text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
