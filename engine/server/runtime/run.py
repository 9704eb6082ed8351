"""From options to a running proxy: the steps at start, their order, and the end of the process.

oom score ─ API ─ node's addresses ─ sysctls ─ preflight ─ (init-only ends here) ─ other modes' leftovers
  ─ HTTP ─ followers ─ loop until SIGTERM, which leaves the rules in place (CLN-05)
"""

from __future__ import annotations

import gc
import signal
import sys

from engine.addresses import format_address, format_network
from engine.model import Node
from engine.modes import MODES
from engine.server.api.client import ApiClient, ApiError, load_configuration
from engine.server.api.events import EventSender
from engine.server.api.node import NodeError, node_ips, wait_for_pod_cidr
from engine.server.api.throttle import Throttle
from engine.server.config.configuration import ConfigurationError
from engine.server.config.options import EngineOptions
from engine.server.config.sanity import INCOMPLETE, sanity
from engine.server.config.settings import to_proxy_config
from engine.server.http.listening import ListenError
from engine.server.runtime.cleanup import CleanupError, clean_all, clean_others
from engine.server.runtime.daemon import ConfigurationChanged, Daemon, ThreadEnded
from engine.server.runtime.host import read_sysctl
from engine.server.runtime.kernels import PreflightError, families, open_kernel
from engine.server.runtime.logs import get_log
from engine.server.runtime.milestones import Milestones
from engine.server.runtime.system import SetupError, set_conntrack, set_oom_score

_log = get_log(__name__)


EVENTS_SECONDS = 2.0
"""How long Events may take to be sent before a failed process ends."""
KNOWN = (
    ApiError,
    CleanupError,
    ConfigurationChanged,
    ConfigurationError,
    ListenError,
    NodeError,
    PreflightError,
    SetupError,
    ThreadEnded,
)


def run(options: EngineOptions) -> int:
    """Run until the end; the process's exit code."""
    # Process 1 of a container receives only signals that it handles, and may wait long for its Node.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        if options.cleanup:
            clean_all(options.version)
        else:
            _proxy(options)
    except KNOWN as error:
        _log.error(error, "Command failed")
        return 1
    return 0


def _proxy(options: EngineOptions) -> None:
    milestones = Milestones()
    milestones.mark("imports")
    gc.disable()  # objects loaded at start are long-lived; the loop enables it again
    configuration = options.configuration
    set_oom_score(configuration.oom_score_adj)
    client = configuration.client_connection
    api = ApiClient(load_configuration(client.kubeconfig, options.master), Throttle(client.qps, client.burst))
    recorder = EventSender(api, options.hostname, options.version)
    try:
        _serve(options, api, recorder, milestones)
    except KNOWN:
        recorder.flush(EVENTS_SECONDS)  # one of them may say why
        raise


def _serve(options: EngineOptions, api: ApiClient, recorder: EventSender, milestones: Milestones) -> None:
    configuration = options.configuration
    seen, ips = node_ips(api, options.hostname, configuration.bind_address, options.version)
    set_conntrack(configuration.conntrack, recorder, options.version)
    if configuration.detect_local_mode == "NodeCIDR":
        seen = wait_for_pod_cidr(api, options.hostname, options.version)
    _log.info(f"Using {configuration.mode} proxy", node=options.hostname, address=format_address(ips.primary))
    able = families(configuration.mode, ips.family, options.version)
    if len(able) == 1:
        _log.info("Kube-proxy running in single-stack mode", ipFamily=f"IPv{able[0]}")
    _check_families(options, ips.family, len(able) == 2, seen and seen.node)
    opened = open_kernel(configuration.mode, able)
    if options.init_only:
        _log.info("System initialized and --init-only specified")
        return
    clean_others(configuration.mode, options.version)
    liberal = read_sysctl("net/netfilter/nf_conntrack_tcp_be_liberal") not in (None, "0")
    if liberal and MODES[configuration.mode].drops_invalid:
        _log.info("nf_conntrack_tcp_be_liberal set, not installing DROP rules for INVALID packets")
    config = to_proxy_config(options, seen and seen.node, ips, kernel_be_liberal=liberal)
    milestones.mark("preparation")
    Daemon(options, api, recorder, config, able, opened, milestones).run(seen and seen.manifest)


def _check_families(options: EngineOptions, family: int, dual_stack: bool, node: Node | None) -> None:
    """Report lists of the wrong family; some are fatal (CFG-09, CFG-10)."""
    by_node = node if options.configuration.detect_local_mode == "NodeCIDR" else None
    cidrs = [format_network(network) for network in by_node.pod_networks] if by_node else []
    for problem in sanity(options.configuration, family, dual_stack, cidrs, options.version):
        _log.error(problem, INCOMPLETE)
