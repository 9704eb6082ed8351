"""Loads the `kubernetes` client's code for kubeconfigs and pods, without its models.

Importing its packages loads some 800 modules, which takes most of a second; the four modules that read credentials
need only two names of them.  So private copies of these four are imported into otherwise empty packages: code that
imports `kubernetes` later gets the complete package, as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

PACKAGE, CLIENT = "kubernetes", "kubernetes.client"
SESSIONS, OAUTH = "requests_oauthlib", "oauthlib.oauth2"
"""The module that renews tokens of the oidc plugin; it imports `requests`."""


@contextmanager
def _without_models() -> Iterator[None]:
    """Packages that import nothing by themselves; ModuleNotFoundError if the client is not installed."""
    if PACKAGE in sys.modules:
        yield
        return
    before = {name: sys.modules[name] for name in (SESSIONS, OAUTH) if name in sys.modules}
    try:
        folders = _empty(PACKAGE, None)
        _empty(CLIENT, folders)
        from kubernetes.client.configuration import Configuration

        _stand_in(CLIENT, Configuration=Configuration, ApiClient=None)  # the latter is for clients with models
        for name in {SESSIONS, OAUTH} - before.keys():
            sys.modules[name] = ModuleType(name)
            _stand_in(name, OAuth2Session=_session)
        yield
    finally:
        ours = [name for name in sys.modules if f"{name}.".startswith(f"{PACKAGE}.")]
        for name in {*ours, SESSIONS, OAUTH} - before.keys():
            sys.modules.pop(name, None)


def _empty(name: str, folders: list[str] | None) -> list[str]:
    """Register a package without running it; returns its folders."""
    found = PathFinder.find_spec(name, folders)
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [*found.submodule_search_locations]
    sys.modules[name] = module_from_spec(spec)
    return spec.submodule_search_locations


def _stand_in(name: str, **attributes: Any) -> None:
    vars(sys.modules[name]).update(attributes)


def _session(*args: Any, **options: Any) -> Any:
    """The real session, imported when a token of the oidc plugin has to be renewed."""
    from requests_oauthlib import OAuth2Session  # type: ignore[import-untyped]  # it has no types

    return OAuth2Session(*args, **options)


with _without_models():
    from kubernetes.client.configuration import Configuration
    from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
    from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME
    from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

__all__ = [
    "KUBE_CONFIG_DEFAULT_LOCATION",
    "SERVICE_TOKEN_FILENAME",
    "ConfigException",
    "Configuration",
    "load_incluster_config",
    "load_kube_config",
]
