"""From options to a proxy that runs: what happens at the start, in which order, and how it ends.

oom score ─ API ─ node's addresses ─ sysctls ─ preflight ─ (init-only ends here) ─ other modes' leftovers
  ─ HTTP ─ followers ─ loop until SIGTERM, which leaves the rules in place (CLN-05)
"""

from __future__ import annotations

import gc
import signal
import sys

from engine.addresses import format_address, format_network
from engine.model import Node
from engine.server.api import Api, ApiError, load_configuration
from engine.server.cleanup import CleanupError, clean_all, clean_others
from engine.server.configuration import ConfigurationError
from engine.server.daemon import ConfigurationChanged, Daemon
from engine.server.events import Recorder
from engine.server.kernels import PreflightError, families, open_kernel
from engine.server.listening import ListenError
from engine.server.logs import get_log
from engine.server.milestones import Milestones
from engine.server.node import NodeError, node_ips, wait_for_pod_cidr
from engine.server.options import Options
from engine.server.sanity import INCOMPLETE, sanity
from engine.server.settings import to_proxy_config
from engine.server.system import SetupError, set_conntrack, set_oom_score
from engine.server.throttle import Throttle

_log = get_log(__name__)


KNOWN = (
    ApiError,
    CleanupError,
    ConfigurationChanged,
    ConfigurationError,
    ListenError,
    NodeError,
    PreflightError,
    SetupError,
)


def run(options: Options) -> int:
    """Run until the end; the process's exit code."""
    # Whoever is process 1 of a container gets no signal that it does not handle, and may wait long for its Node.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        if options.cleanup:
            clean_all()
        else:
            _proxy(options)
    except KNOWN as error:
        _log.error(error, "Command failed")
        return 1
    return 0


def _proxy(options: Options) -> None:
    milestones = Milestones()
    milestones.mark("imports")
    gc.disable()  # what is loaded at the start stays anyway; the loop turns it on again
    configuration = options.configuration
    set_oom_score(configuration.oom_score_adj)
    client = configuration.client_connection
    api = Api(load_configuration(client.kubeconfig, options.master), Throttle(client.qps, client.burst))
    recorder = Recorder(api, options.hostname)
    seen, ips = node_ips(api, options.hostname, configuration.bind_address)
    set_conntrack(configuration.conntrack, recorder)
    if configuration.detect_local_mode == "NodeCIDR":
        seen = wait_for_pod_cidr(api, options.hostname)
    _log.info(f"Using {configuration.mode} proxy", node=options.hostname, address=format_address(ips.primary))
    able = families(configuration.mode, ips.family)
    if len(able) == 1:
        _log.info("Kube-proxy running in single-stack mode", ipFamily=f"IPv{able[0]}")
    _check_families(options, ips.family, len(able) == 2, seen and seen.node)
    opened = open_kernel(configuration.mode)
    if options.init_only:
        _log.info("System initialized and --init-only specified")
        return
    clean_others(configuration.mode)
    config = to_proxy_config(options, seen and seen.node, ips)
    milestones.mark("preparation")
    Daemon(options, api, recorder, config, able, opened, milestones).run(seen and seen.manifest)


def _check_families(options: Options, family: int, dual_stack: bool, node: Node | None) -> None:
    """Lists of the wrong family: told, or too wrong to start with (CFG-09, CFG-10)."""
    by_node = options.configuration.detect_local_mode == "NodeCIDR" and node
    cidrs = [format_network(network) for network in node.pod_networks] if by_node else []
    for problem in sanity(options.configuration, family, dual_stack, cidrs, options.version):
        _log.error(problem, INCOMPLETE)
