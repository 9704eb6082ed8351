"""The two mappers of a redaction: the first collects every text, the second replaces them."""

from __future__ import annotations

import hmac
import re
import uuid
from collections import Counter

from harness.redact.address_text import AddressTexts
from harness.redact.names import Pseudonyms, parts_of, paths_of, words_of
from harness.redact.schema import ADDRESS, KEPT_KEYS, KEY, PORT, TIME, UID, VERSION, Kind

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_KEPT_FORMS = {VERSION: _DIGITS, TIME: _TIME, PORT: _DIGITS}
_NOT_SET = ("", "None")
"""What `clusterIP` says where there is none."""


def stays(kind: Kind, text: str) -> bool:
    """Whether a text says nothing of the cluster it is from."""
    form = _KEPT_FORMS.get(kind)
    if form is not None and form.fullmatch(text):
        return True
    return text in _NOT_SET if kind is ADDRESS else text == "" or (kind is KEY and text in KEPT_KEYS)


class Collector:
    """Learns every text there is, and gives it back as it is."""

    def __init__(self, addresses: AddressTexts) -> None:
        self._addresses = addresses
        self.names: set[str] = set()
        self.short: set[str] = set()
        self.words: set[str] = set()
        self._seen: set[tuple[Kind, str]] = set()

    def text(self, kind: Kind, text: str) -> str:
        """Remember what will need a pseudonym."""
        if (kind, text) not in self._seen:
            self._seen.add((kind, text))
            self.words.update(words_of(text))
            for piece in _pieces(kind, text):
                self._piece(kind, piece)
        return text

    def _piece(self, kind: Kind, text: str) -> None:
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
        """What goes needs no pseudonym."""


class Rewriter:
    """Replaces every text; counts what is dropped, by path."""

    def __init__(self, key: bytes, addresses: AddressTexts, pseudonyms: Pseudonyms) -> None:
        self._key, self._addresses, self._pseudonyms = key, addresses, pseudonyms
        self._seen: dict[tuple[Kind, str], str] = {}
        self.dropped_fields: Counter[str] = Counter()

    def text(self, kind: Kind, text: str) -> str:
        """What stands for it; KeyError when the collector has not seen it."""
        found = self._seen.get((kind, text))
        if found is None:
            found = self._seen[kind, text] = ",".join(self._piece(kind, piece) for piece in _pieces(kind, text))
        return found

    def dropped(self, path: str) -> None:
        """Count it."""
        self.dropped_fields[path] += 1

    def _piece(self, kind: Kind, text: str) -> str:
        if stays(kind, text):
            return text
        if kind is UID and _UUID.fullmatch(text):
            return str(uuid.UUID(bytes=hmac.digest(self._key, b"uid " + text.encode(), "sha256")[:16], version=4))
        if kind is PORT:
            return self._pseudonyms.short(text)
        address = self._addresses.mapped(text)
        return self._pseudonyms.name(text) if address is None else address


def _pieces(kind: Kind, text: str) -> list[str]:
    """Lists of addresses come with commas."""
    return text.split(",") if kind is ADDRESS else [text]
