"""Layers that make images smaller or larger and learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.errors import OptionError
from chainrule.nn.module import Module, check_sizes, described
from chainrule.ops.window import as_images, numbers

__all__ = [
    "AdaptiveAveragePool",
    "AdaptiveMaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "MaxPool",
    "SpatialPyramidPool",
    "Upsample",
]

Sizes = int | Sequence[int]


class MaxPool(Module):
    """The largest element of each window, channel by channel: it was seen near here.

    Args:
        size: of the window, one number or one for each axis.
        stride: from one window to the next; the window's size unless given.
        padding: as of Conv, at most half a window; padding never wins.
        dilation: the distance of the window's taps.
        partial: whether a window at the end may hang over the edge.

    Shapes: (n, h, w, c) -> (n, h', w', c), with h' as of Conv.

    Raises:
        OptionError: when run, for options that are no window.
        ShapeError: when run on an image smaller than the window.

    Example:
        >>> import numpy as np
        >>> MaxPool(2)(np.ones((1, 7, 7, 5))).shape
        (1, 3, 3, 5)
    """

    def __init__(
        self,
        size: Sizes,
        *,
        stride: Sizes | None = None,
        padding: Any = "valid",
        dilation: Sizes = 1,
        partial: bool = False,
    ) -> None:
        self.size = size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.partial = partial

    def __repr__(self) -> str:
        return described(
            self, "size", stride=None, padding="valid", dilation=1, partial=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool(
            x,
            self.size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            partial=self.partial,
        )


class AveragePool(Module):
    """The mean of each window, channel by channel.

    Args:
        size, stride, padding, dilation, partial: as of MaxPool.
        counts_padding: whether zeros of the padding count as elements.

    Shapes: (n, h, w, c) -> (n, h', w', c), with h' as of Conv.

    Raises:
        OptionError: when run, for options that are no window.
        ShapeError: when run on an image smaller than the window.
    """

    def __init__(
        self,
        size: Sizes,
        *,
        stride: Sizes | None = None,
        padding: Any = "valid",
        dilation: Sizes = 1,
        partial: bool = False,
        counts_padding: bool = False,
    ) -> None:
        self.size = size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.partial = partial
        self.counts_padding = counts_padding

    def __repr__(self) -> str:
        return described(
            self, "size", stride=None, padding="valid", dilation=1, partial=False,
            counts_padding=False,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return ops.average_pool(
            x,
            self.size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            partial=self.partial,
            counts_padding=self.counts_padding,
        )


class GlobalAveragePool(Module):
    """The mean of each channel over the whole image: what is there, wherever it is.

    Shapes: (n, h, w, c) -> (n, c).

    Raises:
        ShapeError: when run on what is no image.

    Source: Lin, Chen & Yan, "Network in network", 2014, section 3.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        images = as_images("global_average_pool", x, least=1)
        return ops.mean(images, axis=tuple(range(1, images.ndim - 1)))


class AdaptiveAveragePool(Module):
    """The means of a grid of regions, so many for any size of image.

    Args:
        sizes: of the grid, one number or one for each axis.

    Shapes: (n, h, w, c) -> (n, *sizes, c).

    Raises:
        OptionError: when run, for sizes below 1.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def __repr__(self) -> str:
        return described(self, "sizes")

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_average_pool(x, self.sizes)


class AdaptiveMaxPool(Module):
    """The largest elements of a grid of regions, so many for any size of image.

    Args:
        sizes: of the grid, one number or one for each axis.

    Shapes: (n, h, w, c) -> (n, *sizes, c).

    Raises:
        OptionError: when run, for sizes below 1.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def __repr__(self) -> str:
        return described(self, "sizes")

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool(x, self.sizes)


class SpatialPyramidPool(Module):
    """Grids of several sizes pooled and laid side by side: one vector for any image.

    Args:
        levels: the sizes of the grids.
        kind: "max" or "average".

    Shapes: (n, h, w, c) -> (n, c·Σ levelᵃ) for a spatial axes: 21·c unless told
    otherwise.

    Raises:
        OptionError: for no levels, or another kind.

    Example:
        >>> import numpy as np
        >>> SpatialPyramidPool((1, 2, 4))(np.ones((1, 13, 9, 256))).shape
        (1, 5376)

    Source: He, Zhang, Ren & Sun, "Spatial pyramid pooling in deep convolutional
    networks for visual recognition", 2014, section 2.2.
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4), kind: str = "max") -> None:
        if kind not in ("max", "average"):
            raise OptionError.unknown("kind of pooling", kind, ("max", "average"))
        if not levels:
            raise OptionError(
                "spatial_pyramid_pool: no levels", got="()", expected="one or more"
            )
        check_sizes("spatial_pyramid_pool", **{"a level": min(levels)})
        self.levels = tuple(levels)
        self.kind = kind

    def __repr__(self) -> str:
        return f"SpatialPyramidPool({self.levels}, {self.kind!r})"

    def forward(self, x: Tensor) -> Tensor:
        is_max = self.kind == "max"
        pool = ops.adaptive_max_pool if is_max else ops.adaptive_average_pool
        grids = [ops.flatten(pool(x, level)) for level in self.levels]
        return ops.concatenate(grids, axis=1)


class Upsample(Module):
    """Larger images by a whole factor: each pixel repeated, or blended with others.

    Args:
        factor: one number or one for each axis.
        mode: "nearest", "bilinear" or "bicubic".

    Shapes: (n, h, w, c) -> (n, factor·h, factor·w, c).

    Raises:
        OptionError: when run, for factors below 1 or another mode.

    Example:
        >>> import chainrule as cr
        >>> Upsample(2)(cr.Tensor([[[[1.0], [2.0]]]])).reshape(2, 4).tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """

    def __init__(self, factor: Sizes = 2, mode: str = "nearest") -> None:
        self.factor = factor
        self.mode = mode

    def __repr__(self) -> str:
        return described(self, "factor", mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        images = as_images("upsample", x, least=1)
        sizes = images.shape[1:-1]
        factors = numbers("upsample", "factor", self.factor, len(sizes), 1)
        wanted = [h * f for h, f in zip(sizes, factors, strict=True)]
        return ops.resize(images, wanted, self.mode)
