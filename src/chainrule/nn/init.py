"""First values of parameters: by rule, each from a stream of its own, and repeatable.

The variance rules keep the size of activations (fan-in) or of gradients (fan-out) about
equal from layer to layer. In a weight of shape (..., in, out) every output reads
fan-in = ... · in numbers and every input reaches fan-out = ... · out of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from chainrule.core.graph import Buffer, Parameter
from chainrule.core.rng import generator
from chainrule.core.spec import FLOAT32, Spec, as_dtype
from chainrule.errors import OptionError, ShapeError

__all__ = [
    "INITIALIZERS",
    "Constant",
    "DrawnBuffer",
    "DrawnParameter",
    "Initializer",
    "Normal",
    "Uniform",
    "VarianceScaling",
    "WithFans",
    "fans",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initializer",
    "lecun_normal",
    "lecun_uniform",
    "manual_seed",
    "random_key",
    "zeros",
]

_PIECE = 1 << 20
"""So many numbers are drawn at a time: in float64 they take more than they fill."""

Array = np.ndarray[Any, Any]
Initializer = Callable[[np.random.Generator, tuple[int, ...]], Array]
"""Any function of a generator and a shape that returns an array of that shape."""
Sampler = Callable[[Any], Any]
"""Draws as many numbers as a size or a shape says."""


# -------------------------------------------------------------------------- rules


@dataclass(frozen=True)
class Constant:
    """Every element the same.

    Example:
        >>> Constant(0.25)(np.random.default_rng(0), (2,))
        array([0.25, 0.25])
    """

    value: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.full(shape, self.value)


class Draws:
    """A rule whose numbers are independent draws of one distribution.

    What it draws for a shape is what it draws for as many numbers one after another,
    so a large weight can be filled piece by piece.
    """

    def sampler(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Sampler:
        """For a weight of this shape, draws as many numbers as a size says."""
        raise NotImplementedError

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return self.sampler(rng, shape)(shape)


@dataclass(frozen=True)
class Normal(Draws):
    """Draws of the normal distribution N(mean, std²)."""

    std: float = 0.01
    mean: float = 0.0

    def sampler(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Sampler:
        return partial(rng.normal, self.mean, self.std)


@dataclass(frozen=True)
class Uniform(Draws):
    """Draws that are equally likely anywhere in [low, high)."""

    low: float = -0.01
    high: float = 0.01

    def sampler(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Sampler:
        return partial(rng.uniform, self.low, self.high)


@dataclass(frozen=True)
class VarianceScaling(Draws):
    """Draws of variance scale / fan, so that depth neither swells nor starves signals.

    Args:
        scale: what the following activation asks for: 1 if linear, 2 for ReLU.
        fan: divide by fan-in, by fan-out, or by the mean of the two.
        distribution: normal, or uniform with the same variance.
    """

    scale: float = 1.0
    fan: Literal["in", "out", "mean"] = "in"
    distribution: Literal["normal", "uniform"] = "normal"

    def sampler(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Sampler:
        return self.sampler_of(rng, *fans(shape))

    def sampler_of(
        self, rng: np.random.Generator, fan_in: float, fan_out: float
    ) -> Sampler:
        """The same for fans that do not follow from the shape."""
        sizes = {"in": fan_in, "out": fan_out, "mean": (fan_in + fan_out) / 2}
        variance = self.scale / max(sizes[self.fan], 1)
        if self.distribution == "normal":
            return partial(rng.normal, 0.0, math.sqrt(variance))
        bound = math.sqrt(3 * variance)
        return partial(rng.uniform, -bound, bound)


@dataclass(frozen=True)
class WithFans:
    """A rule for a weight whose shape does not tell its fans.

    Filters of a transposed convolution lie as (..., out, in), and a strided one paints
    fewer taps on each pixel than it has; with groups, an input reaches only its own.
    """

    rule: Initializer
    fan_in: float
    fan_out: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        draw = _sampler(self, rng, shape)
        return draw(shape) if draw else self.rule(rng, shape)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan-in, fan-out) of a weight: how many numbers meet in, and leave from, a unit.

    Raises:
        ShapeError: for fewer than two axes, where the words have no meaning.

    Example:
        >>> fans((784, 100)), fans((5, 5, 32, 64))
        ((784, 100), (800, 1600))
    """
    if len(shape) < 2:
        raise ShapeError(
            "fans: a weight needs two axes or more",
            got=tuple(shape),
            expected="(..., in, out)",
            hint="use Constant, Normal or Uniform for biases and scales",
        )
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


zeros = Constant(0.0)


def glorot_uniform() -> VarianceScaling:
    """Variance 2/(fan-in + fan-out): a compromise for sigmoid and tanh (Xavier).

    Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward
    neural networks", 2010, equations 12 and 16.
    """
    return VarianceScaling(1.0, "mean", "uniform")


def glorot_normal() -> VarianceScaling:
    """Variance 2/(fan-in + fan-out), drawn from a normal distribution (Xavier)."""
    return VarianceScaling(1.0, "mean", "normal")


def he_normal(slope: float = 0.0) -> VarianceScaling:
    """Variance 2/((1 + slope²)·fan-in), for ReLU and leaky ReLU (Kaiming).

    Source: He, Zhang, Ren & Sun, "Delving deep into rectifiers", 2015, equations 10
    and 15.
    """
    return VarianceScaling(2 / (1 + slope**2), "in", "normal")


def he_uniform(slope: float = 0.0) -> VarianceScaling:
    """Variance 2/((1 + slope²)·fan-in), drawn from a uniform distribution (Kaiming)."""
    return VarianceScaling(2 / (1 + slope**2), "in", "uniform")


def lecun_normal() -> VarianceScaling:
    """Variance 1/fan-in: a linear unit's output varies as much as its inputs.

    Source: LeCun, Bottou, Orr & Müller, "Efficient BackProp", 1998, section 4.6.
    """
    return VarianceScaling(1.0, "in", "normal")


def lecun_uniform() -> VarianceScaling:
    """Variance 1/fan-in, drawn from a uniform distribution."""
    return VarianceScaling(1.0, "in", "uniform")


INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": Constant(1.0),
    "normal": Normal(),
    "uniform": Uniform(),
    "glorot_normal": glorot_normal(),
    "glorot_uniform": glorot_uniform(),
    "xavier_normal": glorot_normal(),
    "xavier_uniform": glorot_uniform(),
    "he_normal": he_normal(),
    "he_uniform": he_uniform(),
    "kaiming_normal": he_normal(),
    "kaiming_uniform": he_uniform(),
    "lecun_normal": lecun_normal(),
    "lecun_uniform": lecun_uniform(),
}


def initializer(rule: str | Initializer) -> Initializer:
    """The rule of a name; a rule itself is returned as it is.

    Raises:
        OptionError: for an unknown name, with the nearest one offered.

    Example:
        >>> initializer("he_normal")
        VarianceScaling(scale=2.0, fan='in', distribution='normal')
    """
    if isinstance(rule, str):
        if rule not in INITIALIZERS:
            raise OptionError.unknown("initializer", rule, INITIALIZERS)
        return INITIALIZERS[rule]
    if not callable(rule):
        raise OptionError(
            "initializer: neither a name nor a rule",
            got=repr(rule),
            expected="a name, or a function of (generator, shape)",
            hint="Constant(0.5) fills with a number",
        )
    return rule


def random_key(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Words that select a random stream, as ``ops.dropout_mask`` takes them."""
    return rng.integers(0, 2**32, size=shape, dtype=np.uint32)


# ----------------------------------------------------------------- drawn variables


class _Construction:
    """The stream that fills layers when they are made, before ``initialize``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draws = itertools.count()  # next() is atomic among threads

    def next(self) -> np.random.Generator:
        return generator(self.seed, "construction", step=next(self.draws))


_construction = _Construction(0)


def manual_seed(seed: int) -> None:
    """Make the layers built from here on start with the same values every time.

    ``model.initialize(seed)`` does the same for a model that exists, and does not
    depend on the order in which its layers were built.

    Example:
        >>> from chainrule.nn import Dense
        >>> manual_seed(7); a = Dense(2, 1).weight.tolist()
        >>> manual_seed(7); b = Dense(2, 1).weight.tolist()
        >>> a == b
        True
    """
    global _construction
    _construction = _Construction(int(seed))


def _sampler(
    rule: Initializer, rng: np.random.Generator, shape: tuple[int, ...]
) -> Sampler | None:
    """What draws a weight's numbers one after another; None for other rules."""
    if isinstance(rule, WithFans):
        if isinstance(rule.rule, VarianceScaling):
            return rule.rule.sampler_of(rng, rule.fan_in, rule.fan_out)
        rule = rule.rule
    return rule.sampler(rng, shape) if isinstance(rule, Draws) else None


def _fill(
    rule: Initializer, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any
) -> Array:
    # Drawn in float64 and rounded, so that both float dtypes start alike.
    draw = _sampler(rule, rng, shape) if math.prod(shape) > _PIECE else None
    if draw:
        filled: Array = np.empty(math.prod(shape), dtype)
        for piece in np.split(filled, range(_PIECE, filled.size, _PIECE)):
            piece[...] = draw(piece.size)
        return filled.reshape(shape)
    values = np.asarray(rule(rng, shape)).astype(dtype)
    if values.shape != shape:
        raise ShapeError(
            "initializer: values of another shape",
            got=Spec.of(values),
            expected=Spec(shape, as_dtype(dtype)),
        )
    return values


class DrawnParameter(Parameter):
    """A parameter that knows its initializer, so that a model can start afresh.

    Args:
        shape: its sizes; (..., in, out) for weights.
        rule: the name of an initializer, or the initializer.
        is_penalized: whether weight penalties count it.

    Example:
        >>> DrawnParameter((2, 3), "he_normal").shape
        (2, 3)
    """

    __slots__ = ("initializer",)

    def __init__(
        self,
        shape: Sequence[int],
        rule: str | Initializer,
        *,
        dtype: Any = FLOAT32,
        is_penalized: bool = True,
    ) -> None:
        self.initializer = initializer(rule)
        values = _fill(self.initializer, _construction.next(), tuple(shape), dtype)
        super().__init__(values, is_penalized=is_penalized)

    def draw(self, rng: np.random.Generator) -> Array:
        """New first values from the generator."""
        return _fill(self.initializer, rng, self.shape, self.dtype)


class DrawnBuffer(Buffer):
    """State outside training that knows its initializer: counters, keys of streams."""

    __slots__ = ("initializer",)

    def __init__(
        self, shape: Sequence[int], rule: str | Initializer, *, dtype: Any = FLOAT32
    ) -> None:
        self.initializer = initializer(rule)
        values = _fill(self.initializer, _construction.next(), tuple(shape), dtype)
        super().__init__(values)

    def draw(self, rng: np.random.Generator) -> Array:
        """New first values from the generator."""
        return _fill(self.initializer, rng, self.shape, self.dtype)
