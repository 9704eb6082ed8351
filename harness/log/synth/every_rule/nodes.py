"""Scenes about nodes, and about hints that refer to them."""

from __future__ import annotations

from harness.kube.resources import ZONE
from harness.log.synth.every_rule.cluster import Cluster


def hints_change(cluster: Cluster) -> None:
    """Hints are added, removed and changed; the node itself is moved to another zone, twice."""
    pods = cluster.slices["zones-partial", "a"].pods
    cluster.wait()
    for pod in pods[1:]:
        pod.zones = ("zone-2",)
    cluster.write("zones-partial")
    cluster.wait()
    cluster.slices["zones", "a"].pods[0].zones = ()
    cluster.write("zones")
    cluster.wait()
    cluster.slices["nodes", "a"].pods[0].nodes = ("b",)
    cluster.write("nodes")
    cluster.wait()
    cluster.slices["nodes", "a"].pods[0].nodes = ("a",)
    cluster.write("nodes")
    for zone in ("zone-3", "zone-2"):
        cluster.wait()
        cluster.edit_object("nodes", "node-a", ("metadata", "labels", ZONE), zone)
    cluster.wait()
    pods[0].zones = ()
    cluster.write("zones-partial")
    cluster.slices["zones", "a"].pods[0].zones = ("zone-1",)
    cluster.write("zones")


def nodes_report(cluster: Cluster) -> None:
    """The most frequent Node events, heartbeats, which require nothing of a proxy; and a deleted node.

    Then this node changes its addresses, is deleted, and is created again in another zone.
    """
    for letter, minute in (("a", 5), ("b", 5), ("a", 10)):
        beat = [{"type": "Ready", "status": "True", "lastHeartbeatTime": f"2026-01-01T00:{minute:02}:00Z"}]
        cluster.wait()
        cluster.edit_object("nodes", f"node-{letter}", ("status", "conditions"), beat)
    cluster.wait()
    cluster.delete("nodes", "node-d")
    listed = cluster.manifest("nodes", "node-a")["status"]["addresses"]
    cluster.wait()
    cluster.edit_object("nodes", "node-a", ("status", "addresses"), [*listed[2:4], *listed[:2], *listed[4:]])
    cluster.wait()
    made = cluster.manifest("nodes", "node-a")
    cluster.delete("nodes", "node-a")
    cluster.wait()
    labels = made["metadata"]["labels"] | {ZONE: "zone-1"}
    cluster.create("nodes", "node-a", {key: made[key] for key in ("spec", "status")}, labels)
