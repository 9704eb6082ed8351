"""Kubernetes' quantities of bytes: 512, 1K, 64Ki, 3M."""

from __future__ import annotations

import re

_SCALES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_FORM = re.compile(r"(\d{1,15})([kKMG]|[KMG]i)?", re.ASCII)


class Quantity(int):
    """A number of bytes; `str` gives plain digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """A number with an optional decimal or binary suffix; ValueError otherwise."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise ValueError(f"{text!r} is not a quantity such as 512, 1K or 64Ki")
        return cls(int(form[1]) * _SCALES[form[2] or ""])

    def __str__(self) -> str:
        return int.__repr__(self)
