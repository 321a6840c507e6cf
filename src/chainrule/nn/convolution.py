"""Layers of filters that slide over images: convolution and its transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.errors import OptionError
from chainrule.nn.init import DrawnParameter, Initializer, WithFans, initializer
from chainrule.nn.module import Module, check_sizes, described
from chainrule.ops.window import numbers, window

__all__ = ["Conv", "ConvTranspose", "Patches"]

Sizes = int | Sequence[int]


class Conv(Module):
    """Filters that look for the same thing at every place: y = conv(x, w) + b.

    y[n, p, o] = Σ over taps i and channels c of x[n, stride·p + dilation·i - before, c]
    · w[i, c, o] + b[o].

    Args:
        in_channels, out_channels: sizes of the last axis; outputs are filters.
        size: taps of a filter, a number for both axes of a picture, or a tuple of one
            to three numbers, which also says how many spatial axes there are.
        stride: steps of the filters; 2 halves the image.
        padding: zeros around the image: "valid" (none), "same" (output sizes
            ceil(size / stride)), a number, one for each axis, or (before, behind)
            pairs.
        dilation: the distance of a filter's taps.
        groups: into how many groups the channels are split that do not see each other;
            ``in_channels`` of them is a depthwise convolution.
        bias: whether to add b, which starts at 0; of no use before a BatchNorm.
        initializer: fills w; the default suits ReLU and its kin.

    Shapes: (n, h, w, in) -> (n, h', w', out), with h' = (h + before + behind -
    dilation·(kh - 1) - 1) // stride + 1; w is (kh, kw, in/groups, out), b is (out).

    Raises:
        OptionError: for options that are no window, and groups that do not divide the
            channels.
        ShapeError: when run on other channels, or on an image smaller than a filter.

    Example:
        >>> import numpy as np
        >>> Conv(3, 8, 5, stride=2, padding=2)(np.ones((1, 32, 32, 3))).shape
        (1, 16, 16, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Sizes,
        *,
        stride: Sizes = 1,
        padding: Any = "valid",
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: str | Initializer = "he_normal",
    ) -> None:
        taps = _checked(
            "conv", in_channels, out_channels, size, stride, padding, dilation, groups
        )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.size = taps
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.weight = DrawnParameter(
            (*taps, in_channels // groups, out_channels),
            _rule(
                initializer,
                math.prod(taps) * in_channels / groups,
                math.prod(taps) * out_channels / groups,
            ),
        )
        self.bias = _bias(out_channels) if bias else None

    def __repr__(self) -> str:
        return described(
            self, "in_channels", "out_channels", "size",
            stride=1, padding="valid", dilation=1, groups=1,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.bias is None else y + self.bias


class ConvTranspose(Module):
    """A convolution run backwards: every pixel paints its filter into a larger image.

    y[n, a, o] = b[o] + Σ x[n, p, c]·w[i, o, c] over places p and taps i with stride·p +
    dilation·i - before = a (Caffe's deconvolution).

    Args:
        in_channels, out_channels: sizes of the last axis before and after.
        size: taps of a filter, as of Conv; a multiple of the stride leaves no
            chequered pattern.
        stride: by how much the image grows.
        padding: what a convolution would pad, cut off here; "same" gives size·stride.
        output_padding: rows and columns more at the end, below the stride.
        dilation, groups, bias: as of Conv.
        initializer: fills w. An output pixel sees every stride-th tap of a filter
            along each axis, and the variance rules count those.

    Shapes: (n, h, w, in) -> (n, h', w', out), with h' = (h - 1)·stride +
    dilation·(kh - 1) + 1 - before - behind + output_padding; w is (kh, kw, out/groups,
    in), as of the convolution that it turns around, b is (out).

    Raises:
        OptionError: for options that are no window.
        ShapeError: when run on other channels, or where nothing of the image is left.

    Example:
        >>> import numpy as np
        >>> ConvTranspose(8, 3, 4, stride=2, padding=1)(np.ones((1, 16, 16, 8))).shape
        (1, 32, 32, 3)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Sizes,
        *,
        stride: Sizes = 1,
        padding: Any = "valid",
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: str | Initializer = "he_normal",
    ) -> None:
        name = "conv_transpose"
        taps = _checked(
            name, in_channels, out_channels, size, stride, padding, dilation, groups
        )
        steps = numbers(name, "stride", stride, len(taps), 1)
        numbers(name, "output_padding", output_padding, len(taps), 0)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.size = taps
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.dilation = dilation
        self.groups = groups
        self.weight = DrawnParameter(
            (*taps, out_channels // groups, in_channels),
            _rule(
                initializer,
                math.prod(taps) / math.prod(steps) * in_channels / groups,
                math.prod(taps) * out_channels / groups,
            ),
        )
        self.bias = _bias(out_channels) if bias else None

    def __repr__(self) -> str:
        return described(
            self, "in_channels", "out_channels", "size",
            stride=1, padding="valid", output_padding=0, dilation=1, groups=1,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv_transpose(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.bias is None else y + self.bias


class Patches(Module):
    """What a window sees at each of its places, as channels (Caffe's im2col).

    Args:
        size, stride, padding, dilation: of the window, as of Conv.

    Shapes: (n, h, w, c) -> (n, h', w', kh·kw·c).

    Raises:
        OptionError: when run, for options that are no window.
        ShapeError: when run on an image smaller than the window.

    Example:
        >>> import numpy as np
        >>> Patches(8, stride=8)(np.ones((1, 32, 32, 3))).shape
        (1, 4, 4, 192)
    """

    def __init__(
        self,
        size: Sizes,
        *,
        stride: Sizes = 1,
        padding: Any = "valid",
        dilation: Sizes = 1,
    ) -> None:
        self.size = size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation

    def __repr__(self) -> str:
        return described(self, "size", stride=1, padding="valid", dilation=1)

    def forward(self, x: Tensor) -> Tensor:
        return ops.patches(
            x,
            self.size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )


def _checked(
    name: str,
    in_channels: int,
    out_channels: int,
    size: Sizes,
    stride: Sizes,
    padding: Any,
    dilation: Sizes,
    groups: int,
) -> tuple[int, ...]:
    """The taps of a filter along each axis; raises OptionError for wrong options."""
    check_sizes(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
    rank = len(size) if isinstance(size, Sequence) else 2
    if not 1 <= rank <= 3:
        raise OptionError(
            f"{name}: filters of so many axes are not supported",
            got=f"size={size!r}",
            expected="one number, or a tuple of one, two or three",
        )
    # Of an image of one pixel, which every option but the size could be meant for.
    taps = window(name, (1,) * rank, size, stride, padding, dilation).size
    if in_channels % groups or out_channels % groups:
        raise OptionError(
            f"{name}: the channels do not divide into groups",
            got=f"{in_channels} and {out_channels} channels, {groups} groups",
            expected="multiples of the number of groups",
        )
    return taps


def _rule(rule: str | Initializer, fan_in: float, fan_out: float) -> WithFans:
    return WithFans(initializer(rule), fan_in, fan_out)


def _bias(channels: int) -> DrawnParameter:
    return DrawnParameter((channels,), "zeros", is_penalized=False)
