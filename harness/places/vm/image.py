"""Kernels to boot: a file with its modules, or a Debian package, downloaded and unpacked but not installed."""

from __future__ import annotations

import lzma
import os
import platform
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import zstandard

from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure
from harness.home import NoHome, cache_folder
from harness.temporary import temporary_folder

DEFAULT = "linux-image-amd64"
"""The default kernel of the Debian release in use."""

DOWNLOAD_SECONDS = 900
_COMMAND_SECONDS = 60
_PARTS = re.compile(r"\bDepends: (linux-(?:image|modules)-\S+)")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_HEADER = 0x250
_PAYLOADS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ": lambda data: lzma.LZMADecompressor().decompress(data),
    b"(\xb5/\xfd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    b"\x1f\x8b": lambda data: zlib.decompressobj(wbits=31).decompress(data),
}


class VmError(Failure, RuntimeError):
    """No such kernel, a missing program, or a machine that did not start; the message names a solution."""


class UnknownImage(VmError):
    """The requested image is not a kernel, or unknown to apt: a usage error."""

    exit_code = EXIT_INPUT


class Image(NamedTuple):
    """The file that QEMU loads, and the folder with `lib/modules/RELEASE`."""

    kernel: Path
    root: Path
    release: str


def resolve(name: str = DEFAULT) -> Image:
    """The image for a path to a vmlinuz or a package name; the package is downloaded unless cached."""
    if "/" in name:
        return _of_file(Path(name).absolute())
    if not _NAME.fullmatch(name):
        raise UnknownImage(f"{name!r} is neither a path to a vmlinuz nor the name of a package")
    return _of_package(name)


def _of_file(path: Path) -> Image:
    try:
        release = release_of(path.read_bytes()[: 1 << 16])
    except OSError as error:
        raise UnknownImage(f"{path}: {error.strerror}") from None
    if not release:
        raise UnknownImage(f"{path} is not an x86 Linux kernel (bzImage)")
    for root in (path.parent.parent, path.parent, Path("/")):
        if (root / "lib/modules" / release / "modules.dep").exists():
            return Image(path, root, release)
    raise UnknownImage(
        f"{path}: its modules are missing in {path.parent.parent}/lib/modules/{release} (with modules.dep)"
    )


def release_of(head: bytes) -> str | None:
    """The release (`uname -r`), from the first 64 KiB of a bzImage; None for other files."""
    if head[0x202:0x206] != b"HdrS":
        return None
    at = struct.unpack_from("<H", head, 0x20E)[0] + 0x200
    words = head[at : at + 256].split(b"\0")[0].split()
    return words[0].decode(errors="replace") if words else None


def unpacked(data: bytes) -> bytes | None:
    """The ELF kernel in a bzImage, which boots without decompression; None if the format is not supported."""
    if len(data) < _HEADER or data[0x202:0x206] != b"HdrS":
        return None
    offset, size = struct.unpack_from("<II", data, 0x248)
    start = ((data[0x1F1] or 4) + 1) * 512 + offset
    payload = data[start : start + size]
    for magic, decompress in _PAYLOADS.items():
        if payload.startswith(magic):
            found = decompress(payload)
            return found if found.startswith(b"\x7fELF") else None
    return None


def _of_package(name: str) -> Image:
    if platform.machine() != "x86_64" or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise VmError(f"package {name}: this needs x86-64 and apt; give the path to a vmlinuz with its modules")
    version = _version(name)
    folder = cache() / f"{name}_{version}".replace("/", "_").replace(":", "_")
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder("kernel", folder.parent) as partial:
            _fill(partial, name)
            try:
                (partial / "image").rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster
                    raise
    (modules,) = (folder / "lib/modules").iterdir()
    return Image(folder / "vmlinux", folder, modules.name)


def cache() -> Path:
    """The user's cache folder for unpacked kernels."""
    try:
        return cache_folder() / "kernels"
    except NoHome as error:
        raise VmError(str(error)) from None


def _version(name: str) -> str:
    """The version that apt would install."""
    text = _output(["apt-cache", "policy", name])
    found = re.search(r"Candidate: (\S+)", text)
    if not found or found[1] == "(none)":
        raise UnknownImage(f"apt knows no package {name}; see `apt-cache search linux-image`, after `apt-get update`")
    return found[1]


def _fill(folder: Path, name: str) -> None:
    """Create `image` in `folder`: kernel and modules of the package and of its dependencies."""
    image, todo, seen = folder / "image", [name], set()
    while todo and not _whole(image):
        package = todo.pop()
        seen.add(package)
        _unpack(package, folder)
        todo += [each for each in _PARTS.findall(_output(["apt-cache", "depends", package])) if each not in seen]
    if not _whole(image):
        raise UnknownImage(f"package {name} does not contain a kernel with modules")
    (kernel,) = (image / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    data = kernel.read_bytes()
    (image / "vmlinux").write_bytes(unpacked(data) or data)
    _output(["depmod", "-b", str(image), release])
    shutil.rmtree(image / "boot")


def _whole(image: Path) -> bool:
    return any(image.glob("boot/vmlinuz-*")) and any(image.glob("lib/modules/*/kernel"))


def _unpack(package: str, folder: Path) -> None:
    _output(["apt-get", "-qq", "download", package], cwd=folder, seconds=DOWNLOAD_SECONDS)
    (file,) = folder.glob("*.deb")
    _output(["dpkg-deb", "-x", str(file), str(folder / "unpacked")], seconds=DOWNLOAD_SECONDS)
    for part in ("boot", "lib", "usr/lib"):
        if (folder / "unpacked" / part).is_dir():
            shutil.copytree(
                folder / "unpacked" / part, folder / "image" / part.removeprefix("usr/"), symlinks=True,
                dirs_exist_ok=True, copy_function=os.link,
            )  # fmt: skip
    shutil.rmtree(folder / "unpacked")
    file.unlink()


def _output(command: list[str], cwd: Path | None = None, seconds: float = _COMMAND_SECONDS) -> str:
    settings = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=seconds, env=settings)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VmError(f"{' '.join(command)}: {error}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise VmError(f"{' '.join(command)}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout
