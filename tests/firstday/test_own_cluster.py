"""Walk 3: someone with a dump and a watch of their own cluster, up to what they may share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.firstday.account import ROOT, Account

KINDS = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "nodes": ("v1", "Node"),
}


def printed(recording: Path) -> tuple[list[dict], list[tuple[str, dict]]]:
    """What kubectl would print of the recording's cluster: its objects at first, and what happened then."""
    objects, changes = [], []
    for line in recording.read_text().splitlines()[1:]:
        event = json.loads(line)
        if event["type"] in ("ADDED", "MODIFIED", "DELETED") and event["resource"] in KINDS:
            version, kind = KINDS[event["resource"]]
            manifest = {"apiVersion": version, "kind": kind, **event["object"]}
            if event["t"] == 0:
                objects.append(manifest)
            else:
                changes.append((event["type"], manifest))
    return objects, changes


@pytest.fixture
def own(user: Account) -> Account:
    """An account with dump.json and watch.json in its home."""
    objects, changes = printed(ROOT / "recordings/demo.jsonl")
    (user.home / "dump.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=4))
    events = [*(("ADDED", each) for each in objects), *changes[:8]]
    lines = (json.dumps({"type": kind, "object": each}, indent=4) for kind, each in events)
    (user.home / "watch.json").write_text("\n".join(lines))
    return user


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["replay", "dump.json", "--node", "node-0002"], "verified: the kernel agreed"),
        (["replay", "watch.json", "--mode", "iptables", "--verify", "readback"], "verified: the kernel agreed"),
        (["compare", "dump.json", "--kube-versions", "1.30,1.37"], "from kube-proxy 1.30 to 1.37"),
        (["trace", "dump.json", "--from", "node", "--to", "svc:contingency-team/users-gateway:http"], "dnat"),
        (["plan", "dump.json", "--mode", "iptables", "--family", "4"], "KUBE-SERVICES"),
        (["import", "dump.json", "imported.jsonl"], "imported.jsonl: "),
        (["inspect", "watch.json"], "Services at the end"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_each_question_is_answered_by_one_command(own, arguments, shown):
    done = own.harness(*arguments)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout, done.stdout


def test_a_redacted_recording_replays(own):
    done = own.harness("redact", "watch.json", "public.jsonl")
    assert done.returncode == 0, done.stderr
    assert "users-gateway" not in (own.home / "public.jsonl").read_text()
    assert own.harness("validate", "public.jsonl").returncode == 0
    done = own.harness("replay", "public.jsonl", "--kernel", "memory")
    assert done.returncode == 0, done.stderr
