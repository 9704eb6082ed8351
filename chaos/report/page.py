"""The page: one HTML file that needs nothing else, from templates beside this module."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chaos.report import words
from chaos.report.view import View

VALUES = {True: ("true", "✓"), False: ("false", "✗"), None: ("unknown", "?")}


def html(page: View) -> str:
    """The whole document; everything that is not a picture of ours is escaped."""
    environment = Environment(
        loader=PackageLoader("chaos.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"seconds": words.seconds, "clock": words.clock, "clean": words.clean, "pieces": pieces}
    return environment.get_template("report.html.j2").render(page=page, values=VALUES, words=words)


def pieces(text: str) -> Markup:
    """A list in words that breaks between its parts only."""
    return Markup(", ").join(Markup('<span class="nb">{}</span>').format(part) for part in text.split(", "))
