"""Reports what works on this machine and what is missing for the rest: the facts for a bug report."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct

from harness.extras import missing
from harness.home import NoHome, state_folder
from harness.modes import MODES
from harness.places import vm
from harness.places.namespace import Namespace, NamespaceError
from harness.replay.kernels import KernelUnavailable, open_kernel

TOOLS = ("nft", "iptables", "ip", "ipset", "ipvsadm", "qemu-system-x86_64", "busybox", "kubectl", "mvn", "java", "curl")


class Machine(Struct, frozen=True):
    """Properties of this machine; `packages` are versions, None for what is not installed."""

    harness: str | None
    python: str
    system: str
    kernel: str
    cpus: int
    memory_mib: int
    user: int
    kvm: bool
    ci: bool
    state_folder: str
    packages: dict[str, str | None]


class Diagnosis(Struct, frozen=True):
    """`works`: per feature, None or what is missing.  `tools`: their paths, and versions where known."""

    machine: Machine
    works: dict[str, str | None]
    tools: dict[str, str | None]


def diagnose() -> Diagnosis:
    """What works here; namespaces created for the checks are removed again."""
    works: dict[str, str | None] = {"user and network namespaces": _namespaces()}
    tools: dict[str, str] = {}
    for mode in MODES:
        works[f"replay in mode {mode}"] = _mode(mode, tools)
    works["--kernel vm"] = vm.missing()
    works["--kernel host"] = None if os.geteuid() == 0 else "it needs root"
    works["lab"] = works["user and network namespaces"] or missing("kubernetes")
    works["chaos on a lab"] = works["lab"] or missing("chaoslib", "locust")
    works["record, proxy-engine, chaos on a cluster"] = missing("kubernetes")
    works["Kafka topics"] = missing("kafka")
    return Diagnosis(_machine(), works, {**tools, **{name: shutil.which(name) for name in TOOLS}})


def _machine() -> Machine:
    return Machine(
        harness=_version("kube-proxy-harness"),
        python=f"{platform.python_version()} ({sys.executable})",
        system=_system(),
        kernel=f"{platform.release()} {platform.machine()}",
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        user=os.geteuid(),
        kvm=os.access("/dev/kvm", os.R_OK | os.W_OK),
        ci=bool(os.environ.get("CI")),
        state_folder=_state_folder(),
        packages={name: _version(name) for name in ("click", "msgspec", "kubernetes", "kafka-python", "locust")},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.system()


def _state_folder() -> str:
    try:
        folder = state_folder()
    except NoHome as error:
        return str(error)
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return str(folder) if os.access(there, os.W_OK) else f"{folder}: not writable"


def _namespaces() -> str | None:
    try:
        with Namespace():
            return None
    except NamespaceError as error:
        return str(error)


def _mode(mode: str, tools: dict[str, str]) -> str | None:
    """None if a kernel for the mode can be opened, else why not; adds the versions of its tools to `tools`."""
    try:
        with open_kernel("netns", mode) as target:
            known = ("kind", "machine", "release")
            tools |= {f"{name} version": text for name, text in target.facts.items() if name not in known}
    except (KernelUnavailable, OSError, RuntimeError) as error:
        return " ".join(str(error).split())
    return None
