"""The two mappers of a redaction: the first collects every text, the second replaces them."""

from __future__ import annotations

import hmac
import re
import uuid
from collections import Counter

from harness.log.redact.address_text import AddressTexts
from harness.log.redact.names import Pseudonyms, parts_of, paths_of, words_of
from harness.log.redact.schema import ADDRESS, KEPT_KEYS, KEY, PORT, TIME, UID, VERSION, MappingKind

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_KEPT_FORMS = {VERSION: _DIGITS, TIME: _TIME, PORT: _DIGITS}
_NOT_SET = ("", "None")
"""The value of `clusterIP` without an address."""


def stays(kind: MappingKind, text: str) -> bool:
    """Whether a text reveals nothing about its cluster."""
    form = _KEPT_FORMS.get(kind)
    if form is not None and form.fullmatch(text):
        return True
    return text in _NOT_SET if kind is ADDRESS else text == "" or (kind is KEY and text in KEPT_KEYS)


class Collector:
    """Collects every text, and returns it unchanged."""

    def __init__(self, addresses: AddressTexts) -> None:
        self._addresses = addresses
        self.names: set[str] = set()
        self.short: set[str] = set()
        self.words: set[str] = set()
        self._seen: set[tuple[MappingKind, str]] = set()

    def text(self, kind: MappingKind, text: str) -> str:
        """Collect a text that needs a pseudonym."""
        if (kind, text) not in self._seen:
            self._seen.add((kind, text))
            self.words.update(words_of(text))
            for piece in _pieces(kind, text):
                self._piece(kind, piece)
        return text

    def _piece(self, kind: MappingKind, text: str) -> None:
        if stays(kind, text) or (kind is UID and _UUID.fullmatch(text)):
            return
        if kind is PORT:
            self.short.add(text)
        elif self._addresses.mapped(text) is None:
            self._name(text)

    def _name(self, text: str) -> None:
        for name in paths_of(text):
            parts = parts_of(name)
            (self.names if len(parts) == 1 else self.short).update(filter(None, parts))

    def dropped(self, path: str) -> None:
        """Nothing to do: a dropped text needs no pseudonym."""


class Rewriter:
    """Replaces every text; counts dropped values by path."""

    def __init__(self, key: bytes, addresses: AddressTexts, pseudonyms: Pseudonyms) -> None:
        self._key, self._addresses, self._pseudonyms = key, addresses, pseudonyms
        self._seen: dict[tuple[MappingKind, str], str] = {}
        self.dropped_fields: Counter[str] = Counter()

    def text(self, kind: MappingKind, text: str) -> str:
        """The replacement; KeyError if the collector has not seen the text."""
        found = self._seen.get((kind, text))
        if found is None:
            found = self._seen[kind, text] = ",".join(self._piece(kind, piece) for piece in _pieces(kind, text))
        return found

    def dropped(self, path: str) -> None:
        """Count it."""
        self.dropped_fields[path] += 1

    def _piece(self, kind: MappingKind, text: str) -> str:
        if stays(kind, text):
            return text
        if kind is UID and _UUID.fullmatch(text):
            return str(uuid.UUID(bytes=hmac.digest(self._key, b"uid " + text.encode(), "sha256")[:16], version=4))
        if kind is PORT:
            return self._pseudonyms.short(text)
        address = self._addresses.mapped(text)
        return self._pseudonyms.name(text) if address is None else address


def _pieces(kind: MappingKind, text: str) -> list[str]:
    """The parts of a text: lists of addresses are comma-separated."""
    return text.split(",") if kind is ADDRESS else [text]
