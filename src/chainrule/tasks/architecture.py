"""A model as plain data: what a model file needs, beside weights, to be built again."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.errors import CheckpointError, ShapeError

__all__ = ["Architecture", "model_options"]


OPTIONS = ("hidden", "activation", "dropout")
"""Of models that put out rows, as they stand in Settings."""

IMAGE_OPTIONS = (*OPTIONS, "width", "depth")
"""Of models that put out pictures."""


def model_options(model: str, *, is_dense: bool = False) -> dict[str, Any]:
    """The options that a model has, of those in Settings, with what it takes itself.

    Raises OptionError for an unknown model.

    Example:
        >>> model_options("alexnet"), model_options("cnn")
        ({'dropout': 0.5}, {'activation': 'relu', 'dropout': 0.0})
        >>> model_options("dncnn", is_dense=True)
        {'width': 48, 'depth': 10}
    """
    build = nn.image_model_builder(model) if is_dense else nn.model_builder(model)
    taken = inspect.signature(build).parameters
    names = IMAGE_OPTIONS if is_dense else OPTIONS
    return {name: taken[name].default for name in names if name in taken}


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
    activation: str | None = None
    """Where the model has a choice; None: its own."""
    dropout: float | None = None
    seed: int = 0
    """Of wiring that is drawn at random, not of the weights."""
    rescales_outputs: bool = False
    takes_pixels: bool = True
    """Whether inputs are pixels from 0 to 255; else numbers of the user's own scale."""
    is_dense: bool = False
    """Whether outputs are pictures of the inputs' size, and not rows."""
    width: int | None = None
    depth: int | None = None
    residual: bool = False
    """Whether outputs are added to the input, where the model has the choice."""
    normalized: bool = False
    """Whether batches are normalised between layers, where it has the choice."""

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether inputs of this shape are the network's.

        From pictures to pictures all that have its channels may be, whatever their
        size; a network for one size refuses the others itself.
        """
        if self.is_dense:
            return len(shape) == 3 and shape[-1] == self.input_shape[-1]
        return shape == self.input_shape

    def build(self) -> nn.Module:
        """The network with neutral statistics and fresh weights.

        Raises ShapeError for inputs that the model does not take.
        """
        channels = self.input_shape[-1]
        zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        layers: dict[str, nn.Module] = {"standardize": nn.Standardize(zeros, ones)}
        layers["network"] = self._network()
        if self.rescales_outputs:
            unit = np.ones(self.num_outputs, np.float32)
            layers["units"] = nn.Rescale(scale=unit, offset=0 * unit)
        return nn.Sequential(**layers)

    def _network(self) -> nn.Module:
        try:
            network = self._unchecked_network()
            # Now, where the user's own line is near, and not in the first update.
            nn.output_shape(network, self.input_shape)
        except ShapeError as error:
            if len(self.input_shape) != 3:
                raise
            sizes = "×".join(map(str, self.input_shape))
            raise ShapeError(
                f"{self.model} does not take pictures of {sizes}; {error.what}",
                got=error.got,
                expected=error.expected,
                hint="larger pictures (option size: 64,64), or a model for small ones, "
                "such as cnn or resnet20",
            ) from None
        return network

    def _unchecked_network(self) -> nn.Module:
        if self.is_dense:
            return self._image_network()
        build = nn.model_builder(self.model)
        taken = inspect.signature(build).parameters
        given = {
            name: value
            for name in ("activation", "dropout", "seed")
            if name in taken and (value := getattr(self, name)) is not None
        }
        if "hidden" in taken:
            return build(self.input_shape, self.hidden, self.num_outputs, **given)
        return build(self.input_shape, self.num_outputs, **given)

    def _image_network(self) -> nn.Module:
        build = nn.image_model_builder(self.model)
        taken = inspect.signature(build).parameters
        given = {
            name: value
            for name in (*IMAGE_OPTIONS, "residual", "normalized", "seed")
            if name in taken and (value := getattr(self, name)) not in (None, ())
        }
        return build(self.input_shape, self.num_outputs, **given)

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
