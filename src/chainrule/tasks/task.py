"""What a task is: what a user asks for, from options to a trained model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import Tensor
from chainrule.tasks.settings import Settings

if TYPE_CHECKING:
    from chainrule.tasks.architecture import Architecture
    from chainrule.tasks.trained import TrainedModel

__all__ = ["Task"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task(ABC):
    """How outputs are judged, and all else in which one task differs from another.

    Args:
        names: of the outputs: classes, labels, numbers or channels.
        loss_name: one of the class's ``losses``.
    """

    names: tuple[str, ...]
    loss_name: str

    name: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]
    """Loss names that fit the task; the first is the default."""
    monitor: ClassVar[str]
    """The validation score that decides which weights are best; higher is better."""
    batch_score: ClassVar[tuple[str, Callable[[Tensor, Tensor], Tensor]] | None] = None
    is_dense: ClassVar[bool]
    """Whether outputs are pictures, with numbers for every pixel, and not rows."""
    scores_shown: ClassVar[tuple[str, ...]]
    """Scores by which runs are compared."""
    normalizes: ClassVar[bool] = False
    """Whether models that may normalise batches between layers, or not, do."""
    own_options: ClassVar[tuple[str, ...]] = ()
    """Settings that mean something to this task alone."""
    foreign_options: ClassVar[tuple[str, ...]] = ()
    """Settings of all tasks that mean nothing to this one."""

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @classmethod
    def detail_names(cls) -> tuple[str, ...]:
        """What a model file keeps of the task beside names and loss."""
        return tuple(f.name for f in fields(cls)[len(fields(Task)) :])

    @property
    def details(self) -> dict[str, Any]:
        """The values of ``detail_names``, as JSON has them."""
        return {name: getattr(self, name) for name in self.detail_names()}

    # From options to a model.

    @classmethod
    @abstractmethod
    def default_model(cls, settings: Settings, training: data.Dataset) -> str:
        """The model where none is named."""

    @classmethod
    def model_defaults(cls, model: str) -> dict[str, Any]:
        """Options of a model where the task wants others than the model's own."""
        return {}

    @classmethod
    @abstractmethod
    def resolved(cls, settings: Settings, training: data.Dataset) -> Settings:
        """The settings with the task's own options filled in."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Settings, training: data.Dataset) -> Task:
        """The task for settings without gaps; ``training`` knows the names."""

    @abstractmethod
    def examples(self, settings: Settings, splits: data.Splits) -> data.Splits:
        """The pairs of inputs and targets that training and validation see."""

    @property
    @abstractmethod
    def architecture_options(self) -> dict[str, Any]:
        """Fields of ``Architecture`` that the task decides."""

    @abstractmethod
    def set_statistics(self, model: nn.Module, examples: data.Dataset) -> None:
        """Fill the buffers that bring inputs to unit scale and outputs back."""

    @abstractmethod
    def predictor(self, model: nn.Module, architecture: Architecture) -> TrainedModel:
        """The model with what it takes to use it."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a minibatch."""
