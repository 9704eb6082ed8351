"""The rules as text, compared with a readable golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.addresses import parse_network
from engine.backends.nftables.skeleton import equal_bytes, picks, skeleton
from engine.config import ProxyConfig
from engine.kernel.interface import Intact
from engine.kernel.nftables import NftablesKernel

GOLDEN = Path(__file__).parent / "golden"
CONFIG = ProxyConfig(
    pod_networks=(parse_network("10.128.0.0/9"), parse_network("fd00:10:128::/48")),
    service_networks=(parse_network("10.96.0.0/12"), parse_network("fd00:10:96::/108")),
)


@pytest.mark.parametrize(
    ("name", "family", "config"),
    [
        ("ip.nft", 4, CONFIG),
        ("ip6.nft", 6, CONFIG),
        ("ip-no-detector.nft", 4, ProxyConfig()),
        ("ip-1.35.nft", 4, ProxyConfig(CONFIG.pod_networks, version=(1, 35))),
        ("ip6-1.38.nft", 6, ProxyConfig(CONFIG.pod_networks, version=(1, 38))),
        ("ip-masquerade-all.nft", 4, ProxyConfig(CONFIG.pod_networks, masquerade_all=True)),
    ],
)
def test_rules_are_those_of_the_golden_file(name, family, config):
    assert skeleton(family, config) + picks(family, 1, 3) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.nft")))
def test_nft_accepts_the_rules(namespace, name):
    done = namespace.run(["nft", "-f", "-"], (GOLDEN / name).read_bytes())
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("family", "size"), [(4, 4), (6, 16)])
def test_every_value_of_every_byte_equals_itself_only(family, size):
    keys = equal_bytes(family)
    assert len(keys) == len(set(keys)) == 1 + 255 * size
    assert all(key[:size] == key[size:] for key in keys)


def test_without_a_generation_the_rules_are_listed(monkeypatch):
    kernel = NftablesKernel.__new__(NftablesKernel)
    kernel._made, kernel._seen = {4: (b"rules", 1)}, {}
    monkeypatch.setattr(kernel, "_generation", lambda: None)
    shapes = iter([(b"rules", 1), (None, 0)])
    monkeypatch.setattr(kernel, "_shape", lambda family: next(shapes))
    assert [kernel.intact(4), kernel.intact(4)] == [Intact.YES, Intact.NO]
