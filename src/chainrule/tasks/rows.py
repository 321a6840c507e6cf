"""Tasks with a row of numbers for each example: classify, label and regress."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.errors import OptionError
from chainrule.nn import losses
from chainrule.ops import one_hot, sigmoid, softmax
from chainrule.tasks.architecture import Architecture
from chainrule.tasks.predictor import Predictor
from chainrule.tasks.settings import Settings
from chainrule.tasks.statistics import input_statistics
from chainrule.tasks.task import Task
from chainrule.training import metrics

__all__ = ["Classify", "Label", "Regress", "RowTask"]

Array = np.ndarray[Any, Any]

_LEAST_SIDE = 8  # pixels; where pictures are smaller, a convolution has little to see


@dataclass(frozen=True)
class RowTask(Task):
    """A task whose model puts out a row of numbers.

    Args:
        label_smoothing: the share of each label given to all classes.
    """

    label_smoothing: float = 0.0

    is_dense = False
    rescales_outputs: ClassVar[bool] = False
    """Whether outputs are put into the targets' units by the model."""

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss_name != "softmax":
            raise OptionError(
                "label smoothing needs the softmax loss",
                got=f"loss {self.loss_name}, label_smoothing {self.label_smoothing}",
                expected="loss softmax",
            )

    @classmethod
    def default_model(cls, settings: Settings, training: data.Dataset) -> str:
        shape = training.example_shape
        is_picture = len(shape) == 3 and min(shape[:2]) >= _LEAST_SIDE
        return "cnn" if is_picture and settings.hidden is None else "mlp"

    @classmethod
    def resolved(cls, settings: Settings, training: data.Dataset) -> Settings:
        # A network soon knows every training label; smoothing keeps it from being too
        # sure.
        is_smoothed = settings.loss == "softmax" and settings.model != "linear"
        if settings.label_smoothing is not None:
            return settings
        return settings.replace(label_smoothing=0.1 * is_smoothed)

    @classmethod
    def from_settings(cls, settings: Settings, training: data.Dataset) -> Task:
        names = tuple(training.class_names or training.target_names or ())
        smoothing = settings.label_smoothing or 0.0
        return cls(names, settings.loss or cls.losses[0], smoothing)

    def examples(self, settings: Settings, splits: data.Splits) -> data.Splits:
        return splits

    @property
    def architecture_options(self) -> dict[str, Any]:
        return {"rescales_outputs": self.rescales_outputs}

    def set_statistics(self, model: nn.Module, examples: data.Dataset) -> None:
        state = model.state()
        found = input_statistics(examples)
        state["standardize.mean"], state["standardize.std"] = found
        state.update(self.output_units(examples))
        model.load_state(state)

    def output_units(self, examples: data.Dataset) -> dict[str, Array]:
        """Buffers that bring outputs into the targets' units, by their paths."""
        return {}

    def predictor(self, model: nn.Module, architecture: Architecture) -> Predictor:
        return Predictor(model, architecture, self)

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
class Classify(RowTask):
    """One class for each picture."""

    name = "classify"
    losses = ("softmax", "svm", "squared", "absolute", "sigmoid", "extended")
    monitor = "accuracy"
    scores_shown = ("accuracy", "loss")
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
class Label(RowTask):
    """Any number of labels for each picture, each decided on its own."""

    name = "label"
    losses = ("sigmoid", "squared")
    monitor = "average_precision"
    scores_shown = ("f1_micro", "average_precision", "loss")

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
class Regress(RowTask):
    """One or more numbers for each picture, in the user's own units.

    The loss is taken of deviations in units of ``scale``, so that learning does not
    depend on whether lengths are given in metres or millimetres.
    """

    name = "regress"
    losses = ("squared", "absolute")
    monitor = "r2"
    scores_shown = ("mean_absolute_error", "r2", "loss")

    rescales_outputs = True

    scale: tuple[float, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings, training: data.Dataset) -> Task:
        deviations = np.atleast_1d(training.targets.std(axis=0))
        scale = tuple(float(d) if d > 0 else 1.0 for d in deviations)
        names = training.class_names or training.target_names
        names = names or tuple(f"value {i + 1}" for i in range(len(scale)))
        return cls(tuple(names), settings.loss or cls.losses[0], scale=scale)

    def output_units(self, examples: data.Dataset) -> dict[str, Array]:
        return {
            "units.scale": np.asarray(self.scale, np.float32),
            "units.offset": examples.targets.mean(axis=0).astype(np.float32),
        }

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
