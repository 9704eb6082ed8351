"""From options to a proxy that runs: what happens at the start, in which order, and how it ends.

oom score ─ API ─ node's addresses ─ sysctls ─ preflight ─ (init-only ends here) ─ other modes' leftovers
  ─ HTTP ─ followers ─ loop until SIGTERM, which leaves the rules in place (CLN-05)
"""

from __future__ import annotations

import gc
import signal
import threading
import time

from engine.addresses import contains, format_address
from engine.config import ProxyConfig
from engine.manifest import decode_node
from engine.pacing import Pacer
from engine.proxier import Proxier
from engine.server.api import Api, ApiError, load_configuration
from engine.server.cleanup import CleanupError, clean_all, clean_others
from engine.server.events import Recorder
from engine.server.health import Health
from engine.server.host import LocalAddresses
from engine.server.kernels import Opened, PreflightError, families, open_kernel
from engine.server.listening import HEALTHZ, METRICS, ListenError
from engine.server.logs import get_log
from engine.server.loop import Loop
from engine.server.metrics import Metrics
from engine.server.node import NodeError, node_ips, wait_for_pod_cidr
from engine.server.options import Options
from engine.server.pages import health_pages, operator_pages
from engine.server.reporting import Reporter
from engine.server.service_health import ServiceHealth
from engine.server.settings import Periods, periods, pod_networks, to_proxy_config
from engine.server.system import SetupError, set_conntrack, set_oom_score
from engine.server.watchfile import WatchedFile
from engine.server.watching import Follower, followed

CONFIG_FILE_SECONDS = 1.0

_log = get_log(__name__)


class ConfigurationChanged(RuntimeError):
    """What the process was started with is no longer what it should run on: a supervisor starts it anew."""


KNOWN = (ApiError, CleanupError, ConfigurationChanged, ListenError, NodeError, PreflightError, SetupError)


def run(options: Options) -> int:
    """Run until the end; the process's exit code."""
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
    gc.disable()  # what is loaded at the start stays anyway; the loop turns it on again
    configuration = options.configuration
    set_oom_score(configuration.oom_score_adj)
    api = Api(load_configuration(configuration.client_connection.kubeconfig, options.master))
    recorder = Recorder(api, options.hostname)
    node, ips = node_ips(api, options.hostname, configuration.bind_address)
    set_conntrack(configuration.conntrack, recorder)
    if configuration.detect_local_mode == "NodeCIDR":
        node = wait_for_pod_cidr(api, options.hostname)
    _log.info(f"Using {configuration.mode} proxy", node=options.hostname, address=format_address(ips.primary))
    able = families(configuration.mode, ips.family)
    if len(able) == 1:
        _log.info("Kube-proxy running in single-stack mode", ipFamily=f"IPv{able[0]}")
    opened = open_kernel(configuration.mode)
    if options.init_only:
        _log.info("System initialized and --init-only specified")
        return
    clean_others(configuration.mode)
    config = to_proxy_config(options, node, ips)
    Daemon(options, api, recorder, config, able, opened).run()


class Daemon:
    """Everything that runs at once, wired together; `run` returns when a signal says so."""

    def __init__(
        self,
        options: Options,
        api: Api,
        recorder: Recorder,
        config: ProxyConfig,
        able: tuple[int, ...],
        opened: Opened,
    ) -> None:
        self._options = options
        self._configuration = options.configuration
        self._api, self._recorder, self._config, self._opened = api, recorder, config, opened
        mode, timing = self._configuration.mode, periods(self._configuration)
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._addresses = LocalAddresses(lambda: self._loop.resync())
        self._proxier = Proxier(mode, config, opened.kernel, time.monotonic, options.hostname, able, self._addresses)
        self._health = Health(time.time, timing.sync_seconds, able)
        self._metrics = Metrics(mode, able)
        api.observe = self._metrics.requested
        self._service_health = ServiceHealth(
            options.hostname, health_check_addresses(config, self._addresses()), recorder, self._health.healthy
        )
        reporter = Reporter(
            self._proxier,
            self._health,
            self._metrics,
            self._service_health,
            mode,
            self._on_node,
            time.time(),
        )
        pacer = Pacer(timing.min_sync_seconds, timing.sync_seconds)
        self._loop = Loop(self._proxier, pacer, time.monotonic, reporter)
        self._add_chores(timing)

    def run(self) -> None:
        """Serve, follow, sync.  Raises what made it end, if that was no signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.stop())
        self._listen()
        self._recorder.node_event("Normal", "Starting", "StartKubeProxy", "")
        self._addresses.start()
        for resource in followed(self._options.hostname):
            follower = Follower(self._api, resource, self._loop.deliver, self._stop)
            threading.Thread(target=follower.run, name=resource.name, daemon=True).start()
        self._loop.run()
        self._stop.set()
        if self._failure:
            raise self._failure
        _log.info("Ending; the rules stay in place")

    def _listen(self) -> None:
        configuration = self._configuration
        fail = self._fail if configuration.bind_address_hard_fail else None
        health = health_pages(self._health, self._metrics, time.time)
        operator = operator_pages(configuration.mode, configuration, self._metrics)
        HEALTHZ.start(configuration.healthz_bind_address, health, self._recorder, self._stop, fail)
        METRICS.start(configuration.metrics_bind_address, operator, self._recorder, self._stop, fail)

    def _add_chores(self, timing: Periods) -> None:
        if self._opened.intact:
            self._loop.every(timing.sync_seconds, self._check_rules)
        else:
            # A mode that cannot tell writes everything anew each time (SYNC-02, INV-07).
            self._loop.every(timing.sync_seconds, lambda: self._loop.resync(full=True))
        for seconds, work in self._opened.chores:
            self._loop.every(seconds, work)
        if self._options.config_file:
            file = WatchedFile(self._options.config_file)
            self._loop.every(CONFIG_FILE_SECONDS, lambda: self._check_file(file))

    def _check_rules(self) -> None:
        """The canary: rules that someone else took away are written anew (SYNC-05, INV-07)."""
        lost = [family for family in self._proxier.programmed if not self._opened.intact(family)]
        if lost:
            _log.warning("Rules are gone, writing them anew", families=lost)
            for family in lost:
                self._proxier.resync(family)
            self._loop.resync()

    def _check_file(self, file: WatchedFile) -> None:
        if file.changed():
            self._fail(ConfigurationChanged("content of the proxy server's configuration file was updated"))

    def _on_node(self, manifest: bytes) -> None:
        """Pod CIDRs that change need a process that starts with them (DET-02)."""
        if self._configuration.detect_local_mode == "NodeCIDR":
            if pod_networks(self._configuration, decode_node(manifest)) != self._config.pod_networks:
                self._fail(ConfigurationChanged("the node's podCIDRs have changed"))

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._loop.stop()


def health_check_addresses(config: ProxyConfig, local) -> tuple[str, ...]:
    """Where health check node ports listen: all addresses, or those that nodePortAddresses picks (HC-01)."""
    networks = [n for family in (4, 6) for n in config.node_port_networks(family) or ()]
    texts = config.node_port_addresses
    if not texts or any(text.endswith("/0") for text in texts):
        return ("",)
    if not networks:
        return tuple(format_address(address) for address in config.node_addresses)
    return tuple(format_address(a) for a in local if any(len(a) == len(n.address) and contains(n, a) for n in networks))
