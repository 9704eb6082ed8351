"""Output of every command: devices, pipes and symlinks stay as they are, files are complete or unchanged."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.server.main import main as proxy_engine
from harness.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from harness.log import open_source, write_recording
from harness.output import Output, OutputError, whole_file

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "recordings" / "demo.jsonl"
DUMP = Path(__file__).parent / "data" / "dump.json"
COMMANDS = {
    "synth": ("synth", "{out}", "--services", "3", "--churn", "0", "--nodes", "2"),
    "copy": ("copy", RULES, "{out}"),
    "redact": ("redact", RULES, "{out}"),
    "redact's report": ("redact", RULES, "redacted.jsonl", "--report", "{out}"),
    "import": ("import", DUMP, "{out}"),
    "plan": ("plan", RULES, "-o", "{out}"),
    "trace": ("trace", RULES, "--from", "external:203.0.113.7", "--to", "10.96.0.1:80/tcp", "--json", "{out}"),
    "replay": ("replay", RULES, "--kernel", "memory", "--until", "0s", "--verify", "none", "--json", "{out}"),
    "replay's picture": ("replay", RULES, "--kernel", "memory", "--until", "0s", "--verify", "none", "--svg", "{out}"),
    "compare": (
        "compare", RULES, "--modes", "nftables", "--kernel", "memory", "--until", "0s", "--verify", "none",
        "--json", "{out}",
    ),
}  # fmt: skip


def harness(command: tuple, out: Path, folder: Path) -> subprocess.CompletedProcess:
    words = [str(word).replace("{out}", str(out)) for word in command]
    return subprocess.run(
        [sys.executable, "-m", "harness", *words], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_symlink_is_followed_and_an_unwritable_target_is_one_line(tmp_path, command):
    """The second before any work is done, so nothing is printed of it."""
    (tmp_path / "real").write_text("keep")
    (tmp_path / "link").symlink_to("real")
    done = harness(command, tmp_path / "link", tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() not in ("keep", "")
    assert not list(tmp_path.glob("*.partial"))
    refused = harness(command, tmp_path / "none" / "out.jsonl", tmp_path)
    assert refused.returncode == 2 and refused.stdout == ""
    lines = refused.stderr.splitlines()
    assert lines == [f"error: {tmp_path}/none/out.jsonl: cannot be written: No such file or directory"]


@pytest.fixture
def device(tmp_path):
    """A null device of this test's own."""
    path = tmp_path / "dev"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_bytes(b"x")
    except PermissionError:
        pytest.skip("only root may make a device, and not on every file system")
    return path


def write_all(path: Path) -> None:
    """By every writer that there is."""
    with open_source(RULES) as recording:
        write_recording(path, recording.header, recording)
    write_kubeconfig(path, kubeconfig("http://127.0.0.1:1", None, None))
    with whole_file(path) as out:
        out.write(b"new")


def test_a_device_stays_a_device(device):
    write_all(device)
    assert proxy_engine(["--write-config-to", str(device)]) == 0
    assert stat.S_ISCHR(device.stat().st_mode) and sorted(device.parent.iterdir()) == [device]


def test_a_symlink_to_a_device_stays_one(device):
    link = device.parent / "link"
    link.symlink_to(device)
    write_all(link)
    assert link.is_symlink() and stat.S_ISCHR(device.stat().st_mode)


def test_symlinks_to_missing_files_are_followed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/real")
    for _ in range(2):
        write_all(tmp_path / "link")
        assert proxy_engine(["--write-config-to", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink() and "KubeProxyConfiguration" in (tmp_path / "sub" / "real").read_text()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["real"]


def test_a_pipe_is_written_through(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with whole_file(pipe) as out:
        out.write(b"through")
    reader.join(20)
    assert read == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_waiting_for_the_reader_of_a_pipe_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.output.READER_SECONDS", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe: cannot be written: no reader opened this pipe within 0.2 s"):
        Output(tmp_path / "pipe")


def test_standard_output_by_its_name(tmp_path):
    """Redirected to a file, it is neither replaced nor cut."""
    out = tmp_path / "out"
    with open(out, "wb") as file:
        file.write(b"before\n")
        file.flush()
        subprocess.run(
            [sys.executable, "-c", "from harness.output import whole_file\nwith whole_file('/dev/stdout') as o:"
             " o.write(b'new')"],
            stdout=file, cwd=ROOT, check=True, timeout=60,
        )  # fmt: skip
        assert os.fstat(file.fileno()).st_ino == out.stat().st_ino
    assert out.read_bytes() == b"before\nnew"


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "out"
    path.write_text("keep")
    path.chmod(0o640)
    with pytest.raises(RuntimeError), whole_file(path) as out:
        out.write(b"half")
        raise RuntimeError
    assert path.read_text() == "keep" and list(tmp_path.iterdir()) == [path]
    with whole_file(path) as out:
        out.write(b"new")
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    for name in ("synth", "plan", "replay"):
        done = harness(COMMANDS[name], tmp_path / "full", tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1] == f"error: {tmp_path}/full: cannot be written: No space left on device"
        assert "Traceback" not in done.stderr
