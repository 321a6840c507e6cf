"""Layers that move or pick elements and learn nothing."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.errors import ShapeError
from chainrule.nn.module import Module, described
from chainrule.ops.window import as_images, numbers

__all__ = ["BatchReindex", "Crop", "Flatten", "Reshape", "Threshold"]


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


class Crop(Module):
    """A part of every image: its middle, unless an offset says where it begins.

    Args:
        size: pixels along each axis, one number or one for each; None for the size of a
            second image, which is then given beside the first.
        offset: pixels that are left out before, one number or one for each axis.

    Shapes: (n, h, w, c) -> (n, *size, c).

    Raises:
        ShapeError: when run on an image that the part does not lie in, or without a
            size.

    Example:
        >>> import numpy as np
        >>> Crop()(np.ones((1, 8, 8, 3)), np.ones((1, 5, 6, 7))).shape
        (1, 5, 6, 3)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        *,
        offset: int | Sequence[int] | None = None,
    ) -> None:
        self.size = size
        self.offset = offset

    def __repr__(self) -> str:
        return described(self, "size", offset=None)

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        images = as_images("crop", x)
        sizes = images.shape[1:-1]
        size = self.size
        if size is None:
            if like is None or like.ndim != images.ndim:
                raise ShapeError(
                    "crop: nothing says how large the part is",
                    got=images.spec if like is None else f"{images.spec}, {like.spec}",
                    expected="a second image, where the layer has no size",
                    hint="Crop(24), or crop(x, like)",
                )
            size = like.shape[1:-1]
        part = numbers("crop", "size", size, len(sizes), 1)
        if self.offset is None:
            first = tuple((h - p) // 2 for h, p in zip(sizes, part, strict=True))
        else:
            first = numbers("crop", "offset", self.offset, len(sizes), 0)
        ends = [a + p for a, p in zip(first, part, strict=True)]
        if min(first) < 0 or any(e > h for e, h in zip(ends, sizes, strict=True)):
            raise ShapeError(
                "crop: the part does not lie in the image",
                got=f"{images.spec}, a part of {part} from {first} on",
                expected=f"offset + size of at most {tuple(sizes)}",
            )
        parts = [slice(a, e) for a, e in zip(first, ends, strict=True)]
        return ops.index(images, (slice(None), *parts))
