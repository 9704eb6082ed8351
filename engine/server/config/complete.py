"""From a command line, and the file that it names, to the options to run on (CFG-11, CFG-15).

Pure but for the two functions it is given: one reads a file, one asks for the host's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.config import NEWEST, PRIMARY
from engine.server import gates
from engine.server.command_line import CommandLine
from engine.server.configuration import (
    HEALTHZ_PORT,
    METRICS_PORT,
    ConfigurationError,
    KubeProxyConfiguration,
    Logging,
    replace,
)
from engine.server.decode import LENIENT, decode
from engine.server.field_errors import aggregate
from engine.server.flags import FLAGS
from engine.server.netaddr import with_port
from engine.server.options import Options
from engine.server.validation import validate
from engine.server.validation_logging import logging_errors


class Note(NamedTuple):
    """A line for the log, once there is one: message, verbosity, pairs."""

    message: str
    v: int = 0
    pairs: Mapping[str, Any] = {}


class Completed(NamedTuple):
    """Options to run on, and what was noticed on the way."""

    options: Options
    notes: tuple[Note, ...]


def complete(
    line: CommandLine,
    read_file: Callable[[str], bytes],
    host_name: Callable[[], str],
    version: tuple[int, int] = NEWEST,
) -> Completed:
    """Resolve and validate everything; ConfigurationError in kube-proxy's words.

    They begin with "failed complete", "initialize logging" or "failed validate".
    """
    notes: list[Note] = []
    try:
        configuration = _resolve(line, read_file, notes)
        configuration = _platform_defaults(configuration, version, notes)
        configuration = _overridden_hostname(configuration, line.values.get("hostname-override", ""))
        complaint = gates.complaint(configuration.feature_gates)
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
    values = line.values
    options = Options(
        configuration=configuration,
        hostname="" if values.get("write-config-to") else node_name(configuration.hostname_override, host_name),
        config_file=values.get("config", ""),
        master=values.get("master", ""),
        cleanup=values.get("cleanup", False),
        init_only=values.get("init-only", False),
        version=version,
    )
    return Completed(options, tuple(notes))


def node_name(override: str, host_name: Callable[[], str]) -> str:
    """This node's name: the override, else the host's, without blanks and in lower case (CFG-15)."""
    name = (override or host_name()).strip().lower()
    if not name:
        raise ConfigurationError("empty hostname is invalid")
    return name


def with_flags(configuration: KubeProxyConfiguration, values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """The configuration with the fields set that flags set."""
    for name, value in values.items():
        for target in FLAGS[name].targets:
            configuration = _set(configuration, target.split("."), value)
    return configuration


def _set(struct: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    return replace(struct, **{first: _set(getattr(struct, first), rest, value) if rest else value})


def _resolve(line: CommandLine, read_file: Callable[[str], bytes], notes: list[Note]) -> KubeProxyConfiguration:
    """The file, with the flags' logging; else the flags."""
    path = line.values.get("config")
    if not path:
        return _with_ports(with_flags(KubeProxyConfiguration(), line.values), line.values)
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
    """The flag's patterns come first, and so win."""
    if not flagged:
        return configuration
    patterns = configuration.logging.vmodule + file.vmodule
    return replace(configuration, logging=replace(configuration.logging, vmodule=patterns))


def _with_ports(configuration: KubeProxyConfiguration, values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """Default ports behind bare addresses; the deprecated port flags count unless a file is written (CLI-03)."""
    asked = {} if values.get("write-config-to") else values
    healthz = asked.get("healthz-port", HEALTHZ_PORT)
    metrics = asked.get("metrics-port", METRICS_PORT)
    return replace(
        configuration,
        healthz_bind_address=with_port(configuration.healthz_bind_address, healthz) if healthz else "",
        metrics_bind_address=with_port(configuration.metrics_bind_address, metrics) if metrics else "",
    )


def _platform_defaults(
    configuration: KubeProxyConfiguration, version: tuple[int, int], notes: list[Note]
) -> KubeProxyConfiguration:
    """What blanks mean on Linux (MODE-01, CFG-10, DET-01)."""
    if not configuration.mode:
        notes.append(Note("Using iptables proxy"))
        configuration = replace(configuration, mode="iptables")
    if configuration.mode == "nftables" and not configuration.node_port_addresses and version >= (1, 31):
        configuration = replace(configuration, node_port_addresses=(PRIMARY,))
    if not configuration.detect_local_mode:
        notes.append(Note("Defaulting detect-local-mode", 4, {"localModeClusterCIDR": "ClusterCIDR"}))
        configuration = replace(configuration, detect_local_mode="ClusterCIDR")
    notes.append(Note("DetectLocalMode", 2, {"localMode": configuration.detect_local_mode}))
    return configuration


def _overridden_hostname(configuration: KubeProxyConfiguration, flag: str) -> KubeProxyConfiguration:
    if not flag:
        return configuration
    if not flag.strip():
        raise ConfigurationError("empty hostname-override is invalid")
    return replace(configuration, hostname_override=flag.strip().lower())
