"""Colours for every pixel from a mosaic of colour filters, by two classical rules.

Source: bilinear: folklore. Malvar, He & Cutler, "High-quality linear interpolation for
demosaicing of Bayer-patterned color images", 2004, figure 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from chainrule.errors import ShapeError

__all__ = ["bilinear", "malvar"]

Array = np.ndarray[Any, Any]

_NEAR = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4

# Each filter corrects the mean of the nearest measured values of one colour by how the
# colour that is measured here bends. The numbers are eighths.
_GREEN = np.array(
    [
        [0, 0, -1, 0, 0],
        [0, 0, 2, 0, 0],
        [-1, 2, 4, 2, -1],
        [0, 0, 2, 0, 0],
        [0, 0, -1, 0, 0],
    ],
    np.float32,
)
_BESIDE = np.array(  # red where green was measured, between two reds of its row
    [
        [0, 0, 0.5, 0, 0],
        [0, -1, 0, -1, 0],
        [-1, 4, 5, 4, -1],
        [0, -1, 0, -1, 0],
        [0, 0, 0.5, 0, 0],
    ],
    np.float32,
)
_DIAGONAL = np.array(  # red where blue was measured, amid four reds
    [
        [0, 0, -1.5, 0, 0],
        [0, 2, 0, 2, 0],
        [-1.5, 0, 6, 0, -1.5],
        [0, 2, 0, 2, 0],
        [0, 0, -1.5, 0, 0],
    ],
    np.float32,
)


def bilinear(pictures: Array, lost: Array) -> Array:
    """The mean of the nearest measured values of each colour; measured ones stay.

    At the border, where some neighbours are missing, it is the mean of those there are.
    A pattern of other filters than Bayer's works too, if every 3×3 window has all
    colours.

    Shapes: pictures (n, h, w, c), lost (n, h, w, c), True where a colour was not
    measured -> (n, h, w, c).
    """
    known = ~np.broadcast_to(lost, pictures.shape)
    kernel = _NEAR[None, :, :, None]
    # Outside counts as not measured.
    total = ndimage.correlate(np.where(known, pictures, 0), kernel, mode="constant")
    weight = ndimage.correlate(known.astype(np.float32), kernel, mode="constant")
    mean = total / np.maximum(weight, np.float32(1e-6))
    return np.where(known, pictures, mean).astype(np.float32)


def malvar(pictures: Array, lost: Array) -> Array:
    """Bilinear, corrected by the measured colour's second derivative: Malvar et al.

    Shapes: as ``bilinear``, of three colours under a Bayer pattern.

    Raises:
        ShapeError: for a mosaic that is not of Bayer's kind.
    """
    seen = ~np.broadcast_to(lost, pictures.shape)
    _check_bayer(seen)
    measured = np.where(seen, pictures, 0).sum(axis=-1, dtype=np.float32)

    def filtered(kernel: Array) -> Array:
        # "mirror" repeats no pixel, so that the pattern goes on across the border.
        return ndimage.correlate(measured, kernel[None] / 8, mode="mirror")

    is_red, is_green, is_blue = np.moveaxis(seen, -1, 0)
    has_red_beside = is_green & _row_has(is_red)
    beside, above = filtered(_BESIDE), filtered(_BESIDE.T)
    diagonal = filtered(_DIAGONAL)
    red = np.where(is_blue, diagonal, np.where(has_red_beside, beside, above))
    blue = np.where(is_red, diagonal, np.where(has_red_beside, above, beside))
    green = filtered(_GREEN)
    colors = np.stack([red, green, blue], axis=-1)
    return np.where(seen, pictures, colors).astype(np.float32)


def _row_has(is_color: Array) -> Array:
    """For every pixel, whether its row has filters of a colour: (n, h, w)."""
    return np.broadcast_to(is_color.any(axis=2, keepdims=True), is_color.shape)


def _check_bayer(seen: Array) -> None:
    fits = seen.ndim == 4 and seen.shape[-1] == 3 and min(seen.shape[1:3]) >= 2
    if fits:
        cell = seen[:, :2, :2]
        greens = cell[..., 1]
        fits = bool(
            (seen.sum(axis=-1) == 1).all()
            and (cell.sum(axis=(1, 2)) == (1, 2, 1)).all()
            and (greens[:, 0, 0] == greens[:, 1, 1]).all()
            and (seen[:, 2:] == seen[:, :-2]).all()
            and (seen[:, :, 2:] == seen[:, :, :-2]).all()
        )
    if not fits:
        raise ShapeError(
            "malvar: the mosaic is not that of a Bayer pattern",
            got=f"lost of shape {seen.shape}",
            expected="(n, h, w, 3), one colour at each pixel in cells of 2×2, of which "
            "two, on a diagonal, are green",
            hint="bilinear takes other patterns",
        )
