"""`--kernel vm[:IMAGE]`: runs the same command line again in a virtual machine with that kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

import click

from harness.cli.verbosity import asked

EMULATED_PART = "10s"
"""The part replayed if a virtual machine was not requested but is needed, and has to be emulated."""
_FALLBACK = "HARNESS_VM_FALLBACK"


class KernelChoice(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """One of the given kinds of kernel; `vm` may be followed by an image."""

    name = "kernel"

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, unchanged."""
        if value not in self.kinds and not (value.startswith("vm:") and value[3:] and "vm" in self.kinds):
            self.fail(f"{value!r} is not one of {self.get_metavar(param)}", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter | None, ctx: click.Context | None = None) -> str:
        """The choices."""
        return "|".join("vm[:IMAGE]" if kind == "vm" else kind for kind in self.kinds)


def image_of(kind: str) -> str:
    """The kernel image selected by `vm`, `vm:IMAGE`, or a fallback to `vm`."""
    from harness.places.vm import DEFAULT

    return kind.partition(":")[2] or DEFAULT


def run_in_vm_if_needed(kind: str, mode: str, sources: Iterable[str | None], folders: Iterable[str | None]) -> None:
    """Run the command in a virtual machine and exit, if one is needed; `folders` are those that it writes to."""
    from harness.replay.kernels import needs_vm

    if needs_vm(kind, mode):
        sys.exit(run_in_vm(kind, sources, folders))


def run_in_vm(kind: str, sources: Iterable[str | None], folders: Iterable[str | None]) -> int:
    """The exit code of this command in a virtual machine."""
    from harness.places import vm

    sources = [source for source in sources if source]
    for source in sources:
        if source and "://" in source:
            raise click.UsageError(
                f"{source}: a virtual machine has no network; save it to a file with `harness copy` first"
            )
    command = [sys.executable, "-m", "harness", *sys.argv[1:], "--kernel", "netns"]
    stdin = sys.stdin.buffer.read() if "-" in sources else b""
    writable = sorted({os.path.abspath(folder) for folder in folders if folder})
    environment = {_FALLBACK: "1"} if kind == "auto" else {}
    return vm.run(command, image=image_of(kind), writable=writable, environment=environment, stdin=stdin,
                  stdout=_data_sink(), progress=show_progress)  # fmt: skip


def _data_sink() -> Callable[[bytes], None] | None:
    """The target of output with -q, which the command inside has as well; None without it: the stream itself."""
    data = asked().data

    def write(text: bytes) -> None:
        assert data is not None
        data.buffer.write(text)
        data.flush()

    return write if data else None


def part_alone() -> bool:
    """Whether this runs in an emulated machine because the host's kernel lacks the mode."""
    from harness.places import vm

    return _FALLBACK in os.environ and vm.inside() and vm.accelerator() == "tcg"


def folder_of(path: str | None) -> str | None:
    """The folder of an output file; None for standard output."""
    return os.path.dirname(os.path.abspath(path)) if path and path != "-" else None


def show_progress(line: str) -> None:
    """Print the machine's progress if standard error is a terminal."""
    if sys.stderr.isatty():
        click.echo(line, err=True)
