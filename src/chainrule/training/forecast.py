"""How long a run will take and how much memory, measured before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.backward import topological_order
from chainrule.core.graph import as_tensor
from chainrule.training.loop import Trainer

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
_MAX_STEPS = 30


def forecast(trainer: Trainer) -> Forecast:
    """Measure forward and backward on one minibatch; the run itself is left untouched.

    The optimizer's and the validation's time is taken in proportion, so expect the
    truth within about a factor of two.
    """
    model = trainer.model
    before = model.state()
    model.train()
    batch = next(iter(trainer.loader.epoch(1)))
    times: list[float] = []
    graph_bytes = 0
    # The first step touches fresh memory and is not like the others.
    while len(times) < 2 or (sum(times) < _MEASURING_S and len(times) < _MAX_STEPS):
        began = time.perf_counter()
        loss = trainer.loss(model(as_tensor(batch.inputs)), as_tensor(batch.targets))
        loss.backward()
        times.append(time.perf_counter() - began)
        # Views share memory: count every underlying array once.
        owners = {id(_owner(t.data)): _owner(t.data) for t in topological_order([loss])}
        graph_bytes = sum(a.nbytes for a in owners.values())
        trainer.optimizer.zero_grad()
    model.load_state(before)
    parameters = sum(p.data.nbytes for _, p in model.named_parameters())
    slots = sum(b.data.nbytes for _, b in trainer.optimizer.named_state())
    steps = len(trainer.loader) * max(
        0, trainer.recipe.epochs - trainer.progress.epoch + 1
    )
    return Forecast(
        time_s=1.5 * float(np.median(times[1:])) * steps,
        weights_bytes=3 * parameters + slots,
        activations_bytes=graph_bytes,
    )


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
