"""Activation functions as layers, and their names."""

from __future__ import annotations

from collections.abc import Callable

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.errors import OptionError
from chainrule.nn.init import Constant, DrawnParameter
from chainrule.nn.module import Module, check_sizes

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "Identity",
    "LeakyReLU",
    "LogSoftmax",
    "PReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "activation",
]


class Identity(Module):
    """x itself: the activation of a linear output, or of no activation at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Sigmoid(Module):
    """σ(x) = 1 / (1 + e^-x), from 0 to 1; saturates on both sides."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, from -1 to 1; saturates on both sides."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class ReLU(Module):
    """max(0, x), the default choice; its derivative at 0 is taken as 0."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """x above 0, slope·x below, so that no unit dies.

    Args:
        slope: 0.1 as in the lectures; PyTorch's default is 0.01.
    """

    def __init__(self, slope: float = 0.1) -> None:
        self.slope = float(slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)


class PReLU(Module):
    """x above 0, a·x below, with a learned slope a.

    Args:
        num_slopes: 1 for a slope that all features share, or one for each feature.
        slope: the value that slopes start from.

    Shapes: (..., features) -> (..., features).

    Source: He, Zhang, Ren & Sun, "Delving deep into rectifiers", 2015, section 2.1,
    which also leaves the slopes out of weight decay.
    """

    def __init__(self, num_slopes: int = 1, slope: float = 0.25) -> None:
        check_sizes("prelu", num_slopes=num_slopes)
        self.slopes = DrawnParameter((num_slopes,), Constant(slope), is_penalized=False)

    def forward(self, x: Tensor) -> Tensor:
        return ops.where(x > 0, x, x * self.slopes)


class ELU(Module):
    """x above 0, alpha·(e^x - 1) below: smooth, with mean outputs nearer 0."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = float(alpha)

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)


class GELU(Module):
    """x·Φ(x): exact ("none"), x·σ(1.702x) ("sigmoid") or the tanh form ("tanh").

    Raises:
        OptionError: for another form.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate != "none":
            ops.gelu(0.0, approximate)  # refuses an unknown form now, not in forward
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)


class SiLU(Module):
    """x·σ(x), also called swish."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class Softplus(Module):
    """log(1 + e^x), a smooth ReLU (Caffe's BNLL)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softmax(Module):
    """Probabilities e^x / Σ e^x along an axis.

    Losses that are named after softmax take scores, so a network that is trained with
    them ends without this layer.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis)


class LogSoftmax(Module):
    """The logarithms of softmax along an axis, finite for any finite x."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, self.axis)


ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "identity": Identity,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "prelu": PReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "softmax": Softmax,
    "log_softmax": LogSoftmax,
}


def activation(name: str) -> Module:
    """A new activation layer by its name, with its default settings.

    Raises:
        OptionError: for an unknown name, with the nearest one offered.

    Example:
        >>> activation("leaky_relu")
        LeakyReLU(slope=0.1)
    """
    if name not in ACTIVATIONS:
        raise OptionError.unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
