"""A missing home and invalid kubeconfigs: one line that names the file and a solution, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chaos.targets.kube.api import CallError, KubeApi
from chaos.targets.kube.settings import KubeOptions
from engine.server.api.client import ApiError as EngineError
from engine.server.api.client import load_configuration
from harness import home
from harness.kube.access import Access, AccessError
from harness.kube.list_watch import ListWatch
from harness.log import RecordingError
from harness.log.kafka import broker
from harness.places.vm import image
from harness.record.log import EventLog, spool_folder

CLUSTER = {"name": "x", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority": "/none/ca.crt"}}
CONFIG = {
    "apiVersion": "v1", "kind": "Config", "clusters": [CLUSTER], "users": [{"name": "y", "user": {}}],
    "contexts": [{"name": "a", "context": {"cluster": "x", "user": "y"}}], "current-context": "a",
}  # fmt: skip
BROKEN = {
    "not YAML": b"a: [b",
    "a word": b"hello",
    "a list": b"[]",
    "empty": b"",
    "bytes": b"\xda\x00\xff",
    "clusters that are a word": yaml.safe_dump(CONFIG | {"clusters": "x"}).encode(),
    "a context without its cluster": yaml.safe_dump(CONFIG | {"clusters": []}).encode(),
    "a certificate that is not there": yaml.safe_dump(CONFIG).encode(),
    "absent": None,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_an_invalid_kubeconfig_is_one_line(tmp_path, content):
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_bytes(content)
    for read, error in (
        (lambda: load_configuration(str(path), ""), EngineError),
        (lambda: ListWatch(Access(str(path)), {}), AccessError),
        (lambda: KubeApi(KubeOptions(kubeconfig=str(path))), CallError),
    ):
        with pytest.raises(error) as raised:
            read()
        said = str(raised.value)
        assert said.startswith(f"{path}: ") and len(said.splitlines()) == 1
        assert error is EngineError or said.endswith(
            "give a --kubeconfig, one of its contexts with --context, or --in-cluster in a pod"
        )


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home in the environment or the system, as in many containers."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda _: Path("~").expanduser()))
    monkeypatch.setattr("pwd.getpwuid", _nobody)


def _nobody(uid: int):
    raise KeyError(uid)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_commands_that_need_one_report_it():
    with pytest.raises(home.NoHome, match="set HOME or XDG_CACHE_HOME"):
        home.cache_folder()
    with pytest.raises(RecordingError, match="set HOME or XDG_STATE_HOME, or choose a folder with --spool"):
        spool_folder("t")
    with pytest.raises(broker.BrokerError, match="set HOME or XDG_STATE_HOME"):
        broker.default_home()
    with pytest.raises(image.VmError, match="set HOME or XDG_CACHE_HOME"):
        image.cache()


def test_a_spool_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RecordingError, match="spool: the spool folder cannot be created: .*; choose another with --spool"
    ):
        EventLog(tmp_path / "file" / "spool", spool=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a user without a home, which only root may")
def test_a_recorder_without_a_home_ends_in_one_line(tmp_path):
    """To a topic, without --spool; with a valid kubeconfig whose server does not answer."""
    kubeconfig = tmp_path / "kubeconfig"
    del CLUSTER["cluster"]["certificate-authority"]
    kubeconfig.write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "harness", "record", "--kafka", "127.0.0.1:1", "--topic", "t"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        ["unshare", "--user", "--map-user=65532", *command, "--kubeconfig", kubeconfig],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: spool: no home directory"), done.stderr
    assert len(done.stderr.splitlines()) == 1
