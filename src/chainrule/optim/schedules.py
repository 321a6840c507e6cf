"""How the learning rate changes while training goes on.

A schedule is a function of how far training is, in epochs; fractions are parts of an
epoch. Only Plateau remembers anything.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from chainrule.errors import CheckpointError, OptionError

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Exponential",
    "OneCycle",
    "Plateau",
    "Schedule",
    "Step",
    "WarmUp",
    "schedule",
]


@dataclass
class Schedule(ABC):
    """A learning rate for every moment of training.

    Args:
        lr: the largest learning rate, from which the schedule makes all others.

    Raises OptionError for a number out of its range.
    """

    lr: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float | int) and not 0 <= value < math.inf:
                raise OptionError(
                    f"schedule: {name} is out of range",
                    got=value,
                    expected="a finite number of at least 0",
                )

    @abstractmethod
    def lr_at(self, step: int, epoch: float) -> float:
        """The rate of the update that follows ``step`` updates and ``epoch`` epochs."""

    def observe(self, score: float) -> None:  # noqa: B027 - most have nothing to do
        """Take note of a validation score, once an epoch."""

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on, as numbers by name."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint's state; raises CheckpointError if it is not ours."""
        if state:
            raise CheckpointError(
                "schedule: the state is of another schedule",
                got=", ".join(state),
                expected=f"nothing: {type(self).__name__} remembers nothing",
            )


@dataclass
class Constant(Schedule):
    """The same learning rate throughout."""

    def lr_at(self, step: int, epoch: float) -> float:
        return self.lr


@dataclass
class Step(Schedule):
    """lr · factor^⌊epoch / every⌋: a cut every few epochs.

    Example:
        >>> [Step(0.1, every=10, factor=0.5).lr_at(0, epoch) for epoch in (0, 9.9, 10)]
        [0.1, 0.1, 0.05]
    """

    every: float = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive("step: every", self.every)

    def lr_at(self, step: int, epoch: float) -> float:
        return self.lr * math.pow(self.factor, epoch // self.every)


@dataclass
class Exponential(Schedule):
    """lr · factor^epoch: the same share is lost in every epoch."""

    factor: float = 0.95

    def lr_at(self, step: int, epoch: float) -> float:
        return self.lr * math.pow(self.factor, epoch)


@dataclass
class Cosine(Schedule):
    """Half a cosine wave from lr down to lr · final at the last epoch.

    Source: Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts",
    2017, eq. 5, without restarts.
    """

    epochs: float
    final: float = 0.0

    def lr_at(self, step: int, epoch: float) -> float:
        return self.lr * _cosine(1.0, self.final, _fraction(epoch, self.epochs))


@dataclass
class OneCycle(Schedule):
    """Up from lr · start during the first part of training, then down to lr · final.

    Both ways are half a cosine wave; ``rise`` is the share of training spent going up.

    Source: Smith & Topin, "Super-convergence: very fast training of neural networks
    using large learning rates", 2018; with cosines for straight lines.
    """

    epochs: float
    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rise >= 1:
            raise OptionError(
                "one_cycle: rise is out of range",
                got=self.rise,
                expected="a share of training, from 0 to below 1",
            )

    def lr_at(self, step: int, epoch: float) -> float:
        peak = self.rise * self.epochs
        if epoch < peak:
            return self.lr * _cosine(self.start, 1.0, epoch / peak)
        done = _fraction(epoch - peak, self.epochs - peak)
        return self.lr * _cosine(1.0, self.final, done)


@dataclass
class Plateau(Schedule):
    """A cut by ``factor`` whenever the score got no better for ``patience`` epochs.

    Example:
        >>> plateau = Plateau(1.0, patience=2, factor=0.5)
        >>> for loss in (3.0, 2.0, 2.5, 2.5):
        ...     plateau.observe(loss)
        >>> plateau.lr_at(0, 4)
        0.5
    """

    patience: float = 10
    factor: float = 0.1
    higher_is_better: bool = False
    best: float | None = field(default=None, init=False)
    waited: int = field(default=0, init=False)
    cuts: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive("plateau: patience", self.patience)

    def lr_at(self, step: int, epoch: float) -> float:
        return self.lr * self.factor**self.cuts

    def observe(self, score: float) -> None:
        if self._is_better(score):
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            self.cuts += 1

    def _is_better(self, score: float) -> bool:
        if self.best is None:
            return not math.isnan(score)
        return score > self.best if self.higher_is_better else score < self.best

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "cuts": self.cuts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if state.keys() != self.state().keys():
            raise CheckpointError(
                "schedule: the state is of another schedule",
                got=", ".join(state) or "nothing",
                expected="best, waited, cuts",
            )
        self.best, self.waited = state["best"], int(state["waited"])
        self.cuts = int(state["cuts"])


@dataclass
class WarmUp(Schedule):
    """A straight line up to another schedule's first learning rate, then that schedule.

    The line begins at lr · start, for an update with a rate of 0 would be lost.

    Source: Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour",
    2017, section 2.2.
    """

    then: Schedule
    num_epochs: float = 5
    start: float = 0.01

    def lr_at(self, step: int, epoch: float) -> float:
        if epoch >= self.num_epochs:
            return self.then.lr_at(step, epoch - self.num_epochs)
        share = self.start + (1 - self.start) * epoch / self.num_epochs
        return share * self.then.lr_at(0, 0.0)

    def observe(self, score: float) -> None:
        self.then.observe(score)

    def state(self) -> dict[str, Any]:
        return self.then.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.then.load_state(state)


def _fraction(part: float, whole: float) -> float:
    """part / whole, but not above 1."""
    return part / whole if part < whole else 1.0


def _cosine(start: float, end: float, fraction: float) -> float:
    """From start to end along half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def _check_positive(what: str, value: float) -> None:
    if not value > 0:
        raise OptionError(
            f"{what} is out of range", got=value, expected="a number above 0"
        )


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "plateau": Plateau,
}
"""The schedules by the names that ``schedule`` and the command line take."""

_GIVEN = {"lr", "epochs", "higher_is_better"}  # known from elsewhere, not in the text


def schedule(
    text: str, *, lr: float, epochs: float, higher_is_better: bool = False
) -> Schedule:
    """The schedule that a text names: a name, and its numbers after colons.

    ``constant``, ``step:every:factor``, ``exponential:factor``, ``cosine:final``,
    ``one_cycle:rise:start:final``, ``plateau:patience:factor``; numbers may be left out
    from the right. ``warmup:epochs+`` may stand before any of them.

    Args:
        lr: the largest learning rate.
        epochs: how long training takes, warm-up included.
        higher_is_better: what Plateau has to know of the score.

    Raises:
        OptionError: for an unknown name, or numbers that do not fit it.

    Example:
        >>> schedule("warmup:2+step:10:0.5", lr=0.1, epochs=30)
        WarmUp(lr=0.1, then=Step(lr=0.1, every=10.0, factor=0.5), num_epochs=2.0,
               start=0.01)
    """
    opening, plus, main = text.rpartition("+")
    name, *numbers = main.split(":")
    if name == "warmup":  # and nothing after it
        opening, plus, name, numbers = text, "+", "constant", []
    if name not in SCHEDULES:
        raise OptionError.unknown("schedule", name, [*SCHEDULES, "warmup"])
    ramp = _warm_up_settings(text, opening, epochs) if plus else {}
    kind = SCHEDULES[name]
    given: dict[str, Any] = {
        "lr": lr,
        "epochs": epochs - ramp.get("num_epochs", 0),
        "higher_is_better": higher_is_better,
    }
    wanted = {f.name for f in fields(kind)} & given.keys()
    made = kind(**{k: given[k] for k in wanted}, **_settings(text, kind, numbers))
    return WarmUp(lr, made, **ramp) if plus else made


def _warm_up_settings(text: str, opening: str, epochs: float) -> dict[str, float]:
    """The settings of the part before the plus sign, which can only be a warm-up."""
    name, *numbers = opening.split(":")
    if name != "warmup":
        raise OptionError.unknown("schedule before the +", name, ["warmup"])
    settings = {"num_epochs": WarmUp.num_epochs, **_settings(text, WarmUp, numbers)}
    if settings["num_epochs"] > epochs:
        raise OptionError(
            f"schedule {text!r}: the warm-up is longer than the training",
            got=f"{epochs:g} epochs of training",
            expected="a shorter warm-up, or more epochs",
        )
    return settings


def _settings(text: str, kind: type[Schedule], numbers: list[str]) -> dict[str, float]:
    """The numbers of a text by the names of the fields that they stand for."""
    left_out = _GIVEN | {"then"}
    names = [f.name for f in fields(kind) if f.init and f.name not in left_out]
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if len(values) != len(numbers) or len(values) > len(names):
        raise OptionError(
            f"schedule {text!r}: its numbers do not fit",
            got=":".join(numbers),
            expected=f"numbers for {', '.join(names)}" if names else "no numbers",
        )
    return dict(zip(names, values, strict=False))
