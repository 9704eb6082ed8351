"""Prints a table if it fits without breaking words, else as a list: for terminals of any width."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_PADDING = 2
"""Columns of space that a table puts around each cell."""


def print_table(table: Table, console: Console) -> None:
    """Print the table; in a terminal too narrow for its longest words, one block of lines per row."""
    for column in table.columns:
        texts = [str(column.header), *map(str, column.cells)]
        column.min_width = max(len(word) for text in texts for word in text.split() or [""])
    if sum((column.min_width or 0) + _PADDING for column in table.columns) <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title, style="italic", highlight=False)
    names = [str(column.header) for column in table.columns]
    for row in zip(*(map(str, column.cells) for column in table.columns), strict=True):
        console.print(row[0], highlight=False, markup=False)
        for name, cell in zip(names[1:], row[1:], strict=True):
            if cell:
                console.print(f"  {name}: {cell}", highlight=False, markup=False)
