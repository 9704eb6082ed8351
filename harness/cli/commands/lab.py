"""`harness lab`: starts, shows, enters and stops a small cluster's dataplane on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.cli.kube_version import kube_version, written
from harness.cli.output import output_format, write_json
from harness.cli.verbosity import say
from harness.cli.vm import KernelChoice, image_of, show_progress
from harness.exit_codes import EXIT_FAILED
from harness.modes import MODES

if TYPE_CHECKING:
    from harness.lab.answers import Status
    from harness.lab.topology import LabOptions

PROBES: dict[str, dict[str, Any]] = {
    "http": {"httpGet": {"path": "/healthz", "port": 8080}},
    "tcp": {"tcpSocket": {"port": 8080}},
    "exec": {"exec": {"command": ["curl", "-sf", "http://127.0.0.1:8080/healthz"]}},
    "none": {},
}
"""The readinessProbes to choose from; the lab's pods serve HTTP on port 8080."""

Function = TypeVar("Function", bound=Callable[..., Any])


def folder_option(function: Function) -> Function:
    """Decorator that adds `--lab`, the lab's folder."""
    return click.option(
        "--lab", "folder", type=click.Path(file_okay=False, path_type=Path),
        help="The lab's folder; by default one in the user's state directory.",
    )(function)  # fmt: skip


def folder_of(folder: Path | None) -> Path:
    """The given folder, or the user's default."""
    from harness.lab.launch import default_folder

    return (folder or default_folder()).absolute()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """Run a small cluster in network namespaces.

    Every node runs proxy-engine, which programs that node's own kernel tables; pods run a real server
    with real readiness probes; an API server publishes the control plane's decisions.  Root is not
    needed where user namespaces are allowed, and the host's network is not touched.

    \b
      harness lab up --nodes 3 --pods 12 --mode nftables
      harness lab status
      harness lab exec client -- curl -s http://10.10.0.11:30080/
      harness lab exec node-1 -- nft list table ip kube-proxy
      harness lab forward client 8089                      open a page served in the lab in a browser here
      harness lab down
    """


@lab.command("up")
@folder_option
@click.option("--nodes", type=int, default=3, show_default=True, help="Number of nodes, each with its own engine.")
@click.option("--pods", type=int, default=12, show_default=True, help="Number of pods behind the lab's Services.")
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option("--min-sync-period", default="1s", show_default=True, help="The engines' minimum time between two syncs.")
@click.option("--probe-period", type=int, default=1, show_default=True, help="readinessProbe periodSeconds.")
@click.option("--probe-timeout", type=int, default=1, show_default=True, help="readinessProbe timeoutSeconds.")
@click.option("--failure-threshold", type=int, default=3, show_default=True, help="readinessProbe failureThreshold.")
@click.option("--success-threshold", type=int, default=1, show_default=True, help="readinessProbe successThreshold.")
@click.option("--initial-delay", type=int, default=0, show_default=True, help="readinessProbe initialDelaySeconds.")
@click.option(
    "--probe", type=click.Choice(PROBES), default="http", show_default=True, help="Type of the readinessProbe."
)
@click.option(
    "--exit-notice", help="Kubelets notice that a process ended after this delay; by default only probes detect it."
)
@click.option("--restart-after", help="Kubelets restart an ended process after this delay; by default they do not.")
@click.option(
    "--node-grace",
    default="4s",
    show_default=True,
    help="A node counts as lost when its kubelet has been silent this long.",
)
@click.option(
    "--services",
    type=int,
    default=0,
    show_default=True,
    help="Number of additional Services, to enlarge the rule sets.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for generating the additional Services.")
@click.option(
    "--kernel",
    type=KernelChoice("netns", "vm"),
    default="netns",
    show_default=True,
    help="The lab's kernel: this one, or another in a virtual machine (docs/kernels.md), which runs in the foreground"
    " until `harness lab down` or Ctrl-C.",
)
@kube_version
def up(folder: Path | None, kernel: str, **choices: Any) -> None:
    """Start a lab and leave it running.

    Exit codes: 0 the lab is ready; 1 it did not start; 2 invalid options; 130 and 143 interrupted.  A lab
    that did not become ready is removed completely.
    """
    from harness.lab.launch import start

    options = _options(choices)
    if kernel != "netns":
        sys.exit(_up_in_machine(image_of(kernel), folder_of(folder)))
    client = start(options, folder_of(folder), lambda line: say(f"  {line}", err=True), detach=True)
    _show(client.status())


def _up_in_machine(image: str, folder: Path) -> int:
    """Run a lab in a virtual machine until it ends; returns the exit code."""
    from harness.lab.machine import serve

    def ready() -> None:
        say(f"ready; use `harness lab status`, `exec` and `down` with --lab {folder}", err=True)

    up = [*sys.argv[1:], "--lab", str(folder), "--kernel", "netns"]
    return serve(image, folder, up, ready, show_progress)


def _in_machine(folder: Path | None, *arguments: str, stop: bool = False) -> None:
    """If the folder's lab is in a virtual machine, run the command there and exit with its code."""
    from harness.lab.machine import ask

    where = folder_of(folder)
    command, *rest = arguments
    code = ask(where, ["lab", command, "--lab", str(where), *rest], stop)
    if code is not None:
        sys.exit(code)


def _options(choices: dict[str, Any]) -> LabOptions:
    from harness.cli.options import duration
    from harness.lab.topology import LabOptions

    def seconds(text: str) -> float:
        return duration(text) / 1e9

    if choices["restart_after"] and not choices["exit_notice"]:
        raise click.UsageError(
            "--restart-after needs --exit-notice: kubelets restart only processes whose end they notice"
        )
    try:
        return LabOptions(
            nodes=choices["nodes"],
            pods=choices["pods"],
            mode=choices["mode"],
            min_sync_period_seconds=seconds(choices["min_sync_period"]),
            probe_period_seconds=choices["probe_period"],
            probe_timeout_seconds=choices["probe_timeout"],
            failure_threshold=choices["failure_threshold"],
            success_threshold=choices["success_threshold"],
            initial_delay_seconds=choices["initial_delay"],
            probe=PROBES[choices["probe"]],
            exit_notice_seconds=seconds(choices["exit_notice"]) if choices["exit_notice"] else None,
            restart_seconds=seconds(choices["restart_after"]) if choices["restart_after"] else None,
            node_grace_seconds=seconds(choices["node_grace"]),
            background_services=choices["services"],
            seed=choices["seed"],
            kube_version=written(choices["kube_version"]) if choices["kube_version"] else "",
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@lab.command("status")
@folder_option
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(folder: Path | None, as_json: bool) -> None:
    """Show the current nodes, engines, pods and Services.

    Exit codes: 0 all engines are healthy; 1 an engine is not healthy, or no lab is running.
    """

    from harness.lab.control import LabClient

    _in_machine(folder, "status", *(["--json"] if as_json else []))
    found = LabClient(folder_of(folder)).status()
    write_json(found, "-") if as_json else _show(found)
    sys.exit(0 if all(node.engine_healthy for node in found.nodes) else EXIT_FAILED)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@folder_option
@click.argument("namespace")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(folder: Path | None, namespace: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in a network namespace of the lab.

    NAMESPACE is a node, a pod, `client`, `caller-N`, or `router`.

    Exits with the exit code of COMMAND.
    """
    from harness.lab.control import LabClient

    _in_machine(folder, "exec", namespace, "--", *command)
    client = LabClient(folder_of(folder))
    where = None if namespace == "router" else namespace
    sys.exit(subprocess.run(client.inside(where, list(command)), check=False).returncode)


@lab.command("forward")
@folder_option
@click.argument("namespace")
@click.argument("port", type=int)
@click.option("--port", "local_port", type=int, default=0, help="Local port; a free one by default.")
def forward(folder: Path | None, namespace: str, port: int, local_port: int) -> None:
    """Forward a local port into the lab until interrupted.

    It leads to PORT on the loopback address of NAMESPACE.

    Exit codes: 0 interrupted; 1 no lab is running.
    """
    import asyncio

    from harness.lab.control import LabClient
    from harness.lab.dataplane.forward import forward as run
    from harness.lab.machine import socket_of

    if socket_of(folder_of(folder)).exists():
        raise click.UsageError("a lab in a virtual machine has no network to the outside; use `harness lab exec`")

    def report(local: int) -> None:
        click.echo(f"http://127.0.0.1:{local} is {namespace}:{port}")

    try:
        asyncio.run(run(LabClient(folder_of(folder)), namespace, port, local_port, report))
    except KeyboardInterrupt:
        pass


@lab.command("down")
@folder_option
@click.option("--keep-recording", type=click.Path(dir_okay=False), help="Save the lab's event log as this recording.")
def down(folder: Path | None, keep_recording: str | None) -> None:
    """Stop a lab and remove its folder.

    Its processes, namespaces and rules are removed with it.

    Exit codes: 0 the lab is stopped; 1 no lab is running.
    """
    from harness.lab.launch import stop
    from harness.lab.machine import socket_of

    if keep_recording and socket_of(folder_of(folder)).exists():
        raise click.UsageError(
            "--keep-recording is not supported for a lab in a virtual machine, whose files are not kept"
        )
    _in_machine(folder, "down", stop=True)
    stop(folder_of(folder), keep_recording)


def _show(found: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[b]lab[/b] in {found.folder}: mode {found.mode}, up {found.seconds:.0f} s, API {found.api}")
    nodes = Table("node", "address", "zone", "ready", "engine", "pods ready", box=None, title_justify="left")
    for node in found.nodes:
        here = [pod for pod in found.pods if pod.node == node.name]
        engine = "healthy" if node.engine_healthy else "[red]unhealthy[/]" if node.engine_pid else "[red]ended[/]"
        ready = f"{sum(pod.ready for pod in here)}/{len(here)}"
        nodes.add_row(node.name, node.address, node.zone, "yes" if node.ready else "[red]no[/]", engine, ready)
    services = Table("service", "cluster IP", "load balancer", "ports (node ports)", box=None)
    for service in found.services:
        ports = ", ".join(f"{name} {p.port} ({p.node_port or 'none'})".strip() for name, p in service.ports.items())
        services.add_row(service.name, service.cluster_ip, service.balancer or "", ports)
    console.print(nodes)
    console.print(services)
    if found.faults:
        console.print(f"[red]faults in force: {json.dumps(found.faults)}[/]")
