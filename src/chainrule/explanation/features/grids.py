"""Many small pictures in one figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explanation.picture import INK, bare, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["grid", "sign", "strongest"]

Array = np.ndarray[Any, Any]

_NUM_SIGNS = 5


def grid(
    pictures: Sequence[Array],
    titles: Sequence[str],
    *,
    columns: int = 8,
    side: float = 1.1,
    heading: str = "",
    signed: Sequence[Array] = (),
) -> Figure:
    """Pictures (h, w) or (h, w, 3) in rows, each under its title; side in inches.

    ``signed`` are the numbers (h, w) whose signs are colours in the pictures; the
    largest are marked by + and - too.
    """
    columns = min(columns, max(1, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    lines = max((title.count("\n") + 1 for title in titles if title), default=0)
    figure, axes = chart(rows, columns, size=(side, side + 0.16 * lines))
    for panel in axes.flat:
        bare(panel)
    for panel, picture, title in zip(axes.flat, pictures, titles, strict=False):
        panel.imshow(picture, cmap="gray", interpolation="nearest")
        panel.set_title(title, fontsize=8, pad=3, loc="left")
    for panel, values in zip(axes.flat, signed, strict=False):
        sign(panel, strongest(values, _NUM_SIGNS))
    if heading:
        figure.suptitle(heading, fontsize=11)
    return figure


def strongest(values: Array, count: int) -> list[tuple[int, int, str]]:
    """Row, column and sign of the numbers (h, w) that are furthest from 0.

    Example:
        >>> strongest(np.array([[0.0, -3.0], [2.0, 1.0]]), 2)
        [(0, 1, '−'), (1, 0, '+')]
    """
    flat = values.reshape(-1)
    order = np.argsort(-np.abs(flat), kind="stable")[:count]
    return [
        (*divmod(i, values.shape[1]), "+" if flat[i] > 0 else "−")
        for i in order.tolist()
        if flat[i]
    ]


def sign(panel: Axes, marks: Sequence[tuple[int, int, str]]) -> None:
    """Write signs on an image, so that they are not said by colour alone."""
    for row, column, mark in marks:
        panel.text(column, row, mark, color=INK, ha="center", va="center", fontsize=7)
