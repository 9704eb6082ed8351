"""A node's view derived from the shared part of its zone: only differences are computed, with the same result."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from engine.backends.claims import Claims
from engine.backends.nftables.layout import HAIRPINS, chains
from engine.backends.nftables.overlay import Block, Chain, Different, PartsBackend, Recorded, combined, digest
from engine.config import ProxyConfig
from engine.dataplane import PlanChange, PortPlan, of_node
from engine.model import HostAddresses, Name
from harness.fleet.shared import Locals, NodePart, Reference, ReferenceProgram, Shared
from harness.fleet.stage import PreparedScenario, config_of
from harness.fleet.view import CODES, NO_SYNC, FleetView
from harness.replay.effects import NOTHING, SENT, UNDONE


@dataclass
class _Sent:
    """One program of the node; its digest is b"" if it is empty."""

    digest: bytes
    operations: int
    bytes: int


def zone_view(stage: PreparedScenario, shared: Shared, node: str) -> FleetView:
    """The view of a node whose Node object does not change."""
    own, config = stage.tape.nodes[node], config_of(stage)
    host = config.host(own)
    found = FleetView(node, own.zone if own else "")
    sync_count = len(stage.batches) + 1
    nodes = [_NodeFamily(f, config, reference, shared, node, host) for f, reference in shared.families.items()]
    programs = [each.programs() for each in nodes]
    sha = hashlib.sha256(stage.settings.mode.encode())
    for number in range(sync_count):
        operations = sent = 0
        for mine, reference in zip(programs, shared.families.values(), strict=True):
            program = mine.get(number) or reference.programs[number]
            if program is None:
                operations = NO_SYNC
                break
            operations += program.operations
            sent += program.bytes
            sha.update(program.digest)
        found.operations.append(operations)
        found.bytes.append(sent)
    found.digest = sha.hexdigest()
    found.effects = _effects(stage, shared, nodes, found)
    return found


def _effects(stage: PreparedScenario, shared: Shared, families: list[_NodeFamily], view: FleetView) -> bytearray:
    """The code of each change: that of the zone, unless the sync or the Service differs on this node."""
    effects, quiet = bytearray(shared.codes[True]), shared.codes[False]
    for number, batch in enumerate(stage.batches, 1):
        end = batch.first + len(batch.changes)
        if not view.bytes[number]:
            effects[batch.first : end] = quiet[batch.first : end]
        own = set().union(*(each.own.get(number, ()) for each in families))
        calm = set().union(*(each.calm.get(number, ()) for each in families)) - own
        if own or calm:
            names = [change.service for change in batch.changes]
            _recode(effects, batch.first, names, own, calm, bool(view.bytes[number]))
    return effects


def _recode(
    effects: bytearray, first: int, names: list[Name | None], own: set[Name], calm: set[Name], sent: bool
) -> None:
    """Set the codes of changes of Services whose plans changed only on this node, or everywhere but on it."""
    counts = Counter(name for place, name in enumerate(names, first) if effects[place])
    for place, name in enumerate(names, first):
        if effects[place] and name in own:
            effects[place] = CODES[SENT if sent else NOTHING]
        elif effects[place] and name in calm:
            effects[place] = CODES[UNDONE if counts[name] > 1 else NOTHING]


class _NodeFamily:
    """Computes the programs of one family that differ from those of the zone; for one use."""

    def __init__(
        self, family: int, config: ProxyConfig, reference: Reference, shared: Shared, node: str, host: HostAddresses
    ) -> None:
        self._family, self._reference, self._host = family, reference, host
        self._locals: dict[int, list[tuple[Name, Locals]]] = {}
        self.own: dict[int, set[Name]] = {}
        self.calm: dict[int, set[Name]] = {}
        """By sync: Services whose plans changed on the node, and those of the `few` whose plans changed only elsewhere.
        """
        for number, name, locals_ in reference.locals.get(node, ()):
            self._locals.setdefault(number, []).append((name, locals_))
        here = [(name, ports) for each in shared.families.values() for _, name, ports in each.locals.get(node, ())]
        self._few = shared.together.few(here, host.node)
        for number, entries in self._locals.items():
            self.own[number] = {name for name, _ in entries if name not in self._few}
        self._sticky = bool(self._few & shared.together.sticky)
        self._plans: dict[int, dict[Name, tuple[PortPlan, ...]]] = {}
        for name in self._few:
            for number, plans in reference.plans.get(name, ()):
                self._plans.setdefault(number, {})[name] = plans
        self._cut, self._own = (PartsBackend(family, config, reference.taken) for _ in range(2))
        self._hairpins: Claims[tuple[bytes], bytes] = Claims()
        self._made: set[Chain] = set()
        self._now: dict[Name, tuple[tuple[PortPlan, ...], Locals]] = {}
        self._shown: dict[Name, tuple[PortPlan, ...]] = {}

    def programs(self) -> dict[int, _Sent]:
        """The programs by the number of the sync."""
        found = {}
        for number, program in enumerate(self._reference.programs):
            if program and self._own_part(number, program) and (sent := self._program(number, program)):
                found[number] = sent
        return found

    def _own_part(self, number: int, program: ReferenceProgram) -> bool:
        """Whether the node may differ in a sync: it may need chains and affinity timeouts in another one."""
        if not number or number in self._locals or number in self._plans:
            return True
        if not self._few:
            return False
        return bool(program.parts.chains or (self._sticky and (program.parts.timeouts or self._own.owes)))

    def _program(self, number: int, program: ReferenceProgram) -> _Sent | None:
        """The node's program; None if it is that of the zone."""
        different = self._different(number, program)
        extra = {HAIRPINS: block} if (block := self._hairpin(number)) else {}
        if not different and not extra:
            return None
        scripts = self._scripts(program.parts, different)
        blocks = list(combined(program.parts, different, extra))
        operations, sent = program.operations, program.bytes - _text(self._zone_scripts(program.parts))
        for each, sign in ((different and different.cut, -1), (different and different.own, 1)):
            for block in each.blocks if each else ():
                operations += sign * block.operations
                sent += sign * block.size
        for block in extra.values():
            operations, sent = operations + block.operations, sent + block.size
        some = scripts or any(block.size for block in blocks)
        return _Sent(digest(self._family, scripts, blocks) if some else b"", operations, sent + _text(scripts))

    def _zone_scripts(self, parts: Recorded) -> tuple[str, ...]:
        return (*parts.start, *(chains(self._family, *chain) for chain in parts.chains), *parts.timeouts)

    def _scripts(self, parts: Recorded, different: Different | None) -> tuple[str, ...]:
        """Rules that this node's elements need and that it does not have yet."""
        if different is None:
            self._made.update(parts.chains)
            return self._zone_scripts(parts)
        zone = (chain for chain in parts.chains if chain[0] != "draw" or not self._sticky)
        new = sorted({*zone, *different.own.chains} - self._made)
        self._made.update(new)
        timeouts = different.own.timeouts if self._sticky else parts.timeouts
        return (*parts.start, *(chains(self._family, *chain) for chain in new), *timeouts)

    def _different(self, number: int, program: ReferenceProgram) -> Different | None:
        """The programs of the `few` Services in zone and node; at the first sync also the node's addresses."""
        old, new = self._changes(number)
        if number and not old and not new and not self._sticky and not program.parts.chains:
            return None
        self._own.busy = program.changed > len(old) or bool(self.own.get(number))
        _, cut = self._cut.record(old, HostAddresses())
        _, own = self._own.record(new, self._host)
        return Different(cut, own, self._few, self._sticky)

    def _changes(self, number: int) -> tuple[list[PlanChange], list[PlanChange]]:
        """Changes of the plans of the `few` Services in a sync: in the zone, and on the node."""
        zone, node = self._plans.get(number, {}), dict(self._locals.get(number, ()))
        old, new = [], []
        for name in sorted(self._few.intersection((*zone, *node))):
            before, was = self._now.get(name, ((), ()))
            plans, here = zone.get(name, before), node.get(name, was)
            self._now[name] = plans, here
            if plans != before:
                old.append(PlanChange(name, before, plans))
            was_shown, shown = self._shown.get(name, ()), tuple(self._of_node(plans, here))
            self._shown[name] = shown
            if shown == was_shown:
                self.calm.setdefault(number, set()).add(name)
                continue
            self.own.setdefault(number, set()).add(name)
            change = PlanChange(name, tuple(map(_bare, was_shown)), tuple(map(_bare, shown)))
            if change.old != change.new:
                new.append(change)
        return old, new

    def _of_node(self, plans: tuple[PortPlan, ...], here: Locals) -> Iterator[PortPlan]:
        for port, plan in enumerate(plans):
            own = here[port] if here else NodePart()
            yield of_node(plan, own.on_node, own.local, self._host.node, own.cluster)

    def _hairpin(self, number: int) -> Block | None:
        for name, ports in self._locals.get(number, ()):
            keys = {((key,), (name, port)): b"" for port, local in enumerate(ports) for key in local.hairpins}
            self._hairpins.replace(name, keys)
        gone, new = [], []
        for (key,), before, now in self._hairpins.settle():
            if before is not None:
                gone.append(key)
            if now is not None:
                new.append(key)
        width = len((gone or new or [b"."])[0])
        return Block(HAIRPINS, width, width, b"".join(gone), b"".join(new)) if gone or new else None


def _text(scripts: tuple[str, ...]) -> int:
    return sum(map(len, scripts))


def _bare(plan: PortPlan) -> PortPlan:
    """Without endpoints on the node: hairpins come from all Services together."""
    return msgspec.structs.replace(plan, on_node=())
