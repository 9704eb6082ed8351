"""The options of the daemon: the interface between reading a configuration and running with it."""

from __future__ import annotations

from msgspec import Struct

from engine.config import NEWEST, gate_default
from engine.server.config.configuration import KubeProxyConfiguration


class EngineOptions(Struct, frozen=True):
    """A complete, validated configuration, and options that have only flags.

    `configuration` has its mode and detectLocalMode resolved, never "".  `hostname` is this node's name
    (CFG-15).  `config_file` is "" if none was given; otherwise a change of the file ends the process (CFG-13).
    `master` is the URL of an API server and overrides that of the kubeconfig.  `cleanup`: only remove the rules of
    every mode; `init_only`: only perform the privileged steps (CLN-02, CLN-04).
    `version` is the Kubernetes release to follow; `default_mode`: no mode was configured (MODE-01).
    """

    configuration: KubeProxyConfiguration
    hostname: str
    config_file: str = ""
    master: str = ""
    cleanup: bool = False
    init_only: bool = False
    version: tuple[int, int] = NEWEST
    default_mode: bool = False

    def gate(self, name: str) -> bool:
        """Whether a feature gate is on: as configured, else the version's default."""
        return self.configuration.feature_gates.get(name, gate_default(name, self.version))
