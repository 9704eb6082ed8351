"""Options and output of `harness chaos ... --target kube`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # imported late, to keep help fast
    from chaos.experiment import Experiment
    from chaos.targets.kube.settings import KubeOptions

TARGETS = ("lab", "kube")
_OPTIONS = (
    click.option(
        "--target", type=click.Choice(TARGETS), default="lab", show_default=True, help="A lab, or a real cluster."
    ),
    click.option(
        "--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="Use this file instead of kubectl's default."
    ),
    click.option("--context", help="Use this context of the kubeconfig; required with --really."),
    click.option("--in-cluster", is_flag=True, help="Use the service account of the pod this runs in."),
    click.option(
        "-n", "--namespace", "namespaces", multiple=True, help="Allow faults in this namespace; may be repeated."
    ),
    click.option("--service", help="The target Service, unless the experiment sets it."),
    click.option(
        "--max-pods-percent", type=click.FloatRange(0, 100), default=30.0, show_default=True,
        help="Maximum share of the Service's pods affected at once.",
    ),
    click.option(
        "--max-nodes", type=click.IntRange(0), default=1, show_default=True, help="Maximum of nodes cordoned at once."
    ),
)  # fmt: skip
NAMES = ("target", "kubeconfig", "context", "in_cluster", "namespaces", "service", "max_pods_percent", "max_nodes")


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options, passed to the command as one `cluster` dict for `kube_options`."""

    def with_cluster(**choices: Any) -> None:
        command(cluster={name: choices.pop(name) for name in NAMES}, **choices)

    with_cluster.__name__, with_cluster.__doc__ = command.__name__, command.__doc__
    vars(with_cluster)["__click_params__"] = list(getattr(command, "__click_params__", ()))
    whole: Callable[..., None] = with_cluster
    for option in reversed(_OPTIONS):
        whole = option(whole)
    return whole


def kube_options(cluster: dict[str, Any], really: bool = False, **lab_only: Any) -> KubeOptions | None:
    """`KubeOptions`, or None for a lab; UsageError if options of both are combined."""
    from chaos.targets.kube.settings import KubeOptions

    rest = {name: value for name, value in cluster.items() if name != "target"}
    defaults = {"max_pods_percent": 30.0, "max_nodes": 1}
    if cluster["target"] == "lab":
        given = [name for name, value in {**rest, "really": really}.items() if value and value != defaults.get(name)]
        if given:
            option = given[0].replace("namespaces", "namespace").replace("_", "-")
            raise click.UsageError(f"--{option} is for --target kube")
        return None
    given = [name for name, value in lab_only.items() if value]
    if given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} is for a lab, not for --target kube")
    if rest["in_cluster"] and (rest["kubeconfig"] or rest["context"]):
        raise click.UsageError("--in-cluster excludes --kubeconfig and --context")
    return KubeOptions(really=really, **rest)


def dry_run(experiment: Experiment, options: KubeOptions, report: Callable[[str], None]) -> bool:
    """Print what a run would do; true if it has no obstacle.  ValueError if the plan cannot be made."""
    from chaos.targets.kube.api import CallError, KubeApi
    from chaos.targets.kube.prepare import prepare

    try:
        prepared = prepare(experiment, options, KubeApi(options))
    except CallError as error:
        raise ValueError(str(error)) from None
    for line in prepared.lines():
        report(line)
    for obstacle in prepared.obstacles:
        click.echo(f"refused: {obstacle}", err=True)
    return not prepared.obstacles


def heal_folder(folder: Path, options: Mapping[str, Any]) -> list[str]:
    """Restore what a run left changed; returns what could not be.  ValueError for a wrong folder or cluster."""
    import msgspec

    from chaos.targets.kube.api import CallError, KubeApi
    from chaos.targets.kube.settings import KubeOptions
    from chaos.targets.kube.target import put_all_back
    from chaos.targets.kube.undo import HealFile, read_heal_file

    header, left = read_heal_file(folder)
    if not left:
        click.echo("nothing to restore")
        return []
    there = KubeOptions(header.kubeconfig, None if header.in_cluster else header.context, header.in_cluster)
    chosen = {name: value for name, value in options.items() if value}
    try:
        api = KubeApi(msgspec.structs.replace(there, **chosen))
    except CallError as error:
        raise ValueError(str(error)) from None
    click.echo(f"cluster: {api.server} (context {api.context})")
    heal = HealFile(folder, msgspec.structs.replace(header, server=api.server))
    try:
        return put_all_back(api, heal, click.echo)
    finally:
        heal.close()
