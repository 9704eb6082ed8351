"""docs/nftables.md: its diagrams match the program and are complete."""

from __future__ import annotations

from harness.judge.trace.ruleset import Ruleset

from .nftables import PAGE, Way, demo_table, general, renewed, translation, ways


def test_the_pictures_match_the_program():
    page = PAGE.read_text()
    assert renewed(page) == page, "run: python -m tests.docs.nftables"


def test_every_chain_is_in_a_picture():
    page = PAGE.read_text()
    assert [chain for chain in map(general, demo_table().chains) if chain not in page] == []


def test_every_kind_of_rule_is_followed_to_its_targets():
    rules = Ruleset()
    rules.feed(
        """table ip t {
          map picks {
            typeof meta priority : verdict
            elements = { 1:0 : goto pick-1, 2:0 : jump pick-2 }
          }
          chain services {
            ip saddr != 10.0.0.0/8 meta mark set meta mark | 0x4000
            meta priority set ip daddr . meta l4proto . th dport map @services goto pick
            ct state new ip daddr . th dport @barred ip daddr . ip saddr != @allowed drop
            ip daddr @drop-these return
            ct status dnat meta priority set 0:0
          }
          chain pick {
            meta priority vmap @picks
          }
          chain pick-1 {
            meta l4proto tcp dnat to meta priority map @ends
          }
          chain pick-2 {
            ct status dnat masquerade fully-random
          }
        }"""
    )
    table = rules.tables["ip", "t"]
    assert ways(table) == [
        Way("services", "pick", "@services", False),
        Way("services", "drop", "ct state new @barred not @allowed", False),
        Way("pick", "pick-N", "@picks", False),
        Way("pick", "pick-N", "@picks", True),
        Way("pick-N", "dnat", "", False),
        Way("pick-N", "masquerade", "ct status dnat", False),
    ]
    assert 'services["services<br>mark if ip saddr != 10.0.0.0/8"]' in translation(table)
