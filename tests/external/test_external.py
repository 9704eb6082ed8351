"""Proxies measured from outside: one of another make and its broken variants, and the engine as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.external.proxy_metrics import own_metrics
from harness.external.run import ExternalOptions, run
from harness.external.stage import LAST_BYTES, MOST_LOG_BYTES, ProxyEnvironment
from harness.external.usage import Usage
from harness.judge.packet import Packet
from harness.judge.packets.attempts import Attempts
from harness.kube.proxy import Command, CommandError, command, commands
from harness.places.world import World
from harness.replay.compare.result import OwnMetrics
from tests.docs.test_schemas import check
from tests.waiting import until

from .recording import CIDR, write

FOREIGN = (sys.executable, str(Path(__file__).with_name("foreign.py")), "{api}", "{node}", CIDR)
HASTY = ExternalOptions(give_up_seconds=4)


def foreign(*fault: str) -> Command:
    return Command("foreign", (*FOREIGN, *fault))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    return str(write(tmp_path_factory.mktemp("external") / "small.jsonl"))


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_another_proxy_is_measured_and_verified(small, variant, kernel_namespaces):
    found = run(small, foreign(), "iptables", ExternalOptions(give_up_seconds=60, variant=variant))
    result = found.result
    assert (found.state, found.exit_code, result.missed, result.wrong) == ("verified", 0, [], [])
    change = result.change
    # A change counts as unseen if no packet happened to show it before it was made.
    assert change.count + change.unseen == 7 and change.unseen <= 1
    assert set(change.by_kind) <= {"deletes", "endpointslice-changes", "service-edits"}
    assert 0 < change.latency_seconds["p50"] <= change.latency_seconds["max"]
    assert (
        change.clocks.get("kernel", 0) >= 4
    )  # the kernel does not announce every replaced endpoint: packets time those
    assert result.first_sync_seconds > 0 and result.peak_memory_bytes > 5 << 20
    assert result.own_metrics is None


@pytest.mark.parametrize(
    ("fault", "state", "code", "words"),
    [
        ("crashes", "crashed", 1, "ended with exit code 1: foreign: no licence was found"),
        ("hangs", "never converged", 5, "was left alone, it should arrive at 10.0.1.1:8080"),
        ("wrong", "wrong", 5, "arrived at 10.0.1.101:8080, it should arrive at 10.0.1.1:8080"),
    ],
)
def test_a_broken_proxy_is_a_row_with_a_reason(small, fault, state, code, words, kernel_namespaces):
    found = run(small, foreign(fault), "iptables", HASTY)
    assert (found.state, found.exit_code) == (state, code)
    assert words in found.reason
    assert found.result.verified is False and found.result.first_sync_seconds is None


def test_a_deletion_that_is_missed_is_named(small, kernel_namespaces):
    found = run(small, foreign("keeps"), "iptables", ExternalOptions(give_up_seconds=60))
    missed = found.result.missed
    assert (found.state, found.exit_code) == ("wrong", 5)
    assert len(missed) == 1 and "172.30.0.3 tcp/80" in missed[0] and "arrived at 10.0.1.3:8080" in missed[0]
    change = found.result.change
    assert change.count + change.unseen == 6 and change.unseen <= 1 and change.missed == 1


def test_compare_has_one_table_for_engine_and_proxies(small, tmp_path, kernel_namespaces):
    written, page = tmp_path / "c.json", tmp_path / "c.html"
    line = " ".join(FOREIGN)
    arguments = ["--modes", "iptables", "--verify", "none", "--json", str(written), "--html", str(page)]
    externals = ["--external", f"foreign={line}", "--external", f"broken={line} crashes"]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "compare", small, *arguments, *externals], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(written.read_text())
    check("compare.json", found)
    assert [(run["name"], run["mode"], run["state"]) for run in found["external"]] == [
        ("proxy-engine", "iptables", "verified"),
        ("foreign", "iptables", "verified"),
        ("broken", "iptables", "crashed"),
    ]
    assert found["external"][0]["result"]["own_metrics"]["syncs"] > 0
    counts = next(line.split()[1:] for line in done.stdout.splitlines() if line.startswith(" changes "))
    assert counts == ["7", "7", "7", "0"]
    for text in ("in process", "proxy-engine", "foreign", "broken", "first sync, s", "no licence was found"):
        assert text in done.stdout, done.stdout
        assert text in page.read_text()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["kube-proxy"], "NAME=COMMAND is needed"),
        (["kp="], "a command is needed"),
        (["kp=no-such-program-anywhere"], "program 'no-such-program-anywhere' not found"),
        (["kp=/"], "program '/' is not an executable file"),
        (["kp=sh -c 'x"], "not a valid command line"),
        (["kp=sh", "kp=sh"], "duplicate name"),
        (["proxy-engine=sh"], "duplicate name"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused(texts, words):
    with pytest.raises(CommandError, match=words):
        commands(texts)


def test_placeholders_are_replaced_and_other_braces_kept():
    found = command("x", "sh -c 'awk \"{print}\" {config}' {node}")
    assert found.filled(config="/c.yaml", node="n1", api="") == ["sh", "-c", 'awk "{print}" /c.yaml', "n1"]
    assert found.takes_modes and not command("x", "sh {api}").takes_modes


def test_a_proxys_own_metrics_are_added_over_families():
    page = "\n".join(
        line.replace("NAME", "kubeproxy_sync_proxy_rules_duration_seconds")
        for family in ("IPv4", "IPv6")
        for line in (
            f'NAME_bucket{{ip_family="{family}",le="0.1"}} 9',
            f'NAME_bucket{{ip_family="{family}",le="0.2"}} 10',
            f'NAME_bucket{{ip_family="{family}",le="+Inf"}} 10',
            f'NAME_sum{{ip_family="{family}"}} 1',
            f'NAME_count{{ip_family="{family}"}} 10',
        )
    )
    assert own_metrics(page) == OwnMetrics(20, 0.1, 0.2)
    assert own_metrics("") is None


def test_usage_includes_child_processes():
    child = "x = b'x' * (64 << 20)\nfor _ in range(9**7): pass"
    burn = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", burn + "; input()"], stdin=subprocess.PIPE) as process:
        usage = Usage(process.pid)
        until(lambda: usage.cpu_seconds() >= 0.1 and usage.peak_bytes() >= 64 << 20)
        usage.end()
        process.kill()
    assert usage.cpu_seconds() >= 0.1 and usage.peak_bytes() >= 64 << 20


def test_a_client_port_is_used_once_on_every_path(kernel_namespaces):
    packet = Packet(bytes((10, 0, 0, 2)), bytes((172, 30, 0, 1)), 6, 80, interface="pods0")
    with World() as world:
        attempts = Attempts(world)
        ports = [
            attempts.send(packet, "pod-local").port,
            attempts.send(packet._replace(interface="eth0"), "external").port,
        ]
    assert len(set(ports)) == 2


def test_children_in_a_session_of_their_own_end_with_the_proxy(small, tmp_path, kernel_namespaces):
    written = tmp_path / "pid"
    line = (
        f"sh -c 'setsid sh -c \"echo \\$\\$ > {written}; exec sleep 600\" & until [ -s {written} ]; do :; done; exit 4'"
    )
    assert run(small, command("x", line), "iptables", HASTY).state == "crashed"
    child = Path(f"/proc/{written.read_text().strip()}")
    until(lambda: not child.exists())


def test_a_proxys_output_is_bounded(kernel_namespaces):
    line = f"sh -c 'yes | head -c {MOST_LOG_BYTES + 2}; echo the end; exec sleep 600'"
    with ProxyEnvironment(command("loud", line), "nftables", "n1", {}) as stage:
        stage.start()
        until(lambda: stage.last_words() == "the end")
        stage.check()
        assert (stage.folder / "log").stat().st_size == LAST_BYTES and stage.last_words() == "the end"


def test_a_proxy_does_not_outlive_a_harness_that_is_killed(small, tmp_path, kernel_namespaces):
    written = tmp_path / "pid"
    line = f"sh -c 'echo $$ > {written}; exec sleep 600'"
    script = "from harness.external.run import ExternalOptions, run\nfrom harness.kube.proxy import command\n"
    script += f"run({small!r}, command('x', {line!r}), 'iptables', ExternalOptions())"
    with subprocess.Popen([sys.executable, "-c", script]) as harness:
        until(lambda: written.exists() and written.read_text().strip())
        harness.kill()
    proxy = Path(f"/proc/{written.read_text().strip()}")
    until(lambda: not proxy.exists())
