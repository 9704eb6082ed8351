"""The legacy variant without its tool: entries, a table's blob, and concurrent changes by other programs."""

from __future__ import annotations

import re
import time

import pytest

from engine.backends.iptables.program import IptablesProgram
from engine.backends.iptables.skeleton import BUILT_IN
from engine.kernel.interface import KernelError
from engine.kernel.iptables import IptablesKernel, entries
from engine.kernel.iptables.blob import HOOKS, NEW, Blob, Info, Unchangeable
from engine.kernel.iptables.variant import tool
from engine.kernel.iptables.xtables import Xtables
from engine.proxier import Proxier
from harness.modes import iptables
from harness.places.namespace import Namespace
from harness.places.place import Place
from tests.engine.worlds import CONFIG, story
from tests.iptables.programs import BOTH, CLUSTERS, Keeping, observe, service, slice_, synced
from tests.iptables.test_kernel import plain


class Counting:
    """Runs commands in a namespace with a lock of its own; restores are counted."""

    def __init__(self, namespace: Namespace, lock: str) -> None:
        self._namespace, self.lock = namespace, lock
        self.restores = 0

    def __call__(self, command: list[str], stdin: bytes = b""):
        self.restores += command[0].endswith("-restore")
        return self._namespace.run(["env", f"XTABLES_LOCKFILE={self.lock}", *command], stdin)


@pytest.fixture
def tools(namespace, tmp_path):
    path = tmp_path / "xtables.lock"
    path.touch()
    return Counting(namespace, str(path))


@pytest.fixture
def kernel(namespace, tools):
    made = IptablesKernel(tools, "legacy", namespace.socket, tools.lock)
    yield made
    made.close()


def bare(family: int, table: str) -> Blob:
    """A table as a kernel has it at first."""
    size = entries.HEAD_BYTES[family] + entries.STANDARD_BYTES
    places = [HOOKS.index(chain) for chain in BUILT_IN[table]]
    data = entries.policy(-2, family) * len(places) + entries.beginning("ERROR", family)
    at = tuple(size * places.index(hook) if hook in places else 0 for hook in range(len(HOOKS)))
    return Blob(family, Info(sum(1 << hook for hook in places), at, at, len(places) + 1, len(data)), data, 96)


def programs(seed: int) -> list[IptablesProgram]:
    kernel = Keeping()
    proxier = Proxier("iptables", CONFIG, kernel, time.perf_counter, "node-0001")
    for number, event in enumerate(story(seed, churn=200)):
        proxier.state.observe(*event)
        if number % 5 == seed:
            proxier.sync()
    return kernel.programs


@pytest.mark.parametrize("seed", range(3))
def test_an_edited_blob_equals_the_kernels(seed):
    """Chains, offsets and jumps after each change are those found in the bytes; every old entry is reported."""
    blobs = {(family, table): bare(family, table) for family in (4, 6) for table in BUILT_IN}
    for program in programs(seed):
        for table in program.tables:
            blob = blobs[program.family, table.name]
            before = blob.info.entries
            kept = [*blob.change(table)]
            again = Blob(program.family, blob.info, blob.data[96:], 96)
            assert again.data[96:] == blob.data[96:]
            assert again.info == blob.info and again.chains == blob.chains
            assert sum(count for _, count in kept) == blob.info.entries - 1
            old = [first + n for first, count in kept if first != NEW for n in range(count)]
            assert len(set(old)) == len(old) and all(0 <= each < before - 1 for each in old)
            for chain, rules in table.chains.items():
                assert again.lacks(chain, rules) == []
    assert len(blobs[4, "nat"].chains) > 20


def test_a_jump_to_a_deleted_chain_is_rejected():
    blob = bare(4, "nat")
    kernel = Keeping()
    synced(kernel, service(), slice_(*BOTH))
    nat = kernel.programs[0].tables[-1]
    blob.change(nat)
    gone = next(chain for chain in nat.chains if chain.startswith("KUBE-SEP-"))
    with pytest.raises(Unchangeable, match=gone):
        blob.change(type(nat)("nat", {}, (), (gone,)))


def held(place: Namespace, family: int) -> list[bytes]:
    """All tables' entries without the kernel's internal fields."""
    tables = Xtables(place.socket, "/dev/null")
    found = [bytes(tables.table(family, name).data[96:]) for name in BUILT_IN]
    tables.close()
    return found


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_blob_equals_the_tools_byte_for_byte(cluster):
    kernel = Keeping()
    synced(kernel, *CLUSTERS[cluster])
    with Namespace() as tooled, Namespace() as ours:
        for program in kernel.programs:
            command = [tool("legacy", program.family, "restore"), "--noflush"]
            assert tooled.run(command, program.text().encode()).returncode == 0
        with iptables.real(Place("netns", ours.socket, ours.run), "legacy") as real:
            for program in kernel.programs:
                real.kernel.apply(program)
        for family in (4, 6):
            assert held(ours, family) == held(tooled, family)


def test_syncs_do_not_run_the_tool(kernel, tools):
    for program in programs(1)[:60]:
        kernel.apply(program)
    assert tools.restores == 0
    assert "KUBE-SEP-" in kernel.save(4)


OTHERS = {
    "one more": (["-A", "POSTROUTING", "-p", "udp", "-j", "RETURN"], "-A POSTROUTING -p udp -j RETURN"),
    "another of the same size": (["-R", "MINE", "1", "-p", "udp", "-j", "DROP"], "-A MINE -p udp -j DROP"),
    "in a chain of ours": (
        ["-I", "KUBE-SERVICES", "-p", "udp", "-j", "RETURN"],
        "-A KUBE-SERVICES -p udp -j RETURN",
    ),
    "a policy": (["-P", "INPUT", "DROP"], ":INPUT DROP"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_rules_of_others_that_change_between_two_syncs_stay(kernel, tools, what):
    words, line = OTHERS[what]
    proxier = synced(kernel, service(), slice_(*BOTH))
    for each in (["-N", "MINE"], ["-A", "MINE", "-p", "tcp", "-j", "RETURN"]):
        assert tools([tool("legacy", 4), "-t", "filter" if what != "one more" else "nat", *each]).returncode == 0
    table = "nat" if what in ("one more", "in a chain of ours") else "filter"
    observe(proxier, service(), event="DELETED")
    proxier.sync()
    assert tools([tool("legacy", 4), "-t", table, *words]).returncode == 0
    observe(proxier, service())
    proxier.sync()
    observe(proxier, service(name="more", ip="172.30.0.60"), slice_(*BOTH, of="more", name="more-a"))
    proxier.sync()
    assert tools.restores == 0
    saved = kernel.save(4)
    assert line in saved and "172.30.0.60" in saved and "172.30.0.41" in saved


def test_counters_are_kept(kernel, tools, namespace):
    proxier = synced(kernel, service(), slice_(*BOTH))
    counted = b"*nat\n[5:500] -A POSTROUTING -p udp -j RETURN\n[7:700] -I KUBE-SERVICES -p udp -j RETURN\nCOMMIT\n"
    assert tools([tool("legacy", 4, "restore"), "--noflush", "--counters"], counted).returncode == 0
    observe(proxier, service(name="more", ip="172.30.0.60"), slice_(*BOTH, of="more", name="more-a"))
    proxier.sync()
    observe(proxier, service(), event="DELETED")
    proxier.sync()
    saved = tools([tool("legacy", 4, "save"), "-c", "-t", "nat"]).stdout.decode()
    assert "[5:500] -A POSTROUTING -p udp -j RETURN" in saved
    assert "[7:700] -A KUBE-SERVICES -p udp -j RETURN" in saved
    assert len(re.findall(r"^\[0:0\] -A KUBE-", saved, re.MULTILINE)) > 5


def test_the_tool_is_the_fallback(namespace, tools):
    def refuse(*_):
        raise PermissionError("no raw sockets here")

    kernel, memory = IptablesKernel(tools, "legacy", refuse, tools.lock), Keeping()
    for each in (kernel, memory):
        proxier = synced(each, service(), slice_(*BOTH))
        observe(proxier, service(name="more", ip="172.30.0.60"), slice_(*BOTH, of="more", name="more-a"))
        proxier.sync()
    assert tools.restores
    assert plain(kernel.save(4)) == plain(memory.save(4))


def test_a_rule_that_is_gone_is_named_by_the_tool(kernel, tools):
    proxier = synced(kernel, service(), slice_(*BOTH))
    tools([tool("legacy", 4), "-t", "nat", "-F", "KUBE-SERVICES"])
    observe(proxier, service(), event="DELETED")
    with pytest.raises(KernelError, match=r"restore refused line .*172\.30\.0\.41"):
        proxier.sync()
    assert proxier.sync().full
