"""Results that `make kernels` keeps between its runs, and their table."""

from __future__ import annotations

from . import table

FACTS = {"release": "6.1.0", "by": "emulation"}
GOOD = {"tools": "nft 1.0.6", "digest": "d1", "verified": True, "connections": 0, "first": 1.0, "change": 0.001}


def test_a_run_is_resumed_and_another_commit_starts_over(tmp_path):
    path = tmp_path / "build" / "kernels.json"
    first = table.Kept("one", fresh=False, path=path)
    assert first.left("image") == list(table.COMMANDS)
    first.add("image", FACTS, "nftables", GOOD)
    goes_on = table.Kept("one", fresh=False, path=path)
    assert goes_on.left("image") == [name for name in table.COMMANDS if name != "nftables"]
    assert goes_on.left("other") == list(table.COMMANDS)
    assert table.Kept("two", fresh=False, path=path).kernels == {}
    assert table.Kept("one", fresh=True, path=path).kernels == {}


def test_an_unknown_result_is_not_a_pass():
    rows = {
        "nftables": GOOD, "ipvs": {"why": "error: this kernel has no IP_VS; another: --kernel vm"},
        "userspace": {"why": "the machine ended", "died": True}, "iptables (nft)": GOOD | {"verified": "unknown"},
        "tests": {"code": 1, "summary": "1 failed", "why": ""}, "experiment": {"verdict": "false", "why": "  x lost 3"},
    }  # fmt: skip
    kernel = FACTS | {"rows": rows}
    assert table.failed({"rows": {"experiment": {"verdict": "unknown", "why": "  ? late"}}}) == ["experiment"]
    assert table.failed({"rows": {"experiment": {"verdict": "unknown", "why": "  ? the kernel has no netem"}}}) == []
    assert set(table.failed(kernel)) == {"userspace", "iptables (nft)", "tests", "experiment"}
    other = FACTS | {"rows": {"nftables": GOOD | {"digest": "d2"}}}
    assert table.differing({"a": kernel, "b": other}) == ["nftables"]
    text = table.text({"a": kernel, "b": other})
    assert "| 6.1.0 | emulation | nftables | nft 1.0.6 | yes, read back | 1.00 s | 1.0 ms |" in text
    assert "| 6.1.0 | emulation | ipvs | - | not run: this kernel has no IP_VS | - | - |" in text
    assert "Digests differ: nftables." in text
