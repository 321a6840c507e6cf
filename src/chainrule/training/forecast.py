"""How long a run will take and how much memory, measured before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.backward import topological_order
from chainrule.training.loop import Trainer
from chainrule.training.update import Part

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """Time of all epochs, and memory of one update beside the data."""

    time_s: float
    weights_bytes: int
    """Parameters, their gradients, the optimizer's state and the best weights."""
    activations_bytes: int
    """Everything that one minibatch's graph holds until its backward pass."""

    def __str__(self) -> str:
        memory = self.weights_bytes + self.activations_bytes
        return f"about {_duration(self.time_s)} and {_size(memory)} beside the data"


_MEASURING_S = 0.2


def forecast(trainer: Trainer) -> Forecast:
    """Make a few updates and take them back; the run itself is left untouched.

    The validation's time is guessed, so expect the truth within about a factor of two.
    """
    time_s, graph_bytes = trainer.trial(_MEASURING_S), _graph_bytes(trainer)
    parameters = sum(p.data.nbytes for _, p in trainer.model.named_parameters())
    slots = sum(b.data.nbytes for _, b in trainer.optimizer.named_state())
    batches = len(trainer.loader) * max(
        0, trainer.recipe.epochs - trainer.progress.epoch + 1
    )
    return Forecast(
        time_s=1.2 * time_s * batches,
        weights_bytes=3 * parameters + slots,
        activations_bytes=graph_bytes,
    )


def _graph_bytes(trainer: Trainer) -> int:
    """What eager execution holds of one minibatch; compiled, it is at most that."""
    model = trainer.model.train()
    before = model.state()
    batch = trainer.loader.batch(trainer.progress.epoch, 0)
    loss, _ = trainer.update.loss_of(Part(batch.inputs, batch.targets))
    # Views share memory: count every underlying array once.
    owners = {id(_owner(t.data)): _owner(t.data) for t in topological_order([loss])}
    model.load_state(before)
    return sum(a.nbytes for a in owners.values())


def _owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _duration(time_s: float) -> str:
    if time_s < 90:
        return f"{max(1, round(time_s))} s"
    if time_s < 5400:
        return f"{round(time_s / 60)} min"
    return f"{time_s / 3600:.1f} h"


def _size(size_bytes: int) -> str:
    return f"{max(1, round(size_bytes / 2**20))} MiB"
