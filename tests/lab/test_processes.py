"""A process that is signalled and started again at once."""

from __future__ import annotations

import asyncio
import signal

import pytest

from harness.lab.dataplane.engines import Engine
from harness.lab.topology import LabOptions, nodes_of


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """An engine whose process only sleeps, and ends 0.2 s after a SIGTERM."""
    monkeypatch.setattr("harness.lab.dataplane.network.inside", lambda _, words: words)
    script = "trap 'sleep 0.2; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    options = LabOptions(nodes=1, external=("sh", "-c", script))
    return Engine(nodes_of(options)[0], options, tmp_path / "engine", tmp_path / "kubeconfig")


async def started(engine: Engine) -> int:
    await engine.start()
    while b"ready" not in engine.last_words().encode():
        await asyncio.sleep(0.01)
    return engine.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_right_after_a_signal_that_ends_the_process_starts_another(engine, number):
    async def scenario() -> None:
        first = await started(engine)
        engine.send(number)
        assert engine.running, "its end has not been seen yet"
        await engine.start()
        assert engine.running and engine.pid != first
        engine.send(signal.SIGKILL)
        await engine.process.wait()

    asyncio.run(scenario())


def test_starts_at_the_same_time_start_one_process(engine, monkeypatch):
    created = []
    create = asyncio.create_subprocess_exec

    async def counting(*command, **options):
        created.append(await create(*command, **options))
        return created[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counting)

    async def scenario() -> None:
        await asyncio.gather(engine.start(), engine.start())
        assert len(created) == 1
        engine.send(signal.SIGKILL)
        await engine.process.wait()

    asyncio.run(scenario())


def test_a_signal_to_a_process_that_has_ended_names_it(engine):
    with pytest.raises(ProcessLookupError, match="the engine of node-1 has no running process"):
        engine.send(signal.SIGKILL)


def test_a_process_that_does_not_end_is_reported(engine, monkeypatch):
    monkeypatch.setattr("harness.lab.dataplane.processes.ENDING_SECONDS", 0.1)

    async def scenario() -> None:
        await started(engine)
        engine.send(signal.SIGSTOP)
        engine.send(signal.SIGTERM)
        with pytest.raises(TimeoutError, match="the engine of node-1 did not end within"):
            await engine.start()
        engine.send(signal.SIGKILL)
        await engine.process.wait()

    asyncio.run(scenario())
