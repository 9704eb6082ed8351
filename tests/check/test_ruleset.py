"""Output of nft as its versions print it."""

from __future__ import annotations

from harness.judge.trace.ruleset import Ruleset

LISTED = """\
table ip kube-proxy { # handle 3
	set s { # handle 4
		typeof ip saddr
		size 100	# count 61
		flags dynamic,timeout
	}
	chain c { # handle 5
		type nat hook prerouting priority dstnat; policy accept;
		iifname "a#b" ip saddr @s accept comment "one # two" # handle 6
	}
}
"""
"""By nft 1.1.7 with handles; it prints the present size of a set without being asked to."""


def test_comments_are_left_out_but_in_quotes():
    rules = Ruleset()
    rules.feed(LISTED)
    table = rules.tables["ip", "kube-proxy"]
    assert table.declared["s"] == [["typeof", "ip", "saddr"], ["size", "100"], ["flags", "dynamic", ",", "timeout"]]
    assert table.chains["c"] == [["iifname", '"a#b"', "ip", "saddr", "@", "s", "accept", "comment", '"one # two"']]
    assert table.hooks["c"] == ("nat", "prerouting", -100)
