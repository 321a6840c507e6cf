"""Update rules: what one step does to one weight, as assignments of scalar expressions.

In all of them w is a weight, dw its gradient ∂L/∂w, lr the learning rate and t the
number of this step, counted from 1. Words such as ``velocity`` are state, one number
for each weight, 0 at first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

from chainrule.core.scalar import Expr, power, sqrt, substitute, symbol
from chainrule.errors import OptionError

__all__ = [
    "RULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "RMSProp",
    "Rule",
]

w, dw, lr, t = map(symbol, ("w", "dw", "lr", "t"))


@dataclass(frozen=True)
class Rule(ABC):
    """An update rule; its fields are its settings.

    ``weight_decay`` λ adds λ·w to dw, which is the gradient of ½λΣw². Only parameters
    with ``is_penalized`` feel it.

    Raises OptionError for a setting out of its range.
    """

    usual_lr: ClassVar[float] = 0.01

    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            below = 1.0 if field.name in _FRACTIONS else float("inf")
            if not (isinstance(value, (int, float)) and 0 <= value < below):
                raise OptionError(
                    f"{type(self).__name__}: {field.name} is out of range",
                    got=value,
                    expected=f"a number from 0 to below {below:g}",
                )

    @property
    def gradient(self) -> Expr:
        """dw, with the decay of the weights added."""
        return dw + self.weight_decay * w if self.weight_decay else dw

    def shared(self) -> dict[str, Expr]:
        """Numbers that all weights have in common in a step, made from lr and t."""
        return {}

    @abstractmethod
    def assignments(self) -> dict[str, Expr]:
        """New values by name, made in this order: each reads what those before wrote.

        The last is w; the others are the rule's state.
        """

    @property
    def state(self) -> tuple[str, ...]:
        """The names of what the rule remembers of each weight."""
        return tuple(name for name in self.assignments() if name != "w")

    def __str__(self) -> str:
        steps = {**self.shared(), **self.assignments()}
        return "; ".join(f"{name} ← {value}" for name, value in steps.items())


_FRACTIONS = {"momentum", "decay", "beta1", "beta2"}


@dataclass(frozen=True)
class SGD(Rule):
    """Gradient descent, on minibatches or on everything: w ← w - lr·dw.

    Example:
        >>> print(SGD())
        w ← w - lr·dw

    Source: yonsei and intellivision; Robbins & Monro, 1951.
    """

    def assignments(self) -> dict[str, Expr]:
        return {"w": w - lr * self.gradient}


@dataclass(frozen=True)
class Momentum(Rule):
    """A ball that rolls downhill: steps in one direction add up, zigzags cancel.

    Example:
        >>> print(Momentum())
        velocity ← 0.9·velocity + dw; w ← w - lr·velocity

    Source: yonsei and intellivision, v = ρv + dw; Polyak, "Some methods of speeding up
    the convergence of iteration methods", 1964.
    """

    momentum: float = 0.9

    def assignments(self) -> dict[str, Expr]:
        velocity = symbol("velocity")
        return {
            "velocity": self.momentum * velocity + self.gradient,
            "w": w - lr * velocity,
        }


@dataclass(frozen=True)
class Nesterov(Rule):
    """Momentum with a look ahead, to where the velocity is about to lead.

    Here w is the point looked at: the paper's θ + μv. Written so, the gradient is taken
    at the weights themselves.

    Example:
        >>> print(Nesterov())
        velocity ← 0.9·velocity + dw; w ← w - lr·(dw + 0.9·velocity)

    Source: Sutskever, Martens, Dahl & Hinton, "On the importance of initialization and
    momentum in deep learning", 2013, eqs. 3-4; rewritten as in Bengio,
    Boulanger-Lewandowski & Pascanu, "Advances in optimizing recurrent networks", 2013.
    """

    momentum: float = 0.9

    def assignments(self) -> dict[str, Expr]:
        velocity = symbol("velocity")
        return {
            "velocity": self.momentum * velocity + self.gradient,
            "w": w - lr * (self.gradient + self.momentum * velocity),
        }


@dataclass(frozen=True)
class Adagrad(Rule):
    """A step size for every weight: the more it has moved, the less it moves.

    Example:
        >>> print(Adagrad())
        squares ← squares + dw·dw; w ← w - lr·(dw / (√(squares) + 1e-10))

    Source: Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", 2011, the diagonal update of figure 1.
    """

    epsilon: float = 1e-10

    def assignments(self) -> dict[str, Expr]:
        squares, g = symbol("squares"), self.gradient
        return {
            "squares": squares + g * g,
            "w": w - lr * (g / (sqrt(squares) + self.epsilon)),
        }


@dataclass(frozen=True)
class RMSProp(Rule):
    """Adagrad that forgets: steps are divided by a running mean of the gradient's size.

    Example:
        >>> print(RMSProp())
        squares ← 0.99·squares + 0.01·(dw·dw); w ← w - lr·(dw / (√(squares) + 1e-08))

    Source: Tieleman & Hinton, "Lecture 6.5: rmsprop", Neural Networks for Machine
    Learning, 2012. The lecture forgets with 0.9; 0.99 is the default elsewhere.
    """

    usual_lr = 0.001

    decay: float = 0.99
    epsilon: float = 1e-8

    def assignments(self) -> dict[str, Expr]:
        squares, g = symbol("squares"), self.gradient
        return {
            "squares": self.decay * squares + (1 - self.decay) * (g * g),
            "w": w - lr * (g / (sqrt(squares) + self.epsilon)),
        }


@dataclass(frozen=True)
class Adam(Rule):
    """Momentum and RMSProp together, both running means freed of their start at 0.

    The paper's step is w ← w - lr·m̂ / (√v̂ + ε) with the mean m̂ of the gradients and the
    mean v̂ of their squares, in which a step counts β times as much as the one after it.
    A mean is a sum divided by the sum of its weights, 1 + β + ... + βᵗ⁻¹. The state is
    the two sums; what they are divided by, the same for all weights, is put into
    ``rate`` and ``floor``.

    Example:
        >>> for line in str(Adam()).split("; "): print(line)
        total ← (1 - 0.999^t) / 0.001
        rate ← lr·√(total) / ((1 - 0.9^t) / 0.1)
        floor ← 1e-08·√(total)
        gradients ← 0.9·gradients + dw
        squares ← 0.999·squares + dw·dw
        w ← w - rate·(gradients / (√(squares) + floor))

    Source: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1
    and the reordering at the end of its section 2. Its m is (1 - β₁)·gradients, its v
    (1 - β₂)·squares.
    """

    usual_lr = 0.001

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def shared(self) -> dict[str, Expr]:
        total = symbol("total")
        return {
            "total": (1 - power(self.beta2, t)) / (1 - self.beta2),
            "rate": lr * sqrt(total) / ((1 - power(self.beta1, t)) / (1 - self.beta1)),
            "floor": self.epsilon * sqrt(total),
        }

    def assignments(self) -> dict[str, Expr]:
        gradients, squares = symbol("gradients"), symbol("squares")
        g, rate, floor = self.gradient, symbol("rate"), symbol("floor")
        return {
            "gradients": self.beta1 * gradients + g,
            "squares": self.beta2 * squares + g * g,
            "w": w - rate * (gradients / (sqrt(squares) + floor)),
        }


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose weight decay shrinks w itself and is not scaled by the squares.

    Example:
        >>> str(AdamW(weight_decay=0.1)).split("; ")[-1]
        'w ← w - decay·w - rate·(gradients / (√(squares) + floor))'

    Source: Loshchilov & Hutter, "Decoupled weight decay regularization", 2019,
    algorithm 2, with the decay multiplied by lr and not by the schedule's factor alone.
    """

    weight_decay: float = 0.01

    @property
    def gradient(self) -> Expr:
        return dw

    def shared(self) -> dict[str, Expr]:
        return super().shared() | {"decay": self.weight_decay * lr}

    def assignments(self) -> dict[str, Expr]:
        steps = super().assignments()
        # Adam's step, from weights that have decayed.
        decayed = {"w": w - symbol("decay") * w}
        return steps | {"w": substitute(steps["w"], decayed)}


RULES: dict[str, type[Rule]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}
"""The rules by the names that ``optimizer`` and the command line take."""
