"""Wires together the concurrent parts of the daemon.

followers, address monitor, signals ─► loop ─► reporter ─► health, metrics, service health ─► HTTP
"""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
import traceback
from functools import partial

import urllib3

from engine.addresses import format_address
from engine.config import ProxyConfig
from engine.kernel.interface import Intact
from engine.kernel.netlink import end_waits
from engine.manifest import decode_node
from engine.model import Address, Node
from engine.modes import MODES
from engine.pacing import Pacer
from engine.proxier import Proxier
from engine.server.api.client import ApiClient
from engine.server.api.events import EventSender
from engine.server.api.node_ips import choose_node_ips
from engine.server.api.service_cidrs import ServiceNetworks
from engine.server.api.watching import SERVICECIDRS, Follower, ObjectChange, endpointslices, own_node, services
from engine.server.config.complete import DEFAULT_MODE_WARNED_SINCE
from engine.server.config.options import EngineOptions
from engine.server.config.settings import Periods, node_addresses, periods, pod_networks
from engine.server.config.watchfile import WatchedFile
from engine.server.http.health import Health
from engine.server.http.listening import HEALTHZ, METRICS
from engine.server.http.metrics import Metrics
from engine.server.http.pages import health_pages, operator_pages
from engine.server.http.service_health import ServiceHealth
from engine.server.runtime.host import LocalAddresses
from engine.server.runtime.kernels import OpenedKernel, open_conntrack, rejected_on_loopback
from engine.server.runtime.localhost_ports import LocalhostPorts
from engine.server.runtime.logs import get_log
from engine.server.runtime.loop import Loop
from engine.server.runtime.milestones import Milestones
from engine.server.runtime.reporting import Reporter

CONFIG_FILE_SECONDS = 1.0
ENDS_WITH_NODE_SINCE = (1, 37)
IPVS_DEPRECATED = (
    "The ipvs proxier is now deprecated and may be removed in a future release. Please use 'nftables' instead."
)
IPVS_ENDS = (
    "The ipvs proxier is deprecated: Kubernetes 1.40 will switch it off by default, and 1.43 will remove it. "
    "Please use 'nftables' instead."
)
DEFAULT_MODE = (
    "No proxy mode is configured, so this is iptables; from Kubernetes 1.40 on it will be nftables. "
    "Set the mode explicitly to keep it or to change it now."
)

_log = get_log(__name__)


class ThreadEnded(RuntimeError):
    """A thread that must not end has failed: a supervisor restarts the process."""


NODE_NEEDED_SINCE = (1, 34)
"""Since this version a node is not eligible for traffic until its Node has been received (HC-09a)."""


class ConfigurationChanged(RuntimeError):
    """The configuration that the process was started with has changed: a supervisor restarts it."""


class Daemon:
    """The concurrent parts of the daemon; `run` returns after SIGTERM or SIGINT."""

    def __init__(
        self,
        options: EngineOptions,
        api: ApiClient,
        recorder: EventSender,
        config: ProxyConfig,
        able: tuple[int, ...],
        opened: OpenedKernel,
        milestones: Milestones,
    ) -> None:
        self._options = options
        self._configuration = options.configuration
        self._api, self._recorder, self._config, self._opened = api, recorder, config, opened
        mode, timing = MODES[self._configuration.mode], periods(self._configuration)
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._addresses = LocalAddresses(lambda: self._loop.resync())
        self._proxier = Proxier(
            mode.name,
            config,
            opened.kernel,
            time.monotonic,
            options.hostname,
            open_conntrack(),
            able,
            self._addresses,
        )
        self._health = Health(time.time, timing.sync_seconds, able, node_eligible=options.version < NODE_NEEDED_SINCE)
        self._metrics = Metrics(mode.name, able, urllib3.util.parse_url(api.host).netloc or "")
        if mode.loopback_by_proxy and config.localhost_rejected():
            self._metrics.add_localhost(partial(rejected_on_loopback, able, config))
        api.observe = self._answered
        self._service_health = ServiceHealth(
            options.hostname,
            lambda family: health_check_addresses(self._proxier.config, self._addresses(), family),
            recorder,
            self._health.healthy,
        )
        reporter = Reporter(
            self._proxier,
            self._health,
            self._metrics,
            self._service_health,
            mode,
            self._on_node,
            milestones,
            recorder,
            {f: LocalhostPorts(f) for f in able if mode.loopback_by_proxy and config.localhost_served(f)},
        )
        new_pacer = partial(Pacer, timing.min_sync_seconds, timing.sync_seconds)
        # Otherwise rules that depend on the Service networks would be written twice at start.
        self._by_networks = mode.follows_service_networks and config.gate("MultiCIDRServiceAllocator")
        needed = ("services", "endpointslices", *(("servicecidrs",) if self._by_networks else ()))
        self._loop = Loop(self._proxier, new_pacer, time.monotonic, reporter, needed)
        self._networks = ServiceNetworks()
        self._usable: frozenset[Address] | None = None
        self._add_chores(timing)

    def run(self, node: bytes | None) -> None:
        """Serve, follow and sync; `node` is this node's Node object, if known.  Raises the error that ended the run."""
        if node:
            self._usable = frozenset(decode_node(node).host_addresses)
            self._loop.deliver("nodes", [ObjectChange("ADDED", node)], False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        threading.excepthook = self._thread_ended
        try:
            self._start_threads()
        except RuntimeError as error:  # the interpreter's "can't start new thread"
            raise ThreadEnded(f"failed to start a thread: {error}") from None
        self._recorder.node_event("Normal", "Starting", "StartKubeProxy", "")
        self._announce()
        self._loop.run()
        self._stop.set()
        if self._failure:
            raise self._failure
        _log.info("Ending; the rules stay in place")

    def _start_threads(self) -> None:
        self._listen()
        self._addresses.start()
        version = self._options.version
        followed = [services(version), endpointslices(version), own_node(self._options.hostname)]
        for resource in [*followed, SERVICECIDRS] if self._by_networks else followed:
            follower = Follower(self._api, resource, self._deliver, self._stop)
            threading.Thread(target=follower.run, name=resource.name, daemon=True).start()

    def _announce(self) -> None:
        """Announce deprecations that affect this configuration, by log and Event (MODE-01a, IPVS-22, IPVS-22a)."""
        mode, version = MODES[self._configuration.mode], self._options.version
        if self._options.default_mode and version >= DEFAULT_MODE_WARNED_SINCE:
            _log.error(None, DEFAULT_MODE)
            self._recorder.node_event("Warning", "KubeProxyDefaultMode", "StartKubeProxy", DEFAULT_MODE)
        if mode.ends_since and version >= mode.ends_since:
            _log.warning(IPVS_ENDS)
            self._recorder.node_event("Warning", "IPVSDeprecation", "StartKubeProxy", IPVS_ENDS)
        elif mode.deprecated_since and version >= mode.deprecated_since:
            self._recorder.node_event("Warning", "IPVSDeprecation", "Deprecated", IPVS_DEPRECATED)

    def _thread_ended(self, what: threading.ExceptHookArgs) -> None:
        """A failed thread must end the process, as the node would silently stop following changes."""
        name = what.thread.name if what.thread else "unknown"
        trace = "".join(traceback.format_exception(what.exc_type, what.exc_value, what.exc_traceback))
        _log.error(what.exc_value, "Thread failed", thread=name, stacktrace=trace)
        self._fail(ThreadEnded(f"thread {name!r} failed: {what.exc_type.__name__}: {what.exc_value}"))

    def _end(self) -> None:
        """Signal handler: stops the loop and interrupts waits for the kernel."""
        self._loop.stop()
        end_waits()

    def _deliver(self, resource: str, changes: list[ObjectChange], synced: bool) -> None:
        if resource == SERVICECIDRS.name and changes:
            self._loop.put(partial(self._on_service_cidrs, changes))
            changes = []
        self._loop.deliver(resource, changes, synced)

    def _on_service_cidrs(self, changes: list[ObjectChange]) -> None:
        for change in changes:
            try:
                self._networks.observe(change)
            except ValueError as error:
                _log.error(error, "Ignored an invalid ServiceCIDR")
        networks = self._networks.all
        if networks != self._proxier.config.service_networks:
            self._proxier.reconfigure(dataclasses.replace(self._proxier.config, service_networks=networks))
            self._loop.resync()

    def _answered(self, method: str, code: str, seconds: float) -> None:
        self._metrics.requested(method, code, seconds)
        if code.isdigit():
            self._health.answered(int(code))

    def _listen(self) -> None:
        configuration = self._configuration
        fail = self._fail if configuration.bind_address_hard_fail else None
        health = health_pages(self._health, self._metrics, time.time, self._options.version)
        operator = operator_pages(self._options, self._metrics, time.time)
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
        """Check that the rules still exist, and write them again if another program removed them (SYNC-05, INV-07)."""
        found = {family: self._opened.intact(family) for family in self._proxier.programmed}
        if unknown := [family for family, intact in found.items() if intact is Intact.UNKNOWN]:
            _log.warning("Failed to check whether the rules still exist", families=unknown)
        if lost := [family for family, intact in found.items() if intact is Intact.NO]:
            _log.warning("Rules have been removed, starting a full sync", families=lost)
            self._loop.resync(full=True, families=lost)

    def _check_file(self, file: WatchedFile) -> None:
        if file.changed():
            self._fail(ConfigurationChanged("content of the proxy server's configuration file was updated"))

    def _on_node(self, change: ObjectChange) -> None:
        """Changed pod CIDRs or addresses, or a deleted Node, require a restart (DET-02, CLN-07)."""
        if change.type == "DELETED":
            self._on_node_change("this node's Node object was deleted")
            return
        node = decode_node(change.manifest)
        if self._configuration.detect_local_mode == "NodeCIDR":
            if pod_networks(self._configuration, node) != self._config.pod_networks:
                self._fail(ConfigurationChanged("the node's podCIDRs have changed"))
        usable = frozenset(node.host_addresses)
        if self._usable is None and not choose_node_ips(None, self._configuration.bind_address).unknown:
            self._usable = usable  # at start only the bind address was known
        if usable != self._usable:
            before, now = (_listed(each) for each in (self._usable or frozenset(), usable))
            self._usable = usable
            self._on_node_change(f"the addresses of this node's Node object have changed: from {before} to {now}", node)

    def _on_node_change(self, what: str, node: Node | None = None) -> None:
        """Before 1.37 the change is only logged, but node ports follow the addresses."""
        if self._options.version >= ENDS_WITH_NODE_SINCE:
            return self._fail(ConfigurationChanged(what))
        addresses = node and node_addresses(choose_node_ips(node, self._configuration.bind_address))
        _log.error(None, f"Continuing although {what}", followed=bool(addresses))
        if addresses and addresses != self._proxier.config.node_addresses:
            self._proxier.reconfigure(dataclasses.replace(self._proxier.config, node_addresses=addresses))
            self._loop.resync()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._loop.stop()


def _listed(addresses: frozenset[Address]) -> str:
    return ", ".join(map(format_address, sorted(addresses, key=lambda a: (len(a), a)))) or "none"


def health_check_addresses(
    config: ProxyConfig, local: tuple[Address, ...], family: int | None = None
) -> tuple[str, ...]:
    """The listen addresses of health check node ports: all, or those selected by nodePortAddresses (HC-01).

    Either of one family (HC-05a) or of both.
    """
    families = (4, 6) if family is None else (family,)
    if not any(config.node_port_networks(each, config.node_addresses) for each in families):
        return ("",)
    taking = [config.taking_node_ports(each, local, config.node_addresses, loopback=True) for each in families]
    return tuple(format_address(address) for address in local if any(address in each for each in taking))
