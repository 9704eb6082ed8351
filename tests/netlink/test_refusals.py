"""Thousands of Services deleted after a flush of the rules: rejected, reported, and written again."""

from __future__ import annotations

import time

import pytest

from engine.kernel.interface import Intact, KernelError
from engine.proxier import Proxier
from harness.conformance.corpus.clusters import E1, end, service, slice_
from harness.modes import iptables, nftables
from harness.places.place import Place
from tests.iptables.programs import CONFIG, observe

SERVICES = 3000


def crowd() -> tuple[list[dict], list[dict]]:
    services = [service(name=f"s{n}", ip=f"172.30.{n // 250}.{n % 250 + 1}") for n in range(SERVICES)]
    return services, [slice_(end(E1, "n1"), name=f"s{n}-a", of=f"s{n}") for n in range(SERVICES)]


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_flush_and_then_thousands_deleted_at_once(namespace, mode):
    place = Place("netns", namespace.socket, namespace.run)
    opening = iptables.real(place, "nft") if mode == "iptables" else nftables.real(place)
    with opening as real:
        proxier = Proxier(mode, CONFIG, real.kernel, time.perf_counter, "n1", families=(4,))
        services, slices = crowd()
        observe(proxier, *services, *slices)
        proxier.sync()
        assert namespace.run(["nft", "flush", "ruleset"]).returncode == 0
        assert real.kernel.intact(4) is Intact.NO
        observe(proxier, *services[1:], event="DELETED")
        with pytest.raises(KernelError, match="refused|rejected"):
            proxier.sync()
        assert proxier.sync().full
        assert real.kernel.intact(4) is Intact.YES
        observe(proxier, *services[1:9])
        assert not proxier.sync().full
        observe(proxier, *services[1:5], event="DELETED")
        assert not proxier.sync().full, "acknowledgements keep step"
