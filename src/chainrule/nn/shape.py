"""Layers that move or pick elements and learn nothing."""

from __future__ import annotations

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.nn.module import Module

__all__ = ["BatchReindex", "Flatten", "Reshape", "Threshold"]


class Flatten(Module):
    """Images as vectors: (n, h, w, c) -> (n, h·w·c)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Reshape(Module):
    """Every example in another shape; one size may be -1.

    Shapes: (n, ...) -> (n, *shape).

    Raises:
        ShapeError: when run, if the numbers of elements differ.

    Example:
        >>> import chainrule as cr
        >>> Reshape(2, 3)(cr.Tensor([[1, 2, 3, 4, 5, 6]])).tolist()
        [[[1, 2, 3], [4, 5, 6]]]
    """

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __repr__(self) -> str:
        return f"Reshape({', '.join(map(str, self.shape))})"

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (*x.shape[:1], *self.shape))


class Threshold(Module):
    """1 where x > threshold, else 0: the perceptron's output. It has no gradient."""

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = float(threshold)

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).astype(x.dtype)


class BatchReindex(Module):
    """Examples of a batch chosen by position, some of them perhaps several times.

    Shapes: x (n, ...), indices (m,) -> (m, ...).

    Raises:
        IndexingError: for a position outside the batch.
    """

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        return ops.take(x, indices)
