"""Where a sliding window stands: the arithmetic that convolution and pooling share.

A window of k taps, d apart, moves over an axis of h elements in steps of s, with lo
zeros before and hi behind. It reaches over r = d·(k - 1) + 1 elements and stands at

    (h + lo + hi - r) // s + 1

places; at place p its tap i is element s·p + d·i - lo.

Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning,
2016; toronto.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.spec import integers
from chainrule.errors import OptionError, ShapeError

__all__ = ["Window", "as_images", "numbers", "window"]

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window over the spatial axes of (n, ..., channels), and how it moves.

    Attributes:
        size: taps along each spatial axis.
        stride: elements from one place to the next.
        padding: elements added before and behind; either may be negative, which crops.
        dilation: elements from one tap to the next.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[Pair, ...]
    dilation: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """The number of spatial axes."""
        return len(self.size)

    @property
    def reach(self) -> tuple[int, ...]:
        """The elements from the first tap to the last, both included."""
        return tuple(
            d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True)
        )

    def output_sizes(self, name: str, sizes: Sequence[int]) -> tuple[int, ...]:
        """At how many places the window stands along each axis.

        Raises:
            ShapeError: where it does not fit, with the arithmetic.
        """
        found = []
        axes = zip(
            "hw" if self.ndim == 2 else "dhw"[-self.ndim :] or "?" * self.ndim,
            sizes, self.size, self.stride, self.padding, self.dilation, self.reach,
            strict=True,
        )  # fmt: skip
        for axis, h, k, s, (lo, hi), d, r in axes:
            if h + lo + hi < r:
                raise ShapeError(
                    f"{name}: the window is larger than the image",
                    got=f"{axis} = {h}, padding {lo} + {hi}, window {k}, dilation {d}",
                    expected=f"{h} + {lo} + {hi} ≥ {d}·({k} - 1) + 1 = {r}; the output "
                    f"size is ({h} + {lo} + {hi} - {r}) // {s} + 1",
                    hint="use larger images, fewer poolings or strides before this "
                    "layer, a smaller window, or padding='same'",
                )
            found.append((h + lo + hi - r) // s + 1)
        return tuple(found)

    def taps(self, sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Any]]:
        """(tap, index of the elements under it) over an array padded by ``padded``.

        ``sizes`` are those of the output.
        """
        for tap in itertools.product(*map(range, self.size)):
            yield (
                tap,
                (
                    slice(None),
                    *(
                        slice(i * d, i * d + s * (o - 1) + 1, s)
                        for i, d, s, o in zip(
                            tap, self.dilation, self.stride, sizes, strict=True
                        )
                    ),
                ),
            )

    @property
    def border(self) -> tuple[Pair, ...]:
        """What is added before and behind: the padding that is not negative."""
        return tuple((max(lo, 0), max(hi, 0)) for lo, hi in self.padding)

    def crop(self, sizes: Sequence[int]) -> tuple[slice, ...]:
        """What negative padding leaves of axes to which the border was added."""
        return tuple(
            slice(max(-lo, 0), h + max(lo, 0) + min(hi, 0) + max(hi, 0))
            for (lo, hi), h in zip(self.padding, sizes, strict=True)
        )

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """x with the window's padding around it, or cropped where that is negative."""
        crop = self.crop(x.shape[1:-1])
        if np.any(self.border):
            widths = [(0, 0), *self.border, (0, 0)]
            x = np.pad(x, widths, constant_values=value)
        return x[(slice(None), *crop)]

    def blank(
        self, n: int, sizes: Sequence[int], channels: int, dtype: np.dtype[Any]
    ) -> Array:
        """Zeros for n images of these sizes, as ``padded`` would give them."""
        wide = (h + lo + hi for h, (lo, hi) in zip(sizes, self.padding, strict=True))
        return np.zeros((n, *wide, channels), dtype)

    def unpadded(self, y: Array, sizes: Sequence[int]) -> Array:
        """The elements of x, given those of ``padded(x)``: zeros where it cropped."""
        if np.min(self.padding) < 0:
            wide = [h + lo + hi for h, (lo, hi) in
                    zip(sizes, self.border, strict=True)]  # fmt: skip
            whole = np.zeros((y.shape[0], *wide, y.shape[-1]), y.dtype)
            whole[(slice(None), *self.crop(sizes))] = y
            y = whole
        pairs = zip(sizes, self.border, strict=True)
        return y[(slice(None), *(slice(lo, lo + h) for h, (lo, _) in pairs))]

    def patches(self, x: Array) -> Array:
        """(n, *places, *taps, channels): a view of what each place sees of padded x."""
        rank = self.ndim
        sizes = [
            (h - r) // s + 1
            for h, r, s in zip(x.shape[1:-1], self.reach, self.stride, strict=True)
        ]
        step = x.strides[1:-1]
        return np.lib.stride_tricks.as_strided(
            x,
            (x.shape[0], *sizes, *self.size, x.shape[-1]),
            (
                x.strides[0],
                *(step[a] * self.stride[a] for a in range(rank)),
                *(step[a] * self.dilation[a] for a in range(rank)),
                x.strides[-1],
            ),
            writeable=False,
        )

    def __str__(self) -> str:
        parts = ["×".join(map(str, self.size))]
        if any(s != 1 for s in self.stride):
            parts.append(f"stride {_short(self.stride)}")
        if any(p != (0, 0) for p in self.padding):
            parts.append(f"padding {_short(self.padding)}")
        if any(d != 1 for d in self.dilation):
            parts.append(f"dilation {_short(self.dilation)}")
        return ", ".join(parts)


def _short(values: Sequence[Any]) -> str:
    """One value where all are equal."""
    shown = [v[0] if isinstance(v, tuple) and v[0] == v[1] else v for v in values]
    return str(shown[0]) if all(v == shown[0] for v in shown) else str(tuple(shown))


def window(
    name: str,
    sizes: Sequence[int],
    size: Sequence[int] | int,
    stride: Sequence[int] | int = 1,
    padding: Any = "valid",
    dilation: Sequence[int] | int = 1,
) -> Window:
    """The window that a call's options describe, over axes of these sizes.

    Args:
        sizes: of the spatial axes of the image.
        size: taps, one number or one for each axis.
        stride, dilation: one number, or one for each axis.
        padding: "valid" (none), "same" (output sizes ceil(h / stride), the odd element
            behind), one number for all sides, one for each axis, or a (before, behind)
            pair for each axis.

    Raises:
        OptionError: for options that are no window.
    """
    rank = len(sizes)
    taps = numbers(name, "size", size, rank, 1)
    steps = numbers(name, "stride", stride, rank, 1)
    gaps = numbers(name, "dilation", dilation, rank, 1)
    return Window(taps, steps, _paddings(name, padding, sizes, taps, steps, gaps), gaps)


def as_images(name: str, x: Any, least: int = 0) -> Tensor:
    """x as a tensor of images, channels last, with at least so many pixels each way.

    Raises:
        ShapeError: for another number of axes, and for smaller images.
    """
    images = as_tensor(x)
    if not 3 <= images.ndim <= 5:
        raise ShapeError(
            f"{name}: not an image",
            got=images.spec,
            expected="(n, h, w, channels)",
            hint="one example: x[None]; grey images: x[..., None]",
        )
    if min(images.shape[1:-1]) < least:
        raise ShapeError(
            f"{name}: an image without pixels",
            got=images.spec,
            expected=f"sizes of at least {least}",
        )
    return images


def numbers(
    name: str, option: str, given: Any, rank: int, least: int
) -> tuple[int, ...]:
    """An option as one number for each spatial axis, none of them below ``least``.

    Raises:
        OptionError: for anything else.
    """
    try:
        values = integers(name, given)
    except ShapeError:
        values = ()
    if len(values) == 1:
        values *= rank
    if len(values) != rank or any(v < least for v in values):
        raise OptionError(
            f"{name}: {option} does not fit",
            got=f"{option}={given!r}",
            expected=f"a whole number from {least} on, or {rank} of them",
        )
    return values


def _paddings(
    name: str,
    given: Any,
    sizes: Sequence[int],
    taps: Sequence[int],
    steps: Sequence[int],
    gaps: Sequence[int],
) -> tuple[Pair, ...]:
    if given == "valid":
        return ((0, 0),) * len(sizes)
    if given == "same":
        pairs = []
        for h, k, s, d in zip(sizes, taps, steps, gaps, strict=True):
            total = max((-(-h // s) - 1) * s + d * (k - 1) + 1 - h, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)
    if isinstance(given, (tuple, list)) and any(
        isinstance(p, (tuple, list)) for p in given
    ):
        ok = len(given) == len(sizes) and all(
            isinstance(p, (tuple, list))
            and len(p) == 2
            and all(isinstance(v, (int, np.integer)) for v in p)
            for p in given
        )
        if ok:
            return tuple((int(lo), int(hi)) for lo, hi in given)
    elif not isinstance(given, str):
        return tuple((p, p) for p in numbers(name, "padding", given, len(sizes), 0))
    raise OptionError(
        f"{name}: padding does not fit",
        got=f"padding={given!r}",
        expected=f"'valid', 'same', a number, {len(sizes)} numbers, or "
        f"{len(sizes)} (before, behind) pairs",
    )
