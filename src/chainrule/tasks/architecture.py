"""A model as plain data: what a model file needs, beside weights, to be built again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.data import Dataset
from chainrule.errors import CheckpointError

__all__ = ["Architecture", "input_statistics"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Architecture:
    """Which network, for which inputs and outputs.

    ``build`` gives it standardised inputs: (x - mean) / std with the training data's
    numbers, which are buffers and so travel with the weights. For regression the
    outputs are put back into the targets' units in the same way.
    """

    model: str
    input_shape: tuple[int, ...]
    num_outputs: int
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float = 0.0
    rescales_outputs: bool = False
    takes_pixels: bool = True
    """Whether inputs are pixels from 0 to 255; else numbers of the user's own scale."""

    def build(self) -> nn.Module:
        """The network with neutral statistics and fresh weights."""
        channels = self.input_shape[-1]
        zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        layers: dict[str, nn.Module] = {"standardize": nn.Standardize(zeros, ones)}
        layers["network"] = self._network()
        if self.rescales_outputs:
            unit = np.ones(self.num_outputs, np.float32)
            layers["units"] = nn.Rescale(scale=unit, offset=0 * unit)
        return nn.Sequential(**layers)

    def _network(self) -> nn.Module:
        build = nn.model_builder(self.model)
        if self.model == "linear":
            return build(self.input_shape, self.num_outputs)
        return build(
            self.input_shape,
            self.hidden,
            self.num_outputs,
            self.activation,
            dropout=self.dropout,
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Architecture:
        """Read what ``to_json`` wrote; raises CheckpointError for something else."""
        try:
            values: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v
                for k, v in json.loads(text).items()
            }
            return Architecture(**values)
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                "the model file does not say how to build its model",
                got=error,
                expected="an architecture as chainrule writes it",
            ) from None


def input_statistics(dataset: Dataset, chunk: int = 1024) -> tuple[Array, Array]:
    """Mean and standard deviation of the last axis over all examples.

    One channel of pictures, or one feature of vectors, shares a number. A constant one
    keeps a deviation of 1. Read in chunks, summed in float64.
    """
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(dataset), chunk):
        indices = np.arange(start, min(start + chunk, len(dataset)))
        x = dataset.read(indices)
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        count += len(rows)
        total = total + rows.sum(axis=0)
        squares = squares + (rows**2).sum(axis=0)
    mean = np.asarray(total / count)
    variance = np.maximum(np.asarray(squares / count) - mean**2, 0.0)
    std = np.sqrt(variance)
    std[std < 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0
    return mean.astype(np.float32), std.astype(np.float32)
