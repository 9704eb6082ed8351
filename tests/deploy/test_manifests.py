"""The manifests match Kubernetes' published schemas, each other, and this code."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from engine.server.config.command_line import parse
from engine.server.config.decode import decode
from engine.server.config.validation import validate
from harness.cli import main

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUSTOMIZATIONS = sorted(path.parent for path in DEPLOY.rglob("kustomization.yaml"))
PATCHES = [DEPLOY / "eks" / "nodes.yaml"]
MANIFESTS = sorted(
    path
    for folder in KUSTOMIZATIONS
    for path in folder.glob("*.yaml")
    if path.name != "kustomization.yaml" and path not in PATCHES
)
VERSIONS = ("1.30", "1.35", "1.37")


def objects(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def kustomization(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "kustomization.yaml").read_text())


def resources(folder: Path) -> Iterator[dict[str, Any]]:
    """All objects of a kustomization, those of its bases first."""
    for name in kustomization(folder)["resources"]:
        path = folder / name
        yield from resources(path) if path.is_dir() else objects(path)


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Every pod specification within a value."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for each in value.values():
            yield from pods(each)


def containers() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Every container by file and name, with its pod."""
    found = {}
    for path in MANIFESTS:
        for each in objects(path):
            for pod in pods(each):
                for container in pod.get("initContainers", []) + pod["containers"]:
                    found[f"{path.parent.name}/{container['name']}"] = (pod, container)
    return found


CONTAINERS = containers()
ALL = [(path.parent, each) for path in MANIFESTS for each in objects(path)]
SPACES = {each["metadata"]["name"]: each["metadata"]["labels"] for _, each in ALL if each["kind"] == "Namespace"}
CLAIMS = {c["metadata"]["name"] for _, each in ALL for c in each.get("spec", {}).get("volumeClaimTemplates", [])}
KUBEADM = Path(__file__).parent / "data" / "kubeadm"
"""kube-proxy's ConfigMap as kubeadm makes it."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_manifests_match_the_published_schema(path, version):
    assert objects(path)
    for each in objects(path):
        assert kubernetes_validate.validate(each, version, strict=True).startswith(version)


def merged(value: Any, patch: Any) -> Any:
    """A patch that only adds fields, merged as Kubernetes merges it."""
    if not isinstance(patch, dict):
        return patch
    return value | {name: merged(value.get(name, {}), each) for name, each in patch.items()}


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_patched_manifests_match_the_published_schema(path):
    assert path.name in [patch["path"] for patch in kustomization(path.parent)["patches"]]
    for patch in objects(path):
        names = (patch["kind"], patch["metadata"]["name"])
        whole = next(each for each in resources(path.parent) if (each["kind"], each["metadata"]["name"]) == names)
        kubernetes_validate.validate(merged(whole, patch), VERSIONS[-1], strict=True)


def test_the_schema_is_strict():
    broken = objects(DEPLOY / "engine" / "daemonset.yaml")[0]
    broken["spec"]["template"]["spec"]["hostNetwerk"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_every_file_is_listed_and_every_listed_file_exists(folder):
    said = kustomization(folder)
    named = {*said["resources"], *(patch["path"] for patch in said.get("patches", []))}
    for generator in said.get("configMapGenerator", []):
        named |= {*generator.get("files", []), *generator.get("envs", [])}
    assert [name for name in named if not (folder / name).exists()] == []
    there = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert there == {name for name in named if "/" not in name}


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_names_in_the_manifests_agree(folder):
    """Accounts, roles, config maps, claims: everything referred to exists in the right namespace."""
    said, all_objects = kustomization(folder), list(resources(folder))
    there = {(each["kind"], each["metadata"]["name"]) for each in all_objects}
    there |= {("ConfigMap", each["name"]) for each in said.get("configMapGenerator", [])}
    there |= {("PersistentVolumeClaim", each["metadata"]["name"]) for each in resources(DEPLOY / "history")}
    for each in all_objects:
        for pod in pods(each):
            account = pod.get("serviceAccountName")
            assert account is None or ("ServiceAccount", account) in there
            used = {("ConfigMap", v["configMap"]["name"]) for v in pod.get("volumes", []) if "configMap" in v}
            used |= {
                ("PersistentVolumeClaim", v["persistentVolumeClaim"]["claimName"])
                for v in pod.get("volumes", [])
                if "persistentVolumeClaim" in v
            }
            assert used <= there
        if each["kind"].endswith("RoleBinding") or each["kind"] == "ClusterRoleBinding":
            assert (each["roleRef"]["kind"], each["roleRef"]["name"]) in there
            for subject in each["subjects"]:
                assert (subject["kind"], subject["name"]) in there
                assert subject["namespace"] == said["namespace"]
    assert said.get("namespace", "kube-system") in {*SPACES, "kube-system"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_volumes_are_there_and_the_root_is_read_only(name):
    pod, container = CONTAINERS[name]
    volumes = {volume["name"] for volume in pod["volumes"]} | CLAIMS
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
    assert container["image"] == "kube-proxy-harness", "its tag is the kustomization's business"


def test_only_what_programs_the_node_is_root():
    rooted = set()
    for name, (pod, container) in CONTAINERS.items():
        context = pod.get("securityContext", {}) | container["securityContext"]
        if context.get("runAsUser") == 0:
            rooted.add(name)
        else:
            assert context["runAsNonRoot"] and context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
    assert rooted == {"engine/init", "engine/proxy-engine"}
    assert CONTAINERS["engine/proxy-engine"][1]["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["NET_ADMIN"],
    }
    assert not CONTAINERS["engine/proxy-engine"][1]["securityContext"]["privileged"]


@pytest.mark.parametrize("folder", ["engine", "eks"])
def test_the_engine_accepts_the_configuration(folder):
    read = decode((DEPLOY / folder / "config.conf").read_bytes())
    assert read.complaint == ""
    assert validate(read.configuration) == ()
    container = CONTAINERS["engine/proxy-engine"][1]
    assert read.configuration.healthz_bind_address.endswith(f":{container['ports'][0]['containerPort']}")


@pytest.mark.parametrize("folder", [DEPLOY / "engine", DEPLOY / "eks", KUBEADM], ids=lambda path: path.name)
def test_the_kubeconfig_that_is_named_is_mounted(folder):
    """Ours, and kubeadm's in its place; it needs no more than the pod has."""
    named = Path(decode((folder / "config.conf").read_bytes()).configuration.client_connection.kubeconfig)
    kubeconfig = yaml.safe_load((folder / named.name).read_text())
    server = kubeconfig["clusters"][0]["cluster"]["server"]
    assert server.startswith("https://") and "kubernetes.default" not in server
    token = Path(kubeconfig["users"][0]["user"]["tokenFile"])
    assert str(token.parent) == "/var/run/secrets/kubernetes.io/serviceaccount"
    for name in ("engine/init", "engine/proxy-engine"):
        assert {"name": "config", "mountPath": str(named.parent), "readOnly": True} in CONTAINERS[name][1][
            "volumeMounts"
        ]
    files = kustomization(DEPLOY / ("eks" if folder.name == "eks" else "engine"))["configMapGenerator"][0]["files"]
    assert {named.name, "config.conf"} <= set(files)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_deleting_one_manifest_keeps_the_others_and_recordings(folder):
    """`kubectl delete -k` must not delete shared namespaces or claims."""
    mine = {(each["kind"], each["metadata"]["name"]) for each in resources(folder)}
    assert "PersistentVolumeClaim" not in {kind for kind, _ in mine} or folder.name == "history"
    others = {kustomization(other).get("namespace") for other in KUSTOMIZATIONS if other != folder}
    shared = {name for kind, name in mine if kind == "Namespace"} & others
    assert not shared or folder.name in ("namespace", "history")


def restricted(pod: dict[str, Any]) -> set[str]:
    """Violations of the Pod Security Standard "restricted", for a pod that uses nothing of the host."""
    found = set()
    for container in pod.get("initContainers", []) + pod["containers"]:
        context = pod.get("securityContext", {}) | container["securityContext"]
        found |= {
            name
            for name, right in {
                "user": context.get("runAsNonRoot") is True and context.get("runAsUser") != 0,
                "seccomp": context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
                "AppArmor": context.get("appArmorProfile", {}).get("type") != "Unconfined",
                "capabilities": context.get("capabilities") == {"drop": ["ALL"]},
                "escalation": context.get("allowPrivilegeEscalation") is False and not context.get("privileged"),
                "volumes": all({"configMap", "emptyDir", "secret"} & v.keys() for v in pod.get("volumes", [])),
                "host": not pod.get("hostNetwork"),
            }.items()
            if not right
        }
    return found


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_pods_meet_their_namespaces_security_level(folder):
    space = kustomization(folder).get("namespace")
    if space not in SPACES:
        return
    for each in resources(folder):
        for pod in pods(each):
            for level in ("enforce", "warn"):
                assert not restricted(pod) or SPACES[space][f"pod-security.kubernetes.io/{level}"] == "privileged"
    assert SPACES["kube-proxy-harness"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_chaos_may_be_allowed_in_another_namespace():
    """A RoleBinding refers to a Role of its own namespace only, to a ClusterRole from any."""
    roles = {each["roleRef"]["kind"] for each in resources(DEPLOY / "chaos") if "roleRef" in each}
    assert roles == {"ClusterRole"}
    granted = {each["metadata"]["name"] for each in resources(DEPLOY / "chaos") if each["kind"] == "ClusterRole"}
    stated = (ROOT / "docs" / "chaos.md").read_text()
    assert set(re.findall(r"--clusterrole (\S+)", stated)) == granted - {"kube-proxy-harness-chaos-view"}


def test_image_tags_are_those_that_are_built():
    """Tags have the package's version, and the extra's name if the image needs it, in every place."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version, extras = project["version"], set(project["optional-dependencies"])
    built = {}
    for path in (DEPLOY / "Dockerfile", ROOT / "docs" / "deploy.md"):
        stated = re.findall(r"docker build (.*)-t \S*kube-proxy-harness:(\S+)", path.read_text())
        built[path] = {tag: re.findall(r"EXTRAS=\[(\w+)\]", options) for options, tag in stated}
        assert built[path] == {version: []} | {f"{version}-{each}": [each] for each in ("chaos", "bench", "fleet")}
        assert {"chaos", "bench", "fleet"} <= extras
    for folder in KUSTOMIZATIONS:
        used = {
            container["args"][0] for each in resources(folder) for pod in pods(each) for container in pod["containers"]
        }
        for image in kustomization(folder).get("images", []):
            extra = next((f"-{each}" for each in ("chaos", "bench", "fleet") if each in used), "")
            assert image["newTag"] == f"{version}{extra}"


def test_the_manifests_engine_flags_exist():
    for name in ("engine/init", "engine/proxy-engine"):
        container = CONTAINERS[name][1]
        assert container["command"] == ["proxy-engine"]
        values = parse(container["args"]).values
        folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config")
        assert values["config"] == f"{folder}/config.conf"
        assert values.get("init-only", False) == (name == "engine/init")


@pytest.mark.parametrize("name", [name for name, (_, each) in CONTAINERS.items() if each["command"] == ["harness"]])
def test_the_manifests_harness_arguments_are_valid(name):
    command, *rest = CONTAINERS[name][1]["args"]
    # The files named are the container's; help ends parsing before anyone looks for them, after options are known.
    known = main.get_command(click.Context(main), command)
    assert known is not None
    words = [word for word in rest if word.startswith("--")]
    if hasattr(known, "commands"):
        known = known.get_command(None, rest[0])
    options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words} <= options
    assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_the_manifests_dask_arguments_are_valid(name):
    container = CONTAINERS[f"fleet/{name}"][1]
    kind, *arguments = container["args"]
    command = importlib.import_module(f"distributed.cli.dask_{kind}").main
    taken = command.make_context(kind, list(arguments)).params
    assert (container["command"], kind, taken["dashboard"]) == (["dask"], name, False)
    services = {each["metadata"]["name"]: each for each in resources(DEPLOY / "fleet") if each["kind"] == "Service"}
    scheduler = f"tcp://fleet-scheduler:{services['fleet-scheduler']['spec']['ports'][0]['port']}"
    stated = CONTAINERS["fleet/fleet"][1]["args"]
    assert scheduler in arguments if name == "worker" else f"--scheduler={scheduler}" in stated


def test_the_image_copies_existing_files():
    text = (DEPLOY / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(set(bases)) == 1 and re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", bases[0]), "pinned, and one"
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        assert [name for name in copied.split() if not (ROOT / name).exists()] == []
    scripts = re.search(r"\[project\.scripts\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.S)[1]
    used = {container["command"][0] for _, container in CONTAINERS.values()}
    assert used <= {*re.findall(r"^([\w-]+) =", scripts, re.M), "dask"}
    assert re.search(r"^USER (?!0|root)", text, re.M)


def test_the_image_has_the_tools_that_the_engine_runs():
    """Each by its Debian package."""
    packages = {"nft": "nftables", "iptables": "iptables", "ipset": "ipset", "ipvsadm": "ipvsadm", "ip": "iproute2"}
    packages["modprobe"] = "kmod"
    source = "".join(path.read_text() for path in sorted((ROOT / "engine").rglob("*.py")))
    run = {tool.split("-")[0] for tool in re.findall(r'(?:run|_try|_tool)\(\s*\["([\w-]+)"', source)} - {"sh"}
    assert run <= packages.keys()
    installed = re.search(r"apt-get install (.*?) \\\n", (DEPLOY / "Dockerfile").read_text())[1].split()
    assert set(packages.values()) <= set(installed)


def kustomize() -> list[str] | None:
    """The command; a kubectl that prints no version of kustomize has one that knows no `labels` yet (Debian 12's)."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if not shutil.which("kubectl"):
        return None
    said = subprocess.run(["kubectl", "version", "--client", "--output=json"], capture_output=True, timeout=60).stdout
    return ["kubectl", "kustomize"] if b"kustomizeVersion" in said else None


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_kustomize_builds_them(folder):
    command = kustomize()
    if command is None:
        pytest.skip("NEITHER kustomize NOR kubectl 1.24 OR LATER: files and names alone were checked")
    done = subprocess.run([*command, folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = [each for each in yaml.safe_load_all(done.stdout) if each]
    for each in built:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    assert {each["kind"] for each in resources(folder)} <= {each["kind"] for each in built}
