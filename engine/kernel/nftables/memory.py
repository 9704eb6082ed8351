"""A kernel that only remembers: the same transactions, the same refusals, no netfilter."""

from __future__ import annotations

import re
import struct

from engine.backends.nftables.program import NftablesProgram
from engine.kernel.base import Applied, KernelError

_PICK = re.compile(r"([0-9a-f]+):0 : goto ([a-z0-9-]+)")


class NftablesMemory:
    """`tables[family][set name]` is {key: data}, as a read-back of the real kernel would give it.

    Of the rules it understands the elements of map `picks` alone, whose data are names of chains.
    """

    def __init__(self) -> None:
        self.tables: dict[int, dict[str, dict[bytes, bytes]]] = {}

    def apply(self, program: NftablesProgram) -> Applied:
        """Deletes of the absent and additions of the present are refused, as nf_tables refuses them."""
        sets = self.tables.setdefault(program.family, {})
        if any("delete table" in script for script in program.scripts):
            sets.clear()
        sent = sum(len(script) for script in program.scripts)
        for count, chain in _PICK.findall("".join(program.scripts)):
            sets.setdefault("picks", {})[struct.pack("=I", int(count, 16) << 16)] = chain.encode()
        for change in program.sets:
            elements = sets.setdefault(change.name, {})
            for key in change.delete:
                if elements.pop(key, None) is None:
                    raise KernelError(f"delete of an absent element of {change.name}: {key.hex()}")
                sent += len(key)
            for key, data in change.add:
                if elements.setdefault(key, data) != data:
                    raise KernelError(f"element of {change.name} exists with other data: {key.hex()}")
                sent += len(key) + len(data)
        return Applied(sent)
