"""Images of another size: along each axis, a product with one constant matrix.

Interpolation is linear in the pixels, so all of its derivatives are products too.

Source: R. Keys, Cubic convolution interpolation for digital image processing, 1981.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, apply, function
from chainrule.errors import OptionError
from chainrule.ops.indexing import take
from chainrule.ops.linalg import matmul
from chainrule.ops.pooling import SumPoolToData
from chainrule.ops.shape import reshape
from chainrule.ops.window import Window, as_images, numbers

__all__ = ["resize"]

Array = np.ndarray[Any, Any]

_MODES = ("area", "bicubic", "bilinear", "nearest", "nearest-exact")


@function
def resize(
    x: Any,
    sizes: Sequence[int] | int,
    mode: str = "nearest",
    *,
    align_corners: bool = False,
    antialias: bool = False,
) -> Tensor:
    """Images of other sizes, by interpolation along one axis after the other.

    y[i] = Σ over j of m[i, j]·x[j], where m looks from the centre of pixel i of h' at
    position p = (i + 1/2)·h / h' - 1/2 of the h pixels. Beyond the edge the last pixel
    goes on.

    Args:
        x: images, channels last; one, two or three spatial axes.
        sizes: of the result, one number or one for each axis.
        mode: "nearest" (pixel ⌊i·h / h'⌋), "nearest-exact" (the one at p), "bilinear"
            (between the two beside p), "bicubic" (four), "area" (the mean of all pixels
            that i covers).
        align_corners: puts first and last pixels of both on each other: p =
            i·(h - 1) / (h' - 1). For "bilinear" and "bicubic".
        antialias: widens the kernel where images shrink, so that no pixel is passed
            over, as drawing programs do. For "bilinear" and "bicubic".

    Shapes: (n, h, w, c) -> (n, h', w', c).

    Dtype: kept by the nearest modes; others make integers float32.

    Raises:
        ShapeError: for images without pixels.
        OptionError: for an unknown mode, options that it does not have, and sizes
            below 1.

    Example:
        >>> import chainrule as cr
        >>> x = cr.Tensor([[[0.0], [4.0]]])
        >>> cr.resize(x, 4, "bilinear").reshape(4).tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    images = as_images("resize", x, least=1)
    wanted = numbers("resize", "sizes", sizes, images.ndim - 2, 1)
    if mode not in _MODES:
        raise OptionError.unknown("mode", str(mode), _MODES)
    if (align_corners or antialias) and mode not in ("bilinear", "bicubic"):
        raise OptionError(
            f"resize: {mode} has no corners to align and no kernel to widen",
            got=f"{align_corners=}, {antialias=}",
            expected="mode 'bilinear' or 'bicubic' for either",
        )
    if align_corners and antialias:
        raise OptionError(
            "resize: with corners aligned, pixels have no width to average over",
            got="align_corners=True, antialias=True",
            expected="one of the two",
        )
    if mode.startswith("nearest"):
        return _nearest(images, wanted, exact=mode == "nearest-exact")
    matrices = [
        averages(old, new)
        if mode == "area"
        else _interpolation(old, new, mode == "bicubic", align_corners, antialias)
        for old, new in zip(images.shape[1:-1], wanted, strict=True)
    ]
    return resample(images, matrices)


def resample(x: Tensor, matrices: Sequence[Array]) -> Tensor:
    """Σ over j of m[i, j]·x[..., j, ...] along each spatial axis, with its matrix m."""
    if x.dtype.kind != "f":
        x = x.astype("float32")
    for axis, matrix in enumerate(matrices, 1):
        before, size, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        if matrix.shape == (size, size) and (matrix == np.eye(size)).all():
            continue
        rows = reshape(x, (*before, size, math.prod(behind)))
        x = matmul(matrix.astype(x.dtype), rows)
        x = reshape(x, (*before, len(matrix), *behind))
    return x


def regions(old: int, new: int) -> tuple[Array, Array]:
    """Where ``new`` regions that cover ``old`` pixels start and stop."""
    i = np.arange(new)
    return i * old // new, -(-(i + 1) * old // new)


def averages(old: int, new: int) -> Array:
    """The matrix whose rows are the means of regions."""
    starts, stops = (edge[:, None] for edge in regions(old, new))
    covered = (np.arange(old) >= starts) & (np.arange(old) < stops)
    return covered / (stops - starts)


def _nearest(x: Tensor, sizes: Sequence[int], exact: bool) -> Tensor:
    pairs = list(zip(x.shape[1:-1], sizes, strict=True))
    if x.dtype.kind == "f" and all(new % old == 0 for old, new in pairs):
        # Blocks of equal pixels: what comes back from windows that stand side by side.
        blocks = tuple(new // old for old, new in pairs)
        rank = len(blocks)
        view = Window(blocks, blocks, ((0, 0),) * rank, (1,) * rank)
        return apply(SumPoolToData.make(view, tuple(sizes)), x)
    for axis, (old, new) in enumerate(pairs, 1):
        i = np.arange(new)
        if old != new:
            x = take(x, (2 * i + 1) * old // (2 * new) if exact else i * old // new,
                     axis)  # fmt: skip
    return x


def _interpolation(
    old: int, new: int, cubic: bool, align_corners: bool, antialias: bool
) -> Array:
    """The matrix that reads ``new`` pixels from ``old`` ones between them."""
    i, j = np.arange(new), np.arange(old)
    if align_corners:
        p = i * ((old - 1) / (new - 1) if new > 1 else 0.0)
    else:
        p = (i + 0.5) * (old / new) - 0.5
    if antialias:
        width = max(old / new, 1.0)
        distance = (j - p[:, None]) / width
        matrix = _cubic(distance, -0.5) if cubic else _linear(distance)
        return matrix / matrix.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    for offset in range(-1, 3) if cubic else range(2):
        tap = np.floor(p).astype(int) + offset
        # Of Keys' family of kernels, frameworks for learning take -3/4 and image
        # libraries -1/2, which is exact for parabolas.
        weight = _cubic(tap - p, -0.75) if cubic else _linear(tap - p)
        np.add.at(matrix, (i, np.clip(tap, 0, old - 1)), weight)
    return matrix


def _linear(t: Array) -> Array:
    return np.maximum(1 - np.abs(t), 0)


def _cubic(t: Array, a: float) -> Array:
    """Keys' kernel with slope a at 1 (equation 4 has a = -1/2)."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t - 4
    return np.where(t <= 1, near, np.where(t < 2, a * far, 0))
