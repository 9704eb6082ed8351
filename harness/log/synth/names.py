"""Realistic namespaces and Service names from faker's vocabulary."""

from __future__ import annotations

import random
import re

from faker import Faker

ROLES = (
    "api", "worker", "gateway", "web", "cache", "db", "queue", "auth", "search", "sync",
    "scheduler", "proxy", "events", "metrics", "admin", "store", "consumer", "batch",
)  # fmt: skip
TEAMS = ("prod", "staging", "platform", "data", "core", "team", "shared", "edge")
DRAWS = 250
"""Phrases requested from faker per vocabulary: enough to get nearly all of its business words."""


def slug(text: str) -> str:
    """`text` as a DNS-1035 label of at most 20 characters, or "" if nothing usable is left."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    label = label[:20].strip("-")
    return label if label[:1].isalpha() and len(label) > 2 else ""


def vocabulary(seed: int) -> list[str]:
    """Distinct words in the order in which faker returned them (a dict, as a set's order would depend on hashes)."""
    fake = Faker("en_US")
    fake.seed_instance(seed)
    words: dict[str, None] = {}
    for _ in range(DRAWS):
        phrases = (fake.bs().split()[-1], fake.catch_phrase().split()[-1], fake.job().split(",")[0].split()[0])
        for word in (*phrases, fake.company().split()[0]):
            words[slug(word)] = None
    words.pop("", None)
    return list(words)


class Names:
    """Generates namespaces and Service names; a name is unique in its namespace."""

    def __init__(self, rng: random.Random, seed: int, services: int) -> None:
        """Prepare one namespace per 25 Services or so, 4 at least, 400 at most."""
        self._rng = rng
        self._words = vocabulary(seed)
        self._taken: set[tuple[str, str]] = set()
        self.namespaces = self._make_namespaces(min(400, max(4, services // 25)))

    def _make_namespaces(self, count: int) -> list[str]:
        """`count` distinct labels such as `synergies-prod`."""
        found: dict[str, None] = {}
        while len(found) < count:
            found[f"{self._rng.choice(self._words)}-{self._rng.choice(TEAMS)}"] = None
        return list(found)

    def service(self) -> tuple[str, str]:
        """(namespace, name), never returned before: `ledger-worker`, with two words if that is taken."""
        rng = self._rng
        namespace = rng.choice(self.namespaces)
        name = f"{rng.choice(self._words)}-{rng.choice(ROLES)}"
        while (namespace, name) in self._taken:
            name = f"{rng.choice(self._words)}-{rng.choice(self._words)}-{rng.choice(ROLES)}"
        self._taken.add((namespace, name))
        return namespace, name
