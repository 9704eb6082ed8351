"""Real packets through a real kernel: namespaces around a node, and a judge that watches all their ends.

wire (bytes) <- world (namespaces, sockets) <- witness (outcome of each flow)
"""

from harness.packets.witness import KernelWitness, open_witness

__all__ = ["KernelWitness", "open_witness"]
