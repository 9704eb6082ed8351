"""Renders a whole document from the caller's template, which may use the shared templates beside this module."""

from __future__ import annotations

from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.html import words
from harness.wording import plural

VALUES = {True: ("passed", "✓"), False: ("failed", "✗"), None: ("unknown", "?")}
"""A verdict's word, which is also its class in the style sheet, and its mark."""
WIDE, NARROW = 1080, 332
"""Widths of charts: on a desktop's page and on a phone's."""


class Pictures(NamedTuple):
    """One chart, drawn for both widths; the style sheet shows one of them."""

    wide: Markup
    narrow: Markup


def render(package: str, template: str, **values: object) -> str:
    """The whole document; everything but our own charts is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("harness.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "seconds": words.seconds,
        "clock": words.clock,
        "clean": words.clean,
        "pieces": pieces,
        "plural": plural,
    }
    environment.globals |= {"values": VALUES}
    return environment.get_template(template).render(**values)


def pieces(text: str) -> Markup:
    """A comma-separated list that wraps only between its items."""
    return Markup(", ").join(Markup('<span class="nb">{}</span>').format(part) for part in text.split(", "))
