"""The output about a run's load while it goes on."""

from __future__ import annotations

import json

from chaos.live import LiveLoad

SECOND = 10**9


def row(second: int, sent: int, failed: int, flow: str = "x") -> str:
    fields = {"kind": "second", "at_ns": second * SECOND, "flow": flow, "sent": sent, "answered": 0, "failed": failed}
    return json.dumps(fields) + "\n"


def test_rate_and_losses_of_all_places_as_their_logs_grow(tmp_path):
    client, caller = tmp_path / "client.jsonl", tmp_path / "caller-1.jsonl"
    live = LiveLoad(tmp_path, 100 * SECOND)
    assert live.line() == ""
    client.write_text('{"kind":"header"}\n' + row(99, 500, 500) + row(100, 100, 0) + row(101, 100, 2))
    caller.write_text(row(100, 50, 0) + row(101, 50, 1))
    first = "last 2 s: 150 requests per second, 3 lost; 300 sent, 3 lost so far"
    assert live.line() == first, "an earlier run's do not count"
    half = row(102, 100, 0)
    with client.open("a") as out:
        out.write("no JSON\n" + half[:20])
        out.flush()
        assert live.line() == first, "a line is taken when it is whole"
        out.write(half[20:] + "".join(row(second, 100, 0) for second in range(103, 120)))
    assert live.line() == "last 5 s: 100 requests per second, 0 lost; 2,100 sent, 3 lost so far"


def test_a_rewritten_log_is_read_from_its_beginning(tmp_path):
    log = tmp_path / "client.jsonl"
    log.write_text(row(1, 5, 5) * 10)
    live = LiveLoad(tmp_path, 100 * SECOND)
    assert live.line() == ""
    log.write_text(row(100, 7, 0))
    assert live.line() == "last 1 s: 7 requests per second, 0 lost; 7 sent, 0 lost so far"
