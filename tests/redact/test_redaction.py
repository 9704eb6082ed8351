"""Redacted recordings: nothing identifying is left, everything that affects rules is."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from enum import Enum

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.log import open_source, write_recording
from harness.log.events import Event
from harness.log.redact import redact, schema
from harness.log.redact.addresses import FIXED_RANGES, AddressMap
from harness.log.redact.names import vocabulary
from harness.log.redact.walk import PLAIN_VALUES
from harness.log.synth import SynthOptions, generate

from . import nasty

pytestmark = pytest.mark.xdist_group("redaction")

KEY = b"a key for all the tests"
DEMO = "recordings/demo.jsonl"
WORD = re.compile(r"[^\W_]+")
UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module", params=["demo", "dual-stack", "nasty"])
def both(request, tmp_path_factory):
    """Paths of an original and of what became of it, and the report."""
    folder = tmp_path_factory.mktemp(request.param)
    source = folder / "source.jsonl"
    if request.param == "nasty":
        nasty.write(source)
    elif request.param == "dual-stack":
        write_recording(source, *generate(SynthOptions(services=40, churn=150, nodes=5, dual_stack=True, seed=11)))
    else:
        source = DEMO
    out = folder / "redacted.jsonl"
    return source, out, redact(str(source), out, KEY)


def lines(path) -> list[dict]:
    with open(path) as file:
        return [json.loads(line) for line in file]


def texts(value) -> Iterator[str]:
    """Every text in a value, keys too."""
    if isinstance(value, str):
        yield value
    for part in value if isinstance(value, list) else ():
        yield from texts(part)
    for name, part in value.items() if isinstance(value, dict) else ():
        yield name
        yield from texts(part)


def address(text: str):
    """An address or block that `text` is, leading zeros and blanks or not; None for other text."""
    bare = re.sub(r"(?<![0-9a-fA-F:])0+(?=\d)", "", text.strip()) if ":" not in text else text.strip()
    try:
        return ipaddress.ip_interface(bare)
    except ValueError:
        return None


def words_of_the_format() -> set[str]:
    """What stands in every recording: field names, values of enums, keys of Kubernetes itself."""

    def walk(part) -> Iterator[str]:
        if isinstance(part, frozenset):
            yield from part
        elif isinstance(part, list):
            yield from walk(part[0])
        elif isinstance(part, dict):
            for name, inner in part.items():
                yield name
                yield from walk(inner)
        else:
            assert isinstance(part, Enum)

    found = {
        *schema.KEPT_KEYS,
        *PLAIN_VALUES,
        "None",
        "seq",
        "t",
        "object",
        "resource",
        "resources",
        "version",
        "format",
    }
    for part in (*schema.OBJECTS.values(), schema.MARKER, schema.CLUSTER, *schema.KEPT_VALUES.values()):
        found |= set(walk(part))
    found |= {"kube-proxy-harness/recording", "start", "cluster", "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "RELIST"}
    found |= {"GAP", "FAULT", *schema.OBJECTS}
    return {word.lower() for text in found for word in WORD.findall(text)}


def original_words(path) -> set[str]:
    """Words of names, labels and all other text that is neither address, time nor UID, in lower case."""
    found = set()
    for line in lines(path):
        for text in texts([line.get(part) for part in ("object", "cluster", "generator", "resources")]):
            if address(text) is None and not UID.fullmatch(text) and not TIME.fullmatch(text):
                found.update(word.lower() for word in WORD.findall(text))
    return found


def test_no_word_of_the_original_is_left(both):
    source, out, _ = both
    # Addresses and UIDs are hexadecimal digits, which may spell a word; they have tests of their own.
    result = "\n".join(
        text for line in lines(out) for text in texts(line) if address(text) is None and not UID.fullmatch(text)
    )
    left = {word.lower() for word in WORD.findall(result)} & original_words(source)
    left -= words_of_the_format()
    assert {word for word in left if not word.isdigit()} == set()


def test_no_address_of_the_original_is_left(both):
    source, out, _ = both
    was, now = ({a for line in lines(p) for t in texts(line) for a in [address(t)] if a} for p in (source, out))
    # Three reasons for one that is: it is the same everywhere, another one became it, or it is a range of its own.
    addresses = AddressMap(KEY)
    images = {(a.version, addresses.value(a.version, int(a.ip))) for a in was}
    images |= {(a.version, addresses.network(a.version, int(a.ip), a.network.prefixlen)) for a in was}
    fixed = [ipaddress.ip_network(text) for text in FIXED_RANGES]
    for left in was & now:
        same = any(left.ip in n for n in fixed if n.version == left.version) or left.network.prefixlen <= 16
        assert same or (left.version, int(left.ip)) in images, left
    assert len(was & now) < max(3, len(was) / 10), "images of others are few"


def test_uids_are_replaced(both):
    source, out, _ = both
    was, now = (set(UID.findall(open(path).read())) for path in (source, out))
    assert not was & now and len(was) == len(now)


def test_order_times_and_shape_stay(both):
    source, out, _ = both
    with open_source(source) as before, open_source(out) as after:
        for old, new in zip(before, after, strict=True):
            assert (old.seq, old.t, old.type, old.resource) == (new.seq, new.t, new.type, new.resource)
    assert lines(out)[0].get("generator") is None
    assert lines(out)[0].get("start") == lines(source)[0].get("start")


def test_a_valid_recording_stays_valid(both):
    source, out, _ = both
    was, now = (CliRunner().invoke(main, ["validate", str(path)]) for path in (source, out))
    assert was.exit_code == now.exit_code
    assert was.output.count("\n") == now.output.count("\n"), "and has as many problems"


def test_the_mapping_is_one_to_one_and_the_same_everywhere(both):
    source, out, _ = both
    forward: dict[tuple[bool, str], str] = {}
    backward: dict[tuple[bool, str], str] = {}
    for old, new in zip(lines(source), lines(out), strict=True):
        for is_port, was, now in changed_names(old.get("object"), new.get("object")):
            assert forward.setdefault((is_port, was), now) == now
            assert backward.setdefault((is_port, now), was) == was


def changed_names(old, new, field: str = "") -> Iterator[tuple[bool, str, str]]:
    """Names before and after, of ports apart, from two values of one shape."""
    if isinstance(old, dict) and isinstance(new, dict):
        kept = [name for name in old if name in new] if len(old) != len(new) else old
        pairs = zip(old, new, strict=True) if len(old) == len(new) else zip(kept, kept, strict=True)
        for was, now in pairs:
            yield from changed_names(old[was], new[now], f"{field}.{was}")
    elif isinstance(old, list) and isinstance(new, list):
        for was, now in zip(old, new, strict=False):
            yield from changed_names(was, now, field)
    elif isinstance(old, str) and isinstance(new, str) and old != new and address(old) is None:
        yield field.endswith(("ports.name", "targetPort", "port")), old, new


def test_pseudonyms_are_valid_for_their_kind(both):
    label = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
    for line in lines(both[1]):
        manifest = line.get("object") or {}
        metadata = manifest.get("metadata", {})
        for name in (metadata.get("name"), metadata.get("namespace")):
            parts = (name or "a").split(".")
            assert len(name or "") <= 63 and all(label.fullmatch(part) for part in parts)
        for key, value in (metadata.get("labels") or {}).items() if isinstance(metadata.get("labels"), dict) else ():
            assert len(key.rpartition("/")[2]) <= 63 and len(value) <= 63
        ports = (manifest.get("spec") or manifest).get("ports") or ()
        for port in ports:
            name = port.get("name") if isinstance(port, dict) else None
            assert not isinstance(name, str) or name == "" or (len(name) <= 15 and label.fullmatch(name))


def test_names_that_are_words_of_the_format_are_gone_from_their_places(tmp_path):
    nasty.write(tmp_path / "in.jsonl")
    redact(str(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", KEY)
    line = lines(tmp_path / "out.jsonl")[len(nasty.OBJECTS)]["object"]
    assert line["metadata"]["name"] != "services" and line["metadata"]["namespace"] != "kubernetes"
    assert not {"name", "spec", "Service", "TCP"} & {*line["metadata"]["labels"], *line["metadata"]["labels"].values()}
    assert line["spec"]["ports"][0]["name"] != "http"


def test_references_between_objects_are_kept(tmp_path):
    nasty.write(tmp_path / "in.jsonl")
    report = redact(str(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", KEY)
    header, node, service, piece, fqdn, pod, odd, *_ = lines(tmp_path / "out.jsonl")
    node, service, piece, fqdn, pod, odd = (line["object"] for line in (node, service, piece, fqdn, pod, odd))
    end = piece["endpoints"][0]
    assert piece["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert end["nodeName"] == node["metadata"]["name"] == node["status"]["addresses"][2]["address"]
    assert (
        end["zone"] == node["metadata"]["labels"]["topology.kubernetes.io/zone"] == end["hints"]["forZones"][0]["name"]
    )
    assert end["targetRef"]["name"] == pod["metadata"]["name"] == end["hostname"]
    assert piece["ports"][0]["name"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["ports"][0]["targetPort"] == pod["spec"]["containers"][0]["ports"][0]["name"]
    assert service["spec"]["selector"].items() <= service["metadata"]["labels"].items()
    assert re.fullmatch(r"0\d+\.\d+\.00\d+\.\d+", end["addresses"][0])
    assert ipaddress.ip_address(address(end["addresses"][0]).ip) in ipaddress.ip_network(node["spec"]["podCIDR"])
    assert service["metadata"]["annotations"]["service.kubernetes.io/topology-mode"] == "Auto"
    assert fqdn["endpoints"][0]["addresses"][0].split(".")[1:] == service["spec"]["externalName"].split(".")[1:]
    assert (odd["spec"]["selector"], odd["spec"]["type"]) != ("acme-selector", {"acme": "object"})
    assert odd["spec"]["type"] == {} and odd["spec"]["ports"][2:] == [None, []]
    fault = next(line["object"] for line in lines(tmp_path / "out.jsonl") if line.get("type") == "FAULT")
    assert fault["pods"] == [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"]
    assert fault["nodes"] == [node["metadata"]["name"]]
    assert report.dropped["services.spec.futureField"] == 2 and report.dropped["FAULT.parameters"] == 1
    assert {"header.generator", "header.resources", "header.cluster.owner"} <= report.dropped.keys()
    assert header["resources"] == ["services", "pods"]
    assert header["cluster"]["clusterCIDR"].count("/") == 2


def test_order_of_events_does_not_matter_to_the_names(tmp_path):
    with open_source(DEMO) as recording:
        header, events = recording.header, list(recording)
    added = [event for event in events if event.type == "ADDED"]
    turned = [Event(n, 0, e.type, e.resource, e.object) for n, e in enumerate(reversed(added), 1)]
    straight = [Event(n, 0, e.type, e.resource, e.object) for n, e in enumerate(added, 1)]
    results = []
    for name, history in (("a", straight), ("b", turned)):
        write_recording(tmp_path / name, header, history)
        redact(str(tmp_path / name), tmp_path / f"{name}.out", KEY)
        results.append(sorted(json.dumps(line["object"]) for line in lines(tmp_path / f"{name}.out")[1:]))
    assert results[0] == results[1]


def test_another_key_gives_other_names(tmp_path):
    redact(DEMO, tmp_path / "a", KEY)
    redact(DEMO, tmp_path / "b", KEY[::-1])
    redact(DEMO, tmp_path / "c", KEY)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == c != b


def test_names_do_not_run_out_when_every_word_is_taken(tmp_path):
    manifests = [{"metadata": {"name": word, "namespace": f"ns-{word}"}} for word in vocabulary()]
    events = [
        Event(n, 0, "ADDED", "services", msgspec.Raw(msgspec.json.encode(manifest)))
        for n, manifest in enumerate(manifests, 1)
    ]
    with open_source(DEMO) as recording:
        write_recording(tmp_path / "in", recording.header, events)
    redact(str(tmp_path / "in"), tmp_path / "out", KEY)
    names = {line["object"]["metadata"]["name"] for line in lines(tmp_path / "out")[1:]}
    assert len(names) == len(vocabulary()) and not names & set(vocabulary())
