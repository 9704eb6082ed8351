"""Python packages that only some commands need, and what to install if one is missing."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {
    "kubernetes": "cluster",
    "kafka": "kafka",
    "chaoslib": "chaos",
    "locust": "chaos",
    "distributed": "fleet",
    "dask": "fleet",
    "pytest": "bench",
    "pytest_benchmark": "bench",
}
"""The extra that provides each module."""


def way_out(module: str) -> str | None:
    """The packages to install for a missing module; None if it belongs to no extra."""
    extra = EXTRAS.get(module.partition(".")[0])
    if extra is None:
        return None
    return (
        f"this needs the Python package {module.partition('.')[0]}; in a checkout: `make setup`,"
        f" or pip install '.[{extra}]'"
    )


def missing(*modules: str) -> str | None:
    """The packages to install for the first missing module, checked before a subprocess imports it."""
    return next((way_out(module) for module in modules if find_spec(module) is None), None)
