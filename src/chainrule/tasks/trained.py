"""A trained model that needs nothing but its own file: what all tasks share."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data, nn
from chainrule.compiler import compile
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.errors import DataError, ShapeError
from chainrule.training.checkpoint import write_tensors

if TYPE_CHECKING:
    from chainrule.tasks.architecture import Architecture
    from chainrule.tasks.task import Task

__all__ = ["MODEL_FILE", "Examined", "TrainedModel"]

Array = np.ndarray[Any, Any]

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Examined:
    """What an evaluation found: scores that JSON holds, and what a report shows."""

    scores: dict[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)


class TrainedModel(ABC):
    """A model with its preprocessing, sizes and names.

    Args:
        model: the network, statistics included.
        architecture: how the network is built.
        task: how its outputs are read.
    """

    def __init__(
        self, model: nn.Module, architecture: Architecture, task: Task
    ) -> None:
        self.model = model.eval()
        self.architecture = architecture
        self.task = task

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_forward"}

    @cached_property
    def _forward(self) -> Callable[[Tensor], Tensor]:
        return compile(lambda inputs: self.model(inputs))

    def outputs(self, inputs: Array) -> Array:
        """Raw outputs of the network for a batch of inputs of its own shape."""
        self.check_shape(inputs)
        # One batch alone is done before native code would be ready.
        return self._run(self.model, inputs)

    def compiled_outputs(self, inputs: Array) -> Array:
        """The same by native code, where it can be."""
        self.check_shape(inputs)
        return self._run(self._forward, inputs)

    def check_shape(self, inputs: Array) -> None:
        """Raise ShapeError for inputs that are not the network's."""
        if not self.architecture.takes(inputs.shape[1:]):
            raise ShapeError(
                "predict: inputs of another shape than the model was trained on",
                got=f"{inputs.dtype.name}{list(inputs.shape)}",
                expected=f"(n, {', '.join(map(str, self.architecture.input_shape))})",
            )

    def _run(self, forward: Callable[[Tensor], Tensor], inputs: Array) -> Array:
        self.model.eval()
        with no_grad(), np.errstate(all="ignore"):
            return forward(as_tensor(inputs)).numpy()

    @abstractmethod
    def validation_scores(self, examples: data.Dataset) -> dict[str, Any]:
        """The scores that are worth their time after every epoch."""

    @abstractmethod
    def examine(
        self, dataset: data.Dataset, *, tta: int = 0, augment: str = ""
    ) -> Examined:
        """All scores on a data set, and what a report shows beside them."""

    @abstractmethod
    def report_fields(self, found: Examined, test: data.Dataset) -> Mapping[str, Any]:
        """Fields of ``Report`` that show what ``examine`` found on the test set."""

    def evaluate(
        self, dataset: data.Dataset, *, tta: int = 0, augment: str = ""
    ) -> dict[str, Any]:
        """Loss and scores on a data set, JSON-able."""
        return self.examine(dataset, tta=tta, augment=augment).scores

    # The file.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file: weights, architecture, preprocessing and names."""
        metadata = {
            "kind": "model",
            "architecture": self.architecture.to_json(),
            "task": self.task.name,
            "loss": self.task.loss_name,
            "names": json.dumps(self.task.names),
            **{name: json.dumps(v) for name, v in self.task.details.items()},
        }
        write_tensors(path, self.model.state(), metadata)


def check_not_empty(dataset: data.Dataset) -> None:
    """Raise DataError where scores would mean nothing."""
    if not len(dataset):
        raise DataError(
            f"{dataset.name}: nothing to evaluate",
            got="0 examples",
            expected="at least one",
        )
