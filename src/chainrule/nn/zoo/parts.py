"""What the convolutional networks have in common."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.errors import ShapeError
from chainrule.nn.activations import activation as activation_layer
from chainrule.nn.affine import Dense
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.dropout import Dropout
from chainrule.nn.module import Module
from chainrule.nn.normalization import BatchNorm

__all__ = ["classifier", "conv_norm", "picture_shape"]


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
