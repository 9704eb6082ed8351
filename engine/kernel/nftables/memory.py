"""An in-memory kernel: the same transactions and errors, without netfilter."""

from __future__ import annotations

import re
import struct

from engine.backends.nftables.program import NftablesProgram
from engine.kernel.interface import Applied, KernelError

_MAP = re.compile(r"map (\S+) \{\n.*: verdict\n +elements = \{ (.*) \}\n")
_VERDICT = re.compile(r"([0-9a-f]+):([0-9a-f]+) : (?:goto|jump) ([a-z0-9-]+)")
_DELETED = re.compile(r"delete element \S+ \S+ (\S+) \{ (.*) \}\n")
_PRIORITY = re.compile(r"([0-9a-f]+):([0-9a-f]+)")


class NftablesMemory:
    """`tables[family][set name]` is {key: data}, as in a readback of the real kernel.

    Of the rules only the elements of verdict maps are interpreted, whose data are names of chains.
    """

    def __init__(self) -> None:
        self.tables: dict[int, dict[str, dict[bytes, bytes]]] = {}

    def apply(self, program: NftablesProgram) -> Applied:
        """Deleting an absent element or adding an existing one fails, as in nf_tables."""
        sets = self.tables.setdefault(program.family, {})
        if any("delete table" in script for script in program.scripts):
            sets.clear()
        sent = sum(len(script) for script in program.scripts)
        for script in program.scripts:
            _verdicts(script, sets)
        for change in program.sets:
            elements = sets.setdefault(change.name, {})
            for key in change.delete:
                if elements.pop(key, None) is None:
                    raise KernelError(f"delete of an absent element of {change.name}: {key.hex()}")
                sent += len(key)
            for key, data in change.added:
                if elements.setdefault(key, data) != data:
                    raise KernelError(f"element of {change.name} exists with other data: {key.hex()}")
                sent += len(key) + len(data)
        return Applied(sent)


def _verdicts(script: str, sets: dict[str, dict[bytes, bytes]]) -> None:
    for name, keys in _DELETED.findall(script):
        for key in _PRIORITY.findall(keys):
            del sets[name][_key(*key)]
    for name, elements in _MAP.findall(script):
        for *key, chain in _VERDICT.findall(elements):
            sets.setdefault(name, {})[_key(*key)] = chain.encode()


def _key(major: str, minor: str) -> bytes:
    return struct.pack("=I", int(major, 16) << 16 | int(minor, 16))
