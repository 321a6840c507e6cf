"""What the layers of a trained network cost."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.core.graph import Tensor
from chainrule.tasks.trained import TrainedModel

__all__ = ["LayerCost", "layer_costs"]

Array = np.ndarray[Any, Any]

_MAX_LAYERS = 60  # of the table of costs
_NUM_RUNS = 5  # whose shortest counts; the first touches fresh memory


@dataclass(frozen=True)
class LayerCost:
    """What a layer holds and costs, for one example."""

    path: str
    layer: str
    output: str
    parameters: int
    connections: int
    """Multiplications with a weight."""
    output_bytes: int
    time_s: float
    """Of the forward pass in NumPy."""


def layer_costs(predictor: TrainedModel, inputs: Array) -> list[LayerCost]:
    """What each layer costs, measured while the network runs on a batch in NumPy."""
    model, shape = predictor.model, predictor.architecture.input_shape
    paths = {id(m): path for path, m in model.named_modules()}
    events: list[tuple[str, float, int]] = []
    before: Tensor | None = None

    def note(module: nn.Module, y: Tensor) -> None:
        nonlocal before
        # A row of layers puts out what its last one did.
        size_bytes = 0 if y is before else y.data.nbytes
        events.append((paths[id(module)], time.perf_counter(), size_bytes))
        before = y

    durations = []
    for _ in range(_NUM_RUNS):
        events.clear()
        with nn.observe(note):
            began = time.perf_counter()
            predictor.outputs(inputs)
        ends = [began, *(ended for _, ended, _ in events)]
        durations.append(np.diff(ends))
    least = np.min(durations, axis=0)  # what other programs took is not the layer's
    rows = nn.count(model, shape, max_rows=_MAX_LAYERS).layers
    times: dict[str, float] = dict.fromkeys((row.path for row in rows), 0.0)
    sizes: dict[str, int] = dict.fromkeys(times, 0)
    for (path, _, size_bytes), time_s in zip(events, least, strict=True):
        row_path = _row_of(path, times)
        if row_path:
            times[row_path] += float(time_s)
            sizes[row_path] += size_bytes
    n = len(inputs)
    return [
        LayerCost(
            path=row.path.removeprefix("network."),
            layer=row.layer,
            output="×".join(map(str, row.shape or ())),
            parameters=row.parameters,
            connections=row.connections,
            output_bytes=round(sizes[row.path] / n),
            time_s=times[row.path] / n,
        )
        for row in rows
    ]


def _row_of(path: str, rows: Container[str]) -> str:
    """The row of a table of blocks that a module belongs to; "" for none."""
    while path and path not in rows:
        path = path.rpartition(".")[0]
    return path
