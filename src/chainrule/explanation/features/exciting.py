"""The examples that a unit answers to most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data
from chainrule.core.graph import no_grad
from chainrule.errors import DataError, IndexingError, OptionError
from chainrule.explanation.features.attribution import shown
from chainrule.explanation.features.grids import grid
from chainrule.explanation.features.layers import (
    UpTo,
    float_type,
    in_batches,
    read,
)
from chainrule.explanation.features.repeated import Repeated
from chainrule.explanation.picture import Picture
from chainrule.nn.evaluating import evaluating
from chainrule.nn.module import Module
from chainrule.nn.receptive_field import ReceptiveField, receptive_field
from chainrule.nn.summary import output_shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answers", "Exciting", "answers", "most_exciting", "seen_by", "unit_of"]

Array = np.ndarray[Any, Any]
Box = tuple[int, int, int, int]

_BATCH = 256


@dataclass(frozen=True)
class Answers:
    """The largest value of each unit of a layer for each example, and where it was.

    Shapes: values (n, units); places (n, units, axes) of the layer's images.
    """

    path: str
    values: Array
    places: Array


@dataclass(frozen=True)
class Exciting(Picture):
    """The examples that excite one unit most, the most exciting first.

    ``boxes`` are the rows and columns (top, bottom, left, right; the ends left out)
    that the unit can see from where it answered most; None for the whole example.
    """

    path: str
    unit: int
    indices: tuple[int, ...]
    values: tuple[float, ...]
    examples: tuple[Array, ...]
    boxes: tuple[Box | None, ...]
    share_active: float
    """Of all examples, that it answers to with more than 0."""
    names: tuple[str, ...] = ()
    """What the examples are, where known."""

    @property
    def patches(self) -> list[Array]:
        """What the unit looked at, cut out of each example."""
        return [
            example if box is None else example[box[0] : box[1], box[2] : box[3]]
            for example, box in zip(self.examples, self.boxes, strict=True)
        ]

    def __str__(self) -> str:
        told = [
            f"{self.path}, unit {self.unit}: above 0 for "
            f"{100 * self.share_active:.0f} % of the examples"
        ]
        for i, value in enumerate(self.values):
            name = f" ({self.names[i]})" if self.names else ""
            box = self.boxes[i]
            where = ""
            if box is not None:
                where = f", rows {box[0]}–{box[1] - 1}, columns {box[2]}–{box[3] - 1}"
            told.append(f"  {value:.4g} for example {self.indices[i]}{name}{where}")
        return "\n".join(told)

    def figure(self) -> Figure:
        titles = [
            f"{self.names[i] if self.names else self.indices[i]}\n{value:.3g}"
            for i, value in enumerate(self.values)
        ]
        rows = [p if p.ndim == 3 else p.reshape(1, -1, 1) for p in self.patches]
        heading = f"most exciting for unit {self.unit} of {self.path}"
        return grid([shown(r) for r in rows], titles, heading=heading, columns=5)


def answers(model: Module, inputs: data.Dataset | Array, path: str) -> Answers:
    """How much every unit of a layer answers to every example, at its best place.

    Args:
        model: any network.
        inputs: a data set, or an array of examples.
        path: of a layer, as ``model.summary`` prints it.

    Raises:
        DataError: without examples.
        OptionError: for a path without a layer.
    """
    if not len(inputs):
        raise DataError(
            "answers: no examples to show the network",
            got="0 examples",
            expected="at least one",
        )
    part = UpTo(model, path)
    run = Repeated(part)
    values, places = [], []
    with evaluating(model), no_grad():
        for _, some in in_batches(inputs, _BATCH):
            y = run(some.astype(float_type(model)))
            flat = y.reshape(len(y), math.prod(y.shape[1:-1]), y.shape[-1])
            at = flat.argmax(axis=1)
            values.append(np.take_along_axis(flat, at[:, None], axis=1)[:, 0])
            each = np.unravel_index(at, y.shape[1:-1] or (1,))
            places.append(np.stack(each, axis=-1)[..., : y.ndim - 2])
    return Answers(path, np.concatenate(values), np.concatenate(places))


def most_exciting(
    model: Module,
    inputs: data.Dataset | Array,
    path: str,
    unit: int,
    *,
    count: int = 9,
    found: Answers | None = None,
) -> Exciting:
    """The examples to which a unit or channel answers most, with what it looked at.

    A channel has a unit at every place; the one that answers most counts, and the
    pixels that it can see are told, where it does not see all of them.

    Args:
        model: any network.
        inputs: a data set, or an array of examples.
        path: of a layer, as ``model.summary`` prints it.
        unit: its number along the last axis of the layer's output.
        count: how many examples.
        found: of ``answers``, to ask about many units of a layer.

    Raises:
        IndexingError: for a unit that is not there.
        OptionError: for a path without a layer, or a count below 1.

    Example:
        >>> from chainrule import data, nn
        >>> digits = data.load().test
        >>> net = nn.cnn((8, 8, 1), 10).initialize(0)
        >>> found = most_exciting(net, digits, "stage1", 3, count=2)
        >>> [patch.shape for patch in found.patches]
        [(3, 3, 1), (3, 3, 1)]

    Source: Zeiler & Fergus, "Visualizing and understanding convolutional networks",
    2014, figure 2.
    """
    if count < 1:
        raise OptionError(
            "most_exciting: no examples asked for",
            got=f"count={count}",
            expected="at least 1",
        )
    found = found or answers(model, inputs, path)
    unit = unit_of(path, unit, found.values.shape[1])
    column = found.values[:, unit]
    order = np.argsort(-column, kind="stable")[:count]
    examples = read(inputs, order)
    boxes: list[Box | None] = [None] * len(order)
    if examples.ndim == 4 and found.places.shape[-1] == 2:
        field = receptive_field(UpTo(model, path), examples.shape[1:])
        boxes = [
            seen_by(field, found.places[i, unit], examples.shape[1:3]) for i in order
        ]
    return Exciting(
        path=path,
        unit=unit,
        indices=tuple(order.tolist()),
        values=tuple(column[order].tolist()),
        examples=tuple(examples),
        boxes=tuple(boxes),
        share_active=float((column > 0).mean()),
        names=_names(inputs, order),
    )


def unit_of(path: str, unit: Any, num_units: int) -> int:
    """A unit's number; raises IndexingError for one that a layer does not have."""
    if not isinstance(unit, (int, np.integer)) or not 0 <= unit < num_units:
        raise IndexingError(
            f"layer {path} has no such unit",
            got=repr(unit),
            expected=f"0 to {num_units - 1}",
        )
    return int(unit)


def num_units(model: Module, path: str, in_shape: Sequence[int]) -> int:
    """How many units or channels a layer has: the size of its output's last axis."""
    return output_shape(UpTo(model, path), in_shape)[-1]


def seen_by(
    field: ReceptiveField, place: Sequence[int], size: Sequence[int]
) -> Box | None:
    """The pixels that a layer's place can see; None where it may be all of them."""
    if not field.is_local:
        return None
    sides: list[int] = []
    for at, before, after, stride, most in zip(
        place, field.before, field.after, field.stride, size, strict=True
    ):
        middle = stride * int(at)
        sides += [max(0, math.floor(middle - before))]
        sides += [min(most, math.ceil(middle + after) + 1)]
    top, bottom, left, right = sides
    if (bottom - top, right - left) == tuple(size):
        return None
    return top, bottom, left, right


def _names(inputs: data.Dataset | Array, order: Array) -> tuple[str, ...]:
    if not isinstance(inputs, data.Dataset) or not inputs.class_names:
        return ()
    if inputs.targets.ndim != 1 or inputs.targets.dtype.kind not in "iu":
        return ()
    return tuple(inputs.class_names[i] for i in inputs.targets[order].tolist())
