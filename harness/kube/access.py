"""Access to a cluster, and one-line errors if it cannot be used."""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.failure import Failure


class AccessError(Failure, RuntimeError):
    """No access: no kubeconfig, an unknown context, or a missing file."""


@dataclass(frozen=True)
class Access:
    """How to reach the cluster: a kubeconfig (by default the user's), one of its contexts, or from inside a pod."""

    kubeconfig: str | None = None
    context: str | None = None
    in_cluster: bool = False


def access_errors() -> tuple[type[Exception], ...]:
    """Exceptions of the `kubernetes` client, which accepts any file as kubeconfig until a field is missing."""
    from kubernetes.config import ConfigException
    from yaml import YAMLError

    return ConfigException, OSError, YAMLError, TypeError, KeyError, AttributeError, ValueError


def access_error(error: Exception, access: Access) -> AccessError:
    """An error that names the file, the cause, and what to do."""
    from kubernetes.config import ConfigException

    said = " ".join(str(error).split()).rstrip(".")
    if access.in_cluster:
        return AccessError(f"not in a pod: {said}; omit --in-cluster, or give a --kubeconfig")
    where = access.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not isinstance(error, ConfigException | OSError):
        said = f"not a kubeconfig: {said}"
    return AccessError(
        f"{where}: {said}; give a --kubeconfig, one of its contexts with --context, or --in-cluster in a pod"
    )
