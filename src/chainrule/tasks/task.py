"""What a user asks for: classify, label or regress; each is a loss and its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.errors import OptionError
from chainrule.nn import losses
from chainrule.ops import one_hot, sigmoid, softmax
from chainrule.training import metrics

__all__ = ["TASKS", "Classify", "Label", "Regress", "Task", "make_task"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task(ABC):
    """How outputs are judged.

    Args:
        names: of the classes, the labels or the predicted numbers.
        loss_name: one of the class's ``losses``.
        label_smoothing: the share of each label given to all classes.
    """

    names: tuple[str, ...]
    loss_name: str
    label_smoothing: float = 0.0

    name: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]
    """Loss names that fit the task; the first is the default."""
    monitor: ClassVar[str]
    """The validation score that decides which weights are best; higher is better."""
    batch_score: ClassVar[tuple[str, Callable[[Tensor, Tensor], Tensor]] | None] = None

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a minibatch."""

    @abstractmethod
    def scores(self, outputs: Array, targets: Array) -> dict[str, float]:
        """Everything that is reported of a whole data set, beside the loss."""

    @abstractmethod
    def probabilities(self, outputs: Array) -> Array:
        """Outputs as a person reads them: probabilities, or numbers in their units."""

    def evaluate(self, outputs: Array, targets: Array) -> dict[str, float]:
        """The loss and all scores of a whole data set."""
        with no_grad():
            loss = self.loss(as_tensor(outputs), as_tensor(targets)).item()
        return {"loss": float(loss), **self.scores(outputs, targets)}


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``metrics.accuracy`` of a minibatch, as a part of its graph."""
    return (outputs.argmax(axis=1) == targets).astype(outputs.dtype).mean()


@dataclass(frozen=True)
class Classify(Task):
    """One class for each picture."""

    name = "classify"
    losses = ("softmax", "svm", "squared", "absolute", "sigmoid", "extended")
    monitor = "accuracy"
    batch_score = ("accuracy", _accuracy)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss_name == "softmax":
            return losses.softmax_cross_entropy(
                outputs, targets, label_smoothing=self.label_smoothing
            )
        loss = losses.loss(self.loss_name)
        if self.loss_name in ("svm", "extended"):
            return loss(outputs, targets)
        return loss(outputs, one_hot(targets, self.num_outputs, outputs.dtype))

    def scores(self, outputs: Array, targets: Array) -> dict[str, float]:
        scores = {"accuracy": metrics.accuracy(outputs, targets)}
        if self.num_outputs > 5:
            scores["top_5_accuracy"] = metrics.top_k_accuracy(outputs, targets, 5)
        return scores

    def probabilities(self, outputs: Array) -> Array:
        with no_grad():
            return softmax(as_tensor(outputs)).data


@dataclass(frozen=True)
class Label(Task):
    """Any number of labels for each picture, each decided on its own."""

    name = "label"
    losses = ("sigmoid", "squared")
    monitor = "average_precision"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return losses.loss(self.loss_name)(outputs, targets)

    def scores(self, outputs: Array, targets: Array) -> dict[str, float]:
        exact = ((outputs > 0) == (targets > 0.5)).all(axis=1)
        return {
            **metrics.f1_scores(outputs, targets),
            "average_precision": metrics.average_precision(outputs, targets),
            "exact_match": float(exact.mean()),
        }

    def probabilities(self, outputs: Array) -> Array:
        with no_grad():
            return sigmoid(as_tensor(outputs)).data


@dataclass(frozen=True)
class Regress(Task):
    """One or more numbers for each picture, in the user's own units.

    The loss is taken of deviations in units of ``scale``, so that learning does not
    depend on whether lengths are given in metres or millimetres.
    """

    name = "regress"
    losses = ("squared", "absolute")
    monitor = "r2"

    scale: tuple[float, ...] = ()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        unit = as_tensor(np.asarray(self.scale, outputs.dtype))
        return losses.loss(self.loss_name)(outputs / unit, targets / unit)

    def scores(self, outputs: Array, targets: Array) -> dict[str, float]:
        return {
            "mean_absolute_error": metrics.mean_absolute_error(outputs, targets),
            "r2": metrics.r2_score(outputs, targets),
        }

    def probabilities(self, outputs: Array) -> Array:
        return outputs


TASKS: dict[str, type[Task]] = {t.name: t for t in (Classify, Label, Regress)}


def make_task(
    name: str,
    names: tuple[str, ...],
    loss_name: str | None,
    label_smoothing: float = 0.0,
    scale: tuple[float, ...] = (),
) -> Task:
    """The task of a name, its loss checked.

    Raises OptionError for an unknown task, or a loss that does not fit it.
    """
    if name not in TASKS:
        raise OptionError.unknown("task", name, TASKS)
    cls = TASKS[name]
    loss_name = loss_name or cls.losses[0]
    if loss_name not in cls.losses:
        raise OptionError.unknown(f"loss for task {name}", loss_name, cls.losses)
    if label_smoothing and loss_name != "softmax":
        raise OptionError(
            "label smoothing needs the softmax loss",
            got=f"loss {loss_name}, label_smoothing {label_smoothing}",
            expected="loss softmax",
        )
    if cls is Regress:
        return Regress(names, loss_name, scale=scale)
    return cls(names, loss_name, label_smoothing)
