"""The result of opening a mode in a place: a kernel to program, and a view to verify it with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from engine.kernel.interface import KernelOfMode
from harness.judge.behaviour import Behaviour
from harness.judge.verify import CheckedView


class ModeView(CheckedView, Protocol):
    """The present kernel state of one mode, in the oracle's types."""

    def behaviour(self, family: int) -> Behaviour | None:
        """None if nothing of the family was programmed; ValueError if its parts are inconsistent."""


@dataclass(frozen=True)
class Opened:
    """A kernel to program, the view to verify it with, and its tools' names and versions to print.

    `lacking` is why the engine cannot run on it for these families, None if it can.
    """

    kernel: KernelOfMode
    view: ModeView
    tools: dict[str, str]
    lacking: Callable[[Collection[int]], str | None] = lambda families: None
