"""The real kernel's IP_VS, in the namespace it is given: netlink for servers and addresses, tools for the rest.

`make_socket` and `run` decide the network namespace; this module never looks around by itself.
"""

from __future__ import annotations

import errno
import platform
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence

from engine.addresses import contains, format_address
from engine.backends.ipvs.program import (
    DEVICE,
    IpvsProgram,
    ServerKey,
    Start,
    VirtualServer,
    restore_text,
)
from engine.backends.ipvs.sets import TYPES, create_line, full_name
from engine.kernel.base import Applied, KernelError
from engine.kernel.ipvs import netlink
from engine.kernel.ipvs.netlink import message
from engine.kernel.pipeline import Pipeline, Refusal, attributes
from engine.model import TCP, Address, Target

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]
MakeSocket = Callable[[int, int, int], socket.socket]

_NETLINK_ROUTE, _NETLINK_GENERIC = 0, 16
_SPARE_SET = "KUBE-REPLACEMENT"
_TESTED_SERVER = b"\xc6\x33\x64\x00" + bytes((TCP, 0x4E, 0x20))  # 198.51.100.0:20000, of no one
_LOCAL_SECONDS, _LOOK_AGAIN_SECONDS = 5.0, 0.001


def iptables_variant(run: Run, family: int) -> str:
    """`iptables` (`ip6tables`), or its legacy variant on a kernel whose nf_tables has no IP tables.

    Such a kernel refuses the first change only, so one is tried and taken back.
    """
    tool = "iptables" if family == 4 else "ip6tables"
    tried = run([tool, "-t", "nat", "-N", "KUBE-IPVS-PROBE"], b"")
    run([tool, "-t", "nat", "-X", "KUBE-IPVS-PROBE"], b"")
    return tool if tried.returncode == 0 else f"{tool}-legacy"


class IpvsKernel:
    """IP_VS and its surroundings; KernelError when this kernel has no IP_VS or lacks the scheduler."""

    def __init__(self, make_socket: MakeSocket, run: Run) -> None:
        self._sockets = [make_socket(socket.AF_NETLINK, socket.SOCK_RAW, n) for n in (_NETLINK_GENERIC, _NETLINK_ROUTE)]
        self._generic, self._route = map(Pipeline, self._sockets)
        self._run = run
        self._number = self._family_number()
        self._restore = {family: iptables_variant(run, family) for family in (4, 6)}
        self._terminating: dict[tuple[ServerKey, Target], None] = {}
        self._device = 0
        self.servers: dict[int, int] = {}
        """How many virtual servers each family's programs have made and left."""

    def close(self) -> None:
        """Give the sockets back."""
        for sock in self._sockets:
            sock.close()

    def apply(self, program: IpvsProgram) -> Applied:
        """Sets and rules first, then addresses and servers; what goes away goes in the opposite order."""
        if program.start:
            self._sysctls(program.start)
            self._make_device()
        lines = self._replaced_sets(program) if program.start else program.ipset_lines()
        sent = self._tool(["ipset", "restore"], "\n".join(lines))
        if program.rules:
            sent += self._rules(program)
        known = self._adopt(program) if program.start else {}
        sent += self._addresses(program)
        sent += self._servers(program, known)
        self._until_local(program)
        before = 0 if program.start else self.servers[program.family]
        self.servers[program.family] = before + len(program.servers_added) - len(program.servers_deleted)
        sent += self._delete_addresses(program)
        sent += self._tool(["ipset", "restore"], "\n".join(program.ipset_deletions()))
        return Applied(sent)

    def terminate(self) -> int:
        """Delete the destinations that wait at weight 0 and have no connection left; how many still wait.

        To be called once a minute (IPVS-08).
        """
        gone = [item for item, count in self._connections(list(self._terminating)).items() if not count]
        self._commit(self._generic, [self._destination(netlink.DEL_DEST, *item) for item in gone])
        for item in gone:
            del self._terminating[item]
        return len(self._terminating)

    def _family_number(self) -> int:
        """IP_VS's number on this machine; KernelError where there is none, or not for us."""
        answer = self._generic.request(netlink.family_request("IPVS"))
        if isinstance(answer, Refusal):
            raise KernelError("can't use the IPVS proxier: this kernel has no IP_VS (module ip_vs)")
        number = struct.unpack("=H", attributes(answer[4:])[1])[0]
        refused = self._generic.dump(message(number, netlink.GET_SERVICE, b""))
        if isinstance(refused, Refusal):
            raise KernelError(
                f"can't use the IPVS proxier: IP_VS answers root outside of user namespaces only: {refused}"
            )
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
            self._commit(self._generic, [netlink.timeouts(self._number, start.timeouts_seconds)])

    def _make_device(self) -> None:
        refused = self._route.send([netlink.new_device(DEVICE)])
        if refused and refused.code != errno.EEXIST:
            raise KernelError(f"cannot make device {DEVICE} (module dummy): {refused}")
        shown = self._run(["ip", "-o", "link", "show", "dev", DEVICE], b"").stdout
        self._device = int(shown.split(b":")[0])

    def _replaced_sets(self, program: IpvsProgram) -> list[str]:
        """Lines that make every set; one that an earlier run left is swapped for its new content, without a gap.

        One that is as it should be stays.  Whoever made another may have chosen another size, so that it is no
        base to add to.
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
        """Each set's `create` line and entries, by name."""
        saved: dict[str, tuple[str, set[str]]] = {}
        for line in self._run(["ipset", "save"], b"").stdout.decode().splitlines():
            verb, name, rest = line.split(" ", 2)
            if verb == "create":
                saved[name] = line, set()
            else:
                saved[name][1].add(rest)
        return saved

    def _tool(self, command: list[str], text: str) -> int:
        if not text:
            return 0
        result = self._run(command, text.encode() + b"\n")
        if result.returncode:
            error = result.stderr.decode(errors="replace").strip()
            raise KernelError(f"{' '.join(command)} refused its input: {error}")
        return len(text)

    def _rules(self, program: IpvsProgram) -> int:
        tool = self._restore[program.family]
        jumps = ()
        if program.start:
            saved = self._run([f"{tool}-save"], b"").stdout.decode().splitlines()
            jumps = tuple(jump for jump in program.start.jumps if jump[1] not in saved)
        return self._tool([f"{tool}-restore", "--noflush"], restore_text(program.rules, jumps))

    def _addresses(self, program: IpvsProgram) -> int:
        """Add addresses; of a first program only those that are missing, and take strange ones off."""
        wanted = program.addresses_added
        if program.start:
            family = "-4" if program.family == 4 else "-6"
            shown = self._run(["ip", family, "-o", "address", "show", "dev", DEVICE], b"").stdout.decode()
            texts = [line.split()[3].split("/")[0] for line in shown.splitlines()]
            packed = {socket.inet_pton(socket.AF_INET if program.family == 4 else socket.AF_INET6, t) for t in texts}
            stale = [netlink.delete_address(self._device, address) for address in sorted(packed.difference(wanted))]
            self._commit(self._route, stale)
            wanted = [address for address in wanted if address not in packed]
        return self._commit(self._route, [netlink.new_address(self._device, address) for address in wanted])

    def _until_local(self, program: IpvsProgram) -> None:
        """The kernel acknowledges an IPv6 address first and takes its packets a little later, from a work queue."""
        until = time.monotonic() + _LOCAL_SECONDS
        for address in program.addresses_added if program.family == 6 else ():
            while not self._is_local(address):
                if time.monotonic() > until:
                    raise KernelError(f"device {DEVICE}: the kernel takes no packets to {format_address(address)}")
                time.sleep(_LOOK_AGAIN_SECONDS)

    def _is_local(self, address: Address) -> bool:
        route = self._route.request(netlink.route_to(address))
        return not isinstance(route, Refusal) and netlink.is_local(route)

    def _delete_addresses(self, program: IpvsProgram) -> int:
        return self._commit(
            self._route, [netlink.delete_address(self._device, address) for address in program.addresses_deleted]
        )

    def _adopt(self, program: IpvsProgram) -> dict[ServerKey, set[Target]]:
        """Servers that an earlier run left and this program wants, with their destinations; others are deleted.

        Those on excluded networks stay (IPVS-09).  Tries the scheduler where nothing uses it yet (IPVS-04).
        What waited to be deleted is found again with the rest, or went with its server.
        """
        size = len(_TESTED_SERVER) if program.family == 4 else 19
        self._terminating = {item: None for item in self._terminating if len(item[0]) != size}
        schedulers = {server.scheduler for _, server in program.servers_added}
        found = {key: scheduler for key, scheduler in self._dump_servers() if len(key) == len(_TESTED_SERVER)}
        for scheduler in schedulers.difference(found.values()):
            self._try_scheduler(scheduler)
        wanted = {key for key, _ in program.servers_added}
        mine = [
            key
            for key, _ in self._dump_servers()
            if (len(key) == 7) == (program.family == 4)
            and not any(contains(n, key[:-3]) for n in program.start.excluded)
        ]
        stale = [message(self._number, netlink.DEL_SERVICE, netlink.service(key)) for key in mine if key not in wanted]
        self._commit(self._generic, stale)
        return {key: set(self._dump_destinations(key)) for key in mine if key in wanted}

    def _try_scheduler(self, scheduler: str) -> None:
        tested = message(self._number, netlink.NEW_SERVICE, netlink.service(_TESTED_SERVER, VirtualServer(scheduler)))
        refused = self._generic.send([tested])
        if refused:
            raise KernelError(f"can't use the IPVS proxier: no scheduler {scheduler!r} (module ip_vs_{scheduler})")
        self._commit(self._generic, [message(self._number, netlink.DEL_SERVICE, netlink.service(_TESTED_SERVER))])

    def _servers(self, program: IpvsProgram, known: dict[ServerKey, set[Target]]) -> int:
        number = self._number
        messages = []
        for command, servers in (
            (netlink.NEW_SERVICE, program.servers_added),
            (netlink.SET_SERVICE, program.servers_changed),
        ):
            for key, server in servers:
                verb = netlink.SET_SERVICE if key in known else command
                messages.append(message(number, verb, netlink.service(key, server)))
        messages += self._new_destinations(program.destinations_added, known)
        removed = list(program.destinations_deleted)
        if known:
            kept = set(program.destinations_added)
            left = [(key, target) for key, targets in sorted(known.items()) for target in sorted(targets)]
            removed += [item for item in left if item not in kept]
        sent = self._commit(self._generic, messages)
        sent += self._remove(removed)
        gone = set(program.servers_deleted)
        for item in [item for item in self._terminating if item[0] in gone]:
            del self._terminating[item]
        deleted = [message(number, netlink.DEL_SERVICE, netlink.service(key)) for key in program.servers_deleted]
        return sent + self._commit(self._generic, deleted)

    def _new_destinations(self, added: Sequence[tuple[ServerKey, Target]], known: dict) -> list[bytes]:
        """One that comes back while it waits to be deleted is deleted first (IPVS-08)."""
        number, new = self._number, netlink.NEW_DEST
        if not self._terminating and not known:
            named = {key: netlink.service(key) for key, _ in added}
            return [message(number, new, named[key] + netlink.destination(target, 1)) for key, target in added]
        messages = []
        for key, target in added:
            if (key, target) in self._terminating:
                del self._terminating[key, target]
                messages.append(self._destination(netlink.DEL_DEST, key, target))
            verb = netlink.SET_DEST if target in known.get(key, ()) else new
            messages.append(self._destination(verb, key, target, 1))
        return messages

    def _destination(self, verb: int, key: ServerKey, target: Target, weight: int | None = None) -> bytes:
        return message(self._number, verb, netlink.service(key) + netlink.destination(target, weight))

    def _remove(self, removed: list[tuple[ServerKey, Target]]) -> int:
        """Delete at once what has no connections, or is not TCP; else let it run out at weight 0."""
        busy = {item for item, count in self._connections([i for i in removed if i[0][-3] == TCP]).items() if count}
        messages = []
        for key, target in removed:
            if (key, target) in busy:
                self._terminating[key, target] = None
                messages.append(self._destination(netlink.SET_DEST, key, target, 0))
            else:
                messages.append(self._destination(netlink.DEL_DEST, key, target))
        return self._commit(self._generic, messages)

    def _connections(self, items: list[tuple[ServerKey, Target]]) -> dict[tuple[ServerKey, Target], int]:
        """Active and inactive connections of each."""
        counts = {key: self._dump_destinations(key) for key in {key for key, _ in items}}
        return {(key, target): counts[key].get(target, 0) for key, target in items}

    def _dump_destinations(self, key: ServerKey) -> dict[Target, int]:
        found = {}
        for body in self._dump(message(self._number, netlink.GET_DEST, netlink.service(key))):
            fields = attributes(attributes(body[4:])[netlink.DEST])
            target = fields[1][: len(key) - 3] + fields[2]
            found[target] = sum(struct.unpack("=I", fields[kind])[0] for kind in (7, 8))
        return found

    def _dump_servers(self) -> list[tuple[ServerKey, str]]:
        found = []
        for body in self._dump(message(self._number, netlink.GET_SERVICE, b"")):
            fields = attributes(attributes(body[4:])[netlink.SERVICE])
            if 2 not in fields:
                continue  # by firewall mark: never ours
            size = 4 if struct.unpack("=H", fields[1])[0] == 2 else 16
            key = fields[3][:size] + bytes((struct.unpack("=H", fields[2])[0],)) + fields[4]
            found.append((key, fields[6].rstrip(b"\0").decode()))
        return found

    def _dump(self, request: bytes) -> list[bytes]:
        bodies = self._generic.dump(request)
        if isinstance(bodies, Refusal):
            raise KernelError(f"IP_VS could not be read: {bodies}")
        return bodies

    def _commit(self, pipeline: Pipeline, messages: list[bytes]) -> int:
        refused = pipeline.send(messages)
        if refused:
            what = "IP_VS" if pipeline is self._generic else f"device {DEVICE}"
            raise KernelError(f"{what} refused message {refused.index + 1} of {len(messages)}: {refused}")
        return sum(map(len, messages))


def _is_so(saved: tuple[str, set[str]], create: str, wanted: list[str]) -> bool:
    """Whether a saved set was made as `create` would make it, and holds what is wanted."""
    asked = create.removesuffix(" -exist").split()
    return set(asked) <= set(saved[0].split()) and saved[1] == set(wanted)
