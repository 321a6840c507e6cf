"""How much each input speaks for an output: the result that several methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explanation.features.grids import sign, strongest
from chainrule.explanation.picture import (
    GRADIENT,
    INK,
    Picture,
    bare,
    chart,
    coloured,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Attribution", "shown", "target_name"]

Array = np.ndarray[Any, Any]

_MOST = 0.8
"""The share of all attribution whose pixels are told of."""
_NUM_MARKS = 12
_NUM_BARS = 24


@dataclass(frozen=True)
class Attribution(Picture):
    """What a method says each pixel, or each number of a row, does to one output.

    Shapes: example (h, w, c) or (features,); values (h, w) or (features,).
    """

    method: str
    example: Array
    values: Array
    target: str
    """The output in words, such as "output 7"."""
    score: float
    """The value of that output."""
    note: str = ""
    """What the method can say of its own exactness."""
    is_signed: bool = True
    """Whether values speak for or against; else they are sizes."""

    @property
    def is_picture(self) -> bool:
        return self.values.ndim == 2

    @property
    def decisive(self) -> Array:
        """The fewest places that hold 80 % of the attribution, as a mask."""
        sizes = np.abs(self.values).reshape(-1).astype(np.float64)
        order = np.argsort(-sizes, kind="stable")
        sums = np.cumsum(sizes[order])
        mask = np.zeros(sizes.size, bool)
        if sums.size and sums[-1] > 0:
            count = int(np.searchsorted(sums, _MOST * sums[-1])) + 1
            mask[order[:count]] = True
        return mask.reshape(self.values.shape)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First and last row, first and last column of what is decisive.

        One twentieth of the attribution is left out on each side, so that a stray pixel
        does not widen it.
        """
        sizes = np.abs(self.values) * self.decisive
        (top, bottom), (left, right) = _middle(sizes.sum(1)), _middle(sizes.sum(0))
        return top, bottom, left, right

    def __str__(self) -> str:
        lines = [f"{self.method}: {self.target} is {self.score:.4g}"]
        if not np.abs(self.values).max(initial=0) > 0:
            thing = "pixel" if self.is_picture else "number"
            lines.append(f"no {thing} has any influence on it")
        elif self.is_picture:
            top, bottom, left, right = self.box
            lines.append(
                f"{100 * _MOST:.0f} % of the attribution lies on "
                f"{100 * self.decisive.mean():.3g} % of the pixels, mainly in rows "
                f"{top}–{bottom}, columns {left}–{right}"
            )
        else:
            order = np.argsort(-np.abs(self.values), kind="stable")[:3]
            told = ", ".join(f"number {i} ({self.values[i]:+.3g})" for i in order)
            lines.append(f"most of it comes from {told}")
        against = -self.values[self.values < 0].sum()
        share = against / max(np.abs(self.values).sum(), 1e-300)
        if share >= 0.005:
            lines.append(f"{100 * share:.0f} % of the attribution speaks against it")
        return "\n".join([*lines, self.note] if self.note else lines)

    def coloured(self) -> Array:
        """The values as a picture, uint8 (h, w, 3): red speaks for it, blue against."""
        values = self.values if self.is_picture else self.values[None]
        return coloured(values.astype(np.float64)[..., None])

    @property
    def marks(self) -> list[tuple[int, int, str]]:
        """Row, column and sign of the places that count most, for those who draw."""
        values = self.values if self.is_picture else self.values[None]
        return strongest(values, _NUM_MARKS)

    def figure(self) -> Figure:
        """The example beside the values; + and - mark the places that count most."""
        if not self.is_picture:
            return self._bars()
        figure, axes = chart(1, 2, size=(3.2, 3.4))
        whole, found = axes.flat
        for panel in (whole, found):
            bare(panel)
        whole.imshow(shown(self.example), cmap="gray", interpolation="nearest")
        whole.set_title("input", fontsize=11)
        found.imshow(self.coloured(), interpolation="nearest")
        found.set_title(self.method.replace(" of ", "\nof "), fontsize=11)
        found.spines[:].set(visible=True, color=INK, alpha=0.3)
        self._frame(whole)
        sign(found, self.marks)
        figure.supxlabel(f"{self._key}; dashed: where most of it lies", fontsize=9)
        return figure

    @property
    def _key(self) -> str:
        if not self.is_signed:
            return "+ red: it hangs on these"
        against = "" if (self.values >= 0).all() else ", − blue: against"
        return f"+ red: for {self.target}{against}"

    def _frame(self, panel: Axes) -> None:
        from matplotlib.patches import Rectangle

        if not self.decisive.any():
            return
        top, bottom, left, right = self.box
        corner, sides = (left - 0.5, top - 0.5), (right - left + 1, bottom - top + 1)
        for colour, style in (("white", "-"), (GRADIENT, "--")):  # seen on any ground
            panel.add_patch(
                Rectangle(corner, *sides, fill=False, ec=colour, ls=style, lw=1.6)
            )

    def _bars(self) -> Figure:
        figure, axes = chart(size=(5.4, 3.6))
        panel = axes[0, 0]
        order = np.sort(np.argsort(-np.abs(self.values), kind="stable")[:_NUM_BARS])
        panel.bar([str(i) for i in order], self.values[order], color=GRADIENT)
        panel.axhline(0, color=INK, lw=0.8)
        panel.set_xlabel("number of the row")
        panel.set_title(f"{self.method} of {self.target}", fontsize=11)
        panel.tick_params(axis="x", labelsize=8)
        return figure


def shown(picture: Array) -> Array:
    """An input (h, w, c) as something to look at: levels, or numbers spread to them."""
    is_levels = picture.dtype == np.uint8 or (
        picture.min(initial=0) >= 0 and 1 < picture.max(initial=0) <= 255
    )
    levels = np.rint(picture).astype(np.uint8) if is_levels else spread(picture)
    if levels.shape[-1] in (3, 4):
        return levels[..., :3]
    return np.asarray(levels.mean(axis=-1)).astype(np.uint8)


def _middle(sums: Array) -> tuple[int, int]:
    """The stretch that holds all but a twentieth on either side."""
    total = np.cumsum(sums, dtype=np.float64)
    if not total.size or total[-1] <= 0:
        return 0, max(0, total.size - 1)
    low, high = np.searchsorted(total, (0.05 * total[-1], 0.95 * total[-1]))
    return int(low), int(min(high, total.size - 1))


def target_name(index: tuple[int, ...]) -> str:
    """What an output is called where it has no name."""
    if len(index) == 1:
        return f"output {index[0]}"
    *place, channel = index
    return f"channel {channel} at ({', '.join(map(str, place))})"
