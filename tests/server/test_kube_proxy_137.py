"""What the real kube-proxy 1.37.2 accepts, says and writes of a configuration file is what this one does.

`data/kube-proxy-1.37.2.json` was recorded from its binary: file, whether it was accepted, the error without what
follows the last quote, and the blocks and fields that --write-config-to wrote differently from an empty file's.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from engine.server.config.command_line import parse
from engine.server.config.complete import complete
from engine.server.config.configuration import API_VERSION, KIND, ConfigurationError
from engine.server.config.decode import encode
from engine.server.config.gates import known_gates

VERSION = (1, 37)
HEAD = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"
ROWS = json.loads((Path(__file__).parent / "data" / "kube-proxy-1.37.2.json").read_text())
OTHERWISE = {"bad duration": "the field is named beside kube-proxy's words"}
"""Where it is meant to differ, and why."""
ALL_FIELDS = "basic"


def outcome(text: str) -> tuple[dict | None, str]:
    """What is written, and the error."""
    try:
        line = parse(["--config=c", "--write-config-to=out"])
        options, _ = complete(line, lambda path: text.encode(), lambda: "host", VERSION)
    except ConfigurationError as error:
        return None, str(error)
    return yaml.safe_load(encode(options.configuration)), ""


@pytest.mark.parametrize("row", [row for row in ROWS if row["name"] not in OTHERWISE], ids=lambda row: row["name"])
def test_as_kube_proxy_does(row):
    written, error = outcome(row["config"])
    assert error.rstrip('"') == row["error"].rstrip('"')
    assert (written is not None) == row["accepted"]
    if written is not None:
        empty = {} if row["name"] == ALL_FIELDS else outcome(HEAD)[0]
        assert {name: value for name, value in written.items() if empty.get(name, ...) != value} == row["written"]


@pytest.mark.parametrize("name", OTHERWISE)
def test_deliberate_differences_from_kube_proxy(name):
    row = next(row for row in ROWS if row["name"] == name)
    written, error = outcome(row["config"])
    assert written is None and error.startswith(row["error"]) and "configSyncPeriod" in error


def test_both_lists_of_cases_are_long():
    assert len(ROWS) == 94
    assert sum(row["accepted"] for row in ROWS) > 40


@pytest.mark.parametrize(
    ("gate", "known", "locked"),
    [
        ("LoadBalancerIPMode", range(30, 35), range(32, 35)),
        ("KubeProxyDrainingTerminatingNodes", range(30, 33), range(0)),
        ("NFTablesProxyMode", range(30, 38), range(33, 38)),
        ("MultiCIDRServiceAllocator", range(30, 38), range(34, 38)),
        ("TopologyAwareHints", range(30, 36), range(33, 36)),
        ("ServiceTrafficDistribution", range(30, 36), range(33, 36)),
        ("PreferSameTrafficDistribution", range(30, 38), range(35, 38)),
        ("KubeProxyNFTablesLocalhostNodePorts", range(36, 39), range(0)),
    ],
)
def test_feature_gates_are_added_locked_and_removed(gate, known, locked):
    text = f"{HEAD}featureGates: {{{gate}: false}}\n"
    for minor in range(30, 39):
        try:
            complete(parse(["--config=c", "--write-config-to=o"]), lambda path: text.encode(), lambda: "h", (1, minor))
            said = ""
        except ConfigurationError as error:
            said = str(error)
        assert (gate in known_gates((1, minor))) == (minor in known)
        assert ("unrecognized" in said) == (minor not in known)
        assert ("locked to true" in said) == (minor in locked)
