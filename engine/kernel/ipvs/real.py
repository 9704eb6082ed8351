"""The real kernel's IP_VS: netlink for servers and addresses, tools for the rest.

`make_socket` and `run` determine the network namespace.
"""

from __future__ import annotations

import platform
import re
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence

from engine.addresses import contains
from engine.backends.ipvs.program import (
    DEVICE,
    IpvsProgram,
    ServerKey,
    Start,
    VirtualServer,
    restore_text,
)
from engine.backends.ipvs.sets import CLUSTER_IP, TYPES, create_line, full_name, with_names, with_numbers
from engine.kernel.interface import Applied, Intact, KernelError
from engine.kernel.iptables.variant import WAIT, listed
from engine.kernel.ipvs import netlink, probe
from engine.kernel.links import Dummy, until_local
from engine.kernel.netlink import GENERIC, ROUTE, Connection, NetlinkError, attributes, family_number, generic
from engine.kernel.tools import Run, answered
from engine.model import TCP, Network, Target

MakeSocket = Callable[[int, int, int], socket.socket]

_SPARE_SET = "KUBE-REPLACEMENT"
_TESTED_SERVER = b"\xc6\x33\x64\x00" + bytes((TCP, 0x4E, 0x20))  # 198.51.100.0:20000, a documentation address
_PROBE = "KUBE-IPVS-PROBE"


def iptables_variant(run: Run, family: int) -> str:
    """`iptables` (`ip6tables`), or its legacy variant on a kernel whose nf_tables has no IP tables.

    Such a kernel rejects only changes, so one is tried and undone.
    """
    tool = "iptables" if family == 4 else "ip6tables"
    command = [tool, *WAIT, "-t", "nat"]
    answered(run([*command, "-X", _PROBE], b""))  # left by an interrupted probe
    tried = run([*command, "-N", _PROBE], b"")
    run([*command, "-X", _PROBE], b"")
    return tool if tried.returncode == 0 else f"{tool}-legacy"


class IpvsKernel:
    """IP_VS, device, sets and rules; KernelError if this kernel has no IP_VS or lacks the scheduler."""

    def __init__(self, make_socket: MakeSocket, run: Run) -> None:
        sockets = [make_socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) for protocol in (GENERIC, ROUTE)]
        self._generic, self._route = map(Connection, sockets)
        self._device = Dummy(self._route, DEVICE)
        self._run = run
        self._number = self._family_number()
        self._restore = {family: iptables_variant(run, family) for family in (4, 6)}
        self._terminating: dict[tuple[ServerKey, Target], None] = {}
        self._made: dict[int, int] = {}
        """Number of virtual servers that each family should have."""

    def close(self) -> None:
        """Close the sockets."""
        self._generic.close()
        self._route.close()

    def apply(self, program: IpvsProgram) -> Applied:
        """Apply sets and rules first, then addresses and servers; deletions are in the opposite order."""
        if program.start:
            self._sysctls(program.start)
            self._device.make()
        lines = self._replaced_sets(program) if program.start else program.ipset_lines()
        sent = self._sets(lines)
        if program.rules:
            sent += self._rules(program)
        known = self._adopt(program, program.start.excluded) if program.start else {}
        added = program.addresses_added
        sent += self._device.replace(program.family, added) if program.start else self._device.add(added)
        sent += self._servers(program, known)
        until_local(self._route, DEVICE, added if program.family == 6 else ())
        before = 0 if program.start else self._made[program.family]
        self._made[program.family] = before + len(program.servers_added) - len(program.servers_deleted)
        sent += self._device.delete(program.addresses_deleted)
        sent += self._sets(program.ipset_deletions())
        return Applied(sent)

    def intact(self, family: int) -> Intact:
        """Whether a family's parts exist: device, sets, chains, and the expected number of virtual servers."""
        sets, name = self._run(["ipset", "list", "-n"], b""), full_name(family, CLUSTER_IP)
        try:
            parts = [
                _answer(bool(self._device.index())),
                _answer(len(self._of_family(family)) >= self._made.get(family, 0)),
                _answer(name in sets.stdout.decode().split()) if sets.returncode == 0 else Intact.UNKNOWN,
                listed(self._run, self._restore[family], "nat", "KUBE-SERVICES"),
            ]
        except NetlinkError:
            return Intact.UNKNOWN
        return Intact.of(parts)

    def missing(self, families: Collection[int]) -> str | None:
        """Features that mode ipvs needs for these families and the machine lacks, as one line; None if none."""
        return probe.missing(self._run, self._restore, self._route, families)

    def terminate(self) -> int:
        """Delete the destinations at weight 0 without connections; returns the number of remaining ones.

        To be called once a minute (IPVS-08).
        """
        gone = [item for item, count in self._connections(list(self._terminating)).items() if not count]
        self._commit([self._destination(netlink.DEL_DEST, *item) for item in gone])
        for item in gone:
            del self._terminating[item]
        return len(self._terminating)

    def _family_number(self) -> int:
        """The generic netlink number of IP_VS; KernelError if it is not available, or access is denied."""
        try:
            number = family_number(self._generic, "IPVS")
        except NetlinkError as error:
            raise error.about("can't use the IPVS proxier: this kernel has no IP_VS (module ip_vs)") from None
        try:
            self._generic.dump(generic(number, netlink.GET_SERVICE, b""))
        except NetlinkError as error:
            words = "can't use the IPVS proxier: IP_VS is only available to root outside of user namespaces"
            raise error.about(words) from None
        return number

    def _sysctls(self, start: Start) -> None:
        lines = [f"{name}={value}" for name, value in start.sysctls]
        release = re.match(r"(\d+)\.(\d+)", platform.release())
        if release and (4, 1) <= (int(release[1]), int(release[2])) < (5, 9):
            lines.append("net.ipv4.vs.conn_reuse_mode=0")
        script = "".join(
            f"echo {line.split('=')[1]} >/proc/sys/{line.split('=')[0].replace('.', '/')}\n" for line in lines
        )
        self._tool(["sh", "-e"], script)
        if any(start.timeouts_seconds):
            self._commit([netlink.timeouts(self._number, start.timeouts_seconds)])

    def _replaced_sets(self, program: IpvsProgram) -> list[str]:
        """Lines that create every set; one left by an earlier run is swapped for its new content, without a gap.

        A set that is already correct is kept.  Others are not updated in place, since their size may differ.
        """
        entries: dict[str, list[str]] = {name: [] for name in TYPES}
        for name, entry in program.entries_added:
            entries[name].append(entry)
        saved = self._saved_sets()
        lines = [f"destroy {_SPARE_SET}"] if _SPARE_SET in saved else []
        for name, wanted in entries.items():
            called = full_name(program.family, name)
            create = create_line(program.family, name)
            if called not in saved:
                lines += [create, *(f"add {called} {entry}" for entry in wanted)]
            elif not _is_so(saved[called], create, wanted):
                lines += [create_line(program.family, name, _SPARE_SET)]
                lines += [f"add {_SPARE_SET} {entry}" for entry in wanted]
                lines += [f"swap {_SPARE_SET} {called}", f"destroy {_SPARE_SET}"]
        return lines

    def _saved_sets(self) -> dict[str, tuple[str, set[str]]]:
        """The `create` line and entries of each set, by name."""
        saved: dict[str, tuple[str, set[str]]] = {}
        for line in with_names(self._output(["ipset", "save"])).splitlines():
            verb, name, rest = line.split(" ", 2)
            if verb == "create":
                saved[name] = line, set()
            else:
                saved[name][1].add(rest)
        return saved

    def _sets(self, lines: Iterable[str]) -> int:
        return self._tool(["ipset", "restore"], with_numbers("\n".join(lines)))

    def _tool(self, command: list[str], text: str) -> int:
        if not text:
            return 0
        result = self._run(command, text.encode() + b"\n")
        if result.returncode:
            error = result.stderr.decode(errors="replace").strip()
            raise KernelError(f"{' '.join(command)} rejected its input: {error}")
        return len(text)

    def _output(self, command: list[str]) -> str:
        result = self._run(command, b"")
        if result.returncode:
            raise KernelError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode()

    def _rules(self, program: IpvsProgram) -> int:
        tool = self._restore[program.family]
        jumps: tuple[tuple[str, str], ...] = ()
        if program.start:
            saved = self._output([f"{tool}-save"]).splitlines()
            jumps = tuple(jump for jump in program.start.jumps if jump[1] not in saved)
        return self._tool([f"{tool}-restore", *WAIT, "--noflush"], restore_text(program.rules, jumps))

    def _adopt(self, program: IpvsProgram, excluded: Sequence[Network]) -> dict[ServerKey, set[Target]]:
        """Servers of an earlier run that this program needs, with their destinations; others are deleted.

        Servers in excluded networks are kept (IPVS-09).  Probes the scheduler if no server uses it yet (IPVS-04).
        Destinations that were pending deletion are found again, or were deleted with their server.
        """
        size = len(_TESTED_SERVER) if program.family == 4 else 19
        self._terminating = {item: None for item in self._terminating if len(item[0]) != size}
        schedulers = {server.scheduler for _, server in program.servers_added}
        found = {key: scheduler for key, scheduler in self._dump_servers() if len(key) == len(_TESTED_SERVER)}
        for scheduler in schedulers.difference(found.values()):
            self._try_scheduler(scheduler)
        wanted = {key for key, _ in program.servers_added}
        mine = [key for key in self._of_family(program.family) if not any(contains(n, key[:-3]) for n in excluded)]
        stale = [generic(self._number, netlink.DEL_SERVICE, netlink.service(key)) for key in mine if key not in wanted]
        self._commit(stale)
        return {key: set(self._dump_destinations(key)) for key in mine if key in wanted}

    def _try_scheduler(self, scheduler: str) -> None:
        tested = generic(self._number, netlink.NEW_SERVICE, netlink.service(_TESTED_SERVER, VirtualServer(scheduler)))
        try:
            self._generic.require([tested])
        except NetlinkError as error:
            words = f"can't use the IPVS proxier: no scheduler {scheduler!r} (module ip_vs_{scheduler})"
            raise error.about(words) from None
        self._commit([generic(self._number, netlink.DEL_SERVICE, netlink.service(_TESTED_SERVER))])

    def _servers(self, program: IpvsProgram, known: dict[ServerKey, set[Target]]) -> int:
        number = self._number
        messages = []
        for command, servers in (
            (netlink.NEW_SERVICE, program.servers_added),
            (netlink.SET_SERVICE, program.servers_changed),
        ):
            for key, server in servers:
                verb = netlink.SET_SERVICE if key in known else command
                messages.append(generic(number, verb, netlink.service(key, server)))
        messages += self._new_destinations(program.destinations_added, known)
        removed = list(program.destinations_deleted)
        if known:
            kept = set(program.destinations_added)
            left = [(key, target) for key, targets in sorted(known.items()) for target in sorted(targets)]
            removed += [item for item in left if item not in kept]
        sent = self._commit(messages)
        sent += self._remove(removed)
        gone = set(program.servers_deleted)
        for item in [item for item in self._terminating if item[0] in gone]:
            del self._terminating[item]
        deleted = [generic(number, netlink.DEL_SERVICE, netlink.service(key)) for key in program.servers_deleted]
        return sent + self._commit(deleted)

    def _new_destinations(
        self, added: Sequence[tuple[ServerKey, Target]], known: dict[ServerKey, set[Target]]
    ) -> list[bytes]:
        """Add destinations; one that is pending deletion is deleted first (IPVS-08)."""
        number, new = self._number, netlink.NEW_DEST
        if not self._terminating and not known:
            named = {key: netlink.service(key) for key, _ in added}
            return [generic(number, new, named[key] + netlink.destination(target, 1)) for key, target in added]
        messages = []
        for key, target in added:
            if (key, target) in self._terminating:
                del self._terminating[key, target]
                messages.append(self._destination(netlink.DEL_DEST, key, target))
            verb = netlink.SET_DEST if target in known.get(key, ()) else new
            messages.append(self._destination(verb, key, target, 1))
        return messages

    def _destination(self, verb: int, key: ServerKey, target: Target, weight: int | None = None) -> bytes:
        return generic(self._number, verb, netlink.service(key) + netlink.destination(target, weight))

    def _remove(self, removed: list[tuple[ServerKey, Target]]) -> int:
        """Delete destinations without connections, or not of TCP; others are drained at weight 0."""
        busy = {item for item, count in self._connections([i for i in removed if i[0][-3] == TCP]).items() if count}
        messages = []
        for key, target in removed:
            if (key, target) in busy:
                self._terminating[key, target] = None
                messages.append(self._destination(netlink.SET_DEST, key, target, 0))
            else:
                messages.append(self._destination(netlink.DEL_DEST, key, target))
        return self._commit(messages)

    def _connections(self, items: list[tuple[ServerKey, Target]]) -> dict[tuple[ServerKey, Target], int]:
        """The number of active and inactive connections of each destination."""
        counts = {key: self._dump_destinations(key) for key in {key for key, _ in items}}
        return {(key, target): counts[key].get(target, 0) for key, target in items}

    def _dump_destinations(self, key: ServerKey) -> dict[Target, int]:
        found = {}
        for body in self._dump(generic(self._number, netlink.GET_DEST, netlink.service(key))):
            fields = attributes(attributes(body[4:])[netlink.DEST])
            target = fields[1][: len(key) - 3] + fields[2]
            found[target] = sum(struct.unpack("=I", fields[kind])[0] for kind in (7, 8))
        return found

    def _of_family(self, family: int) -> list[ServerKey]:
        return [key for key, _ in self._dump_servers() if (len(key) == 7) == (family == 4)]

    def _dump_servers(self) -> list[tuple[ServerKey, str]]:
        found = []
        for body in self._dump(generic(self._number, netlink.GET_SERVICE, b"")):
            fields = attributes(attributes(body[4:])[netlink.SERVICE])
            if 2 not in fields:
                continue  # by firewall mark: not ours
            size = 4 if struct.unpack("=H", fields[1])[0] == 2 else 16
            key = fields[3][:size] + bytes((struct.unpack("=H", fields[2])[0],)) + fields[4]
            found.append((key, fields[6].rstrip(b"\0").decode()))
        return found

    def _dump(self, request: bytes) -> list[bytes]:
        try:
            return self._generic.dump(request)
        except NetlinkError as error:
            raise error.about("cannot read IP_VS") from None

    def _commit(self, messages: list[bytes]) -> int:
        try:
            return self._generic.require(messages)
        except NetlinkError as error:
            raise error.about(f"IP_VS rejected message {error.first.index + 1} of {len(messages)}") from None


def _answer(here: bool) -> Intact:
    return Intact.YES if here else Intact.NO


def _is_so(saved: tuple[str, set[str]], create: str, wanted: list[str]) -> bool:
    """Whether a saved set has the parameters of `create` and the wanted entries."""
    parameters = create.removesuffix(" -exist").split()
    return set(parameters) <= set(saved[0].split()) and saved[1] == set(wanted)
