"""kernelspace mode: the requests of a Windows node to its Host Networking Service, as JSON.

It cannot be applied on Linux: the plan is only printed.
"""

from engine.backends.kernelspace.layout import KernelspaceBackend

__all__ = ["KernelspaceBackend"]
