"""Settings of a run on a cluster, from the experiment (`kube:` section) and the command line.  Pure."""

from __future__ import annotations

import msgspec

NO_COMMAND: tuple[str, ...] = ()


class Exec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"resume": "continue"}):
    """Commands that are run in the pod's container, as argument lists.

    `kill` ends the process, `stop` and `continue` send SIGSTOP and SIGCONT; `unready` makes the readiness probe fail,
    `hang` makes it time out, `ready` undoes either.  The kernel drops SIGKILL and SIGSTOP sent from within a container
    to its process 1, so the process must have another PID (an init in the image, or the pod's shareProcessNamespace).
    """

    kill: tuple[str, ...] = NO_COMMAND
    stop: tuple[str, ...] = NO_COMMAND
    resume: tuple[str, ...] = NO_COMMAND
    unready: tuple[str, ...] = NO_COMMAND
    hang: tuple[str, ...] = NO_COMMAND
    ready: tuple[str, ...] = NO_COMMAND


class KubeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The target of an experiment: the Service `namespace`/`service` and its pods, and how requests are sent to it.

    `ports` maps `http`, `tcp` and `udp` of the flows to names of the Service's ports; `flows` are names of
    `loadtests.flows` (NodePorts by default, the cluster IP where there are none), sent from where the harness runs.
    With `named_answers` pods answer as the lab's do, with their own name.  Readiness fails by `readiness_gate` (the
    type of a condition that the pods' readinessGates name), or by the commands of `exec` in `container`.
    """

    namespace: str = ""
    service: str = ""
    ports: dict[str, str] = {}
    flows: tuple[str, ...] = ()
    http_path: str = "/"
    named_answers: bool = False
    node_address: str = "InternalIP"
    container: str = ""
    exec: Exec = Exec()
    readiness_gate: str = ""
    evict_seconds: float = 30.0


class KubeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Access to the cluster and the limits of a run; if `really` is False, nothing is changed."""

    kubeconfig: str | None = None
    context: str | None = None
    in_cluster: bool = False
    namespaces: tuple[str, ...] = ()
    service: str | None = None
    max_pods_percent: float = 30.0
    max_nodes: int = 1
    really: bool = False


def settled_settings(settings: KubeSettings, options: KubeOptions) -> KubeSettings:
    """The settings with the command line's Service, and its namespace if it names exactly one."""
    namespace = settings.namespace or (options.namespaces[0] if len(options.namespaces) == 1 else "")
    return msgspec.structs.replace(settings, namespace=namespace, service=options.service or settings.service)
