"""A camera's colour filters as a layer: which light each pixel measures is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from chainrule import ops
from chainrule.core.graph import Buffer, Tensor, assign, no_grad
from chainrule.core.spec import FLOAT32
from chainrule.errors import OptionError, ShapeError
from chainrule.nn.init import DrawnBuffer, DrawnParameter
from chainrule.nn.module import Module, check_sizes

__all__ = ["ColorFilterArray"]

Array = np.ndarray[Any, Any]

# What a filter of each name lets through of red, green and blue light.
_LIGHT = {"r": (1, 0, 0), "g": (0, 1, 0), "b": (0, 0, 1), "w": (1, 1, 1)}

_HEAD_START = 2.0  # of a color's weight over the others, where learning starts at it


@dataclass(frozen=True)
class _Undecided:
    """First weights of mixtures: nearly even, or with more of each cell's own color."""

    colors: str
    start: str

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        # Near enough to even mixtures that nothing is decided, and not all alike.
        weights = rng.normal(0, 0.5, shape)
        cells = weights.reshape(-1, len(self.colors))
        for cell, color in zip(cells, self.start, strict=False):
            cell[self.colors.index(color)] += _HEAD_START
        return weights


class ColorFilterArray(Module):
    """One number measured at each pixel, through a pattern of filters that repeats.

    The filter of a pixel lets through the shares t of red, green and blue; the pixel
    measures m = t·x. In cell k of the pattern, t = Σ_c softmax(a·w[k])_c·light_c: a
    mixture of the pure colours, by weights w that are learned together with whatever
    reads the measurements. Each measured number comes out in the plane of its cell, and
    the other planes have 0 there, so that the next layer knows which filter it is from.

    A mixture becomes one of its colours when a grows in training: after t forward
    passes, a = 1 + (sharpening·t)².

    A sensor's noise is that of counting photons and of reading them out, so more light
    is less noise: called with standard normal numbers n, it measures m + √(shot·m +
    read²)·n.

    Args:
        period: the pattern's size in pixels, along both axes.
        colors: the pure filters, some of r, g, b and w; w (white) is no filter, which
            measures r + g + b.
        start: the color, row by row, that each filter is most of at first, such as
            Bayer's "rggb"; without it all begin as nearly even mixtures.
        sharpening: how fast mixtures become pure; 0 keeps them mixtures, as dyes are.
        shot, read: of the noise, for light from 0 to 1.

    Shapes: (n, h, w, 3), and if there is noise (n, h, w, 1) -> (n, h, w, period²).

    Raises:
        OptionError: for a period that is no size, unknown colors, a start of another
            size or of other colors, and negative amounts.
        ShapeError: when run on pictures that are not in colour, or with noise of
            another size.

    Example:
        >>> measured = ColorFilterArray.bayer()(np.ones((1, 2, 2, 3)))
        >>> measured.shape, measured.numpy().sum(axis=-1).tolist()
        ((1, 2, 2, 4), [[[1.0, 1.0], [1.0, 1.0]]])

    Source: Chakrabarti, "Learning sensor multiplexing design through back-propagation",
    2016, section 3.1, with α of equation 4; there the pattern is 8×8 of rgbw.
    """

    def __init__(
        self,
        period: int = 4,
        *,
        colors: str = "rgb",
        start: str = "",
        sharpening: float = 0.0,
        shot: float = 0.0,
        read: float = 0.0,
    ) -> None:
        check_sizes("color_filter_array", period=period)
        unknown = sorted(set(colors) - set(_LIGHT))
        if not colors or unknown or len(set(colors)) < len(colors):
            raise OptionError(
                "color_filter_array: colors are not a choice of filters",
                got=repr(colors),
                expected="some of r, g, b and w, each once",
            )
        if start and (len(start) != period**2 or set(start) - set(colors)):
            raise OptionError(
                "color_filter_array: start is not a pattern of its filters",
                got=repr(start),
                expected=f"{period**2} letters of {colors!r}, row by row",
            )
        amounts = {"sharpening": sharpening, "shot": shot, "read": read}
        for name, amount in amounts.items():
            if not 0 <= amount < math.inf:
                raise OptionError(
                    f"color_filter_array: {name} out of range",
                    got=amount,
                    expected="a finite number from 0 on",
                )
        self.period = period
        self.colors = colors
        self.sharpening = float(sharpening)
        self.shot = float(shot)
        self.read = float(read)
        self.weight: DrawnParameter | None = DrawnParameter(
            (period, period, len(colors)), _Undecided(colors, start), is_penalized=False
        )
        self.steps = DrawnBuffer((), "zeros")
        self.fixed: Buffer | None = None

    @classmethod
    def bayer(
        cls, pattern: str = "rggb", *, shot: float = 0.0, read: float = 0.0
    ) -> Self:
        """Bayer's filters, which are not learned: two greens, a red and a blue.

        Args:
            pattern: the four filters, row by row.
            shot, read: of the noise.

        Raises:
            OptionError: for a filter that is not r, g, b or w.
        """
        for color in pattern:
            if color not in _LIGHT:
                raise OptionError.unknown("filter", color, _LIGHT)
        return cls.of([_LIGHT[color] for color in pattern], shot=shot, read=read)

    @classmethod
    def of(cls, filters: Any, *, shot: float = 0.0, read: float = 0.0) -> Self:
        """Filters that are given, and not learned.

        Args:
            filters: what each lets through of red, green and blue, row by row of a
                square pattern.
            shot, read: of the noise.

        Shapes: (period², 3), or (period, period, 3).

        Raises:
            OptionError: for filters that do not form a square.
        """
        shares = np.asarray(filters, FLOAT32).reshape(-1, 3)
        period = round(len(shares) ** 0.5)
        if period**2 != len(shares) or not len(shares):
            raise OptionError(
                "color_filter_array: the filters do not form a square",
                got=f"{len(shares)} filters",
                expected="1, 4, 9, 16 ... of them",
            )
        made = cls(period, shot=shot, read=read)
        made.weight = None
        made.fixed = Buffer(shares.reshape(period, period, 3))
        return made

    def __repr__(self) -> str:
        if self.fixed is not None:
            return f"ColorFilterArray({self.period}, fixed)"
        return f"ColorFilterArray({self.period}, colors={self.colors!r})"

    def filters(self) -> Tensor:
        """What each filter lets through: (period, period, 3)."""
        if self.weight is None:
            assert self.fixed is not None
            return self.fixed
        light = np.array([_LIGHT[c] for c in self.colors], self.weight.dtype)
        sharpness = 1 + (self.steps * self.sharpening) ** 2
        return ops.matmul(ops.softmax(self.weight * sharpness, axis=-1), light)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[-1] != 3:
            raise ShapeError(
                "color_filter_array: colour filters need pictures in colour",
                got=x.spec,
                expected="(n, h, w, 3)",
            )
        if noise is not None and noise.shape != (*x.shape[:3], 1):
            raise ShapeError(
                "color_filter_array: one number of noise for each pixel",
                got=f"pictures {x.spec}, noise {noise.spec}",
                expected=f"noise of shape {(*x.shape[:3], 1)}",
            )
        _, height, width, _ = x.shape
        period = self.period
        # Measuring is a convolution in steps of the period, with a filter for each
        # cell; its transpose puts what was measured back in its place.
        places = self._places().astype(x.dtype)
        taps = ops.expand_dims(self.filters(), 3) * places[:, :, None]
        measured = ops.conv(self._in_cells(x), taps, stride=period)
        if noise is not None:
            own = ops.conv(self._in_cells(noise), places[:, :, None], stride=period)
            variance = measured * self.shot + self.read**2
            # Where there is no light, the root has no slope.
            measured = measured + own * ops.sqrt(ops.maximum(variance, 1e-12))
        planes = ops.conv_transpose(
            measured, places[:, :, None], stride=period, groups=period**2
        )
        if height % period or width % period:
            planes = ops.index(planes, (slice(None), slice(height), slice(width)))
        if self.training and self.sharpening and self.weight is not None:
            with no_grad():
                assign(self.steps, self.steps + 1)
        return planes

    def _in_cells(self, x: Tensor) -> Tensor:
        """Pictures with zeros behind them, where the last cells are not whole."""
        missing = [-size % self.period for size in x.shape[1:3]]
        if not any(missing):
            return x
        return ops.pad(x, ((0, 0), *((0, m) for m in missing), (0, 0)))

    def _places(self) -> Array:
        """1 where a cell stands in the pattern: (period, period, period²)."""
        return np.eye(self.period**2).reshape(self.period, self.period, -1)
