"""What a trained network looks like inside: first weights, activations, costs."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.core.graph import Tensor
from chainrule.tasks.trained import TrainedModel

__all__ = [
    "Activation",
    "LayerCost",
    "Templates",
    "activations",
    "first_weights",
    "layer_costs",
]

Array = np.ndarray[Any, Any]

_MAX_LAYERS = 60  # of the table of costs
_NUM_RUNS = 5  # whose shortest counts; the first touches fresh memory
_MAX_MAPS = 8  # layers whose activations are shown
_MAX_CHANNELS = 12  # of each of them


@dataclass(frozen=True)
class Templates:
    """The weights that the first layer compares pictures with.

    Shapes: weights (k, h, w, c): as large as the pictures, or as a filter.
    """

    weights: Array
    kind: str
    """Whose they are: "unit" or "filter"."""


@dataclass(frozen=True)
class Activation:
    """What some channels of a layer put out for one picture: maps (k, h, w)."""

    path: str
    num_channels: int
    """That the layer has; those that vary most are shown."""
    maps: Array


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


def first_weights(model: nn.Module, shape: tuple[int, ...]) -> Templates | None:
    """The first layer's weights as pictures: a convolution's filters, or a dense one's.

    None where inputs are no pictures or the first layer is of another kind.
    """
    if len(shape) != 3:
        return None
    for _, parameter in model.named_parameters():
        if parameter.ndim == 2 and parameter.shape[0] == int(np.prod(shape)):
            return Templates(parameter.numpy().T.reshape(-1, *shape), "unit")
        if parameter.ndim == 4 and parameter.shape[2] == shape[-1]:
            return Templates(np.moveaxis(parameter.numpy(), -1, 0), "filter")
    return None


def activations(predictor: TrainedModel, picture: Array) -> list[Activation]:
    """The images that activation functions put out for a picture, first to last.

    Of many layers, some are shown, evenly spaced; of many channels, those whose values
    differ most from place to place.
    """
    paths = {id(m): path for path, m in predictor.model.named_modules()}
    kinds = tuple({type(make()) for make in nn.ACTIVATIONS.values()})
    found: list[Activation] = []

    def note(module: nn.Module, y: Tensor) -> None:
        if isinstance(module, kinds) and y.ndim == 4:
            maps = np.moveaxis(y.data[0], -1, 0)
            most = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:_MAX_CHANNELS]
            found.append(Activation(paths[id(module)], len(maps), maps[np.sort(most)]))

    with nn.observe(note):
        predictor.outputs(picture[None])
    if len(found) <= _MAX_MAPS:
        return found
    chosen = np.linspace(0, len(found) - 1, _MAX_MAPS).round().astype(int)
    return [found[i] for i in chosen]


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
