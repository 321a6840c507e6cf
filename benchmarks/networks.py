"""What the networks of the benchmarks are made of: layers as plain data.

Every contestant reads the same layers and makes of them what its library has for each.
A layer says which weights it starts from and what its operations cost.

Pictures are (n, h, w, channels), filters (size, size, in, out). Filters of a transposed
convolution are those of the convolution that it turns around, so its own outputs come
before its inputs: (size, size, out, in).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Shape = tuple[int, ...]

BATCH_NORM_EPSILON = 1e-5
RUNNING_SHARE = 0.1
"""Of a batch in the running statistics."""


class Layer:
    """Without weights and without operations worth counting, unless it says so."""

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of one example after the layer."""
        return shape

    def products(self, shape: Shape) -> int:
        """Multiplications of the forward pass, for one example of this shape."""
        return 0

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """New weights in the order in which the layer takes them."""
        yield from ()


@dataclass(frozen=True)
class Dense(Layer):
    """x @ W + b; W (in, out) begins with this standard deviation."""

    in_features: int
    out_features: int
    deviation: float
    has_bias: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        return (self.out_features,)

    def products(self, shape: Shape) -> int:
        return self.in_features * self.out_features

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        shape = self.in_features, self.out_features
        yield rng.standard_normal(shape, np.float32) * np.float32(self.deviation)
        if self.has_bias:
            yield np.zeros(self.out_features, np.float32)


@dataclass(frozen=True)
class Convolution(Layer):
    """Filters of size×size, with zeros around the picture, and one bias for each."""

    in_channels: int
    out_channels: int
    size: int
    stride: int = 1
    padding: int = 0
    has_bias: bool = True

    def out_shape(self, shape: Shape) -> Shape:
        h, w, _ = shape
        h, w = ((n + 2 * self.padding - self.size) // self.stride + 1 for n in (h, w))
        return h, w, self.out_channels

    def products(self, shape: Shape) -> int:
        return self.size**2 * self.in_channels * math.prod(self.out_shape(shape))

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        shape = self.size, self.size, self.in_channels, self.out_channels
        deviation = he_deviation(self.size**2 * self.in_channels)
        yield rng.standard_normal(shape, np.float32) * np.float32(deviation)
        if self.has_bias:
            yield np.zeros(self.out_channels, np.float32)


@dataclass(frozen=True)
class TransposedConvolution(Layer):
    """What a convolution from out_channels to in_channels does to a gradient."""

    in_channels: int
    out_channels: int
    size: int
    stride: int
    padding: int

    def out_shape(self, shape: Shape) -> Shape:
        h, w, _ = shape
        h, w = ((n - 1) * self.stride + self.size - 2 * self.padding for n in (h, w))
        return h, w, self.out_channels

    def products(self, shape: Shape) -> int:
        return self.size**2 * self.out_channels * math.prod(shape)

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        shape = self.size, self.size, self.out_channels, self.in_channels
        # An output sees every stride-th tap along each axis.
        deviation = he_deviation((self.size / self.stride) ** 2 * self.in_channels)
        yield rng.standard_normal(shape, np.float32) * np.float32(deviation)
        yield np.zeros(self.out_channels, np.float32)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """(x - mean) / √(variance + ε)·scale + shift over a batch, channel by channel.

    A step also moves the running statistics, which no loss shows.
    """

    channels: int

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        yield np.ones(self.channels, np.float32)
        yield np.zeros(self.channels, np.float32)


@dataclass(frozen=True)
class Activation(Layer):
    """relu or sigmoid."""

    name: str


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest of each window; windows that do not fit are left out."""

    size: int
    stride: int

    def out_shape(self, shape: Shape) -> Shape:
        h, w, channels = shape
        h, w = ((n - self.size) // self.stride + 1 for n in (h, w))
        return h, w, channels


@dataclass(frozen=True)
class GlobalAverage(Layer):
    """The mean of each channel over the picture."""

    def out_shape(self, shape: Shape) -> Shape:
        return shape[-1:]


@dataclass(frozen=True)
class Flatten(Layer):
    """A picture's numbers in a row: by row, column, channel."""

    def out_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@dataclass(frozen=True)
class Residual(Layer):
    """body(x) + shortcut(x); a shortcut without layers is x itself."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    def out_shape(self, shape: Shape) -> Shape:
        return out_shape(self.body, shape)

    def products(self, shape: Shape) -> int:
        return products(self.body, shape) + products(self.shortcut, shape)

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for layer in (*self.body, *self.shortcut):
            yield from layer.first_weights(rng)


def he_deviation(num_inputs: float) -> float:
    """He et al., "Delving deep into rectifiers", 2015, eq. 10."""
    return math.sqrt(2 / num_inputs)


def flat(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers with those inside blocks, in the order in which they take weights."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from flat((*layer.body, *layer.shortcut))
        else:
            yield layer


def out_shape(layers: Sequence[Layer], shape: Shape) -> Shape:
    for layer in layers:
        shape = layer.out_shape(shape)
    return shape


def products(layers: Sequence[Layer], shape: Shape) -> int:
    total = 0
    for layer in layers:
        total += layer.products(shape)
        shape = layer.out_shape(shape)
    return total


@dataclass(frozen=True)
class Network:
    """Layers one after the other, and the shape of an example that they take."""

    in_shape: Shape
    layers: tuple[Layer, ...]
    title: str

    @property
    def forward_flops(self) -> int:
        """Floating-point operations of the products forward, for one example."""
        return 2 * products(self.layers, self.in_shape)

    @property
    def flops(self) -> int:
        """Floating-point operations that a training step needs for one example.

        Of products only: forward, as many for the gradient of the weights, and again
        for the gradient of the input, which the first layer does not need. Taps that
        see padding count. The rest, small beside them, is not counted.
        """
        total = products(self.layers, self.in_shape)
        return 2 * (3 * total - self.layers[0].products(self.in_shape))

    @property
    def out_shape(self) -> Shape:
        return out_shape(self.layers, self.in_shape)

    @property
    def flattened_shape(self) -> Shape:
        """The shape of the pictures that become rows of numbers; () if none do."""
        shape = self.in_shape
        for layer in self.layers:
            if isinstance(layer, Flatten):
                return shape
            shape = layer.out_shape(shape)
        return ()

    @property
    def normalised_channels(self) -> list[int]:
        """The channels of each normalisation, in the order of their weights."""
        return [
            layer.channels
            for layer in flat(self.layers)
            if isinstance(layer, BatchNorm)
        ]

    def first_weights(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for layer in self.layers:
            yield from layer.first_weights(rng)

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True)
class Perceptron(Network):
    """A network of dense layers; ``sizes`` are features, layer by layer."""

    sizes: Shape = ()
    activation: str = ""
    has_bias: bool = True


def perceptron(
    sizes: Shape,
    activation: str = "",
    deviation: float | None = None,
    has_bias: bool = True,
) -> Perceptron:
    """Dense layers with an activation between.

    Weights begin with this deviation, or with that which keeps the size of a signal.
    """
    gain = 2 if activation == "relu" else 1
    layers: list[Layer] = []
    for num_in, num_out in pairwise(sizes):
        scale = (gain / num_in) ** 0.5 if deviation is None else deviation
        layers += [Dense(num_in, num_out, scale, has_bias), Activation(activation)]
    title = f"{'-'.join(map(str, sizes))} {activation}".strip()
    return Perceptron(sizes[:1], tuple(layers[:-1]), title, sizes, activation, has_bias)
