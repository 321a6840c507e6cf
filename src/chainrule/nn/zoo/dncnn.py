"""DnCNN, a denoiser: it learns what is wrong with a picture, not the picture."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.errors import OptionError
from chainrule.nn.activations import ReLU
from chainrule.nn.containers import Residual, Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.module import Module, check_sizes
from chainrule.nn.zoo.parts import conv_norm, picture_shape, shortcut_to

__all__ = ["dncnn"]


def dncnn(
    in_shape: Sequence[int], num_outputs: int, *, width: int = 48, depth: int = 10
) -> Residual:
    """DnCNN: 3×3 convolutions in a row, whose result is added to the damaged picture.

    Conv-ReLU, then ``depth - 2`` times Conv-BatchNorm-ReLU, then Conv; all keep the
    picture's size, and a pixel sees ``depth`` pixels each way. The first
    ``num_outputs`` channels of the input are the picture; channels after them, a mask
    for instance, are only looked at.

    The paper has 17 layers of 64 filters for noise of a known strength, 20 where it is
    unknown; the default is what a processor can train. The last convolution starts at
    0, where the paper's is drawn: before it has learned, the network leaves a picture
    as it is.

    Args:
        in_shape: height, width and channels of a picture; only channels count.
        num_outputs: the channels of the restored picture.
        width: filters of each layer but the last.
        depth: the number of convolutions, at least 2.

    Shapes: (n, h, w, channels) -> (n, h, w, num_outputs).

    Raises:
        OptionError: for fewer than 2 layers, or more outputs than channels.

    Example:
        >>> import numpy as np
        >>> pictures = np.ones((1, 45, 70, 3), "float32")
        >>> dncnn((64, 64, 3), 3)(pictures).numpy().max()
        np.float32(1.0)

    Source: Zhang, Zuo, Chen, Meng & Zhang, "Beyond a Gaussian denoiser: residual
    learning of deep CNN for image denoising", 2017, section III.A and figure 1.
    """
    *_, channels = picture_shape("dncnn", in_shape)
    check_sizes("dncnn", num_outputs=num_outputs, width=width, depth=depth)
    if depth < 2:
        raise OptionError(
            "dncnn: too few layers", got=f"depth={depth}", expected="depth ≥ 2"
        )
    layers: dict[str, Module] = {
        "first": Conv(channels, width, 3, padding=1),
        "relu": ReLU(),
    }
    for number in range(1, depth - 1):
        layers[f"middle{number}"] = conv_norm(width, width)
    layers["last"] = Conv(width, num_outputs, 3, padding=1, initializer="zeros")
    return Residual(Sequential(**layers), shortcut_to("dncnn", channels, num_outputs))
