"""Drawings in steps: one by one, on a page with buttons, or playing by themselves."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

from chainrule.explanation.drawing.page import page
from chainrule.explanation.drawing.shapes import MARGIN, wrapped
from chainrule.explanation.drawing.svg import (
    Drawing,
    Raw,
    element,
    group,
    text,
    write_drawing,
)
from chainrule.explanation.picture import INK

__all__ = ["Frames", "Timed"]

_STEP_S = 1.6  # that each step is shown where a picture plays by itself
_CAPTION = 12.0
_LINE = 17.0
_LEAST_WIDTH = 520.0  # for captions


@dataclass(frozen=True)
class Timed:
    """An element that is seen from step ``first`` on, until before step ``end``."""

    shown: Raw
    first: int
    end: int


@dataclass(frozen=True)
class Frames(Sequence[Drawing]):
    """One drawing in steps: ``frames[k]`` is a Drawing, ``save`` writes all of them.

    Args:
        title: what it is of.
        captions: what happens at each step, in words.
        width, height: in pixels, of every step.
        still: what is always there.
        changing: what is there for some steps.
    """

    title: str
    captions: tuple[str, ...]
    width: float
    height: float
    still: Raw = field(repr=False)
    changing: tuple[Timed, ...] = field(repr=False)

    @staticmethod
    def told(
        title: str,
        captions: Sequence[str],
        width: float,
        height: float,
        still: Raw,
        changing: Sequence[Timed],
    ) -> Frames:
        """Frames with their captions written below the picture."""
        width = max(width, _LEAST_WIDTH)
        room = width - 2 * MARGIN
        rows = [wrapped(caption, _CAPTION, room) for caption in captions]
        shown = [
            Timed(
                group(
                    *(
                        text(MARGIN, height + 14 + k * _LINE, row, fill=INK)
                        for k, row in enumerate(lines)
                    ),
                    font_size=_CAPTION,
                ),
                step,
                step + 1,
            )
            for step, lines in enumerate(rows)
        ]
        tall = height + 10 + _LINE * max(map(len, rows), default=0)
        return Frames(title, tuple(captions), width, tall, still, (*changing, *shown))

    def __len__(self) -> int:
        return len(self.captions)

    @overload
    def __getitem__(self, step: int) -> Drawing: ...
    @overload
    def __getitem__(self, step: slice) -> list[Drawing]: ...
    def __getitem__(self, step: int | slice) -> Drawing | list[Drawing]:
        if isinstance(step, slice):
            return [self[k] for k in range(*step.indices(len(self)))]
        if not -len(self) <= step < len(self):
            raise IndexError(f"{len(self)} steps, no step {step}")
        step %= len(self)
        seen = (t.shown for t in self.changing if t.first <= step < t.end)
        title = f"{self.title}, step {step + 1} of {len(self)}"
        return self._drawing(title, self.captions[step], group(self.still, *seen))

    def _drawing(self, title: str, told: str, body: Raw) -> Drawing:
        return Drawing(title, told, self.width, self.height, body)

    def playing(self) -> Drawing:
        """All steps in one picture that plays by itself, over and over."""
        count, parts = len(self), []
        for t in self.changing:
            times = [(t.first / count, "visible"), (t.end / count, "hidden")]
            times = [(at, how) for at, how in times if at < 1]
            if t.first:
                times.insert(0, (0.0, "hidden"))
            change = element(
                "animate",
                attributeName="visibility",
                values=";".join(how for _, how in times),
                keyTimes=";".join(f"{at:.5g}" for at, _ in times),
                dur=f"{count * _STEP_S:g}s",
                calcMode="discrete",
                repeatCount="indefinite",
            )
            first = "hidden" if t.first else "visible"
            parts.append(group(change, t.shown, visibility=first))
        return self._drawing(self.title, str(self), group(self.still, *parts))

    def stepped(self) -> Drawing:
        """All steps in one picture for a page whose script shows one at a time."""
        parts = [
            group(
                t.shown,
                data_first=t.first,
                data_end=t.end,
                display=None if t.first == 0 else "none",
            )
            for t in self.changing
        ]
        return self._drawing(self.title, str(self), group(self.still, *parts))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all steps: .html a page with buttons and arrow keys, .svg a loop.

        Raises:
            OptionError: for a name that ends otherwise.
            FileError: where it cannot be written.
        """
        write_drawing(path, self.playing().svg + "\n", self.page())

    def page(self) -> str:
        """A page that stands alone, with buttons to step."""
        return page(self.title, self.stepped().svg, self.captions)

    def _repr_html_(self) -> str:
        # A frame of its own: scripts and keys of several figures stay apart.
        page, title = html.escape(self.page()), html.escape(self.title)
        style = f"width:100%;height:{min(self.height + 70, 700):.0f}px;border:0"
        return f'<iframe srcdoc="{page}" title="{title}" style="{style}"></iframe>'

    def __str__(self) -> str:
        steps = (f"{k}. {told}" for k, told in enumerate(self.captions, start=1))
        return "\n".join([self.title, *steps])
