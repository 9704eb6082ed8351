"""kernelspace mode: what a Windows node's Host Networking Service would be asked for, as its JSON.

There is nothing to apply it to on Linux: it is a plan to be printed.
"""

from engine.backends.kernelspace.layout import KernelspaceBackend

__all__ = ["KernelspaceBackend"]
