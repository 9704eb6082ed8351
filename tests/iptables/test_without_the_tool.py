"""The nft variant by netlink alone: edits of shared chains, and concurrent changes by other programs."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from engine.kernel.interface import KernelError
from engine.kernel.iptables import IptablesKernel
from engine.kernel.iptables.variant import tool
from engine.proxier import Proxier
from harness.modes import iptables
from harness.places.namespace import Namespace
from tests.engine.worlds import CONFIG, story
from tests.iptables.programs import BOTH, CLUSTERS, Keeping, observe, service, slice_, synced
from tests.iptables.test_kernel import plain


class Tools:
    """Runs commands in a namespace; restores are counted, and refused where `refused` says so."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.restores = 0
        self.refused = False

    def __call__(self, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        if command[0].endswith("-restore"):
            self.restores += 1
            if self.refused:
                return subprocess.CompletedProcess(command, 1, b"", b"not now")
        return self._namespace.run(command, stdin)


@pytest.fixture
def tools(namespace):
    return Tools(namespace)


@pytest.fixture
def kernel(namespace, tools):
    made = IptablesKernel(tools, "nft", namespace.socket)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(2))
def test_syncs_do_not_run_the_tool_once_the_tables_exist(kernel, tools, seed):
    memory = iptables.memory()
    proxiers = [Proxier("iptables", CONFIG, each, time.perf_counter, "node-0001") for each in (memory.kernel, kernel)]
    edits = 0
    for number, event in enumerate(story(seed, churn=80)):
        for proxier in proxiers:
            proxier.state.observe(*event)
            if number % 7 == seed:
                sync = proxier.sync()
                edits += sum(len(table.edits) for program in sync.programs for table in program.tables)
        tools.refused = tools.refused or number > 7
    for proxier in proxiers:
        proxier.resync()
        proxier.sync()
    assert edits > 40
    for family in (4, 6):
        assert plain(kernel.save(family)) == plain(memory.view.save(family))


@pytest.mark.parametrize(
    "meanwhile",
    [
        ["-I", "KUBE-SERVICES", "2", "-p", "udp", "-j", "RETURN"],
        ["-A", "KUBE-SERVICES", "-p", "udp", "-j", "RETURN"],
        ["-A", "POSTROUTING", "-p", "udp", "-j", "RETURN"],
    ],
)
def test_other_programs_rules_in_our_chains_stay(kernel, tools, meanwhile):
    more = service(name="more", ip="172.30.0.60"), slice_(*BOTH, of="more", name="more-a")
    proxier = synced(kernel, service(), slice_(*BOTH), *more)
    assert tools([tool("nft", 4), "-t", "nat", *meanwhile]).returncode == 0
    done = tools.restores
    for event in ("DELETED", "ADDED", "DELETED"):
        observe(proxier, *more, event=event)
        proxier.sync()
    assert tools.restores == done
    rules = kernel.save(4)
    assert f"-A {meanwhile[1]} -p udp -j RETURN" in rules
    assert "172.30.0.41/32" in rules and "172.30.0.60" not in rules


def test_rules_reinserted_by_other_programs_are_found_by_the_tool(kernel, tools):
    """Another handle, the same rule."""
    more = service(name="more", ip="172.30.0.60"), slice_(*BOTH, of="more", name="more-a")
    proxier = synced(kernel, service(), slice_(*BOTH), *more)
    observe(proxier, service(name="third", ip="172.30.0.61"), event="ADDED")
    observe(proxier, *more, event="DELETED")
    proxier.sync()  # handles are known now
    saved = tools([tool("nft", 4, "save"), "-t", "nat"]).stdout
    assert tools([tool("nft", 4, "restore")], saved).returncode == 0
    observe(proxier, service(), slice_(*BOTH), event="DELETED")
    assert not proxier.sync().full
    assert "172.30.0.41" not in kernel.save(4)


def test_a_program_rejected_by_kernel_and_tool_is_an_error(kernel, tools):
    more = service(name="more", ip="172.30.0.60"), slice_(*BOTH, of="more", name="more-a")
    proxier = synced(kernel, service(), slice_(*BOTH), *more)
    tools([tool("nft", 4), "-t", "nat", "-F", "KUBE-SERVICES"])
    observe(proxier, *more, event="DELETED")
    with pytest.raises(KernelError, match=r"restore refused line .*172\.30\.0\.60"):
        proxier.sync()
    assert proxier.sync().full


def handles(tools, chain: str) -> list[str]:
    listed = tools(["nft", "-a", "list", "chain", "ip", "nat", chain]).stdout.decode()
    return re.findall(r"counter.*# handle (\d+)", listed)


def test_a_chain_that_only_loses_rules_is_not_written_again(kernel, tools):
    """The kernel need not validate anything, and what the other rules have counted is kept."""
    proxier = synced(kernel, service(), slice_(*BOTH))
    chain = next(line.split()[1] for line in kernel.save(4).splitlines() if line.startswith("-A KUBE-SVC-"))
    masquerade, _, second = handles(tools, chain)
    observe(proxier, slice_(BOTH[1]), event="MODIFIED")
    proxier.sync()
    assert handles(tools, chain) == [masquerade, second]
    assert f'-A {chain} -m comment --comment "ns/s1:http -> {BOTH[1]["addresses"][0]}:80" -j KUBE-SEP-' in kernel.save(
        4
    )


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_jumps_exist_once(kernel, cluster, tools):
    """IPT-03: those that the tool has made are known again."""
    keeping = Keeping()
    synced(keeping, *CLUSTERS[cluster])
    for program in keeping.programs:
        assert tools([tool("nft", program.family, "restore"), "--noflush"], program.text().encode()).returncode == 0
    before = [plain(kernel.save(family)) for family in (4, 6)]
    synced(kernel, *CLUSTERS[cluster])
    assert [plain(kernel.save(family)) for family in (4, 6)] == before
