"""What the first layer compares pictures with: its weights, seen as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import counted
from chainrule.explanation.features.grids import grid
from chainrule.explanation.picture import Picture, coloured
from chainrule.nn.module import Module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Templates", "first_weights"]

Array = np.ndarray[Any, Any]

_MAX_SHOWN = 64
_FAINT = 0.05
"""Of the largest norm: below it a unit hardly looks at its input."""


@dataclass(frozen=True)
class Templates(Picture):
    """The weights that the first layer compares pictures with.

    Shapes: weights (k, h, w, c): as large as the pictures, or as a filter.
    """

    weights: Array
    kind: str
    """Whose they are: "unit" or "filter"."""
    names: Sequence[str] = ()
    """Of classes, where each unit is one."""

    def __str__(self) -> str:
        height, width, channels = self.weights.shape[1:]
        rows = self.weights.reshape(len(self.weights), -1).astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        faint = int((norms < _FAINT * norms.max()).sum())
        told = [
            f"{counted(len(rows), self.kind)} of {height}×{width}×{channels} weights, "
            f"from {rows.min():.3g} to {rows.max():.3g}"
        ]
        if faint:
            told.append(f"{faint} of them hardly look: below 5 % of the longest one")
        if len(rows) > 1:
            unit = rows / np.maximum(norms, 1e-12)[:, None]
            i, j = np.triu_indices(len(rows), 1)
            cosines = (unit @ unit.T)[i, j]
            for word, at in (
                ("most alike", cosines.argmax()),
                ("least alike", cosines.argmin()),
            ):
                pair = f"{self._name(i[at])} and {self._name(j[at])}"
                told.append(f"{word}: {pair}, cosine {cosines[at]:.2f}")
        return "\n".join(told)

    def figure(self) -> Figure:
        shown = [coloured(w.astype(np.float64)) for w in self.weights[:_MAX_SHOWN]]
        is_colour = self.weights.shape[-1] == 3
        key = "each from its smallest weight to its largest"
        if not is_colour:
            key = "red, +: weight above 0; blue, −: below 0; white: 0"
        titles = [self._name(i) for i in range(len(shown))]
        signed = () if is_colour else self.weights[:_MAX_SHOWN].sum(axis=-1)
        return grid(shown, titles, heading=f"first layer: {key}", signed=signed)

    def _name(self, i: Any) -> str:
        return self.names[i] if self.names else f"{self.kind} {i}"


def first_weights(
    model: Module, shape: tuple[int, ...], names: Sequence[str] = ()
) -> Templates | None:
    """The first layer's weights as pictures: a convolution's filters, or a dense one's.

    None where inputs are no pictures or the first layer is of another kind.

    Example:
        >>> from chainrule import nn
        >>> net = nn.linear((8, 8, 1), 10).initialize(0)
        >>> first_weights(net, (8, 8, 1)).weights.shape
        (10, 8, 8, 1)
    """
    if len(shape) != 3:
        return None
    for _, parameter in model.named_parameters():
        if parameter.ndim == 2 and parameter.shape[0] == int(np.prod(shape)):
            weights = parameter.numpy().T.reshape(-1, *shape)
            fitting = names if len(names) == len(weights) else ()
            return Templates(weights, "unit", tuple(fitting))
        if parameter.ndim == 4 and parameter.shape[2] == shape[-1]:
            return Templates(np.moveaxis(parameter.numpy(), -1, 0), "filter")
    return None
