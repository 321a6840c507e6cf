"""First layers: they turn stored pixels into the numbers that a network likes.

Data stay uint8 until here, so a model holds its own preprocessing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.graph import Buffer, Tensor
from chainrule.core.spec import FLOAT32, is_float
from chainrule.errors import OptionError, ShapeError
from chainrule.nn.module import Module

__all__ = ["Rescale", "Standardize"]


def _as_float(x: Tensor, like: Tensor) -> Tensor:
    """Integers in the layer's float dtype; floats as they are."""
    return x if is_float(x.dtype) else x.astype(like.dtype)


def _numbers(layer: str, name: str, value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all():
        raise OptionError(
            f"{layer}: {name} is not finite", got="NaN or infinity", expected="numbers"
        )
    return array.astype(FLOAT32)


def _fitting(layer: str, y: Tensor, x: Tensor) -> Tensor:
    """y; raises ShapeError if broadcasting gave it another shape than x has."""
    if y.shape != x.shape:
        raise ShapeError(
            f"{layer}: the layer's numbers do not fit the input",
            got=f"{x.spec}, which would become {y.spec}",
            expected="one number, one for each channel, or an image of them",
        )
    return y


class Rescale(Module):
    """y = x·scale + offset: bytes 0 … 255 become 0 … 1 unless told otherwise.

    Args:
        scale, offset: one number, one for each channel, or an image of them; without an
            offset nothing is added.

    Shapes: (n, ...) -> (n, ...), with scale and offset broadcast over x.

    Dtype: integers and bytes become the model's float dtype.

    Raises:
        OptionError: for numbers that are not finite.
        ShapeError: when run on inputs that scale and offset do not fit.

    Example:
        >>> import numpy as np
        >>> Rescale(2 / 255, -1.0)(np.array([0, 255], np.uint8)).tolist()
        [-1.0, 1.0]
    """

    def __init__(self, scale: Any = 1 / 255, offset: Any = None) -> None:
        self.scale = Buffer(_numbers("rescale", "scale", scale))
        self.offset = (
            None if offset is None else Buffer(_numbers("rescale", "offset", offset))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = _as_float(x, self.scale) * self.scale
        return _fitting("rescale", y if self.offset is None else y + self.offset, x)


class Standardize(Module):
    """y = (x - mean) / std: every feature or channel centred and of like size.

    Args:
        mean, std: one number, one for each channel, or an image of them.

    Shapes: (n, ...) -> (n, ...), with mean and std broadcast over x.

    Dtype: integers and bytes become the model's float dtype.

    Raises:
        OptionError: for a std of 0 or below, or numbers that are not finite.
        ShapeError: when run on inputs that mean and std do not fit.
    """

    def __init__(self, mean: Any = 0.0, std: Any = 1.0) -> None:
        self.mean = Buffer(_numbers("standardize", "mean", mean))
        self.std = Buffer(_numbers("standardize", "std", std))
        if not (self.std.data > 0).all():
            raise OptionError(
                "standardize: a standard deviation is not positive",
                got=f"smallest std {self.std.data.min():g}",
                expected="std > 0",
                hint="constant pixels: np.maximum(std, 1e-3)",
            )

    def forward(self, x: Tensor) -> Tensor:
        y = (_as_float(x, self.mean) - self.mean) / self.std
        return _fitting("standardize", y, x)
