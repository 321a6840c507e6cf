"""Networks of dense layers: every unit sees all inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.nn.activations import activation as activation_layer
from chainrule.nn.affine import Dense
from chainrule.nn.containers import Sequential
from chainrule.nn.dropout import Dropout
from chainrule.nn.module import Module
from chainrule.nn.shape import Flatten, Reshape
from chainrule.nn.zoo.parts import picture_shape

__all__ = ["image_mlp", "linear", "mlp"]

# Units that stay linear for large inputs pass half of a signal on; the others keep its
# size near 0 and saturate beyond.
_RECTIFIERS = {"relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "softplus"}

Shape = int | Sequence[int]


def linear(in_shape: Shape, num_classes: int) -> Sequential:
    """The linear classifier s = x @ W + b: one template for each class.

    The weights start at 0: a linear model's losses are convex, so the start decides
    nothing, and pixels that never light up leave no noise in the templates.

    Shapes: (n, *in_shape) -> (n, num_classes).

    Example:
        >>> linear((32, 32, 3), 10).num_parameters()
        30730
    """
    in_features = _num_features(in_shape)
    output = Dense(in_features, num_classes, initializer="zeros")
    return Sequential(flatten=Flatten(), output=output)


def mlp(
    in_shape: Shape,
    hidden: Sequence[int],
    out: int,
    activation: str = "relu",
    dropout: float = 0.0,
) -> Sequential:
    """A multilayer perceptron: dense layers with an activation after each hidden one.

    Weights start by He's rule before rectifiers and by Glorot's before the rest.

    Args:
        in_shape: the shape of one example.
        hidden: the number of units of each hidden layer.
        out: the number of outputs; they are scores, without an activation.
        activation: its name, see ``nn.activation``.
        dropout: the rate at which hidden units are dropped in training.

    Shapes: (n, *in_shape) -> (n, out).

    Example:
        >>> mlp((28, 28, 1), (30, 30), 10).num_parameters()
        24790
    """
    rule = "he_normal" if activation in _RECTIFIERS else "glorot_uniform"
    layers: dict[str, Module] = {"flatten": Flatten()}
    size = _num_features(in_shape)
    for number, width in enumerate(hidden, start=1):
        layers[f"hidden{number}"] = Dense(size, width, initializer=rule)
        layers[f"activation{number}"] = activation_layer(activation)
        if dropout:
            layers[f"dropout{number}"] = Dropout(dropout)
        size = width
    layers["output"] = Dense(size, out)
    return Sequential(**layers)


def image_mlp(
    in_shape: Sequence[int],
    num_outputs: int,
    *,
    hidden: Sequence[int] = (256,),
    activation: str = "relu",
) -> Sequential:
    """A multilayer perceptron from a picture to a picture: 784-256-784 for MNIST.

    Every output pixel sees all pixels, so pictures have one size.

    Args:
        in_shape: height, width and channels of a picture.
        num_outputs: numbers for each pixel, without an activation.
        hidden: the number of units of each hidden layer.
        activation: its name, see ``nn.activation``.

    Shapes: (n, *in_shape) -> (n, h, w, num_outputs).

    Example:
        >>> image_mlp((28, 28, 1), 1).num_parameters()
        402448

    Source: the dense inpainting network of the lectures.
    """
    height, width, _ = picture_shape("image_mlp", in_shape)
    pixels = mlp(in_shape, hidden, height * width * num_outputs, activation)
    return Sequential(pixels=pixels, picture=Reshape(height, width, num_outputs))


def _num_features(in_shape: Shape) -> int:
    return in_shape if isinstance(in_shape, int) else math.prod(in_shape)
