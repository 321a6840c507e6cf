"""What the training loop reports. A listener is any function of one event.

The loop knows no listener: progress bars, logs and diagnosis all read these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = [
    "CheckpointSaved",
    "EpochFinished",
    "Event",
    "Listener",
    "StepFinished",
    "TrainingFinished",
    "TrainingStarted",
]


@dataclass(frozen=True)
class TrainingStarted:
    """Training begins, or goes on from ``step`` after a resume."""

    epoch: int
    step: int
    num_epochs: int
    steps_per_epoch: int
    num_examples: int
    num_parameters: int


@dataclass(frozen=True)
class StepFinished:
    """One update was made; ``loss`` is the minibatch's before it, with penalties."""

    epoch: int
    step: int
    loss: float
    lr: float
    gradient_norm: float
    num_examples: int
    time_s: float


@dataclass(frozen=True)
class EpochFinished:
    """One pass over the training data is done and the validation set was scored."""

    epoch: int
    step: int
    training: Mapping[str, float]
    validation: Mapping[str, float]
    is_best: bool
    time_s: float


@dataclass(frozen=True)
class CheckpointSaved:
    """Everything needed to go on from here is on the disk."""

    epoch: int
    step: int
    path: str


@dataclass(frozen=True)
class TrainingFinished:
    """The loop has ended; ``reason`` is "epochs", "early stopping" or "interrupted"."""

    epoch: int
    step: int
    best_epoch: int
    reason: str
    time_s: float


Event = (
    TrainingStarted | StepFinished | EpochFinished | CheckpointSaved | TrainingFinished
)
Listener = Callable[[Event], None]
