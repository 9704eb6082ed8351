"""The pictures and the table of docs/nftables.md, made from the demo's program: `python -m tests.docs.nftables`.

program -> chains, hooks, ways from chain to chain -> Mermaid, which GitHub draws
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.judge.trace.ruleset import Ruleset, Table
from harness.replay.plan import PlanOptions, programs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "nftables.md"
DEMO = ROOT / "recordings" / "demo.jsonl"
MARK = "<!-- {}: made by python -m tests.docs.nftables -->"
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
KERNEL = (
    ("arrives([arrives])", "prerouting"),
    ("prerouting", "input"),
    ("prerouting", "forward"),
    ("input", "process([local process])"),
    ("process([local process])", "output"),
    ("output", "postrouting"),
    ("forward", "postrouting"),
    ("postrouting", "leaves([leaves])"),
)
"""A packet's path through the kernel's hooks."""
ENTRY = "services"
VERDICTS = ("drop", "reject", "dnat", "masquerade")
_CONCATENATION = r"(?:\w+ \w+ \. )+(?:\w+ )+"
_NUMBERED = re.compile(r"-\d+$")
_END = re.compile(r"(?:(goto|jump) (\S+)|vmap @(\S+)|(drop|reject|dnat(?= to )|masquerade)( to .*| fully-random)?)$")


class Way(NamedTuple):
    """From a chain to another one, or to a verdict; `when` is the rule's condition, shortened.

    After a `jump` the packet comes back, unless it was decided on.
    """

    chain: str
    to: str
    when: str
    jump: bool


def demo_table() -> Table:
    """The IPv4 table of the demo recording."""
    rules = Ruleset()
    (program,) = programs(str(DEMO), PlanOptions("nftables", families=(4,)))
    rules.feed(program.text())
    return rules.tables["ip", "kube-proxy"]


def general(chain: str) -> str:
    """`pick-17` is one of the chains `pick-N`."""
    return _NUMBERED.sub("-N", chain)


def ways(table: Table) -> list[Way]:
    """Every transition of some rule, in the order of the rules, each once."""
    found = (way for chain, rules in table.chains.items() for rule in rules for way in _ways(table, chain, rule))
    return list(dict.fromkeys(found))


def _ways(table: Table, chain: str, rule: list[str]) -> Iterator[Way]:
    text = " ".join(rule).replace("@ ", "@")
    end = _END.search(text)
    if not end:
        return
    verb, target, verdicts, verdict, _ = end.groups()
    found = [element.data for element in table.sets[verdicts].values()] if verdicts else [(verb, target or verdict)]
    for how, to in sorted({(how, general(to)) for how, to in found}):
        yield Way(general(chain), to, _condition(text[: end.start()], verdicts), how == "jump")


def _condition(text: str, verdicts: str | None) -> str:
    """A rule's condition, without the packet fields of a key."""
    if verdicts:
        return f"@{verdicts}"
    text = re.sub(r"meta priority set |meta mark set .*", "", text)
    text = re.sub(rf"{_CONCATENATION}(!= )?(?:map )?@", r"\1@", text).replace("!= @", "not @")
    return re.sub(r"^meta l4proto \w+$", "", re.sub(r"ip daddr @", "@", text).strip())


def hooks(table: Table) -> str:
    """The chains at each hook, and the transitions of base chains other than translation."""
    lines = ["flowchart TD"]
    for hook in HOOKS:
        lines.append(f"  subgraph {hook}")
        base = sorted((priority, name, kind) for name, (kind, where, priority) in table.hooks.items() if where == hook)
        names = [f'{name}["{name}<br>{kind}, priority {priority}"]' for priority, name, kind in base]
        lines += [f"    {' --> '.join(names)}", "  end"]
    lines += [f"  {before} ==> {after}" for before, after in KERNEL]
    checks = [way for way in ways(table) if way.chain in table.hooks or way.chain.endswith(("-check", "masquerading"))]
    return "\n".join([*lines, *_arrows(checks)])


def translation(table: Table) -> str:
    """From chain `services` to the endpoint."""
    found, reached = [], {ENTRY}
    for way in ways(table) * 5:
        if way.chain in reached and way not in found:
            found.append(way)
            reached.add(way.to)
    nodes = [f'  {chain}["{"<br>".join([chain, *done])}"]' for chain, done in _done(table).items() if chain in reached]
    return "\n".join(["flowchart TD", *nodes, *_arrows(found)])


def _done(table: Table) -> dict[str, list[str]]:
    """Side effects of each chain's rules on the packet or a map."""
    found: dict[str, list[str]] = {}
    for chain, rules in table.chains.items():
        for text in map(" ".join, rules):
            if change := re.search(r"meta mark set meta mark \||update @ ?(\S+)", text):
                what = f"remember in {change[1]}" if change[1] else "mark"
                condition = _condition(text[: change.start()], None)
                said = f"{what} if {condition}" if condition else what
                if said not in found.setdefault(general(chain), []):
                    found[general(chain)].append(said)
    return found


def _arrows(found: list[Way]) -> Iterator[str]:
    """One arrow for all ways from one chain to another; dotted for jumps."""
    for chain, to, jump in dict.fromkeys((way.chain, way.to, way.jump) for way in found):
        whens = [way.when for way in found if (way.chain, way.to) == (chain, to) and way.when]
        label = f'|"{"<br>".join(dict.fromkeys(whens))}"|' if whens else ""
        yield f"  {chain} {'-.->' if jump else '-->'}{label} {_node(chain, to)}"


def _node(chain: str, to: str) -> str:
    """A chain, or a verdict of its own for each chain, so that arrows do not cross the picture."""
    return f'{chain}-{to}{{{{"{to}"}}}}' if to in VERDICTS else to


def asked(table: Table) -> str:
    """Each set and map: its key, its data, and the chains that use it."""
    rows = ["| set or map | key | gives | asked in |", "| --- | --- | --- | --- |"]
    for name, declared in table.declared.items():
        key, _, gives = " ".join(next(words for words in declared if words[0] == "typeof")[1:]).partition(" : ")
        text = re.compile(rf"@ ?{re.escape(name)}(?![\w-])")
        chains = {
            general(chain) for chain, rules in table.chains.items() if any(map(text.search, map(" ".join, rules)))
        }
        rows.append(f"| `{name}` | {key} | {gives} | {', '.join(f'`{chain}`' for chain in sorted(chains))} |")
    return "\n".join(rows)


def renewed(page: str) -> str:
    """The page with its pictures and its table made again; each ends at the first empty line."""
    table = demo_table()
    parts = {"hooks": hooks, "translation": translation, "sets": asked}
    for name, part in parts.items():
        before, mark, rest = page.partition(MARK.format(name))
        after = rest.lstrip("\n").partition("\n\n")[2]
        text = part(table) if name == "sets" else f"```mermaid\n{part(table)}\n```"
        page = f"{before}{mark}\n\n{text}\n\n{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
