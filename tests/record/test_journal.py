"""A journal cut anywhere holds what was flushed, and goes on."""

from __future__ import annotations

import os
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.log import open_source
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.journal import LogFile
from harness.record import log as log_module
from harness.record.log import EventLog

HEADER = Header(FORMAT, VERSION, start="2026-01-01T00:00:00Z")


def event(seq: int, size: int = 20) -> Event:
    return Event(seq, seq, "ADDED", "nodes", msgspec.Raw(msgspec.json.encode({"metadata": {"name": "n" * size}})))


def seqs(path) -> list[int]:
    with open_source(path) as recording:
        return [found.seq for found in recording]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.floats(0, 1), st.sampled_from([".jsonl", ".jsonl.zst"]))
def test_a_journal_truncated_anywhere_keeps_flushed_events_and_continues(tmp_path_factory, flushes, where, suffix):
    path = tmp_path_factory.mktemp("journal") / f"a{suffix}"
    journal = LogFile(path)
    journal.begin(HEADER)
    safe = [(journal.size, 0)]
    for count in flushes:
        for _ in range(count):
            journal.append(event(journal.seq + 1))
        journal.flush()
        safe.append((journal.size, journal.seq))
    journal.close()
    cut = safe[0][0] + int(where * (safe[-1][0] - safe[0][0]))
    os.truncate(path, cut)
    durable = max(seq for size, seq in safe if size <= cut)
    again = LogFile(path)
    kept = seqs(path)
    assert kept == list(range(1, len(kept) + 1)) and len(kept) >= durable
    again.resume(len(kept))
    again.append(event(len(kept) + 1))
    again.close()
    assert seqs(path) == [*kept, len(kept) + 1]


@pytest.mark.parametrize("size", [0, 1, 30])
def test_a_journal_truncated_in_its_first_line_starts_again(tmp_path, size):
    path = tmp_path / "a.jsonl"
    path.write_bytes(msgspec.json.encode(HEADER)[:size])
    journal = LogFile(path)
    assert journal.empty and journal.cut == size
    journal.close()


def test_a_spool_is_followed_over_its_segments_and_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 2_000)
    log = EventLog(tmp_path / "spool", spool=True)
    log.start(HEADER, 0)
    got: list[int] = []
    follower = threading.Thread(
        target=lambda: [got.extend(e.seq for e in batch) or log.drop(got[-1]) for batch in log.after(0, 7, 1 << 20)]
    )
    follower.start()
    most = 0
    for seq in range(1, 501):
        log.append(event(seq))
        if seq % 10 == 0:
            log.flush()
            most = max(most, len(list((tmp_path / "spool").iterdir())))
    log.close()
    follower.join(30)
    assert got == list(range(1, 501))
    assert log.outstanding(500) == 0
    assert len(list((tmp_path / "spool").iterdir())) <= 2 and most > 1


def test_a_spool_of_an_earlier_run_is_read_and_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 500)
    for first in (1, 31):
        log = EventLog(tmp_path / "spool", spool=True)
        assert [found.seq for found in log.stored()] == list(range(1, first))
        log.start(HEADER, first - 1)
        for seq in range(first, first + 30):
            log.append(event(seq))
            log.flush()
        log.close()
    log = EventLog(tmp_path / "spool", spool=True)
    log.start(HEADER, 60)
    batches = log.after(17, 1_000, 1 << 20)
    assert [found.seq for found in next(batches)] == list(range(18, 61))
    assert log.keeps(0)
    log.close()


def test_a_full_disk_leaves_a_complete_recording(tmp_path):
    """What could not be written whole is taken back."""
    import subprocess
    import sys

    script = f"""
import resource, signal, sys
sys.dont_write_bytecode = True  # the limit would cut compiled modules short too, and nothing could import them again
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from tests.record.test_journal import HEADER, LogFile, event
journal = LogFile({str(tmp_path / "a.jsonl")!r})
journal.begin(HEADER)
for seq in range(1, 100):
    journal.append(event(seq, 100))
    journal.flush()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "OSError" in done.stderr
    found = seqs(tmp_path / "a.jsonl")
    assert found == list(range(1, len(found) + 1)) and found
