"""The options of a run that are not part of the experiment's file: seed, mode, folder, and where it takes place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from chaos.targets.kube.settings import KubeOptions

if TYPE_CHECKING:
    from chaos.session import ChaosSession

FOLDER = Path("chaos-run")


def _ignore(session: ChaosSession) -> None:
    """No progress is shown."""


class RunOptions(NamedTuple):
    """The options of one run.

    Chaos Toolkit passes them to the control as the value of its configuration's key `KEY`; they never pass through the
    environment of this process.
    """

    path: str = "experiment"
    """The experiment's file, as the report names it."""
    seed: int | None = None
    """None: the experiment's."""
    mode: str | None = None
    """None: the experiment's."""
    external: tuple[str, ...] = ()
    """Another proxy's command line, as words, for the nodes of a lab that the run starts; empty: the engine."""
    folder: Path = FOLDER
    """Receives the run's files."""
    lab: Path | None = None
    """The folder of a running lab; None: a new lab."""
    kube: KubeOptions | None = None
    """A real cluster instead of a lab."""
    web_ui: bool = False
    """Serve locust's page in each load's namespace."""
    judges: bool = True
    """Whether the control computes the verdict at the run's end; False if its caller does."""
    began: Callable[[ChaosSession], None] = _ignore
    """Called with the session once it has begun."""


KEY = "kube-proxy-harness"
"""Name of the entry in Chaos Toolkit's configuration."""


def from_variables(variables: Mapping[str, str]) -> RunOptions:
    """The options of a run by Chaos Toolkit's own `chaos run`, which has no flags for them: from environment variables.

    CHAOS_SEED, CHAOS_MODE, CHAOS_OUT (folder), CHAOS_LAB (folder), CHAOS_WEB_UI (1), CHAOS_KUBE (`KubeOptions` as
    JSON); ValueError for an invalid one.
    """
    seed, lab, kube = (variables.get(f"CHAOS_{name}") for name in ("SEED", "LAB", "KUBE"))
    return RunOptions(
        seed=int(seed) if seed else None,
        mode=variables.get("CHAOS_MODE") or None,
        folder=Path(variables.get("CHAOS_OUT") or FOLDER).absolute(),
        lab=Path(lab) if lab else None,
        kube=msgspec.json.decode(kube, type=KubeOptions) if kube else None,
        web_ui=bool(variables.get("CHAOS_WEB_UI")),
    )
