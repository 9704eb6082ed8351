"""Calls of tools end, whatever the tool does."""

from __future__ import annotations

import time

import pytest

from engine.kernel import tools
from engine.kernel.interface import KernelError
from harness.places import commands
from harness.places.vm import machine

STOPPED = ["sh", "-c", "kill -STOP $$"]
"""It neither ends nor answers."""
LEFT_OPEN = ["sh", "-c", "sleep 60 & exit 1"]
"""It has ended, but its child holds its output open."""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Nothing here gets longer than a second, as a large input would."""
    monkeypatch.setattr(tools, "SECONDS", 0.5)
    monkeypatch.setattr(commands, "SECONDS", 1)


@pytest.mark.parametrize("run", [tools.run, commands.run])
@pytest.mark.parametrize("command", [STOPPED, LEFT_OPEN])
def test_a_tool_that_hangs_has_failed(run, command):
    began = time.monotonic()
    done = run(command, b"input\n" * 10)
    assert done.returncode == tools.TIMED_OUT == commands.TIMED_OUT
    assert done.stderr.startswith(b"sh timed out after")
    assert time.monotonic() - began < 30
    with pytest.raises(KernelError, match="sh timed out after"):
        tools.answered(done)


def test_the_time_limit_of_tools_is_configurable(monkeypatch):
    assert machine.TOOL_LIMITS.keys() == {tools.VARIABLE}
    monkeypatch.setenv(tools.VARIABLE, "30")
    assert tools.run(["sh", "-c", "sleep 1; echo done"]).stdout == b"done\n"
    monkeypatch.setenv(tools.VARIABLE, "soon")
    with pytest.raises(KernelError, match="PROXY_ENGINE_TOOL_SECONDS is not a number of seconds: 'soon'"):
        tools.run(["true"])


def test_large_input_gets_more_time():
    done = tools.run(["sh", "-c", "sleep 1.5; cat"], bytes(200_000))
    assert (done.returncode, len(done.stdout)) == (0, 200_000)


def test_what_cannot_be_started_has_failed(tmp_path):
    assert tools.run(["no-such-tool"]).returncode == tools.NOT_INSTALLED
    file = tmp_path / "tool"
    file.write_text("")
    done = tools.run([str(file)])
    assert (done.returncode, done.stderr) == (
        tools.NOT_STARTED,
        f"{file} could not be started: Permission denied".encode(),
    )
