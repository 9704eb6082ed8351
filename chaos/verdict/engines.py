"""CPU time and memory of each node's engine, from samples after each fault.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from chaos.run_facts import UsageSample
from chaos.verdict.facts import Facts
from chaos.verdict.words import Judgement
from harness.wording import plural

MIB = 1 << 20


def cpu_seconds(samples: list[UsageSample]) -> dict[str, float]:
    """By node, from the first sample to the last; a restarted engine counts from its start."""
    used: dict[str, float] = {}
    for before, after in pairwise(samples):
        for node, engine in after.engines.items():
            old = before.engines.get(node)
            same = old is not None and old.pid == engine.pid
            used[node] = used.get(node, 0.0) + engine.cpu_seconds - (old.cpu_seconds if old and same else 0.0)
    return used


def growth_bytes(samples: list[UsageSample]) -> dict[str, int]:
    """By node, the largest growth of one engine process between its first and last sample."""
    seen: dict[tuple[str, int], list[int]] = {}
    for sample in samples:
        for node, engine in sample.engines.items():
            seen.setdefault((node, engine.pid), []).append(engine.memory_bytes)
    grown: dict[str, int] = {}
    for (node, _), memory in seen.items():
        if len(memory) > 1:
            grown[node] = max(grown.get(node, 0), memory[-1] - memory[0])
    return grown


def judged(facts: Facts) -> Iterator[Judgement]:
    """The objectives about engines."""
    samples, objectives = facts.run.usage, facts.run.objectives
    source = f"/proc of each engine, {plural(len(samples), 'sample')}: after warm-up and after each fault"
    if objectives.engine_growth_mb is not None:
        grown = growth_bytes(samples)
        yield _worst(
            "engine memory growth", {n: b / MIB for n, b in grown.items()}, objectives.engine_growth_mb, "MiB", source
        )
    if objectives.engine_cpu_percent is not None:
        seconds = samples[-1].at - samples[0].at if len(samples) > 1 else 0.0
        shares = {n: 100 * used / seconds for n, used in cpu_seconds(samples).items()} if seconds > 0 else {}
        yield _worst("engine CPU", shares, objectives.engine_cpu_percent, "% of one CPU", source)


def _worst(name: str, by_node: dict[str, float], limit: float, unit: str, source: str) -> Judgement:
    wanted = f"at most {limit:g} {unit} on every node"
    if not by_node:
        return Judgement(name, None, wanted, "nothing", "no engine was sampled twice", source)
    node, worst = max(by_node.items(), key=lambda item: item[1])
    return Judgement(name, worst <= limit, wanted, f"{worst:.1f} {unit} on {node}", "", source)
