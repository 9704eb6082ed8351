"""The committed recordings are what the generator makes."""

from pathlib import Path

import msgspec
import pytest

from harness.synth import Options, generate

RECORDINGS = Path(__file__).parents[2] / "recordings"
CASES = {
    "10k-svc.jsonl": (Options(), 30_000_000),
    "demo.jsonl": (Options(services=41, churn=200, nodes=6, seed=7), 300_000),
}


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_the_generators(name):
    options, _ = CASES[name]
    header, events = generate(options)
    with open(RECORDINGS / name, "rb") as file:
        assert file.readline() == msgspec.json.encode(header) + b"\n"
        for event in events:
            assert file.readline() == msgspec.json.encode(event) + b"\n"
        assert file.read() == b""


@pytest.mark.parametrize("name", CASES)
def test_size_limit(name):
    assert (RECORDINGS / name).stat().st_size < CASES[name][1]


def test_the_writer_makes_the_same_files(tmp_path):
    pytest.importorskip("harness.recording")
    from harness.synth.committed import COMMITTED, make

    assert {name: options for name, (options, _) in CASES.items()} == COMMITTED
    for path in make(tmp_path):
        assert path.read_bytes() == (RECORDINGS / path.name).read_bytes()
