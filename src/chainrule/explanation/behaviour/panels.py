"""Charts that can stand alone or side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chainrule.errors import OptionError
from chainrule.explanation.picture import Picture, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "Panels"]


class Panel(Picture):
    """A picture that is one chart, so that it can also stand among others."""

    size: ClassVar[tuple[float, float]] = (5.4, 3.8)
    """Width and height in inches, where it stands alone."""

    def figure(self) -> Figure:
        figure, axes = chart(size=self.size)
        self.draw(axes[0, 0])
        return figure

    @abstractmethod
    def draw(self, axes: Axes) -> None:
        """Draw into axes that are there already."""


@dataclass(frozen=True)
class Panels(Picture):
    """Charts side by side, in rows.

    Args:
        pictures: the charts, row by row.
        columns: how many stand in a row.
        size: width and height of each, in inches.
        caption: what all of them say together; printed above what each says.

    Raises:
        OptionError: without any chart, or without columns.
    """

    pictures: Sequence[Panel]
    columns: int = 2
    size: tuple[float, float] = (4.2, 3.4)
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.pictures or self.columns < 1:
            raise OptionError(
                "panels: nothing to put side by side",
                got=f"{len(self.pictures)} charts in {self.columns} columns",
                expected="one chart or more, one column or more",
            )

    def figure(self) -> Figure:
        rows = -(-len(self.pictures) // self.columns)
        figure, axes = chart(rows, self.columns, size=self.size)
        for picture, place in zip(self.pictures, axes.flat, strict=False):
            picture.draw(place)
        for unused in axes.flat[len(self.pictures) :]:
            unused.set_visible(False)
        return figure

    def __str__(self) -> str:
        said = [str(picture) for picture in self.pictures]
        return "\n".join([self.caption, *said] if self.caption else said)
