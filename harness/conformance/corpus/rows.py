"""All rows, one per rule."""

from __future__ import annotations

from . import rows_intake, rows_iptables, rows_reach, rows_selection
from .row import Row

ROWS: list[Row] = [*rows_intake.ROWS, *rows_selection.ROWS, *rows_reach.ROWS, *rows_iptables.ROWS]
