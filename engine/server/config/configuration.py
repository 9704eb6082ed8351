"""kube-proxy's `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) as frozen values.

Field names are those of the file in snake case; the defaults are those of an empty file (CFG-01 to CFG-04).
`decode` reads a file, `validation` checks the values, and `settings` derives the engine's configuration.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from engine.modes import MODES
from engine.server.config.duration import Duration
from engine.server.config.quantity import Quantity

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"
HEALTHZ_PORT = 10256
METRICS_PORT = 10249

Int32 = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
Uint32 = Annotated[int, Meta(ge=0, lt=2**32)]

_SPELLINGS = {"cluster_cidr": "clusterCIDR", "exclude_cidrs": "excludeCIDRs", "strict_arp": "strictARP"}
_SPELLINGS |= {"enable_dsr": "enableDSR"}


def file_name(attribute: str) -> str:
    """A field's name in the file: camelCase, with Kubernetes' capitalization."""
    first, *rest = attribute.split("_")
    return _SPELLINGS.get(attribute, first + "".join(word.title() for word in rest))


class ClientConnection(Struct, frozen=True, rename=file_name):
    """Access to the API server; `qps` and `burst` limit the request rate, in requests per second and requests."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = "application/vnd.kubernetes.protobuf"
    qps: float = 5.0
    burst: Int32 = 10


class OutputRouting(Struct, frozen=True, rename=file_name):
    """Whether info lines go to stdout and errors to stderr, and the size of the buffer for the former."""

    split_stream: bool = False
    info_buffer_size: Quantity = Quantity(0)


class LogOptions(Struct, frozen=True, rename=file_name):
    """Options of each format."""

    text: OutputRouting = OutputRouting()
    json: OutputRouting = OutputRouting()


class VModule(Struct, frozen=True, rename=file_name):
    """The verbosity of source files that match a pattern."""

    file_pattern: str = ""
    verbosity: Uint32 = 0


class Logging(Struct, frozen=True, rename=file_name):
    """Log format (text, json), flush period and verbosity."""

    format: str = "text"
    flush_frequency: Duration = Duration.of(5)
    verbosity: Uint32 = 0
    vmodule: tuple[VModule, ...] = ()
    options: LogOptions = LogOptions()


class IPTables(Struct, frozen=True, rename=file_name):
    """Mode iptables; its masquerade fields also apply to ipvs."""

    masquerade_bit: Int32 = 14
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period: Duration = Duration.of(30)
    min_sync_period: Duration = Duration.of(1)


class IPVS(Struct, frozen=True, rename=file_name):
    """Mode ipvs; timeouts of 0 keep those of the kernel."""

    sync_period: Duration = Duration.of(30)
    min_sync_period: Duration = Duration(0)
    scheduler: str = ""
    exclude_cidrs: tuple[str, ...] = ()
    strict_arp: bool = False
    tcp_timeout: Duration = Duration(0)
    tcp_fin_timeout: Duration = Duration(0)
    udp_timeout: Duration = Duration(0)


class NFTables(Struct, frozen=True, rename=file_name):
    """Mode nftables."""

    masquerade_bit: Int32 = 14
    masquerade_all: bool = False
    sync_period: Duration = Duration.of(30)
    min_sync_period: Duration = Duration.of(1)


class Winkernel(Struct, frozen=True, rename=file_name):
    """Mode kernelspace of Windows: accepted without effect."""

    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = False
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class DetectLocal(Struct, frozen=True, rename=file_name):
    """Detection of local traffic in modes BridgeInterface and InterfaceNamePrefix (DET-03)."""

    bridge_interface: str = ""
    interface_name_prefix: str = ""


class Conntrack(Struct, frozen=True, rename=file_name):
    """Sysctls of connection tracking; 0 keeps the kernel's value."""

    max_per_core: Int32 = 32 * 1024
    min: Int32 = 128 * 1024
    tcp_established_timeout: Duration = Duration.of(24 * 3600)
    tcp_close_wait_timeout: Duration = Duration.of(3600)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = Duration(0)
    udp_stream_timeout: Duration = Duration(0)


class KubeProxyConfiguration(Struct, frozen=True, rename=file_name):
    """The whole file.  `mode` "" means iptables (MODE-01); `port_range` has no effect."""

    feature_gates: dict[str, bool] = field(default_factory=dict)
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"
    healthz_bind_address: str = f"0.0.0.0:{HEALTHZ_PORT}"
    metrics_bind_address: str = f"127.0.0.1:{METRICS_PORT}"
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    nftables: NFTables = NFTables()
    winkernel: Winkernel = Winkernel()
    detect_local_mode: str = ""
    detect_local: DetectLocal = DetectLocal()
    cluster_cidr: str = ""
    node_port_addresses: tuple[str, ...] = ()
    oom_score_adj: Int32 = -999
    conntrack: Conntrack = Conntrack()
    config_sync_period: Duration = Duration.of(15 * 60)
    port_range: str = ""
    windows_run_as_service: bool = False


class ConfigurationError(Exception):
    """An unusable configuration; the message is shown to the user."""


replace = msgspec.structs.replace


BLOCKS = ("iptables", "ipvs", "nftables")
"""The blocks of modes, by the modes' names."""
DEFAULT_BLOCK = "iptables"


def effective_block(mode: str) -> str:
    """The block that has a mode's sync periods."""
    return mode if mode in BLOCKS else DEFAULT_BLOCK


def masquerade_block(mode: str) -> str:
    """The block that has a mode's masqueradeAll and masqueradeBit."""
    return mode if mode in MODES and MODES[mode].own_masquerade else DEFAULT_BLOCK
