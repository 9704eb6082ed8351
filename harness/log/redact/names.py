"""Pseudonyms for names: faker's words, chosen by a keyed hash, valid for their kind.

A string gets the same pseudonym wherever it occurs, and no two strings share one.  A pseudonym contains no word of
the recording, so a search of the result for an original word finds nothing.  Assignment is in sorted order: it
depends on key and strings, never on the order of events.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Set
from functools import cache

WORD = re.compile(r"[A-Za-z0-9]+")
MOST_PARTS = 4
"""Short pseudonyms have up to 15 characters, IANA's limit for names of ports; four and their dots fit into a label."""

_LETTERS = "bcdfghjklmnpqrstvwxz"
_PLAIN_ATTEMPTS, _WORD_ATTEMPTS, _ATTEMPTS = 3, 40, 100_000


@cache
def vocabulary() -> tuple[str, ...]:
    """The English words of faker's sentences with three to ten letters."""
    from faker.providers.lorem.en_US import Provider

    words = dict.fromkeys(word.lower() for word in Provider.word_list)
    return tuple(word for word in words if 3 <= len(word) <= 10 and word.isascii() and word.isalpha())


def words_of(text: str) -> Iterable[str]:
    """The words in `text`, in lower case, as a search would find them."""
    return (word.lower() for word in WORD.findall(text))


def paths_of(text: str) -> list[str]:
    """The parts between slashes: `shop/web` contains two names."""
    return text.split("/")


def parts_of(name: str) -> list[str]:
    """The parts between dots: those of `db.example.com` are mapped separately, so that a domain's hosts share it."""
    parts = name.split(".")
    return parts if len(parts) <= MOST_PARTS else [name]


class Pseudonyms:
    """Pseudonyms for every string given; KeyError for any other one."""

    def __init__(
        self,
        key: bytes,
        names: Collection[str],
        short: Collection[str],
        words: Set[str],
        rivals: Iterable[Set[str]] = (),
    ) -> None:
        """`short` are names of ports and parts of names; `words`, in lower case, must not occur in a pseudonym.

        `rivals` are disjoint sets of names whose order is preserved within each set.
        """
        self._key, self._words = key, words
        self._taken: set[str] = set()
        self._names = {text: self._choose("name", text) for text in sorted(names)}
        for group in rivals:
            self._keep_order(group)
        self._short = {text: self._choose("short", text) for text in sorted(short)}

    def name(self, text: str) -> str:
        """For names, labels, zones, hosts: a DNS label, or one for each part."""
        return "/".join(map(self._name, paths_of(text)))

    def _name(self, text: str) -> str:
        parts = parts_of(text)
        if len(parts) == 1:
            return self._names[text] if text else ""
        return ".".join(self._short[part] if part else "" for part in parts)

    def _keep_order(self, group: Set[str]) -> None:
        """Reassign the pseudonyms of a group in order."""
        originals = sorted(self._names.keys() & group)
        self._names.update(zip(originals, sorted(self._names[each] for each in originals), strict=True))

    def short(self, text: str) -> str:
        """For names of ports: at most 15 characters."""
        return self._short[text]

    def _choose(self, kind: str, text: str) -> str:
        """The first candidate that is unused and reveals nothing of the original."""
        candidate = _short if kind == "short" else _label
        for attempt in range(_ATTEMPTS):
            message = f"{kind} {attempt} {text}".encode(errors="surrogatepass")
            found = candidate(hmac.digest(self._key, message, "sha256"), attempt)
            if found not in self._taken and self._words.isdisjoint(WORD.findall(found)):
                self._taken.add(found)
                return found
        raise ValueError(f"no pseudonym is left for {kind} {text!r}")


def _label(digest: bytes, attempt: int) -> str:
    """`figure-benefit`, `figure-benefit-kxzt` if that is taken, letters if every word is."""
    if attempt >= _WORD_ATTEMPTS:
        return _suffix(digest, 12)
    words = f"{_word(digest, 0)}-{_word(digest, 4)}"
    return words if attempt < _PLAIN_ATTEMPTS else f"{words}-{_suffix(digest[8:], 4)}"


def _short(digest: bytes, attempt: int) -> str:
    if attempt >= _WORD_ATTEMPTS:
        return _suffix(digest, 12)
    return _word(digest, 0) if attempt < _PLAIN_ATTEMPTS else f"{_word(digest, 0)}-{_suffix(digest[8:], 4)}"


def _word(digest: bytes, place: int) -> str:
    words = vocabulary()
    return words[int.from_bytes(digest[place : place + 4], "big") % len(words)]


def _suffix(digest: bytes, size: int) -> str:
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:size])
