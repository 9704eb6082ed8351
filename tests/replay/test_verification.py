"""A kernel whose state differs from the events is detected."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.kernel.interface import Applied
from harness.cli import main
from harness.log.window import Window
from harness.modes import nftables
from harness.places.place import Place
from harness.replay.kernels import ReplayTarget, open_kernel
from harness.replay.session import ReplayOptions, ReplaySession

DEMO = "recordings/demo.jsonl"
INITIAL_ONLY = ReplayOptions(window=Window(until=("t", 0)))


class Forgetful:
    """Programs a real or remembered kernel, but loses part of what is written."""

    def __init__(self, inner, lose) -> None:
        self._inner, self._lose = inner, lose

    def apply(self, program) -> Applied:
        for change in program.sets:
            self._lose(change)
        return self._inner.apply(program)


def lose_one_endpoint(change) -> None:
    if change.name == "tcp-endpoints" and len(change.add) > 50:
        change.add.pop()


def swap_two_services(change) -> None:
    if change.name == "services" and len(change.add) > 10:
        (first, a), (second, b) = itertools.islice(change.added, 2)
        change.add[:2] = [first + b, second + a]


def forget_a_reject(change) -> None:
    if change.name == "cluster-ips" and len(change.add) > 10:
        change.add.pop()


@pytest.mark.parametrize("lose", [lose_one_endpoint, swap_two_services, forget_a_reject])
def test_parts_missing_in_the_kernel_are_detected(lose):
    opened = nftables.memory()
    target = ReplayTarget(Forgetful(opened.kernel, lose), opened.view, {"kind": "memory"}, None)
    result = ReplaySession(DEMO, INITIAL_ONLY, target, lambda *_: None).run()
    assert result.verified is False
    assert result.differences


def test_rules_flushed_behind_its_back_lose_connections(kernel_namespaces):
    """The packets' own judgement: elements are whole, but the rules that use them are gone."""
    with open_kernel("netns", "nftables") as target:
        place = target.place

        class Flushing:
            def apply(self, program):
                applied = target.kernel.apply(program)
                place.run(["nft", "flush", "chain", "ip", "kube-proxy", "services"], b"")
                return applied

        flushed = ReplayTarget(Flushing(), target.view, target.facts, Place("netns", place.make_socket, place.run))
        result = ReplaySession(DEMO, INITIAL_ONLY, flushed, lambda *_: None).run()
    assert result.verified is False
    assert any("a connection" in line for line in result.differences)


def test_a_node_that_is_listed_after_everything_else_is_known_to_both_sides(tmp_path):
    """The first sync needs Services and slices alone (SYNC-01); the node may come later."""
    lines = [json.loads(line) for line in Path("recordings/demo.jsonl").read_text().splitlines()]
    header, initial = lines[0], [line for line in lines[1:] if line["t"] == 0]
    late = [line for line in initial if line["resource"] == "nodes"]
    rest = [line for line in initial if line["resource"] != "nodes"]
    events = [*rest, *late, *(line for line in lines[1:] if line["t"])]
    path = tmp_path / "late.jsonl"
    numbered = [{**event, "seq": number} for number, event in enumerate(events, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *numbered]))
    done = CliRunner().invoke(main, ["replay", str(path), "--kernel", "memory"])
    assert done.exit_code == 0, done.output
