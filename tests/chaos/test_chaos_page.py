"""docs/chaos.md matches the code: its tables equal the catalogue's, its experiments can be run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from msgspec import convert

from chaos.catalogue import catalogue
from chaos.experiment import read_experiment
from chaos.model import PlanError
from chaos.objectives import FaultObjectives, Objectives
from chaos.plan import RequestedFault, make_plan
from chaos.targets.kube.guard import complaints
from chaos.targets.kube.scene import NodeView, Scene, pod_view
from chaos.targets.kube.settings import Exec, KubeOptions, KubeSettings
from harness.cli import main
from tests.chaos.kube_experiment import command as cluster_command
from tests.chaos.kube_experiment import harness
from tests.chaos.stand import GATE, NAMESPACE, NODES, SERVICE, pod_manifest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "chaos.md").read_text()
NEEDS = {
    "yes": {},
    "`kill`": {"exec": {"kill": ["k"]}},
    "`stop`, `continue`": {"exec": {"stop": ["s"], "continue": ["c"]}},
    "gate, or `unready`, `ready`": {"readiness_gate": GATE},
    "`hang`, `ready`": {"exec": {"hang": ["h"], "ready": ["r"]}},
    "`kill`, and gate or `unready`, `ready`": {"exec": {"kill": ["k"]}, "readiness_gate": GATE},
}
"""What a fault may need from the `kube:` section, least first."""


def on_a_cluster(name: str) -> str:
    """What the fault needs from the `kube:` section; "no" if it is not supported."""
    nodes = tuple(NodeView(node, "", True, True, False) for node in NODES)
    pods = tuple(pod_view(pod_manifest(f"web-{n}", NODES[n % 3])) for n in range(9))
    scene = Scene("s", "c", NAMESPACE, SERVICE, {}, {}, pods, (), nodes, "web", 9)
    options = KubeOptions(namespaces=(NAMESPACE,), max_pods_percent=100)
    try:
        plan = make_plan([RequestedFault(name, 9, {})], scene.cluster, 1)
    except PlanError:
        return "no"
    found = (words for words, raw in NEEDS.items() if not complaints(plan, scene, convert(raw, KubeSettings), options))
    return next(found, "no")


def table() -> list[str]:
    """The page's table of faults."""
    rows = []
    for fault in catalogue().faults:
        given = fault.parameters.items()
        words = ", ".join(f"`{name}`" + ("" if value is None else f" {value}") for name, value in given)
        rows.append(f"| `{fault.name}` | {fault.summary} | {words} | {on_a_cluster(fault.name)} |")
    return rows


def test_the_faults_are_the_catalogue_s():
    assert [line for line in PAGE.splitlines() if re.match(r"\| `[\w-]+` \|.*\|.*\|.*\|$", line)] == table()


def test_every_built_in_experiment_is_documented():
    assert [e.name for e in catalogue().experiments if f"`{e.name}`" not in PAGE] == []


@pytest.mark.parametrize("kind", [Objectives, FaultObjectives, KubeSettings, Exec], ids=lambda kind: kind.__name__)
def test_every_field_of_an_experiment_is_documented(kind):
    words = [field.encode_name for field in msgspec.structs.fields(kind)]
    assert [word for word in words if not re.search(rf"\b{word}\b", PAGE)] == []


BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_its_experiments_can_be_run(number, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(BLOCKS[number])
    done = CliRunner().invoke(main, ["chaos", "validate", str(path)])
    assert done.exit_code == 0, done.output


def test_its_experiment_for_a_cluster_is_a_dry_run_there(cluster):
    raw = yaml.safe_load(BLOCKS[-1])
    assert read_experiment(raw).kube.namespace == NAMESPACE
    done = harness(cluster_command(cluster, "run", raw))
    assert done.returncode == 0, done.stderr
    assert "DRY RUN: nothing was changed" in done.stdout


def test_every_option_of_run_and_heal_is_explained():
    for name in ("run", "heal", "plan"):
        page = CliRunner().invoke(main, ["chaos", name, "--help"]).output
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", page)) - {"--help", "--quiet", "--verbose"}
        assert [option for option in sorted(options) if option not in PAGE] == []
