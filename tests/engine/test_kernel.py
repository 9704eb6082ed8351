"""The in-memory kernel and the real one, given the same programs, have the same state."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from engine.backends.nftables.program import NftablesProgram, SetChange
from engine.kernel.interface import KernelError
from engine.kernel.nftables import NftablesMemory
from engine.proxier import Proxier
from harness.judge.readback import elements as readback
from harness.judge.readback.nftables_judge import SETS
from harness.modes import nftables
from harness.places.namespace import Namespace
from harness.places.place import Place

from .worlds import CONFIG, run, story


@pytest.fixture
def place(namespace):
    return Place("netns", namespace.socket, namespace.run)


def nft_as_root(namespace: Namespace, text: str | bytes) -> None:
    """Load one large text; nft's own socket takes it only with rights over the whole machine."""
    if os.geteuid() != 0:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip  # kernel tests never skip on CI
        refuse("NEEDS ROOT: an unprivileged nft cannot send this much in one transaction")
    enter = ["nsenter", "-t", str(namespace.pid), "-n", "--", "nft", "-f", "-"]
    done = subprocess.run(enter, input=text if isinstance(text, bytes) else text.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def held(opened, family: int) -> dict[str, dict[bytes, bytes]]:
    """Every element of the real kernel, in the in-memory kernel's raw form."""
    return {name: readback.dump(opened.view._sock, family, name) for name in SETS}


@pytest.mark.parametrize("seed", range(6))
def test_real_and_in_memory_kernel_hold_the_same(place, seed):
    events, memory = story(seed, churn=80), nftables.memory()
    with nftables.real(place) as real:
        proxiers = [Proxier("nftables", CONFIG, o.kernel, time.perf_counter, "node-0001") for o in (memory, real)]
        for i, event in enumerate(events):
            for proxier in proxiers:
                proxier.state.observe(*event)
                if i % 7 == seed:
                    proxier.sync()
        for proxier in proxiers:
            proxier.sync()
        for family in (4, 6):
            expected = {name: memory.kernel.tables[family].get(name, {}) for name in SETS}
            assert held(real, family) == expected
            assert real.view.behaviour(family) == memory.view.behaviour(family)
        assert proxiers[0].digest == proxiers[1].digest


def test_a_program_printed_and_loaded_by_nft_is_the_same_program(namespace, place):
    programs = []

    class Keeping(NftablesMemory):
        def apply(self, program):
            programs.append(program)
            return super().apply(program)

    kernel = Keeping()
    proxier = Proxier("nftables", CONFIG, kernel, time.perf_counter, "node-0001")
    for event in story(3, services=20, churn=30):
        proxier.state.observe(*event)
    proxier.sync()
    for program in programs:
        nft_as_root(namespace, program.text())
    with nftables.real(place) as real:
        for family in (4, 6):
            assert held(real, family) == {name: kernel.tables[family].get(name, {}) for name in SETS}


def test_netlink_readback_agrees_with_nft_json(place):
    with nftables.real(place) as real:
        proxier = Proxier("nftables", CONFIG, real.kernel, time.perf_counter, "node-0001")
        for event in story(5, services=30):
            proxier.state.observe(*event)
        proxier.sync()
        listed = json.loads(place.run(["nft", "-j", "list", "table", "ip", "kube-proxy"], b"").stdout)
        ours = held(real, 4)
    by_name = {i["map"]["name"]: i["map"] for i in listed["nftables"] if "map" in i}
    for name in ("services", "external-services", "nodeports", "tcp-endpoints"):
        assert len(by_name[name].get("elem", ())) == len(ours[name])
    addresses = {element[0]["concat"][0] for element in by_name["services"]["elem"]}
    assert addresses == {".".join(map(str, key[:4])) for key in ours["services"]}


def test_what_nft_lists_can_be_loaded_again(namespace, place):
    with nftables.real(place) as real:
        proxier = Proxier("nftables", CONFIG, real.kernel, time.perf_counter, "node-0001")
        for event in story(5, services=30):
            proxier.state.observe(*event)
        proxier.sync()
        before = held(real, 4)
        listed = place.run(["nft", "list", "table", "ip", "kube-proxy"], b"").stdout
        nft_as_root(namespace, b"delete table ip kube-proxy\n" + listed)
        assert held(real, 4) == before


@pytest.mark.parametrize(
    "change",
    [
        SetChange("cluster-ips", delete=[bytes([10, 96, 0, 9])]),
        SetChange("services", add=[bytes([10, 96, 0, 9, 6, 0, 0, 0, 0, 80, 0, 0]) + b"\2\0\x10\0"], key_bytes=12),
    ],
    ids=["delete of the absent", "other data for the present"],
)
def test_real_and_in_memory_kernel_reject_the_same(place, change):
    first = SetChange("services", add=[bytes([10, 96, 0, 9, 6, 0, 0, 0, 0, 80, 0, 0]) + b"\1\0\x10\0"], key_bytes=12)
    _, reference = run(story(1))
    memory = nftables.memory()
    with nftables.real(place) as real:
        for opened in (memory, real):
            Proxier("nftables", CONFIG, opened.kernel, time.perf_counter, "n")
        script = _skeleton_of(story(1))
        for opened in (memory, real):
            opened.kernel.apply(NftablesProgram(4, script, (first,)))
            with pytest.raises(KernelError):
                opened.kernel.apply(NftablesProgram(4, (), (change,)))


def _skeleton_of(events) -> tuple[str, ...]:
    scripts = []

    class Keeping(NftablesMemory):
        def apply(self, program):
            if program.family == 4:
                scripts.extend(program.scripts)
            return super().apply(program)

    proxier = Proxier("nftables", CONFIG, Keeping(), time.perf_counter)
    for event in events:
        proxier.state.observe(*event)
    proxier.sync()
    return tuple(scripts)
