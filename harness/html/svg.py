"""SVG elements as markup, everything in them escaped. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from harness.html.words import clean

LONGEST_ATTRIBUTE = 1_000_000


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One element. `class_` becomes class, `stroke_width` stroke-width; floats get one decimal; None is omitted."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(child if isinstance(child, Markup) else clean(child) for child in children)
    return Markup(f"<{name}{words}>{inner}</{name}>" if children else f"<{name}{words}/>")


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Text with its baseline at y."""
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def picture(key: str, width: float, height: float, title: str, about: str, parts: Iterable[Markup]) -> Markup:
    """A whole picture of the given size, with title and description for screen readers."""
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", about, id=f"{key}-desc"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_attribute(width)} {_attribute(height)}",
        width=width,
        height=height,
        role="group",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-desc",
    )


def path(points: Iterable[tuple[float, float]]) -> str:
    """A line through the points, as the `d` of a path."""
    return "".join(f"{'L' if n else 'M'}{_attribute(x)} {_attribute(y)}" for n, (x, y) in enumerate(points))


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".rstrip("0").rstrip(".")
    return clean(value, LONGEST_ATTRIBUTE)
