"""What the layers of a network make of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explanation.features.attribution import shown
from chainrule.explanation.features.grids import grid
from chainrule.explanation.features.layers import as_example, layer_at, outputs
from chainrule.explanation.picture import Picture, spread
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.module import Module
from chainrule.nn.observing import observe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from chainrule.core.graph import Tensor

__all__ = ["Activation", "Activations", "activations"]

Array = np.ndarray[Any, Any]

_MAX_MAPS = 8  # layers whose activations are shown
_MAX_CHANNELS = 12  # of each of them
_NUM_DRAWN = 6  # of these


@dataclass(frozen=True)
class Activation:
    """What some channels of a layer put out for one picture: maps (k, h, w)."""

    path: str
    num_channels: int
    """That the layer has; those that vary most are shown."""
    maps: Array
    channels: tuple[int, ...] = ()
    """Which they are."""
    zero_share: float = 0.0
    """Of everything that the layer puts out."""


@dataclass(frozen=True)
class Activations(Picture):
    """The images that layers put out for a picture (h, w, c), first to last."""

    picture: Array
    layers: tuple[Activation, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{a.path}: {a.maps.shape[1]}×{a.maps.shape[2]}, "
            f"{a.num_channels} channels, {100 * a.zero_share:.0f} % of it 0, "
            f"up to {a.maps.max(initial=0):.3g}"
            for a in self.layers
        )

    def figure(self) -> Figure:
        """The picture, then a row of channels for each layer; white is its largest."""
        blank = np.full((1, 1, 3), 255, np.uint8)
        pictures, titles = [shown(self.picture)], ["input"]
        for layer in self.layers:
            gap = -len(pictures) % _NUM_DRAWN
            pictures += [blank] * gap
            titles += [""] * gap
            most = np.argsort(-layer.maps.std(axis=(1, 2)), kind="stable")[:_NUM_DRAWN]
            maps = spread(layer.maps)
            for i, at in enumerate(sorted(most.tolist())):
                pictures.append(maps[at])
                first = layer.path.removeprefix("network.") if not i else ""
                titles.append(f"{first}\nchannel {layer.channels[at]}")
        return grid(pictures, titles, columns=_NUM_DRAWN)


def activations(
    model: Module, picture: Any, *, layer: str | None = None
) -> Activations:
    """The images that activation functions put out for a picture, first to last.

    Of many layers, some are shown, evenly spaced; of many channels, those whose values
    differ most from place to place.

    Args:
        model: from pictures to anything.
        picture: (h, w, c).
        layer: only this one, whatever it does; its path.

    Raises:
        OptionError: for a path without a layer.

    Example:
        >>> from chainrule import nn
        >>> net = nn.cnn((8, 8, 1), 3).initialize(0)
        >>> found = activations(net, np.eye(8)[..., None])
        >>> [(layer.path, layer.maps.shape) for layer in found.layers]
        [('stage1.activation', (12, 8, 8)), ('stage2.activation', (12, 4, 4)),
         ('last.activation', (12, 4, 4))]
    """
    wanted = layer_at(model, layer) if layer is not None else None
    paths = {id(m): path for path, m in model.named_modules()}
    kinds = tuple({type(make()) for make in ACTIVATIONS.values()})
    found: list[Activation] = []

    def note(module: Module, y: Tensor) -> None:
        fits = isinstance(module, kinds) if wanted is None else module is wanted
        if fits and y.ndim == 4:
            maps = np.moveaxis(y.data[0], -1, 0)
            most = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:_MAX_CHANNELS]
            most = np.sort(most)
            found.append(
                Activation(
                    paths[id(module)],
                    len(maps),
                    maps[most],
                    tuple(most.tolist()),
                    float((maps == 0).mean()),
                )
            )

    with observe(note):
        outputs(model, as_example("activations", model, picture))
    if len(found) > _MAX_MAPS:
        chosen = np.linspace(0, len(found) - 1, _MAX_MAPS).round().astype(int)
        found = [found[i] for i in chosen]
    return Activations(np.asarray(picture), tuple(found))
