"""Writes the chains of Services while the rest of a full program is computed, in the nft variant.

Only into a table without chains of Services, so that nothing refers to what is written before the program is complete.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping

from engine.backends.iptables.names import OF_SERVICES
from engine.backends.iptables.program import Rules, Table
from engine.kernel.interface import KernelError
from engine.kernel.iptables.netlink import ChainWriter

_log = logging.getLogger(__name__)

_NAT = "nat"


class Ahead:
    """The parts of one family's next program; each chain must come after those that it jumps to."""

    def __init__(self, writer: ChainWriter, family: int) -> None:
        self._writer, self._family = writer, family
        self._chains: dict[str, Rules] = {}
        self._pipeline = writer.pipeline()
        self._there: dict[str, list[str]] | None = None
        self._writes = False
        try:
            self._there = writer.chains(family)
            if not any(chain.startswith(OF_SERVICES) for chain in self._there.get(_NAT, ())):
                self._pipeline.put([writer.new_table(family, _NAT)])
                self._writes = True
        except KernelError as error:
            self._stop(error)

    def put(self, part: Mapping[str, Rules]) -> None:
        """Write these chains, unless they were there before, or something was refused."""
        if not self._writes or self._there is None:
            return
        there = self._there.setdefault(_NAT, [])
        try:
            for chain, rules in part.items():
                if chain not in there:
                    new = chain not in self._chains
                    self._pipeline.put(self._writer.chain(self._family, _NAT, chain, rules, new))
                    self._chains[chain] = rules
        except (KernelError, ValueError) as error:
            self._stop(error)

    def end(self) -> tuple[dict[str, list[str]], dict[str, Rules], int]:
        """All chains by table, those written with their rules, and the bytes sent."""
        sent = 0
        with self._pipeline:
            try:
                sent = self._pipeline.end() if self._writes else 0
            except KernelError as error:
                self._stop(error)
        there = self._writer.chains(self._family) if self._there is None else self._there
        if self._writes:
            there[_NAT] = [*dict.fromkeys((*there.get(_NAT, ()), *self._chains))]
        return there, self._chains, sent

    def remove(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(KernelError):  # the next full program removes it
            _, chains, _ = self.end()
            self._writer.write(self._family, [Table(_NAT, {}, deleted=tuple(reversed(chains)))])

    def _stop(self, error: Exception) -> None:
        self._writes, self._chains, self._there = False, {}, None
        _log.warning("Failed to write chains ahead, the whole program is written again: %s", error)
