"""A virtual machine for one or more commands: any kernel, with this machine's files.

    IMAGE -> image (kernel, modules; a package is downloaded once) -> initramfs -> QEMU -> guest -> command
                                                                        ^ one serial port: frames both ways

Its root is the host's, read-only below an in-memory overlay, so that everything is writable and nothing persists; only
the `writable` directories are the host's own.  The machine ends with this process, however that ends.  Root privileges
are not needed.  KVM is used if it works, otherwise emulation.
"""

from harness.places.vm.image import DEFAULT, UnknownImage, VmError, resolve
from harness.places.vm.machine import Guest, TimeLimit, accelerator, booted, inside, missing, patience, run

__all__ = [
    "DEFAULT", "Guest", "TimeLimit", "UnknownImage", "VmError", "accelerator", "booted", "inside", "missing",
    "patience", "resolve", "run",
]  # fmt: skip
