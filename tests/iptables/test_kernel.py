"""The real kernel's iptables, both variants: restarts, refusals, lost rules, and the tool's own form by netlink."""

from __future__ import annotations

import fcntl
import re
import socket
import threading
import time

import pytest

from engine.backends.iptables.program import Edit, IptablesProgram, Table
from engine.config import ProxyConfig
from engine.kernel.interface import Intact, KernelError
from engine.kernel.iptables import IptablesKernel
from engine.kernel.iptables.variant import detect, tool
from engine.kernel.netlink import Connection, attributes, nfnetlink
from engine.proxier import Proxier
from harness.conformance.corpus.clusters import E1, E3, end, service, slice_
from harness.modes import iptables
from harness.places.namespace import Namespace
from harness.places.place import Place, tool_version
from tests.engine.worlds import CONFIG, story
from tests.iptables.programs import BOTH, CLUSTERS, Keeping, observe, synced

VARIANTS = pytest.mark.parametrize("variant", ["legacy", "nft"])
GETRULE = 0x0A07


@pytest.fixture
def place(namespace):
    return Place("netns", namespace.socket, namespace.run)


def plain(saved: str) -> list[str]:
    """Rules and chains of KUBE's as saved, without counters, sorted; probabilities as far as the kernel keeps them."""
    text = re.sub(r"--probability ([0-9.]+)", lambda match: f"--probability {float(match[1]):.7f}", saved)
    return sorted(re.sub(r" \[\d+:\d+\]", "", line) for line in text.splitlines() if "KUBE-" in line)


@VARIANTS
@pytest.mark.parametrize("seed", range(3))
def test_real_and_in_memory_kernel_hold_the_same(place, variant, seed):
    memory = iptables.memory()
    with iptables.real(place, variant) as real:
        proxiers = [Proxier("iptables", CONFIG, o.kernel, time.perf_counter, "node-0001") for o in (memory, real)]
        for number, event in enumerate(story(seed, churn=60)):
            for proxier in proxiers:
                proxier.state.observe(*event)
                if number % 9 == seed:
                    proxier.sync()
        for proxier in proxiers:
            proxier.sync()
        for family in (4, 6):
            assert plain(real.view.save(family)) == plain(memory.view.save(family))
        # All of it written again is the same, but for the order of rules in shared chains.
        for proxier in proxiers:
            proxier.resync()
            assert proxier.sync().full
        for family in (4, 6):
            assert plain(real.view.save(family)) == plain(memory.view.save(family))


def rules_of(place: Place, family: int) -> dict[tuple[bytes, bytes], list[tuple[bytes, bytes]]]:
    """By table and chain, each rule's expressions and protocol as the kernel gives them back."""
    with place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        found = Connection(sock).dump(nfnetlink(GETRULE, 0, 2 if family == 4 else 10, b""))
    held: dict = {}
    for answer in found:
        fields = attributes(answer[4:])
        held.setdefault((fields[1], fields[2]), []).append((fields[4], fields.get(5, b"")))
    return held


def test_rules_by_netlink_equal_the_tools(place):
    """As printed; up to version 1.8.9 byte for byte, newer ones match a protocol in the packet's header."""
    version = tuple(map(int, tool_version(place, ["iptables-nft", "--version"]).split(".")))
    config = ProxyConfig(pod_interface="pod", detect_local_mode="InterfaceNamePrefix")
    several = [
        service(name=f"s{i}", ip=f"172.30.0.{50 + i}", ports=[("http", protocol, 80, 30100 + i)], **more)
        for i, (protocol, more) in enumerate(
            (
                ("UDP", {"kind": "NodePort", "externalTrafficPolicy": "Local"}),
                ("SCTP", {"kind": "NodePort", "sessionAffinity": "ClientIP"}),
                ("TCP", {"kind": "NodePort"}),
            )
        )
    ]
    slices = [
        slice_(*BOTH, end(E3, "n2"), name=f"s{i}-a", of=f"s{i}", ports=[{"name": "http", "port": 80, "protocol": p}])
        for i, p in enumerate(("UDP", "SCTP", "TCP"))
    ]
    for objects, settings in [(c, None) for c in CLUSTERS.values()] + [
        (several + slices, each) for each in (config, CONFIG)
    ]:
        kernel = Keeping()
        synced(kernel, *objects, **({"config": settings} if settings else {}))
        with Namespace() as tooled, Namespace() as ours:
            for program in kernel.programs:
                command = [tool("nft", program.family, "restore"), "--noflush"]
                assert tooled.run(command, program.text().encode()).returncode == 0
            with iptables.real(Place("netns", ours.socket, ours.run), "nft") as real:
                for program in kernel.programs:
                    real.kernel.apply(program)
            for family in (4, 6):
                save = [tool("nft", family, "save")]
                expected = plain(tooled.run(save).stdout.decode())
                assert plain(ours.run(save).stdout.decode()) == expected
                assert expected
                if version <= (1, 8, 9):
                    tools = rules_of(Place("netns", tooled.socket, tooled.run), family)
                    assert rules_of(Place("netns", ours.socket, ours.run), family) == tools


@VARIANTS
def test_a_restart_takes_over(place, variant):
    """Leftovers of an earlier run are deleted, other programs' rules stay, jumps exist once (IPT-03, IPT-05)."""
    with iptables.real(place, variant) as real:
        synced(real.kernel, service(), slice_(*BOTH), service(name="old", ip="172.30.0.9"), slice_(of="old", name="o"))
        place.run([tool(variant, 4), "-t", "nat", "-N", "OTHERS"], b"")
        place.run([tool(variant, 4), "-t", "nat", "-A", "OTHERS", "-j", "RETURN"], b"")
        place.run([tool(variant, 4), "-t", "nat", "-N", "KUBE-SEP-AAAAAAAAAAAAAAAA"], b"")
        synced(real.kernel, service(), slice_(end(E1, "n1")))
        saved = real.view.save(4)
        memory = Keeping()
        synced(memory, service(), slice_(end(E1, "n1")))
    assert plain(saved) == plain(memory.save(4))
    assert "-A OTHERS -j RETURN" in saved


@VARIANTS
def test_a_refused_program_is_named_and_followed_by_a_full_one(place, variant):
    """SYNC-04; one family's failure does not stop the other (DS-04)."""
    six = CLUSTERS["ipv6"]
    with iptables.real(place, variant) as real:
        proxier = synced(real.kernel, service(), slice_(*BOTH))
        place.run([tool(variant, 4), "-t", "nat", "-F", "KUBE-SERVICES"], b"")
        observe(proxier, service(), event="DELETED")
        observe(proxier, *({**o, "metadata": {**o["metadata"], "name": f"six-{i}"}} for i, o in enumerate(six[:1])))
        with pytest.raises(KernelError, match=r"restore refused line \d+ \(.*-D KUBE-SERVICES .*172.30.0.41") as error:
            proxier.sync()
        assert tool(variant, 4) in str(error.value)
        assert "fd00:96::1" in real.view.save(6)
        sync = proxier.sync()
        assert sync.full
        assert [program.family for program in sync.programs] == [4]
        assert "172.30.0.41" not in real.view.save(4)


@VARIANTS
def test_a_flush_of_tables_is_detected_and_repaired(place, variant):
    """SYNC-05; then all is removed again (CLN-02)."""
    with iptables.real(place, variant) as real:
        proxier = synced(real.kernel, service(), slice_(*BOTH))
        before = plain(real.view.save(4))
        assert [real.kernel.intact(family) for family in (4, 6)] == [Intact.YES, Intact.YES]
        for action in ("-F", "-X"):
            place.run([tool(variant, 4), "-t", "nat", action], b"")
        assert real.kernel.intact(4) is Intact.NO
        proxier.resync(4)
        proxier.sync()
        assert plain(real.view.save(4)) == before
        assert iptables.leftovers(place)
        iptables.clean(place)
        assert not iptables.leftovers(place)
        assert "KUBE-" not in real.view.save(4) + real.view.save(6)


def test_many_edits_at_once_fit_into_a_small_buffer(place):
    ends = [end(E1, "n1")]
    crowd = [service(name=f"s{i}", ip=f"172.30.1.{i}") for i in range(250)]
    slices = [slice_(*ends, name=f"s{i}-a", of=f"s{i}") for i in range(250)]
    memory = Keeping()
    with iptables.real(place, "nft") as real:
        for kernel in (memory, real.kernel):
            proxier = synced(kernel)
            observe(proxier, *crowd, *slices)
            proxier.sync()
            observe(proxier, *crowd[::2], event="DELETED")
            proxier.sync()
        assert plain(real.view.save(4)) == plain(memory.save(4))


@VARIANTS
def test_an_unknown_rule_is_shown(place, variant):
    with iptables.real(place, variant) as real:
        synced(real.kernel)
        edit = Edit("-I", "KUBE-SERVICES", "-j KUBE-NOWHERE")
        with pytest.raises(KernelError, match="KUBE-NOWHERE"):
            real.kernel.apply(IptablesProgram(4, (Table("nat", {}, (edit,)),), {}))


@VARIANTS
def test_the_variant_with_more_rules_is_used(place, variant):
    other = {"legacy": "nft", "nft": "legacy"}[variant]
    with iptables.real(place, variant) as real:
        synced(real.kernel)
        assert detect(place.run) == variant
        place.run([tool(other, 4), "-t", "mangle", "-N", "KUBE-KUBELET-CANARY"], b"")
        assert detect(place.run) == other


def test_the_lock_of_another_program_is_waited_for(namespace, tmp_path):
    """IPT-08."""
    path = tmp_path / "xtables.lock"
    released = threading.Event()

    def run(command, stdin):
        return namespace.run(["env", f"XTABLES_LOCKFILE={path}", *command], stdin)

    with path.open("w") as held:

        def release() -> None:
            released.set()
            fcntl.flock(held, fcntl.LOCK_UN)

        kernel = IptablesKernel(run, "legacy", namespace.socket, str(path))
        fcntl.flock(held, fcntl.LOCK_EX)
        timer = threading.Timer(0.5, release)
        timer.start()
        synced(kernel, service(), slice_(*BOTH))
        assert released.is_set()
        timer.join()
    assert "172.30.0.41/32" in kernel.save(4)
