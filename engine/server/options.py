"""What the daemon is started with: the seam between reading a configuration and running on it."""

from __future__ import annotations

from msgspec import Struct

from engine.config import NEWEST
from engine.server.configuration import KubeProxyConfiguration


class Options(Struct, frozen=True):
    """A complete, validated configuration, and what only flags say.

    `configuration` has its mode and detectLocalMode resolved, never "".  `hostname` is this node's name
    (CFG-15).  `config_file` is "" when none was given; when it was, a change of it ends the process (CFG-13).
    `master` is an API server's URL that overrides the kubeconfig's.  With `cleanup` the rules of every mode
    are removed, with `init_only` the privileged steps are taken, and that is all (CLN-02, CLN-04).
    """

    configuration: KubeProxyConfiguration
    hostname: str
    config_file: str = ""
    master: str = ""
    cleanup: bool = False
    init_only: bool = False
    version: tuple[int, int] = NEWEST
