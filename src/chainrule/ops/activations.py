"""The activation functions of the lectures, each one scalar expression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from chainrule.core import scalar
from chainrule.core.graph import Tensor, apply, as_tensor, function, register
from chainrule.core.scalar import Expr
from chainrule.errors import OptionError
from chainrule.ops.elementwise import FloatOp, erf, exp, minimum, where

__all__ = [
    "elu",
    "gelu",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "relu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]

_GELU_SLOPE = 1.702
_GELU_CUBIC = 0.044715


@register
class Tanh(FloatOp):
    """The hyperbolic tangent."""

    name = "tanh"
    pattern = "scales: dy·(1 - y²), almost 0 where |x| is large"

    def scalar(self, x: Expr) -> Expr:
        return scalar.tanh(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * (1.0 - y * y),)


@register
class Sigmoid(FloatOp):
    """1 / (1 + e^-x)."""

    name = "sigmoid"
    pattern = "scales: dy·y·(1 - y), at most a quarter of dy"

    def scalar(self, x: Expr) -> Expr:
        return 1 / (1 + scalar.exp(-x))

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * (y * (1.0 - y)),)


@register
class ReLU(FloatOp):
    """max(x, 0); its derivative at 0 is taken as 0."""

    name = "relu"
    pattern = "gates: dy where x > 0, 0 elsewhere"

    def scalar(self, x: Expr) -> Expr:
        return scalar.maximum(x, 0)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (where(x > 0, dy, 0.0),)


@register
@dataclass(frozen=True)
class LeakyReLU(FloatOp):
    """x above 0, slope·x below; at 0 its derivative is the slope."""

    name = "leaky_relu"
    pattern = "gates: dy where x > 0, slope·dy elsewhere"
    slope: float

    def scalar(self, x: Expr) -> Expr:
        return scalar.select(scalar.greater(x, 0), x, self.slope * x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (where(x > 0, dy, dy * self.slope),)


@register
@dataclass(frozen=True)
class ELU(FloatOp):
    """x above 0, alpha·(e^x - 1) below."""

    name = "elu"
    pattern = "gates: dy where x > 0, alpha·exp(x)·dy elsewhere"
    alpha: float

    def scalar(self, x: Expr) -> Expr:
        return scalar.select(
            scalar.greater(x, 0), x, self.alpha * scalar.expm1(scalar.minimum(x, 0))
        )

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        # Not y + alpha, whose leading digits cancel where exp(x) is small.
        slope = exp(minimum(x, 0.0)) * self.alpha
        return (where(x > 0, dy, dy * slope),)


@register
class Softplus(FloatOp):
    """log(1 + exp(x)), written so that neither end overflows."""

    name = "softplus"
    pattern = "scales: dy·sigmoid(x)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.maximum(x, 0) + scalar.log1p(scalar.exp(-scalar.absolute(x)))

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * sigmoid(x),)


@register
class GELU(FloatOp):
    """x·Φ(x) with the normal distribution function Φ."""

    name = "gelu"
    pattern = "scales: dy·(Φ(x) + x·φ(x))"

    def scalar(self, x: Expr) -> Expr:
        return x * (0.5 * (1 + scalar.erf(x * math.sqrt(0.5))))

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        distribution = (erf(x * math.sqrt(0.5)) + 1.0) * 0.5
        density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (dy * (distribution + x * density),)


# --------------------------------------------------------------- public functions


@function
def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent, from -1 to 1."""
    return apply(Tanh.make(), as_tensor(x))


@function
def sigmoid(x: Any) -> Tensor:
    """σ(x) = 1 / (1 + e^-x), from 0 to 1.

    Example:
        >>> import chainrule as cr
        >>> cr.sigmoid(cr.Tensor([-10000.0, 0.0, 10000.0]))
        Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    return apply(Sigmoid.make(), as_tensor(x))


@function
def relu(x: Any) -> Tensor:
    """max(x, 0), the rectified linear unit."""
    return apply(ReLU.make(), as_tensor(x))


@function
def leaky_relu(x: Any, slope: float = 0.1) -> Tensor:
    """x above 0, slope·x below. The slope is the lectures'; PyTorch's default is 0.01.

    Source: Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic
    models", 2013; aarhus and yonsei, activation functions.
    """
    return apply(LeakyReLU.make(float(slope)), as_tensor(x))


@function
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha·(e^x - 1) below.

    Source: Clevert, Unterthiner & Hochreiter, "Fast and accurate deep network learning
    by exponential linear units", 2016.
    """
    return apply(ELU.make(float(alpha)), as_tensor(x))


@function
def softplus(x: Any) -> Tensor:
    """log(1 + e^x), a smooth ReLU (Caffe calls it BNLL)."""
    return apply(Softplus.make(), as_tensor(x))


@function
def log_sigmoid(x: Any) -> Tensor:
    """log σ(x) = -softplus(-x), finite for any finite x."""
    return -softplus(-as_tensor(x))


@function
def silu(x: Any) -> Tensor:
    """x·σ(x), also called swish."""
    t = as_tensor(x)
    return t * sigmoid(t)


@function
def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x·Φ(x): exact ("none"), x·σ(1.702x) ("sigmoid") or the tanh form ("tanh").

    Raises OptionError for another form.

    Source: Hendrycks & Gimpel, "Gaussian error linear units", 2016; yonsei gives the
    first two forms.
    """
    t = as_tensor(x)
    if approximate == "none":
        return apply(GELU.make(), t)
    if approximate == "sigmoid":
        return t * sigmoid(t * _GELU_SLOPE)
    if approximate == "tanh":
        inner = (t + t * t * t * _GELU_CUBIC) * math.sqrt(2 / math.pi)
        return t * ((tanh(inner) + 1.0) * 0.5)
    raise OptionError.unknown("GELU form", approximate, ["none", "sigmoid", "tanh"])


@function
def identity(x: Any) -> Tensor:
    """x itself: the activation of a linear output layer."""
    return as_tensor(x)
