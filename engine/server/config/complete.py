"""Computes the options of the daemon from the command line and the configuration file (CFG-11, CFG-15).

Pure, except for two functions passed in: one reads a file, one returns the host's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.config import NEWEST
from engine.modes import MODES
from engine.server.config import gates
from engine.server.config.command_line import CommandLine
from engine.server.config.configuration import (
    BLOCKS,
    DEFAULT_BLOCK,
    HEALTHZ_PORT,
    METRICS_PORT,
    ConfigurationError,
    KubeProxyConfiguration,
    Logging,
    masquerade_block,
    replace,
)
from engine.server.config.decode import LENIENT, decode
from engine.server.config.duration import Duration
from engine.server.config.field_errors import aggregate
from engine.server.config.flags import FLAGS
from engine.server.config.netaddr import with_port
from engine.server.config.options import EngineOptions
from engine.server.config.validation import ONE_PAIR_SINCE, validate
from engine.server.config.validation_logging import logging_errors

DEFAULT_MODE_WARNED_SINCE = (1, 37)
"""Since this version an empty mode causes an error line and an Event instead of an info line (MODE-01a)."""


class Note(NamedTuple):
    """A line to be logged once logging is configured: message, verbosity, pairs."""

    message: str
    v: int = 0
    pairs: Mapping[str, Any] = {}


class Completed(NamedTuple):
    """The options, and notes for the log."""

    options: EngineOptions
    notes: tuple[Note, ...]


def complete(
    line: CommandLine,
    read_file: Callable[[str], bytes],
    host_name: Callable[[], str],
    version: tuple[int, int] = NEWEST,
) -> Completed:
    """Resolve and validate everything; raises ConfigurationError with kube-proxy's message.

    It begins with "failed complete", "initialize logging" or "failed validate".
    """
    notes: list[Note] = []
    version = line.values.get("kube-version", version)
    try:
        configuration = _resolve(line, read_file, notes, version)
        default_mode = not configuration.mode
        configuration = _platform_defaults(configuration, version, notes)
        configuration = _overridden_hostname(configuration, line.values.get("hostname-override", ""))
        complaint = gates.complaint(configuration.feature_gates, version)
        if complaint:
            raise ConfigurationError(complaint)
    except ConfigurationError as error:
        raise ConfigurationError(f"failed complete: {error}") from None
    errors = tuple(logging_errors(configuration.logging, configuration.feature_gates, "logging"))
    if errors:
        raise ConfigurationError(f"initialize logging: {aggregate(errors)}")
    errors = validate(configuration, version)
    if errors:
        raise ConfigurationError(f"failed validate: {aggregate(errors)}")
    if version >= ONE_PAIR_SINCE:
        configuration = effective_block_only(configuration)
    values = line.values
    options = EngineOptions(
        configuration=configuration,
        hostname="" if values.get("write-config-to") else node_name(configuration.hostname_override, host_name),
        config_file=values.get("config", ""),
        master=values.get("master", ""),
        cleanup=values.get("cleanup", False),
        init_only=values.get("init-only", False),
        version=version,
        default_mode=default_mode,
    )
    return Completed(options, tuple(notes))


def node_name(override: str, host_name: Callable[[], str]) -> str:
    """This node's name: the override, else the host name, stripped and in lower case (CFG-15)."""
    name = (override or host_name()).strip().lower()
    if not name:
        raise ConfigurationError("empty hostname is invalid")
    return name


def with_flags(configuration: KubeProxyConfiguration, values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """The configuration with the values of flags."""
    for name, value in values.items():
        for target in FLAGS[name].targets:
            configuration = _set(configuration, target.split("."), value)
    return configuration


def _set(struct: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    return replace(struct, **{first: _set(getattr(struct, first), rest, value) if rest else value})


def _resolve(
    line: CommandLine, read_file: Callable[[str], bytes], notes: list[Note], version: tuple[int, int]
) -> KubeProxyConfiguration:
    """The file with the logging flags, or else the flags."""
    path = line.values.get("config")
    if not path:
        fresh = KubeProxyConfiguration()
        if version >= ONE_PAIR_SINCE:
            # All modes share sync periods with the defaults of iptables (CFG-03a); in a file ipvs has its own.
            fresh = replace(fresh, ipvs=replace(fresh.ipvs, min_sync_period=fresh.iptables.min_sync_period))
        return _with_ports(with_flags(fresh, line.values), line.values)
    configuration, complaint = decode(_read(path, read_file))
    if complaint:
        notes.append(Note(LENIENT, pairs={"err": complaint}))
    logs = {name: value for name, value in line.values.items() if FLAGS[name].logs}
    return _vmodule_of_both(with_flags(configuration, logs), configuration.logging, "vmodule" in logs)


def _read(path: str, read_file: Callable[[str], bytes]) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise ConfigurationError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _vmodule_of_both(configuration: KubeProxyConfiguration, file: Logging, flagged: bool) -> KubeProxyConfiguration:
    """The flag's patterns come first and so take precedence."""
    if not flagged:
        return configuration
    patterns = configuration.logging.vmodule + file.vmodule
    return replace(configuration, logging=replace(configuration.logging, vmodule=patterns))


def _with_ports(configuration: KubeProxyConfiguration, values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """Add default ports to bare addresses; the deprecated port flags apply unless a file is written (CLI-03)."""
    used = {} if values.get("write-config-to") else values
    healthz = used.get("healthz-port", HEALTHZ_PORT)
    metrics = used.get("metrics-port", METRICS_PORT)
    return replace(
        configuration,
        healthz_bind_address=with_port(configuration.healthz_bind_address, healthz) if healthz else "",
        metrics_bind_address=with_port(configuration.metrics_bind_address, metrics) if metrics else "",
    )


def _platform_defaults(
    configuration: KubeProxyConfiguration, version: tuple[int, int], notes: list[Note]
) -> KubeProxyConfiguration:
    """Replace empty values by the defaults on Linux (MODE-01, CFG-10, DET-01)."""
    if not configuration.mode:
        if version < DEFAULT_MODE_WARNED_SINCE:
            notes.append(Note("Using iptables proxy"))
        configuration = replace(configuration, mode="iptables")
    known = MODES.get(configuration.mode)  # an unknown mode is reported by the validation
    if known and known.node_ports_on and not configuration.node_port_addresses and version >= (1, 31):
        configuration = replace(configuration, node_port_addresses=known.node_ports_on)
    if not configuration.detect_local_mode:
        notes.append(Note("Defaulting detect-local-mode", 4, {"localModeClusterCIDR": "ClusterCIDR"}))
        configuration = replace(configuration, detect_local_mode="ClusterCIDR")
    notes.append(Note("DetectLocalMode", 2, {"localMode": configuration.detect_local_mode}))
    return configuration


def effective_block_only(configuration: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """Keep sync periods and masqueradeAll only in the block of the mode, zero in the others (CFG-14a).

    ipvs has its masqueradeAll in the iptables block.
    """
    mode, none = configuration.mode, Duration(0)
    for block in BLOCKS:
        if block != mode:
            idle = replace(getattr(configuration, block), sync_period=none, min_sync_period=none)
            configuration = replace(configuration, **{block: idle})
    for block in (block for block in BLOCKS if MODES[block].own_masquerade or block == DEFAULT_BLOCK):
        if block != masquerade_block(mode):
            configuration = replace(
                configuration, **{block: replace(getattr(configuration, block), masquerade_all=False)}
            )
    return configuration


def _overridden_hostname(configuration: KubeProxyConfiguration, flag: str) -> KubeProxyConfiguration:
    if not flag:
        return configuration
    if not flag.strip():
        raise ConfigurationError("empty hostname-override is invalid")
    return replace(configuration, hostname_override=flag.strip().lower())
