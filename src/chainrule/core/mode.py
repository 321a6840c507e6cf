"""What the current thread keeps of the ops it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.core.capture import Capture

__all__ = ["Call", "mode"]


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a part of a model: it made what is numbered between its two ends."""

    part: Any
    begin: int
    end: int


class _Mode(threading.local):
    recording: bool = True
    """Keep ops that a gradient can flow through."""
    tracing: bool = False
    """Keep every op, for a Graph that is to be run again."""
    calls: list[Call] | None = None
    """The runs of parts of models while tracing, each after those inside it."""
    capturing: Capture | None = None
    """Write ops down instead of running them."""

    @property
    def effects_are_ops(self) -> bool:
        """Whether updates in place have to be ops and assignments instead."""
        return self.capturing is not None or self.tracing

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block in which ops are run, though a function is being captured."""
        before, self.capturing = self.capturing, None
        try:
            yield
        finally:
            self.capturing = before


mode = _Mode()
