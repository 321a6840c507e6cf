"""Structural similarity of pictures: one formula, for tensors and for arrays.

SSIM(x, y) = (2μxμy + C₁)(2σxy + C₂) / ((μx² + μy² + C₁)(σx² + σy² + C₂)) in a window
around each pixel; means, variances and covariance are weighted by a Gaussian. Only
windows that lie in the picture count.

Source: Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment: from error
visibility to structural similarity", 2004, equation 13, with the constants and the
11×11 window of standard deviation 1.5 of its section III.C.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["LARGEST_WINDOW", "from_moments", "window"]

LARGEST_WINDOW = 11
_DEVIATION = 1.5
_K1, _K2 = 0.01, 0.03

Array = np.ndarray[Any, Any]


def window(height: int, width: int) -> tuple[Array, Array]:
    """The Gaussian's weights along both axes: 11 numbers each, of sum 1.

    A picture that is smaller gets the largest odd window that lies in it.
    """
    return _weights(height), _weights(width)


def _weights(size: int) -> Array:
    radius = (min(size, LARGEST_WINDOW) - 1) // 2
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (steps / _DEVIATION) ** 2)
    total = math.fsum(weights)
    return np.asarray(weights / total)


def from_moments(
    mean_x: Any, mean_y: Any, variance_x: Any, variance_y: Any, covariance: Any,
    peak: float,
) -> Any:  # fmt: skip
    """SSIM of every window from its weighted moments, which are arrays or tensors.

    Args:
        peak: the difference between the brightest and the darkest level, of which the
            constants C₁ = (0.01·peak)² and C₂ = (0.03·peak)² are shares.
    """
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance * structure
