"""Pictures that can be climbed: sums of cosines, squeezed into a range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, as_tensor
from chainrule.ops.activations import sigmoid

__all__ = ["Canvas"]

Array = np.ndarray[Any, Any]

_JITTER = 1 / 14
"""How far the picture moves, as a share of its side."""
_ZOOM = 0.05
_EDGE = 0.02
"""Of the range: neutral levels stay this far inside, where they can be moved."""
_OPPONENTS = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
_OPPONENTS *= np.array([[1.0], [0.3], [0.12]]) / np.sqrt([[3.0], [2.0], [6.0]])
"""Light against dark, yellow against blue, purple against green: how much red, green
and blue each is, times how much of it photographs have."""


class Canvas:
    """Pictures as sums of cosines, which can be looked at from anywhere.

    Rows of numbers have no frequencies: there θ is what is added to each.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        neutral: Array,
        low: Array,
        high: Array,
        dtype: Any,
    ) -> None:
        self.shape = shape
        self.is_picture = len(shape) == 3
        self.low = as_tensor(low.astype(dtype))
        self.height = as_tensor((high - low).astype(dtype))
        self.dtype = dtype
        self.logits = as_tensor(_logits(neutral, low, high).astype(dtype))
        scale = np.ones(shape)
        if self.is_picture:
            frequencies = [np.arange(size) / size for size in shape[:2]]
            distance = np.hypot(*np.meshgrid(*frequencies, indexing="ij"))
            # Amplitudes like those of photographs, which fall as 1 / frequency.
            scale = 1 / np.maximum(distance, 1 / max(shape[:2]))
            scale = scale[..., None] / np.sqrt((scale**2).mean())
        self.scale = as_tensor(np.broadcast_to(scale, shape).astype(dtype))
        self.is_coloured = self.is_picture and shape[-1] == 3
        self.colours = as_tensor(_OPPONENTS.astype(dtype))

    @property
    def still(self) -> tuple[Array, ...]:
        """Where one looks from when nothing moves."""
        return tuple(bases[0] for bases in self.views(np.zeros((1, 3))))

    def views(self, moves: Array) -> tuple[Array, ...]:
        """Matrices from frequencies to pixels, for (down, right, zoom) at each step."""
        if not self.is_picture:
            return (np.zeros((len(moves), 1), self.dtype),)
        found = []
        for axis, size in enumerate(self.shape[:2]):
            pixels = np.arange(size) + 0.5
            zoom = 1 + _ZOOM * moves[:, 2:]
            seen = size / 2 + (pixels - size / 2) * zoom
            seen = seen + _JITTER * size * moves[:, axis : axis + 1]
            waves = np.cos(np.pi / size * seen[..., None] * np.arange(size))
            waves *= np.sqrt(np.where(np.arange(size), 2, 1) / size)
            found.append(waves.astype(self.dtype))
        return tuple(found)

    def __call__(self, theta: Tensor, view: Sequence[Any]) -> Tensor:
        """The pictures (units, ...) of θ, seen from somewhere."""
        waves = theta * self.scale
        if self.is_picture:
            rows, columns = map(as_tensor, view)
            planes = rows @ waves.transpose((0, 3, 1, 2)) @ columns.transpose((1, 0))
            waves = planes.transpose((0, 2, 3, 1))
        if self.is_coloured:
            waves = waves @ self.colours
        return sigmoid(waves + self.logits) * self.height + self.low


def _logits(neutral: Array, low: Array, high: Array) -> Array:
    """σ⁻¹ of the neutral picture, of levels brought inside the range."""
    share = np.clip((neutral - low) / (high - low), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(share / (1 - share)))
