"""Convolution, and what belongs to it: one sum of products, taken three ways.

With images x, filters w and outputs y, all three ops are derivatives of

    T = Σ x[n, s·p + d·i - lo, c] · w[i, c, o] · y[n, p, o]

over examples n, places p, taps i and channels c, o: by y it is the convolution of x
with w, by x what comes back to the data (transposed convolution), by w what comes back
to the filters. So each one's gradients are the other two. As in the field, filters are
not flipped.

Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning,
2016; aarhus, for the gradients as convolutions; toronto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Op, Tensor, apply, as_tensor, function, register
from chainrule.core.spec import Spec, arithmetic_dtype
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.window import Window, numbers, window

__all__ = ["conv", "conv_transpose"]

Array = np.ndarray[Any, Any]

_BLOCK_BYTES = 1 << 24
"""Of the patches that are laid out as one matrix at a time."""


class _Convolution(Op):
    """What the three ops share: a window and a number of groups of channels."""

    window: Window
    groups: int

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return (arithmetic_dtype(self.name, *inputs),) * 2

    def _check_ranks(self, *inputs: Spec, last: str) -> None:
        rank = self.window.ndim
        if any(s.ndim != rank + 2 for s in inputs):
            raise ShapeError(
                f"{self.name}: the operands have other numbers of axes",
                got=" and ".join(map(str, inputs)),
                expected=f"images (n, {'h, w' if rank == 2 else '...'}, channels) and "
                f"{last}",
                hint="one example: x[None]; grey images: x[..., None]",
            )

    def _check_groups(self, in_channels: int, per_filter: int, filters: int) -> None:
        if in_channels != per_filter * self.groups:
            raise ShapeError(
                f"{self.name}: filters for other channels",
                got=f"images of {in_channels} channels, filters for {per_filter}"
                + (f" in each of {self.groups} groups" if self.groups > 1 else ""),
                expected=f"{in_channels} = {self.groups}·(channels of a filter)",
                hint=f"make in_channels {in_channels}",
            )
        if filters % self.groups:
            raise ShapeError(
                f"{self.name}: the filters do not divide into groups",
                got=f"{filters} filters, {self.groups} groups",
                expected="a multiple of the number of groups",
            )


@register
@dataclass(frozen=True)
class Convolve(_Convolution):
    """y[n, p, o] = Σ over taps i and channels c of x[n, s·p + d·i - lo, c]·w[i, c, o].

    With groups, output o sees only the channels of its own group.
    """

    name = "conv"
    pattern = "switches: dy through the filters to x, x to the filters"
    window: Window
    groups: int = 1

    def spec(self, *inputs: Spec) -> Spec:
        x, w = inputs
        self._check_ranks(x, w, last="filters (*size, channels, filters)")
        *_, per_filter, filters = w.shape
        self._check_groups(x.shape[-1], per_filter, filters)
        sizes = self.window.output_sizes(self.name, x.shape[1:-1])
        return Spec((x.shape[0], *sizes, filters), x.dtype)

    def compute(self, *arrays: Any) -> Any:
        x, w = arrays
        spec = self.spec(Spec.of(x), Spec.of(w))
        y = np.empty(spec.shape, x.dtype)
        matrix = _filter_matrix(w, self.groups)
        for index, rows in _blocks(self.window, self.window.padded(x), self.groups):
            part = y[index]
            part[...] = _joined(rows @ matrix).reshape(part.shape)
        return y

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor, w: Tensor) -> Any:
        return (
            lambda: apply(
                ConvolveToData.make(self.window, self.groups, x.shape[1:-1]), dy, w
            ),
            lambda: apply(ConvolveToFilters.make(self.window, self.groups), x, dy),
        )


@register
@dataclass(frozen=True)
class ConvolveToData(_Convolution):
    """x[n, a, c] = Σ y[n, p, o]·w[i, c, o] where s·p + d·i - lo = a, and over o.

    The transpose of ``Convolve`` as a matrix; ``sizes`` are those of the image.
    """

    name = "conv_transpose"
    pattern = "switches: dx through the filters to y, y to the filters"
    window: Window
    groups: int
    sizes: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        y, w = inputs
        self._check_ranks(y, w, last="filters (*size, channels out, channels in)")
        *_, per_filter, filters = w.shape
        places = self.window.output_sizes(self.name, self.sizes)
        if places != tuple(y.shape[1:-1]):
            raise ShapeError(
                f"{self.name}: the window does not lead from this input to that output",
                got=f"{y}, filters {w}, to {self.sizes}",
                expected=f"sizes {places}",
            )
        if filters != y.shape[-1]:
            raise ShapeError(
                f"{self.name}: filters for other channels",
                got=f"images of {y.shape[-1]} channels, filters for {filters}",
                expected=f"filters (*size, channels of the result, {y.shape[-1]})",
                hint=f"make in_channels {y.shape[-1]}",
            )
        self._check_groups(per_filter * self.groups, per_filter, filters)
        return Spec((y.shape[0], *self.sizes, per_filter * self.groups), y.dtype)

    def compute(self, *arrays: Any) -> Any:
        y, w = arrays
        channels = w.shape[-2] * self.groups
        x = self.window.blank(y.shape[0], self.sizes, channels, y.dtype)
        grouped = _split(y, self.groups)
        w = w.reshape(*w.shape[:-1], self.groups, w.shape[-1] // self.groups)
        for tap, index in self.window.taps(y.shape[1:-1]):
            matrix = np.moveaxis(w[tap], 1, 0).swapaxes(1, 2)  # (groups, out, in)
            part = x[index]
            part += _joined(grouped @ matrix).reshape(part.shape)
        return self.window.unpadded(x, self.sizes)

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        z, w = inputs
        return (
            lambda: apply(Convolve.make(self.window, self.groups), dy, w),
            lambda: apply(ConvolveToFilters.make(self.window, self.groups), dy, z),
        )


@register
@dataclass(frozen=True)
class ConvolveToFilters(_Convolution):
    """w[i, c, o] = Σ over examples and places of x[n, s·p + d·i - lo, c]·y[n, p, o].

    How much each filter's tap sees, together with each output: as a formula, the
    convolution of the images with y.
    """

    name = "conv_to_filters"
    pattern = "switches: the image to the outputs, the outputs to the image"
    window: Window
    groups: int = 1

    def spec(self, *inputs: Spec) -> Spec:
        x, y = inputs
        self._check_ranks(x, y, last="outputs (n, *sizes, filters)")
        places = self.window.output_sizes(self.name, x.shape[1:-1])
        if places != tuple(y.shape[1:-1]) or x.shape[0] != y.shape[0]:
            raise ShapeError(
                f"{self.name}: the window does not lead from x to y",
                got=f"{x}, {y}",
                expected=f"{x.shape[0]} examples of sizes {places}",
            )
        per_filter = x.shape[-1] // self.groups
        self._check_groups(x.shape[-1], per_filter, y.shape[-1])
        return Spec((*self.window.size, per_filter, y.shape[-1]), x.dtype)

    def compute(self, *arrays: Any) -> Any:
        x, y = arrays
        spec = self.spec(Spec.of(x), Spec.of(y))
        each = y.shape[-1] // self.groups
        total = np.zeros(
            (self.groups, math.prod(spec.shape[:-1]), each), x.dtype
        )  # fmt: skip
        for index, rows in _blocks(self.window, self.window.padded(x), self.groups):
            total += rows.swapaxes(1, 2) @ _split(y[index], self.groups)
        return np.moveaxis(total, 0, 1).reshape(spec.shape)

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        x, z = inputs
        return (
            lambda: apply(
                ConvolveToData.make(self.window, self.groups, x.shape[1:-1]), z, dy
            ),
            lambda: apply(Convolve.make(self.window, self.groups), x, dy),
        )


# ------------------------------------------------------------- as matrix products


def _split(x: Array, groups: int) -> Array:
    """(..., channels) as (groups, everything else, channels of a group)."""
    rows = x.reshape(math.prod(x.shape[:-1]), groups, x.shape[-1] // groups)
    return rows.swapaxes(0, 1)


def _joined(x: Array) -> Array:
    """(groups, rows, channels of a group) as (rows, channels)."""
    return x.swapaxes(0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2])


def _filter_matrix(w: Array, groups: int) -> Array:
    """(*size, in, out) as (groups, taps·in, out of a group)."""
    matrix = w.reshape(math.prod(w.shape[:-1]), groups, w.shape[-1] // groups)
    return matrix.swapaxes(0, 1)


def _blocks(window: Window, x: Array, groups: int) -> Iterator[tuple[Any, Array]]:
    """Parts of the outputs, and what they see: (groups, places, taps·channels).

    The patches of a whole batch may be far larger than the batch, so they are laid out
    for a few examples, or a few rows of a large one, at a time.
    """
    patches = window.patches(x)
    taps = math.prod(window.size)
    n, rows = patches.shape[:2]
    row_bytes = patches[:1, :1].size * x.itemsize
    many = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    each = max(1, many // max(rows, 1))
    for i in range(0, n, each):
        for j in range(0, rows, many):
            index = (slice(i, i + each), slice(j, j + many))
            part = patches[index]
            places = math.prod(part.shape[: window.ndim + 1])
            each_group = part.shape[-1] // groups
            part = part.reshape(places, taps, groups, each_group)
            part = np.moveaxis(part, 2, 0)
            yield index, part.reshape(groups, places, taps * each_group)


# ------------------------------------------------------------------------- public


@function
def conv(
    x: Any,
    w: Any,
    *,
    stride: Sequence[int] | int = 1,
    padding: Any = "valid",
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
) -> Tensor:
    """Slide filters over images and sum the products: what layers see of a picture.

    y[n, p, o] = Σ over taps i and channels c of x[n, stride·p + dilation·i - before, c]
    · w[i, c, o]. Filters are not flipped.

    Args:
        x: images, channels last; one, two or three spatial axes.
        w: filters of as many.
        stride: steps of the filters, one number or one for each axis.
        padding: zeros around the images: "valid" (none), "same" (output sizes
            ceil(size / stride)), a number, one for each axis, or a (before, behind)
            pair for each axis.
        dilation: the distance of a filter's taps.
        groups: into how many groups the channels are split that do not see each other;
            as many as channels for a depthwise convolution.

    Shapes: (n, h, w, c) and (kh, kw, c/groups, f) -> (n, h', w', f), with h' =
    (h + before + behind - dilation·(kh - 1) - 1) // stride + 1.

    Raises:
        ShapeError: for channels that do not fit, and a window larger than the image.
        OptionError: for a stride, padding or dilation that is none.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> x = np.ones((1, 5, 5, 1))
        >>> cr.conv(x, np.ones((3, 3, 1, 2)), stride=2).shape
        (1, 2, 2, 2)
    """
    images, filters = as_tensor(x), as_tensor(w)
    _check_filters("conv", filters, images, groups)
    view = window(
        "conv", images.shape[1:-1], filters.shape[:-2], stride, padding, dilation
    )
    return apply(Convolve.make(view, groups), images, filters)


@function
def conv_transpose(
    x: Any,
    w: Any,
    *,
    stride: Sequence[int] | int = 1,
    padding: Any = "valid",
    output_padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution backwards: every input pixel paints its filter into a larger image.

    y[n, a, o] = Σ x[n, p, c]·w[i, o, c] over places p and taps i with stride·p +
    dilation·i - before = a: what ``conv`` with the same options does to a gradient.

    Args:
        x: images, channels last.
        w: filters, with the channels of the result before those of x.
        stride: by how much images grow.
        padding: what ``conv`` pads, cut off here: "valid", "same" (output sizes
            size·stride), a number, one for each axis, or (before, behind) pairs.
        output_padding: rows and columns more at the end, below the stride: with stride
            2, images of 7 and of 8 pixels both shrink to 4.
        dilation: the distance of a filter's taps.
        groups: into how many groups the channels are split.

    Shapes: (n, h, w, c) and (kh, kw, f/groups, c) -> (n, h', w', f), with h' =
    (h - 1)·stride + dilation·(kh - 1) + 1 - before - behind + output_padding.

    Raises:
        ShapeError: for channels that do not fit, and an output without pixels.
        OptionError: for a stride, padding or dilation that is none.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> x = np.ones((1, 4, 4, 2))
        >>> cr.conv_transpose(x, np.ones((4, 4, 3, 2)), stride=2, padding=1).shape
        (1, 8, 8, 3)
    """
    images, filters = as_tensor(x), as_tensor(w)
    _check_filters("conv_transpose", filters, images, groups)
    sizes = images.shape[1:-1]
    # "same" is what turns an image of size·stride into this one.
    steps = window("conv_transpose", sizes, 1, stride).stride
    large = tuple(h * s for h, s in zip(sizes, steps, strict=True))
    view = window(
        "conv_transpose", large, filters.shape[:-2], stride, padding, dilation
    )
    more = numbers("conv_transpose", "output_padding", output_padding, len(sizes), 0)
    limits = [max(s, d) for s, d in zip(view.stride, view.dilation, strict=True)]
    if any(m >= limit for m, limit in zip(more, limits, strict=True)):
        raise OptionError(
            "conv_transpose: output_padding does not fit",
            got=f"output_padding={output_padding!r}, stride {view.stride}",
            expected="less than the stride or the dilation",
        )
    target = tuple(
        (h - 1) * s + r - lo - hi + m
        for h, s, r, (lo, hi), m in zip(
            sizes, view.stride, view.reach, view.padding, more, strict=True
        )
    )
    if min(target) < 1:
        raise ShapeError(
            "conv_transpose: nothing is left of the image",
            got=f"{images.spec}, window {view}",
            expected="(size - 1)·stride + reach - before - behind ≥ 1",
            hint="use less padding",
        )
    if padding == "same":
        target = tuple(h + m for h, m in zip(large, more, strict=True))
    # What is added at the end, no place of the window needs to see.
    seen = tuple((lo, hi - m) for (lo, hi), m in zip(view.padding, more, strict=True))
    view = Window(view.size, view.stride, seen, view.dilation)
    return apply(ConvolveToData.make(view, groups, target), images, filters)


def _check_filters(name: str, w: Tensor, x: Tensor, groups: int) -> None:
    if not isinstance(groups, (int, np.integer)) or groups < 1:
        raise OptionError(
            f"{name}: groups is not a number of groups",
            got=repr(groups),
            expected="a whole number, 1 or more",
        )
    if not 3 <= x.ndim <= 5 or w.ndim != x.ndim:
        raise ShapeError(
            f"{name}: images and filters need as many axes",
            got=f"{x.spec} and {w.spec}",
            expected="images (n, h, w, channels), filters (kh, kw, channels, filters)",
            hint="one example: x[None]; grey images: x[..., None]",
        )
