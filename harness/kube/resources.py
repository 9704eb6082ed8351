"""The API's resources: the only table of their groups, versions, kinds, names and paths."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

Manifest = dict[str, Any]
"""An object of the API, or a part of one, as decoded JSON."""


class Kind(NamedTuple):
    """One resource of one group and version, with its discovery information.

    `fields` are the field selectors beside metadata.name and metadata.namespace; `status`: status is a subresource
    of its own; `recorded`: recordings contain it; `atomic` are lists that a strategic merge patch replaces whole,
    although lists of that name merge in other resources.
    """

    resource: str
    kind: str
    group: str
    version: str
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = False
    recorded: bool = False
    atomic: frozenset[str] = frozenset()

    @property
    def api_version(self) -> str:
        """`v1`, or `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def model(self) -> str:
        """The type of its objects in fields.json."""
        return (
            {"": "Core", "events.k8s.io": "Events"}[self.group] + "V1Event"
            if self.kind == "Event"
            else f"V1{self.kind}"
        )

    @property
    def qualified(self) -> str:
        """`services`, or `endpointslices.discovery.k8s.io`, as messages name it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def root(self) -> str:
        """The path under which it is served, `/api/v1` or `/apis/group/version`."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def head(self) -> dict[str, str]:
        """The first fields of every manifest of this kind."""
        return {"apiVersion": self.api_version, "kind": self.kind}

    def path(self, namespace: str = "", name: str = "") -> str:
        """The path of a list (of one namespace or all), or of one object."""
        inside = f"/namespaces/{quote(namespace)}" if namespace else ""
        return f"{self.root}{inside}/{self.resource}" + (f"/{quote(name)}" if name else "")


_EVENT_FIELDS = tuple(
    f"involvedObject.{name}"
    for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
) + ("reason", "reportingComponent", "source", "type")
_NEW_EVENT_FIELDS = tuple(name.replace("involvedObject", "regarding") for name in _EVENT_FIELDS)
_POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
)  # fmt: skip

SERVICE_NAME = "kubernetes.io/service-name"
"""The label by which an EndpointSlice names its Service (KEP-752)."""

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
"""Labels of a Node."""

SERVICES = Kind(
    "services", "Service", "", "v1", "service", ("svc",), ("all",), ("spec.clusterIP", "spec.type"),
    status=True, recorded=True,
)  # fmt: skip
ENDPOINT_SLICES = Kind(
    "endpointslices", "EndpointSlice", "discovery.k8s.io", "v1", "endpointslice",
    recorded=True, atomic=frozenset({"endpoints", "ports", "addresses"}),
)  # fmt: skip
NODES = Kind(
    "nodes", "Node", "", "v1", "node", ("no",), (), ("spec.unschedulable",),
    namespaced=False, status=True, recorded=True,
)  # fmt: skip
PODS = Kind("pods", "Pod", "", "v1", "pod", ("po",), ("all",), _POD_FIELDS, status=True, recorded=True)
NAMESPACES = Kind(
    "namespaces", "Namespace", "", "v1", "namespace", ("ns",), (), ("status.phase",), namespaced=False, status=True
)
EVENTS = Kind("events", "Event", "", "v1", "event", ("ev",), (), _EVENT_FIELDS)
NEW_EVENTS = Kind("events", "Event", "events.k8s.io", "v1", "event", ("ev",), (), _NEW_EVENT_FIELDS)
SERVICE_CIDRS = Kind(
    "servicecidrs", "ServiceCIDR", "networking.k8s.io", "v1", "servicecidr", namespaced=False, status=True
)
LEASES = Kind("leases", "Lease", "coordination.k8s.io", "v1", "lease")

DEPLOYMENTS = Kind("deployments", "Deployment", "apps", "v1", "deployment", ("deploy",), ("all",), status=True)

# Kinds that clients read in passing (kubectl drain, get all); only clients' own writes fill them.
EXTRAS = (
    Kind("daemonsets", "DaemonSet", "apps", "v1", "daemonset", ("ds",), ("all",), status=True),
    DEPLOYMENTS,
    Kind("replicasets", "ReplicaSet", "apps", "v1", "replicaset", ("rs",), ("all",), status=True),
    Kind(
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "policy",
        "v1",
        "poddisruptionbudget",
        ("pdb",),
        status=True,
    ),
)

KINDS = (SERVICES, ENDPOINT_SLICES, NODES, PODS, NAMESPACES, EVENTS, NEW_EVENTS, SERVICE_CIDRS, LEASES, *EXTRAS)
BY_PATH = {(kind.root, kind.resource): kind for kind in KINDS}
BY_NAME = {kind.qualified: kind for kind in KINDS} | {kind.resource: kind for kind in reversed(KINDS)}
"""By `endpointslices` or `endpointslices.discovery.k8s.io`; of two with one name the core group's wins."""

RECORDED = tuple(kind for kind in KINDS if kind.recorded)
PROXIED = tuple(kind.resource for kind in (NODES, SERVICES, ENDPOINT_SLICES))
"""The resources that a proxy watches, in the order of initial lists."""


def kind_of(resource: str | Kind) -> Kind:
    """The Kind for a resource's name; KeyError with a message if it is not served."""
    if isinstance(resource, Kind):
        return resource
    try:
        return BY_NAME[resource]
    except KeyError:
        raise KeyError(f"no resource {resource!r}; one of {', '.join(k.qualified for k in KINDS)} is needed") from None
