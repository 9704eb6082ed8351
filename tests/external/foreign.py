"""A small service proxy of another make: watches Services and EndpointSlices, and programs DNAT by iptables-restore.

    python foreign.py API NODE CLUSTER_CIDR [FAULT]

It knows ClusterIP Services in IPv4 and nothing else.  FAULT breaks it: `crashes` at the start, `hangs` and never
programs anything, `wrong` sends to a neighbour of each endpoint, `keeps` what was deleted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request

PATHS = {"services": "/api/v1/services", "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices"}
CHAINS = ("FOREIGN-DNAT", "FOREIGN-SNAT")


class Foreign:
    def __init__(self, api: str, cidr: str, fault: str) -> None:
        self.api, self.cidr, self.fault = api, cidr, fault
        self.objects: dict[str, dict[tuple[str, str], dict]] = {name: {} for name in PATHS}
        self.changed = threading.Condition()
        self.dirty, self.listed = False, set()

    def follow(self, name: str) -> None:
        with urllib.request.urlopen(self.api + PATHS[name]) as answer:
            found = json.load(answer)
        with self.changed:
            for item in found["items"]:
                self.take(name, "ADDED", item)
            self.listed.add(name)
            self.changed.notify()
        version = found["metadata"]["resourceVersion"]
        with urllib.request.urlopen(f"{self.api}{PATHS[name]}?watch=true&resourceVersion={version}") as stream:
            for line in stream:
                event = json.loads(line)
                with self.changed:
                    self.take(name, event["type"], event["object"])
                    self.changed.notify()

    def take(self, name: str, kind: str, item: dict) -> None:
        key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        if kind == "DELETED":
            if self.fault != "keeps":
                self.objects[name].pop(key, None)
        elif kind in ("ADDED", "MODIFIED"):
            self.objects[name][key] = item
        self.dirty = True

    def run(self) -> None:
        for name in PATHS:
            threading.Thread(target=self.follow, args=(name,), daemon=True).start()
        self.restore("\n".join((
            "*nat", *(f":{chain} - [0:0]" for chain in CHAINS), "-A PREROUTING -j FOREIGN-DNAT",
            "-A OUTPUT -j FOREIGN-DNAT", "-A POSTROUTING -j FOREIGN-SNAT", "COMMIT",
            "*filter", ":FOREIGN-NONE - [0:0]", "-A FORWARD -j FOREIGN-NONE", "-A OUTPUT -j FOREIGN-NONE", "COMMIT\n",
        )))  # fmt: skip
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.dirty and len(self.listed) == len(PATHS))
                self.dirty, text = False, self.rules()
            self.restore(text)

    @staticmethod
    def restore(text: str) -> None:
        subprocess.run(["iptables-restore", "--noflush", "-w", "5"], input=text.encode(), check=True)

    def rules(self) -> str:
        nat, none = [f":{chain} - [0:0]" for chain in CHAINS], [":FOREIGN-NONE - [0:0]"]
        for (namespace, name), service in sorted(self.objects["services"].items()):
            if ":" in service["spec"]["clusterIP"]:
                continue
            for port in service["spec"]["ports"]:
                match = f"-d {service['spec']['clusterIP']}/32 -p tcp -m tcp --dport {port['port']}"
                ends = self.ends(namespace, name, port.get("name", ""))
                if not ends:
                    none.append(f"-A FOREIGN-NONE {match} -j REJECT")
                for number, end in enumerate(ends):
                    share = f"-m statistic --mode random --probability {1 / (len(ends) - number):.10f}"
                    nat.append(f"-A FOREIGN-DNAT {match} {share} -j DNAT --to-destination {end}")
                    host = end.partition(":")[0]
                    nat.append(f"-A FOREIGN-SNAT -s {host}/32 -d {host}/32 -m conntrack --ctstate DNAT -j MASQUERADE")
                origin = f"--ctorigdst {service['spec']['clusterIP']}/32 --ctorigdstport {port['port']}"
                nat.append(f"-A FOREIGN-SNAT ! -s {self.cidr} -m conntrack {origin} -j MASQUERADE")
        return "\n".join(("*nat", *nat, "COMMIT", "*filter", *none, "COMMIT\n"))

    def ends(self, namespace: str, service: str, port: str) -> list[str]:
        found = set()
        for (where, _), piece in self.objects["endpointslices"].items():
            of = piece["metadata"]["labels"]["kubernetes.io/service-name"]
            if (where, of) != (namespace, service) or piece["addressType"] != "IPv4":
                continue
            numbers = [each["port"] for each in piece["ports"] if (each.get("name") or "") == port]
            for end in piece["endpoints"]:
                if (end.get("conditions") or {}).get("ready") is not False:
                    found |= {f"{self.target(address)}:{number}" for address in end["addresses"] for number in numbers}
        return sorted(found)

    def target(self, address: str) -> str:
        if self.fault != "wrong":
            return address
        head, _, last = address.rpartition(".")
        return f"{head}.{int(last) + 100}"


def main(api: str, _node: str, cidr: str, fault: str = "") -> None:
    if fault == "crashes":
        sys.exit("foreign: no licence was found")
    if fault == "hangs":
        time.sleep(600)  # longer than any measurement waits
    Foreign(api, cidr, fault).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
