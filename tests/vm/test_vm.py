"""The virtual machine: its requirements, what it forwards, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.places import vm
from harness.places.vm.image import release_of, unpacked
from tests.in_vm import why_not
from tests.waiting import until as eventually

DEMO = "recordings/demo.jsonl"
COMMANDS = [
    ["replay", DEMO], ["compare", DEMO], ["trace", "--cases", "harness/conformance/corpus/cases"],
    ["chaos", "run", "packet-delay"],
    ["lab", "up"],
]  # fmt: skip
"""All that take --kernel vm."""


def own_labs(folder: Path) -> dict[str, str]:
    """The environment in which a lab without a name is another one than that of tests which run meanwhile."""
    return {"XDG_RUNTIME_DIR": str(folder)}


@pytest.fixture
def machine() -> None:
    if why_not():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"NO TESTS OF VIRTUAL MACHINES: {why_not()}")


@pytest.mark.vm(boots=True)
def test_output_input_exit_code_and_files_are_passed_on(machine, tmp_path):
    out, errors = bytearray(), bytearray()
    script = f"cat; head -c 3000000 /dev/zero; echo bad >&2; echo kept >{tmp_path}/kept; echo lost >/tmp/lost; exit 7"
    given = os.urandom(100_000)
    code = vm.run(["sh", "-c", script], writable=[str(tmp_path)], stdin=given, stdout=out.extend, stderr=errors.extend,
                  limit_seconds=240)  # fmt: skip
    assert code == 7
    assert out == given + bytes(3_000_000)
    assert errors == b"bad\n"
    assert (tmp_path / "kept").read_text() == "kept\n"
    assert not Path("/tmp/lost").exists()


IN_A_LAB = """
import socket, sys
from pathlib import Path
from chaos.targets.lab_stage import lab_folder
with lab_folder(Path(sys.argv[1])) as lab, socket.socket(socket.AF_UNIX) as listener:
    lab.mkdir()
    (lab / "kept").write_text("kept")
    listener.bind(str(lab / "control.sock"))
"""


@pytest.mark.vm(boots=True)
def test_a_labs_sockets_are_not_in_a_shared_folder(machine, tmp_path):
    """Not even if temporary files are: 9p cannot hold them.  Its files are there afterwards."""
    command = [sys.executable, "-c", IN_A_LAB, str(tmp_path / "run")]
    errors = bytearray()
    (tmp_path / "run").mkdir()
    code = vm.run(command, writable=[str(tmp_path)], environment={"TMPDIR": str(tmp_path)}, stderr=errors.extend,
                  limit_seconds=240)  # fmt: skip
    assert code == 0, errors.decode()
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(tmp_path / "run" / "lab") == ["kept"]


@pytest.mark.vm(boots=True)
def test_a_command_without_an_end_is_ended(machine):
    with pytest.raises(vm.VmError, match="had not ended after 60 s"):
        vm.run(["sleep", "10000"], limit_seconds=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_machine_too(machine, number, code):
    command = [sys.executable, "-m", "harness", "replay", DEMO, "--kernel", "vm"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    found = eventually(lambda: children(process.pid))
    process.send_signal(number)
    assert process.wait(60) == code
    assert eventually(lambda: all(not Path(f"/proc/{pid}").exists() for pid in found))


def children(pid: int) -> list[str]:
    return subprocess.run(["pgrep", "-P", str(pid), "qemu"], capture_output=True, text=True).stdout.split()


def refused(*arguments: str, **more) -> str:
    done = CliRunner(**more).invoke(main, ["replay", DEMO, *arguments])
    assert done.exit_code in (1, 2)
    assert done.stderr.count("\n") == 1 or done.exit_code == 2
    return done.stderr


def test_missing_input_is_reported_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("engine.paths.SBIN", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    words = "needs qemu-system-x86, busybox-static, kmod, util-linux: sudo apt-get install"
    for command in COMMANDS:
        done = CliRunner().invoke(main, [*command, "--kernel", "vm"], env=own_labs(tmp_path))
        assert done.exit_code == 1
        assert done.stderr.count("\n") == 1 and words in done.stderr


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("no-such-package-at-all", "apt knows no package no-such-package-at-all"),
        ("/no/such/vmlinuz", "/no/such/vmlinuz: No such file"),
        (DEMO, "is not an x86 Linux kernel"),
        ("No Package", "is neither a path to a vmlinuz nor the name of a package"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_image_is_one_line(machine, tmp_path, image, words, command):
    done = CliRunner().invoke(main, [*command, "--kernel", f"vm:{image}"], env=own_labs(tmp_path))
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kernel", "vm:"], "is not one of auto|netns|vm[:IMAGE]|memory|host"),
        (["--kernel", "vm", "--follow"], "whose machine does not see the source grow"),
    ],
)
def test_unsupported_options_are_rejected_in_a_virtual_machine(arguments, words):
    assert words in " ".join(refused(*arguments).split())


def test_a_topic_is_rejected_in_a_virtual_machine():
    done = CliRunner().invoke(main, ["replay", "kafka://127.0.0.1:9/topic", "--kernel", "vm"])
    assert done.exit_code == 2
    assert "no network" in done.stderr


def test_a_file_that_is_no_kernel_has_no_release():
    assert release_of(b"") is None
    assert unpacked(b"\0" * 4096) is None


def test_a_kernel_s_name_and_its_unpacked_form(machine, tmp_path):
    """A bzImage as the kernel's build lays it out, around a payload of our own."""
    import lzma
    import struct

    payload = lzma.compress(b"\x7fELF" + b"kernel" * 1000)
    head = bytearray(0x400)
    head[0x1F1], head[0x202:0x206] = 1, b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    head[0x300:0x30F] = b"6.1.0-9-amd64 (\0"[:15]
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    assert release_of(bytes(head)) == "6.1.0-9-amd64"
    assert unpacked(bytes(head) + payload) == b"\x7fELF" + b"kernel" * 1000


def test_only_a_fallback_to_emulation_replays_a_part(monkeypatch):
    """Who asked for the machine, or said how far, gets that."""
    from harness.cli import vm as options

    words = "emulated machine: only the first 10s are replayed"
    command = ["replay", DEMO, "--kernel", "memory", "--verify", "none"]
    monkeypatch.setenv("HARNESS_VM", "tcg")
    assert words not in CliRunner().invoke(main, command).stderr
    monkeypatch.setenv(options._FALLBACK, "1")
    part = CliRunner().invoke(main, command)
    assert words in part.stderr
    assert (
        CliRunner().invoke(main, [*command, "--until", "10s"]).stdout.splitlines()[-2] == part.stdout.splitlines()[-2]
    )
    assert words not in CliRunner().invoke(main, [*command, "--whole"]).stderr
    monkeypatch.setenv("HARNESS_VM", "kvm")
    assert words not in CliRunner().invoke(main, command).stderr
