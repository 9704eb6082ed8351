"""Entries of ipsets: protocols by number for the tool, by name for people, whatever the machine knows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.backends.ipvs.sets import with_names, with_numbers
from harness.judge.readback.ipvs import Read, read_sets

ENTRIES = {
    "10.96.0.1,tcp:80": "10.96.0.1,6:80",
    "fd00::1,udp:53": "fd00::1,17:53",
    "10.96.0.1,sctp:1,10.0.0.1": "10.96.0.1,132:1,10.0.0.1",
    "fd00:6::,tcp:6,6::/16": "fd00:6::,6:6,6::/16",
    "fd00::1,udp:17,17::/64": "fd00::1,17:17,17::/64",
    "6::17": "6::17",
    "30000": "30000",
}


@given(st.lists(st.tuples(st.sampled_from(["add", "del"]), st.sampled_from(sorted(ENTRIES)))))
def test_only_protocols_become_numbers(chosen):
    names = "\n".join(f"{verb} KUBE-X {entry}" for verb, entry in chosen)
    numbers = "\n".join(f"{verb} KUBE-X {ENTRIES[entry]}" for verb, entry in chosen)
    assert with_numbers(names) == numbers
    added = "\n".join(line for line in names.splitlines() if line.startswith("add"))
    assert with_names(with_numbers(added)) == added == with_names(added)


def test_what_a_set_is_created_with_is_left_alone():
    line = "create KUBE-CLUSTER-IP hash:ip,port family inet maxelem 1048576 -exist"
    assert with_numbers(line) == line == with_names(line)


def test_entries_are_read_with_names():
    saved = "create KUBE-X hash:ip,port\n" + "".join(f"add KUBE-X {entry}\n" for entry in ENTRIES.values())
    read = Read()
    read_sets(saved, 4, read)
    assert read.sets == {"KUBE-X": set(ENTRIES)}
