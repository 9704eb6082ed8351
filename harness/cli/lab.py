"""`harness lab`: a small cluster's dataplane on this machine, up, looked at, entered, down."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import click

from harness.cli.output import write_json
from harness.modes import MODES

EXIT_LAB, EXIT_USAGE = 1, 2
PROBES = {
    "http": {"httpGet": {"path": "/healthz", "port": 8080}},
    "tcp": {"tcpSocket": {"port": 8080}},
    "exec": {"exec": {"command": ["curl", "-sf", "http://127.0.0.1:8080/healthz"]}},
    "none": {},
}
"""readinessProbes to choose from; 8080 is where the lab's pods speak HTTP."""


def folder_option(function):
    """`--lab`: which lab."""
    return click.option(
        "--lab", "folder", type=click.Path(file_okay=False, path_type=Path),
        help="The lab's folder; one of this user by default.",
    )(function)  # fmt: skip


def folder_of(folder: Path | None) -> Path:
    """The folder named, or this user's."""
    from harness.lab.launch import default_folder

    return (folder or default_folder()).absolute()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """A small cluster on this machine: nodes, pods and clients in network namespaces.

    Every node runs proxy-engine, which programs that node's own kernel tables; pods run a real server and
    real readiness probes; an API serves what the control plane decides.  Needs no root where user
    namespaces are allowed, and touches nothing of the host.

    \b
      harness lab up --nodes 3 --pods 12 --mode nftables
      harness lab status
      harness lab exec client -- curl -s http://10.10.0.11:30080/
      harness lab exec node-1 -- nft list table ip kube-proxy
      harness lab forward client 8089                      a page served in there, in a browser here
      harness lab down
    """


@lab.command("up")
@folder_option
@click.option("--nodes", type=int, default=3, show_default=True, help="Nodes, each with an engine of its own.")
@click.option("--pods", type=int, default=12, show_default=True, help="Pods behind the lab's Services.")
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option("--min-sync-period", default="1s", show_default=True, help="The engines' least time between two syncs.")
@click.option("--probe-period", type=int, default=1, show_default=True, help="readinessProbe periodSeconds.")
@click.option("--probe-timeout", type=int, default=1, show_default=True, help="readinessProbe timeoutSeconds.")
@click.option("--failure-threshold", type=int, default=3, show_default=True, help="readinessProbe failureThreshold.")
@click.option("--success-threshold", type=int, default=1, show_default=True, help="readinessProbe successThreshold.")
@click.option("--initial-delay", type=int, default=0, show_default=True, help="readinessProbe initialDelaySeconds.")
@click.option(
    "--probe", type=click.Choice(PROBES), default="http", show_default=True, help="What the readinessProbe does."
)
@click.option(
    "--exit-notice", help="Kubelets see that a process ended this long after it did; by default only probes tell."
)
@click.option("--restart-after", help="... and start it again after this long; by default nobody does.")
@click.option("--node-grace", default="4s", show_default=True, help="A node whose kubelet is silent this long is lost.")
@click.option("--services", type=int, default=0, show_default=True, help="Further Services, to make rule sets large.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of those Services.")
def up(folder: Path | None, **choices) -> None:
    """Start a lab and leave it running.

    Exit codes: 0 it is ready; 1 it did not start; 2 senseless options; 130 and 143 interrupted.  Of a lab that
    is not ready nothing is left.
    """
    from harness.lab.control import LabError
    from harness.lab.launch import start

    options = _options(choices)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        client = start(options, folder_of(folder), lambda line: click.echo(f"  {line}", err=True), detach=True)
        _show(client.call("status"))
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_LAB)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is left behind", err=True)
        sys.exit(130)


def _options(choices: dict):
    from harness.cli.replay import duration
    from harness.lab.topology import LabOptions

    def seconds(text: str | None) -> float | None:
        return None if text is None else duration(text) / 1e9

    if choices["restart_after"] and not choices["exit_notice"]:
        raise click.UsageError("--restart-after needs --exit-notice: what nobody notices nobody starts again")
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
            exit_notice_seconds=seconds(choices["exit_notice"]),
            restart_seconds=seconds(choices["restart_after"]),
            node_grace_seconds=seconds(choices["node_grace"]),
            background_services=choices["services"],
            seed=choices["seed"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@lab.command("status")
@folder_option
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(folder: Path | None, as_json: bool) -> None:
    """Nodes, engines, pods and Services, as they are now.

    Exit codes: 0 all engines are healthy; 1 there is no lab, or one is not.
    """
    found = _call(folder, "status")
    write_json(found, "-") if as_json else _show(found)
    sys.exit(0 if all(node["engine_healthy"] for node in found["nodes"]) else EXIT_LAB)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@folder_option
@click.argument("namespace")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(folder: Path | None, namespace: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in NAMESPACE: a node, a pod, `client`, `caller-N`, or `router`.

    Its exit code is the command's.
    """
    from harness.lab.control import LabClient, LabError

    try:
        client = LabClient(folder_of(folder))
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_LAB)
    where = None if namespace == "router" else namespace
    sys.exit(subprocess.run(client.inside(where, list(command)), check=False).returncode)


@lab.command("forward")
@folder_option
@click.argument("namespace")
@click.argument("port", type=int)
@click.option("--port", "local_port", type=int, default=0, help="The port here; a free one by default.")
def forward(folder: Path | None, namespace: str, port: int, local_port: int) -> None:
    """Make PORT on NAMESPACE's loopback reachable on this machine's, until interrupted.

    Exit codes: 0 interrupted; 1 there is no lab.
    """
    import asyncio

    from harness.lab.control import LabClient, LabError
    from harness.lab.forward import forward as run

    def told(here: int) -> None:
        click.echo(f"http://127.0.0.1:{here} is {namespace}:{port}")

    try:
        asyncio.run(run(LabClient(folder_of(folder)), namespace, port, local_port, told))
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_LAB)
    except KeyboardInterrupt:
        pass


@lab.command("down")
@folder_option
@click.option("--keep-recording", type=click.Path(dir_okay=False), help="Keep the lab's event log as this recording.")
def down(folder: Path | None, keep_recording: str | None) -> None:
    """End a lab and remove its folder; its processes, namespaces and rules go with it.

    Exit codes: 0 it is gone; 1 there was none.
    """
    from harness.lab.control import LabError
    from harness.lab.launch import stop

    try:
        stop(folder_of(folder), keep_recording)
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_LAB)


def _call(folder: Path | None, op: str, **arguments):
    from harness.lab.control import LabClient, LabError

    try:
        return LabClient(folder_of(folder)).call(op, **arguments)
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_LAB)


def _show(found: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"[b]lab[/b] in {found['folder']}: mode {found['mode']}, up {found['seconds']:.0f} s, API {found['api']}"
    )
    nodes = Table("node", "address", "zone", "ready", "engine", "pods ready", box=None, title_justify="left")
    for node in found["nodes"]:
        here = [pod for pod in found["pods"] if pod["node"] == node["name"]]
        engine = "healthy" if node["engine_healthy"] else "[red]unhealthy[/]" if node["engine_pid"] else "[red]ended[/]"
        ready = f"{sum(pod['ready'] for pod in here)}/{len(here)}"
        nodes.add_row(
            node["name"], node["address"], node["zone"], "yes" if node["ready"] else "[red]no[/]", engine, ready
        )
    services = Table("service", "cluster IP", "load balancer", "ports (node ports)", box=None)
    for service in found["services"]:
        ports = ", ".join(f"{name} {p['port']} ({p['node_port']})" for name, p in service["ports"].items())
        services.add_row(service["name"], service["cluster_ip"], service["balancer"] or "", ports)
    console.print(nodes)
    console.print(services)
    if found["faults"]:
        console.print(f"[red]faults in force: {json.dumps(found['faults'])}[/]")
