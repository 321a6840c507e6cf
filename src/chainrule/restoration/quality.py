"""How near a restored picture comes to the true one: PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from chainrule.errors import OptionError, ShapeError
from chainrule.nn.similarity import from_moments, window

__all__ = ["psnr", "psnr_of", "ssim"]

Array = np.ndarray[Any, Any]
Pictures = Array | Sequence[Array]

PEAK = 255.0


def psnr(
    truth: Pictures,
    restored: Pictures,
    *,
    where: Pictures | None = None,
    peak: float = PEAK,
) -> float:
    """The peak signal-to-noise ratio in decibels: 10·log₁₀(peak² / mean (y - x)²).

    The mean is over all that is given, so that a set of pictures has one number: that
    of its pooled squared error, not the mean of the pictures' own numbers. Equal
    pictures have infinity.

    Args:
        truth, restored: pictures of any shapes, the same on both sides; an array, or a
            sequence of arrays for pictures of several sizes.
        where: bool, of shapes that broadcast to those: only there errors count, as for
            the PSNR in a hole.
        peak: the difference between the brightest and the darkest level.

    Raises:
        ShapeError: for pictures that do not belong together, or nothing to compare.
        OptionError: for a peak that is not positive.

    Example:
        >>> psnr(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 25.5))
        20.0
    """
    _check_peak("psnr", peak)
    chosen = [None] * len(truth) if where is None else where
    total, count = 0.0, 0
    for x, y, is_counted in _together("psnr", truth, restored, chosen):
        squares = np.square(np.subtract(y, x, dtype=np.float64))
        if is_counted is not None:
            # A mask of one channel stands for all of them.
            squares = squares[np.broadcast_to(is_counted, squares.shape)]
        total += float(squares.sum())
        count += squares.size
    if not count:
        raise ShapeError(
            "psnr: no pixels to compare",
            got="empty pictures" if where is None else "where is nowhere True",
            expected="at least one pixel",
        )
    return psnr_of(total / count, peak)


def psnr_of(mean_squared_error: float, peak: float = PEAK) -> float:
    """The PSNR of a mean squared error that is known already.

    Example:
        >>> psnr_of(255.0**2 / 1000)
        30.0
    """
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(peak**2 / mean_squared_error)


def ssim(truth: Pictures, restored: Pictures, *, peak: float = PEAK) -> float:
    """Structural similarity, 1 for equal pictures: its mean over pictures and channels.

    The formula and its source are those of ``chainrule.nn.similarity``; the loss
    ``nn.ssim`` of the same pictures is 1 minus this.

    Args:
        truth, restored: pictures (n, h, w, c), or sequences of pictures (h, w, c).
        peak: the difference between the brightest and the darkest level.

    Raises:
        ShapeError: for pictures that do not belong together, or none.
        OptionError: for a peak that is not positive.

    Example:
        >>> picture = np.arange(256.0).reshape(1, 16, 16, 1)
        >>> ssim(picture, picture)
        1.0
    """
    _check_peak("ssim", peak)
    nothing = [None] * len(truth)
    found = [
        _ssim_of_picture(np.asarray(x, np.float64), np.asarray(y, np.float64), peak)
        for x, y, _ in _together("ssim", truth, restored, nothing)
    ]
    if not found:
        raise ShapeError("ssim: no pictures", got="none", expected="one or more")
    return float(np.mean(found))


def _ssim_of_picture(x: Array, y: Array, peak: float) -> float:
    if x.ndim != 3 or not x.size:
        raise ShapeError(
            "ssim: what is given is no picture",
            got=f"an array of shape {x.shape}",
            expected="(h, w, c)",
            hint="pictures of a batch: (n, h, w, c); grey ones have one channel",
        )
    down, across = window(*x.shape[:2])

    def mean(values: Array) -> Array:
        smooth = ndimage.correlate1d(values, down, axis=0)
        smooth = ndimage.correlate1d(smooth, across, axis=1)
        top, left = len(down) // 2, len(across) // 2  # whose windows reach outside
        height, width = values.shape
        return np.asarray(smooth[top : height - top, left : width - left])

    # One channel at a time: large pictures need a few planes more, not a few copies.
    channels = []
    for channel in range(x.shape[2]):
        a, b = x[..., channel], y[..., channel]
        mean_a, mean_b = mean(a), mean(b)
        values = from_moments(
            mean_a,
            mean_b,
            mean(a * a) - mean_a * mean_a,
            mean(b * b) - mean_b * mean_b,
            mean(a * b) - mean_a * mean_b,
            peak,
        )
        channels.append(values.mean())
    return float(np.mean(channels))


def _check_peak(name: str, peak: float) -> None:
    if not 0 < peak < math.inf:
        raise OptionError(
            f"{name}: peak out of range",
            got=peak,
            expected="a positive number",
            hint="255 for bytes, 1 for levels from 0 to 1, 65535 for 16 bits",
        )


def _together(
    name: str, truth: Pictures, restored: Pictures, where: Any
) -> list[tuple[Array, Array, Any]]:
    """Pictures of both sides in pairs; raises ShapeError where they do not belong."""
    if not len(truth) == len(restored) == len(where):
        raise ShapeError(
            f"{name}: the numbers of pictures differ",
            got=f"{len(truth)} and {len(restored)}",
            expected="one restored picture for each true one",
        )
    for x, y in zip(truth, restored, strict=True):
        if np.shape(x) != np.shape(y):
            raise ShapeError(
                f"{name}: a picture and its restoration differ in shape",
                got=f"{np.shape(x)} and {np.shape(y)}",
                expected="equal shapes",
            )
    return list(zip(truth, restored, where, strict=True))
