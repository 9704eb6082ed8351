"""Tables: one golden page of every resource, and ages in kubectl's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.apiserver.columns import COLUMNS, age, human_duration
from harness.apiserver.manifest import Object
from harness.apiserver.tables import table
from harness.kube.resources import kind_of
from tests.serve.manifests import MANIFESTS

GOLDEN = Path(__file__).parent / "golden" / "tables.txt"

DURATIONS = {
    0: "0s", 119: "119s", 120: "2m", 190: "3m10s", 599: "9m59s", 600: "10m", 10799: "179m", 10800: "3h",
    11100: "3h5m", 28799: "7h59m", 28800: "8h", 172799: "47h", 172800: "2d", 183600: "2d3h", 691199: "7d23h",
    691200: "8d", 63071999: "729d", 63072000: "2y", 66528000: "2y40d", 252288000: "8y", 400000000: "12y",
}  # fmt: skip


@pytest.mark.parametrize("seconds, words", DURATIONS.items())
def test_durations_in_kubectls_words(seconds, words):
    assert human_duration(seconds) == words


def test_ages():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert age(None, now) == "<unknown>" and age("yesterday", now) == "<invalid>"
    assert age("2029-12-31T23:59:00Z", now) == "60s" and age("2031-01-01T00:00:00Z", now) == "<invalid>"


def page(resource: str, wide: bool) -> str:
    """What kubectl prints of these manifests."""
    kind = kind_of(resource)
    import msgspec

    objects = [Object(kind, "", m["metadata"]["name"], 1, msgspec.json.encode(m)) for m in MANIFESTS[resource]]
    made = table(kind, objects, "1", "None", True)
    shown = [i for i, c in enumerate(made["columnDefinitions"]) if wide or not c["priority"]]
    rows = [[made["columnDefinitions"][i]["name"].upper() for i in shown]]
    rows += [[str(row["cells"][i]) for i in shown] for row in made["rows"]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(shown))]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def test_every_resource_prints_as_kubectl_shows_it():
    assert set(MANIFESTS) == set(COLUMNS), "a page for every table"
    pages = [f"# {resource} -o wide\n{page(resource, True)}\n" for resource in MANIFESTS]
    assert "\n".join(pages) == GOLDEN.read_text()


def test_a_day_ago_is_by_the_servers_clock():
    made = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    found = Object(kind_of("leases"), "", "a", 1, b'{"metadata":{"name":"a","creationTimestamp":"%b"}}' % made.encode())
    assert table(found.kind, [found], "1", "None", True)["rows"][0]["cells"] == ["a", "", "3d"]
