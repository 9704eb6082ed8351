"""The machine's initramfs: a shell, the modules needed to mount the host's files, and the list of mounts."""

from __future__ import annotations

import lzma
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from harness.places.vm.image import Image, VmError

INIT = Path(__file__).with_name("init.sh")
_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
_FOLDERS = ("bin", "dev", "host", "layer", "modules", "proc", "root", "sys")
_DECOMPRESS = {
    ".xz": lzma.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
_FOLDER, _PROGRAM, _FILE, _LINK = 0o40755, 0o100755, 0o100644, 0o120777


class SharedFolder(NamedTuple):
    """A folder of the host that the machine may write; `cache` is the 9p option."""

    tag: str
    path: str
    cache: str


def build(image: Image, busybox: str, settings: str, shares: Sequence[SharedFolder]) -> bytes:
    """The archive: `settings` is sourced by init, `shares` are mounted in addition to the root."""
    archive = _Archive()
    for name in _FOLDERS:
        archive.add(name, b"", _FOLDER)
    archive.add("bin/busybox", Path(busybox).read_bytes(), _PROGRAM)
    archive.add("bin/sh", b"busybox", _LINK)
    archive.add("init", INIT.read_bytes(), _PROGRAM)
    archive.add("settings", settings.encode(), _FILE)
    archive.add("mounts", "".join(f"{tag} {cache} {path}\n" for tag, path, cache in shares).encode(), _FILE)
    for number, module in enumerate(_modules(image)):
        data = module.read_bytes()
        archive.add(f"modules/{number:02}.ko", _DECOMPRESS.get(module.suffix, bytes)(data), _FILE)
    return archive.end()


def _modules(image: Image) -> list[Path]:
    """Files of the required modules, in load order."""
    command = ["modprobe", "-d", str(image.root), "-S", image.release, "--show-depends", "-a", *_MODULES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        why = done.stderr.strip().splitlines()
        raise VmError(
            f"kernel {image.release} cannot mount the host's files, which needs modules {', '.join(_MODULES)} ("
            f"{why[0] if why else 'modprobe failed'}); kernels of cloud packages lack them, others have them"
        )
    lines = [line.split() for line in done.stdout.splitlines()]
    return [Path(name) for name in dict.fromkeys(words[1] for words in lines if words[0] == "insmod")]


class _Archive:
    """The `newc` format of cpio, the only one that the kernel reads."""

    def __init__(self) -> None:
        self._parts = bytearray()
        self._number = 0

    def add(self, name: str, data: bytes, mode: int) -> None:
        self._number += 1
        path = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + path, data):
            self._parts += part + b"\0" * (-len(part) % 4)

    def end(self) -> bytes:
        self.add("TRAILER!!!", b"", 0)
        return bytes(self._parts)
