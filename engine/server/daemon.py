"""Everything of the daemon that runs at once, wired together.

followers, address monitor, signals ─► loop ─► reporter ─► health, metrics, service health ─► HTTP
"""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from functools import partial

import urllib3

from engine.addresses import contains, format_address
from engine.config import ProxyConfig
from engine.manifest import decode_node
from engine.model import Address
from engine.pacing import Pacer
from engine.proxier import Proxier
from engine.server.api import Api
from engine.server.events import Recorder
from engine.server.health import Health
from engine.server.host import LocalAddresses
from engine.server.kernels import Opened, open_conntrack
from engine.server.listening import HEALTHZ, METRICS
from engine.server.logs import get_log
from engine.server.loop import Loop
from engine.server.metrics import Metrics
from engine.server.milestones import Milestones
from engine.server.options import Options
from engine.server.pages import health_pages, operator_pages
from engine.server.reporting import Reporter
from engine.server.service_cidrs import ServiceNetworks
from engine.server.service_health import ServiceHealth
from engine.server.settings import Periods, periods, pod_networks
from engine.server.watchfile import WatchedFile
from engine.server.watching import ENDPOINTSLICES, SERVICECIDRS, SERVICES, Change, Follower, Resource, own_node

CONFIG_FILE_SECONDS = 1.0
IPVS_DEPRECATED = (
    "The ipvs proxier is now deprecated and may be removed in a future release. Please use 'nftables' instead."
)

_log = get_log(__name__)


class ConfigurationChanged(RuntimeError):
    """What the process was started with is no longer what it should run on: a supervisor starts it anew."""


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
        milestones: Milestones,
    ) -> None:
        self._options = options
        self._configuration = options.configuration
        self._api, self._recorder, self._config, self._opened = api, recorder, config, opened
        mode, timing = self._configuration.mode, periods(self._configuration)
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._addresses = LocalAddresses(lambda: self._loop.resync())
        self._proxier = Proxier(
            mode,
            config,
            opened.kernel,
            time.monotonic,
            options.hostname,
            open_conntrack(),
            able,
            self._addresses,
        )
        self._health = Health(time.time, timing.sync_seconds, able)
        self._metrics = Metrics(mode, able, urllib3.util.parse_url(api.host).netloc or "")
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
            milestones,
        )
        pacer = Pacer(timing.min_sync_seconds, timing.sync_seconds)
        # Rules that depend on the Service networks would else be written twice at the start.
        self._by_networks = mode == "nftables" and config.gate("MultiCIDRServiceAllocator")
        needed = ("services", "endpointslices", *(("servicecidrs",) if self._by_networks else ()))
        self._loop = Loop(self._proxier, pacer, time.monotonic, reporter, needed)
        self._networks = ServiceNetworks()
        self._add_chores(timing)

    def run(self, node: bytes | None) -> None:
        """Serve, follow, sync, the own Node being known already.  Raises what made it end, if that was no signal."""
        if node:
            self._loop.deliver("nodes", [Change("ADDED", node)], False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.stop())
        self._listen()
        self._recorder.node_event("Normal", "Starting", "StartKubeProxy", "")
        if self._configuration.mode == "ipvs" and self._options.version >= (1, 35):
            self._recorder.node_event("Warning", "IPVSDeprecation", "Deprecated", IPVS_DEPRECATED)
        self._addresses.start()
        followed = [SERVICES, ENDPOINTSLICES, own_node(self._options.hostname)]
        for resource in [*followed, SERVICECIDRS] if self._by_networks else followed:
            threading.Thread(target=self._follow, args=(resource,), name=resource.name, daemon=True).start()
        self._loop.run()
        self._stop.set()
        if self._failure:
            raise self._failure
        _log.info("Ending; the rules stay in place")

    def _follow(self, resource: Resource) -> None:
        """A thread's body: one that broke must not leave a node that silently stays as it is."""
        try:
            Follower(self._api, resource, self._deliver, self._stop).run()
        except Exception as error:
            self._fail(error)

    def _deliver(self, resource: str, changes: list[Change], synced: bool) -> None:
        if resource == SERVICECIDRS.name and changes:
            self._loop.put(partial(self._on_service_cidrs, changes))
            changes = []
        self._loop.deliver(resource, changes, synced)

    def _on_service_cidrs(self, changes: list[Change]) -> None:
        for change in changes:
            try:
                self._networks.observe(change)
            except ValueError as error:
                _log.error(error, "Ignored a ServiceCIDR that makes no sense")
        networks = self._networks.all
        if networks != self._proxier.config.service_networks:
            self._proxier.reconfigure(dataclasses.replace(self._proxier.config, service_networks=networks))
            self._loop.resync()

    def _listen(self) -> None:
        configuration = self._configuration
        fail = self._fail if configuration.bind_address_hard_fail else None
        health = health_pages(self._health, self._metrics, time.time)
        operator = operator_pages(configuration.mode, configuration, self._metrics)
        HEALTHZ.start(configuration.healthz_bind_address, health, self._recorder, self._stop, fail)
        METRICS.start(configuration.metrics_bind_address, operator, self._recorder, self._stop, fail)

    def _add_chores(self, timing: Periods) -> None:
        self._loop.every(timing.sync_seconds, self._check_rules)
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


def health_check_addresses(config: ProxyConfig, local: tuple[Address, ...]) -> tuple[str, ...]:
    """Where health check node ports listen: all addresses, or those that nodePortAddresses picks (HC-01)."""
    networks = [n for family in (4, 6) for n in config.node_port_networks(family) or ()]
    texts = config.node_port_addresses
    if not texts or any(text.endswith("/0") for text in texts):
        return ("",)
    if not networks:
        return tuple(format_address(address) for address in config.node_addresses if address in local)
    return tuple(format_address(a) for a in local if any(len(a) == len(n.address) and contains(n, a) for n in networks))
