"""What the real kube-proxy 1.30.5 wrote and said, given the same flags and files, is what this one writes and says.

`data/kube-proxy-1.30.5.json` was recorded from its binary: arguments, file, exit status, the fields that
--write-config-to wrote beside the defaults, and the error or the complaint of a lenient reading.  Some hundred
rows were written by hand; the others, in JSON, were drawn at random.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from engine.server.config.command_line import FlagError, parse
from engine.server.config.complete import complete
from engine.server.config.configuration import API_VERSION, KIND, ConfigurationError
from engine.server.config.decode import encode
from engine.server.config.duration import Duration

RECORDED = json.loads((Path(__file__).parent / "data" / "kube-proxy-1.30.5.json").read_text())
HEAD = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"
OTHERWISE = {
    "--healthz-bind-address=": "empty disables, as the flag's help says; there it is passed over",
    "--metrics-bind-address=": "empty is an error, as it is in a file; there it is passed over",
    "--healthz-bind-address=1.2.3.4": "a port is added before the file is written",
    "--masquerade-all --iptables-min-sync-period=0": "sets mode nftables' fields too, as since 1.32",
    "--log-json-info-buffer-size=64Ki --feature-gates=LoggingAlphaOptions=true": "sizes are written in bytes",
    HEAD + "featureGates: {Foo: true, Bar: true}": "all unknown gates are named; there it is any one of them",
    HEAD + "logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}], options: {json: {splitStream: true, "
    "infoBufferSize: 1Ki}}}": "a file's splitStream counts; there the flag's default overwrites it",
}
"""Where it is meant to differ, and why."""
OWN_WORDS = (
    "json: ",  # Go's decoder speaks of Go's types
    "couldn't get version/kind; ",
    "--show-hidden-metrics-for-version",  # the recorded binary carried no version
    "is not a valid port range",
    "yaml: unmarshal errors",
)
"""Errors that are the same ones in other words: how they begin must agree."""


def name_of(row: dict) -> str:
    return " ".join(row.get("arguments", [])) or row.get("file", "(nothing)")


def flat(value: dict, lead: str = "") -> dict[str, object]:
    """Fields by dotted path, empty lists as the null that Go writes."""
    found: dict[str, object] = {}
    for key, each in value.items():
        found |= flat(each, f"{lead}{key}.") if isinstance(each, dict) else {lead + key: "null" if each == [] else each}
    return found


def outcome(row: dict) -> tuple[int, dict[str, object] | None, str]:
    """Status, written fields beside the defaults, what was said: here."""
    text = row.get("file")
    words = [*row.get("arguments", []), *(["--config=c"] if text is not None else []), "--write-config-to=out"]
    try:
        options, notes = complete(parse(words, (1, 30)), lambda path: text.encode(), lambda: "host", (1, 30))
    except (FlagError, ConfigurationError) as error:
        return 1, None, str(error)
    said = [f'"{note.message}" err={json.dumps(note.pairs["err"])}' for note in notes if "err" in note.pairs]
    fields = flat(yaml.load(encode(options.configuration), Loader=yaml.BaseLoader))
    different = {path: each for path, each in fields.items() if RECORDED["defaults"].get(path) != each}
    return 0, different, " | ".join(said)


def go_durations(text: str) -> str:
    """Durations as later versions show them."""
    return re.sub(r"v1\.Duration\{Duration:(-?\d+)\}", lambda found: f'"{Duration(int(found[1]))}"', text)


def as_recorded(text: str) -> str:
    """The words of this program that name what the recorded ones leave out, and the other way round."""
    text = re.sub(r" - at `\$.*?`$", "", text).replace('"proxy-engine" does not', '"kube-proxy" does not')
    text = re.sub(r"; expected KubeProxyConfiguration of .*$", "", text)
    text = re.sub(r' in scheme ".*"$', "", text)
    return re.sub(r"(Object '\w+' is missing) in .*$", r"\1", text)


ROWS = {name_of(row): row for row in RECORDED["rows"]}


@pytest.mark.parametrize("name", [name for name in ROWS if name not in OTHERWISE], ids=lambda name: name[-60:])
def test_as_kube_proxy_does(name):
    row = ROWS[name]
    status, written, said = outcome(row)
    assert (status, written) == (row["status"], row.get("written"))
    theirs = row.get("said", "")
    if any(words in theirs for words in OWN_WORDS):
        assert re.split(": | err=", said)[0] == re.split(": | err=", theirs)[0]
    else:
        assert as_recorded(said) == as_recorded(go_durations(theirs))


@pytest.mark.parametrize("name", OTHERWISE, ids=lambda name: name[-60:])
def test_deliberate_differences_from_kube_proxy(name):
    row = ROWS[name]
    assert outcome(row) != (row["status"], row.get("written"), row.get("said", ""))


def test_both_lists_of_cases_are_long():
    assert sum(row["status"] for row in ROWS.values()) > 40
    assert sum(1 for row in ROWS.values() if row.get("written")) > 15
