"""What a picture of a result is: numbers that can be drawn, shown and saved."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import OptionError
from chainrule.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GRADIENT",
    "INK",
    "VALUE",
    "Picture",
    "bare",
    "chart",
    "coloured",
    "spread",
]

Array = np.ndarray[Any, Any]

VALUE = "#006b54"
"""The colour of values in every drawing, beside a word, a place or a sign."""
GRADIENT = "#b83b00"
"""The colour of gradients."""
INK = "#1c1e21"

_FORMATS = ("svg", "png", "pdf")


class Picture(ABC):
    """A result that says itself in words (``print``) and in a picture.

    Subclasses hold the numbers as fields, print what they mean, and draw them with
    matplotlib. In a notebook the picture is what is shown.
    """

    @abstractmethod
    def figure(self) -> Figure:
        """The picture as a matplotlib figure, made anew at each call."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the file's name says as what: svg, png or pdf.

        Raises:
            OptionError: for a name that ends otherwise.
            FileError: where it cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in _FORMATS:
            raise OptionError.unknown("form of a picture", kind or path.name, _FORMATS)
        write_atomically(path, self._written(kind))

    def _repr_svg_(self) -> str:
        return self._written("svg").decode()

    def _written(self, kind: str) -> bytes:
        import matplotlib

        buffer = io.BytesIO()
        # The same numbers give the same bytes.
        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "chainrule"}
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        with matplotlib.rc_context(settings):
            self.figure().savefig(buffer, format=kind, dpi=120, metadata=undated)
        return buffer.getvalue()


def chart(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (5.4, 3.6)
) -> tuple[Figure, Any]:
    """A figure with an array (rows, columns) of axes; ``size`` in inches for each.

    Without pyplot, which keeps figures alive and may open windows.
    """
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(True, color=INK, alpha=0.12, lw=0.7)
        panel.set_axisbelow(True)
    return figure, axes


def bare(panel: Axes) -> None:
    """Make axes a frame for an image: no ticks, no grid, no border."""
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(False)
    panel.spines[:].set_visible(False)


def spread(values: Array) -> Array:
    """Numbers as uint8, the smallest 0 and the largest 255."""
    low, high = values.min(), values.max()
    levels: Array = np.rint(255 * (values - low) / max(high - low, 1e-12))
    return levels.astype(np.uint8)


def coloured(weights: Array) -> Array:
    """Weights (h, w, c) as a picture (h, w, 3) of uint8, in their own range.

    Three channels: from the smallest weight, black, to the largest. Other numbers of
    channels are summed: blue is below 0, red above, white is 0.
    """
    if weights.shape[-1] == 3:
        return spread(weights)
    values = weights.sum(axis=-1)
    values = values / max(np.abs(values).max(), 1e-12)
    ends = np.where(values[..., None] > 0, (178, 24, 43), (33, 102, 172))
    share = np.abs(values)[..., None]
    levels: Array = np.rint(255 + share * (ends - 255.0))
    return levels.astype(np.uint8)
