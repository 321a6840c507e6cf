"""What the convolutional networks have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.errors import OptionError, ShapeError
from chainrule.nn.activations import activation as activation_layer
from chainrule.nn.affine import Dense
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.dropout import Dropout
from chainrule.nn.module import Module, described
from chainrule.nn.normalization import BatchNorm

__all__ = [
    "FirstChannels",
    "at_multiples",
    "classifier",
    "conv_norm",
    "picture_shape",
    "shortcut_to",
]


def picture_shape(model: str, in_shape: Sequence[int]) -> tuple[int, int, int]:
    """Height, width and channels of one example; raises ShapeError for other data."""
    shape = tuple(in_shape) if isinstance(in_shape, Sequence) else (in_shape,)
    if len(shape) != 3:
        raise ShapeError(
            f"{model}: needs pictures",
            got=f"examples of shape {shape}",
            expected="(height, width, channels)",
            hint="use mlp or linear for rows of numbers",
        )
    return shape


def conv_norm(
    in_channels: int,
    out_channels: int,
    size: int = 3,
    *,
    stride: int = 1,
    activation: str = "relu",
) -> Sequential:
    """Convolution that keeps the image's size, batch normalisation, activation.

    The convolution has no bias: the normalisation would subtract it.
    """
    return Sequential(
        conv=Conv(
            in_channels, out_channels, size,
            stride=stride, padding=size // 2, bias=False,
        ),
        norm=BatchNorm(out_channels),
        activation=activation_layer(activation),
    )  # fmt: skip


def classifier(
    in_features: int, hidden: Sequence[int], num_outputs: int, dropout: float
) -> Sequential:
    """Dense layers with ReLU between, dropout before each hidden one."""
    layers: dict[str, Module] = {}
    size = in_features
    for number, width in enumerate(hidden, start=1):
        if dropout:
            layers[f"dropout{number}"] = Dropout(dropout)
        layers[f"hidden{number}"] = Dense(size, width, initializer="he_normal")
        layers[f"relu{number}"] = activation_layer("relu")
        size = width
    return Sequential(**layers, output=Dense(size, num_outputs))


def at_multiples(
    multiple: int, images: Tensor, layers: Callable[[Tensor], Tensor]
) -> Tensor:
    """What layers that halve and double sizes make of images of any size.

    Zeros are added behind, up to a multiple of ``multiple``, and the output is cropped.
    """
    sizes = images.shape[1:-1]
    missing = [-h % multiple for h in sizes]
    if not any(missing):
        return layers(images)
    padded = ops.pad(images, ((0, 0), *((0, m) for m in missing), (0, 0)))
    return ops.index(layers(padded), (slice(None), *(slice(h) for h in sizes)))


class FirstChannels(Module):
    """The picture among the channels of an input: the first ``count`` of them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __repr__(self) -> str:
        return described(self, "count")

    def forward(self, x: Tensor) -> Tensor:
        return ops.index(x, (..., slice(self.count)))


def shortcut_to(model: str, channels: int, num_outputs: int) -> Module | None:
    """The way around a network that corrects the first channels of its input.

    Raises:
        OptionError: for more outputs than channels, of which some would have nothing to
            correct.
    """
    if num_outputs > channels:
        raise OptionError(
            f"{model}: more outputs than channels to correct",
            got=f"{num_outputs} outputs, {channels} channels",
            expected=f"at most {channels} outputs",
        )
    return None if num_outputs == channels else FirstChannels(num_outputs)
