"""Pooling: what a sliding window sees becomes one number for each channel.

Each kind comes with the ops that its gradients need. The maximum routes: ``MaxPool``
picks elements, ``MaxPoolRoute`` sends numbers back to where they were picked,
``MaxPoolPick`` picks from another image at the same places. The sum distributes:
``SumPool`` and ``SumPoolToData`` are one matrix and its transpose.

Source: toronto; V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep
learning, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Op, Tensor, apply, function, register
from chainrule.core.spec import Spec, arithmetic_dtype
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.window import Window, as_images, window

__all__ = ["average_pool", "max_pool"]

Array = np.ndarray[Any, Any]


class _Pooling(Op):
    """What pooling ops share: a window that sees one channel at a time."""

    window: Window

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return (arithmetic_dtype(self.name, *inputs),) * len(inputs)

    def _pooled(self, x: Spec) -> Spec:
        """The spec of the outputs for images like x."""
        if x.ndim != self.window.ndim + 2:
            raise ShapeError(
                f"{self.name}: the image has another number of axes than the window",
                got=f"{x}, window {self.window}",
                expected=f"(n, {'h, w' if self.window.ndim == 2 else '...'}, channels)",
                hint="one example: x[None]; grey images: x[..., None]",
            )
        sizes = self.window.output_sizes(self.name, x.shape[1:-1])
        return Spec((x.shape[0], *sizes, x.shape[-1]), x.dtype)

    def _check(self, y: Spec, x: Spec) -> None:
        if y.shape != self._pooled(x).shape:
            raise ShapeError(
                f"{self.name}: the window does not lead from one to the other",
                got=f"{x} and {y}",
                expected=str(self._pooled(x)),
            )

    def _joined(self, x: Array, padding: float, join: np.ufunc) -> Array:
        """What the taps see, joined one after another."""
        padded = self.window.padded(x, padding)
        sizes = self.window.output_sizes(self.name, x.shape[1:-1])
        first, *others = (padded[index] for _, index in self.window.taps(sizes))
        y = first.copy()
        for seen in others:
            join(y, seen, out=y)
        return y

    def _largest(self, x: Array) -> Array:
        """The number of the tap that holds the first largest element; NaN counts so."""
        views = self.window.patches(self.window.padded(x, _lowest(x.dtype)))
        rank, taps = self.window.ndim, math.prod(self.window.size)
        flat = views.reshape(*views.shape[: rank + 1], taps, x.shape[-1])
        chosen: Array = np.argmax(flat, axis=rank + 1)
        return chosen


def _lowest(dtype: np.dtype[Any]) -> float:
    """A number of the padding, which no element is below."""
    return -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


@register
@dataclass(frozen=True)
class MaxPool(_Pooling):
    """y[n, p, c] = max over taps i of x[n, s·p + d·i - lo, c]."""

    name = "max_pool"
    pattern = "routes: dy to the first largest element of its window, 0 to the rest"
    window: Window

    def spec(self, *inputs: Spec) -> Spec:
        return self._pooled(inputs[0])

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        return self._joined(x, _lowest(x.dtype), np.maximum)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (apply(MaxPoolRoute.make(self.window), dy, x),)


@register
@dataclass(frozen=True)
class MaxPoolRoute(_Pooling):
    """Zeros like x, with each element of z added where x's largest in its window is."""

    name = "max_pool_route"
    pattern = "routes: each output back from the place that it was sent to"
    window: Window

    def spec(self, *inputs: Spec) -> Spec:
        z, x = inputs
        self._check(z, x)
        return x

    def compute(self, *arrays: Any) -> Any:
        z, x = arrays
        chosen = self._largest(x)
        y = self.window.blank(x.shape[0], x.shape[1:-1], x.shape[-1], x.dtype)
        for number, (_, index) in enumerate(self.window.taps(z.shape[1:-1])):
            y[index] += np.where(chosen == number, z, 0)
        return self.window.unpadded(y, x.shape[1:-1])

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        _, x = inputs
        return lambda: apply(MaxPoolPick.make(self.window), dy, x), None


@register
@dataclass(frozen=True)
class MaxPoolPick(_Pooling):
    """The element of z at the place where x's largest in each window is."""

    name = "max_pool_pick"
    pattern = "routes: dy to the element that was picked, 0 to the rest"
    window: Window

    def spec(self, *inputs: Spec) -> Spec:
        z, x = inputs
        if z.shape != x.shape:
            raise ShapeError(
                "max_pool_pick: the images differ",
                got=f"{z} and {x}",
                expected="one shape",
            )
        return self._pooled(x)

    def compute(self, *arrays: Any) -> Any:
        z, x = arrays
        chosen = self._largest(x)
        padded = self.window.padded(z)
        y = np.zeros(chosen.shape, z.dtype)
        for number, (_, index) in enumerate(self.window.taps(y.shape[1:-1])):
            np.copyto(y, padded[index], where=chosen == number)
        return y

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        _, x = inputs
        return lambda: apply(MaxPoolRoute.make(self.window), dy, x), None


@register
@dataclass(frozen=True)
class SumPool(_Pooling):
    """y[n, p, c] = Σ over taps i of x[n, s·p + d·i - lo, c], zeros outside."""

    name = "sum_pool"
    pattern = "distributes: dy to every element of its window"
    window: Window

    def spec(self, *inputs: Spec) -> Spec:
        return self._pooled(inputs[0])

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        return self._joined(x, 0.0, np.add)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (apply(SumPoolToData.make(self.window, x.shape[1:-1]), dy),)


@register
@dataclass(frozen=True)
class SumPoolToData(_Pooling):
    """x[n, a, c] = Σ y[n, p, c] over places and taps with s·p + d·i - lo = a."""

    name = "sum_pool_to_data"
    pattern = "a branch adds up: dx over each window"
    window: Window
    sizes: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        (y,) = inputs
        x = Spec((y.shape[0], *self.sizes, y.shape[-1]), y.dtype)
        self._check(y, x)
        return x

    def compute(self, *arrays: Any) -> Any:
        (y,) = arrays
        x = self.window.blank(y.shape[0], self.sizes, y.shape[-1], y.dtype)
        for _, index in self.window.taps(y.shape[1:-1]):
            x[index] += y
        return self.window.unpadded(x, self.sizes)

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        return (apply(SumPool.make(self.window), dy),)


# ------------------------------------------------------------------------- public


def _pooling_window(
    name: str,
    x: Tensor,
    size: Sequence[int] | int,
    stride: Sequence[int] | int | None,
    padding: Any,
    dilation: Sequence[int] | int,
    partial: bool,
) -> Window:
    sizes = x.shape[1:-1]
    view = window(name, sizes, size, size if stride is None else stride, padding,
                  dilation)  # fmt: skip
    if any(
        max(lo, hi) * 2 > r or min(lo, hi) < 0
        for (lo, hi), r in zip(view.padding, view.reach, strict=True)
    ):
        raise OptionError(
            f"{name}: a window would see padding alone",
            got=f"padding {view.padding}, window {view.reach}",
            expected="from 0 to half a window on each side",
        )
    if partial:
        # As many places more as begin inside the image or the padding before it.
        pairs = []
        for h, r, s, (lo, hi) in zip(
            sizes, view.reach, view.stride, view.padding, strict=True
        ):
            places = -(-(h + lo + hi - r) // s) + 1
            if (places - 1) * s >= h + lo:
                places -= 1
            pairs.append((lo, max(hi, (places - 1) * s + r - h - lo)))
        view = Window(view.size, view.stride, tuple(pairs), view.dilation)
    return view


@function
def max_pool(
    x: Any,
    size: Sequence[int] | int,
    *,
    stride: Sequence[int] | int | None = None,
    padding: Any = "valid",
    dilation: Sequence[int] | int = 1,
    partial: bool = False,
) -> Tensor:
    """The largest element of each window, for each channel.

    y[n, p, c] = max over taps i of x[n, stride·p + dilation·i - before, c]. Padding
    never wins. Of equal elements the first receives the gradient; NaN is the largest.

    Args:
        x: images, channels last.
        size: the window's, one number or one for each axis.
        stride: as long as the window unless given.
        padding: as of ``conv``, at most half a window.
        dilation: the distance of the window's taps.
        partial: whether a window at the end may hang over the edge.

    Shapes: (n, h, w, c) -> (n, h', w', c), with h' as of ``conv``.

    Raises:
        ShapeError: for a window larger than the image.
        OptionError: for options that are no window.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
        >>> cr.max_pool(x, 2).reshape(2, 2).tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    images = as_images("max_pool", x)
    view = _pooling_window("max_pool", images, size, stride, padding, dilation, partial)
    return apply(MaxPool.make(view), images)


@function
def average_pool(
    x: Any,
    size: Sequence[int] | int,
    *,
    stride: Sequence[int] | int | None = None,
    padding: Any = "valid",
    dilation: Sequence[int] | int = 1,
    partial: bool = False,
    counts_padding: bool = False,
) -> Tensor:
    """The mean of each window, for each channel.

    y[n, p, c] = Σ over taps i of x[n, stride·p + dilation·i - before, c] / number of
    elements that the window sees.

    Args:
        x: images, channels last.
        size: the window's, one number or one for each axis.
        stride: as long as the window unless given.
        padding: as of ``conv``, at most half a window.
        dilation: the distance of the window's taps.
        partial: whether a window at the end may hang over the edge.
        counts_padding: whether zeros of the padding count as elements.

    Shapes: (n, h, w, c) -> (n, h', w', c), with h' as of ``conv``.

    Raises:
        ShapeError: for a window larger than the image.
        OptionError: for options that are no window.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
        >>> cr.average_pool(x, 2).reshape(2, 2).tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    images = as_images("average_pool", x)
    if images.dtype.kind != "f":
        images = images.astype("float32")
    view = _pooling_window(
        "average_pool", images, size, stride, padding, dilation, partial
    )
    sizes = images.shape[1:-1]
    given = view.padding
    if partial and counts_padding:
        given = window("average_pool", sizes, size, stride or size, padding,
                       dilation).padding  # fmt: skip
    counts = np.ones((), np.float64)
    places = view.output_sizes("average_pool", sizes)
    for axis, h in enumerate(sizes):
        lo, hi = given[axis] if counts_padding else (0, 0)
        first = np.arange(places[axis]) * view.stride[axis] - view.padding[axis][0]
        seen = first[:, None] + np.arange(view.size[axis]) * view.dilation[axis]
        inside = ((seen >= -lo) & (seen < h + hi)).sum(axis=1)
        counts = counts[..., None] * inside
    total = apply(SumPool.make(view), images)
    if (counts == counts.flat[0]).all():
        return total / float(counts.flat[0])
    return total / counts[..., None].astype(images.dtype)
