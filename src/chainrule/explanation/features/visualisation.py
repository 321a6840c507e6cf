"""What a unit would most like to see: an input made for it by climbing its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data
from chainrule.compiler import compile
from chainrule.core.backward import gradients
from chainrule.core.graph import Parameter, Tensor, as_tensor, enable_grad, no_grad
from chainrule.core.rng import generator
from chainrule.errors import DataError, OptionError, ShapeError
from chainrule.explanation.features.attribution import shown
from chainrule.explanation.features.canvas import Canvas
from chainrule.explanation.features.exciting import Box, answers, seen_by, unit_of
from chainrule.explanation.features.grids import grid
from chainrule.explanation.features.layers import UpTo, float_type, outputs
from chainrule.explanation.picture import Picture
from chainrule.nn.evaluating import evaluating
from chainrule.nn.module import Module
from chainrule.nn.receptive_field import receptive_field
from chainrule.nn.summary import output_shape
from chainrule.optim import optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Visualised", "visualise"]

Array = np.ndarray[Any, Any]

_NUM_STARTS = 32
_NUM_CLIMBS = 3
_LR = 0.15
_FADING = 0.015
"""Weight decay: what a unit does not need fades to the neutral picture."""
_MONOTONE = ("relu", "sigmoid", "tanh")


@dataclass(frozen=True)
class Visualised(Picture):
    """Inputs made for units, with the value that each unit has for its own.

    Shapes: pictures (units, h, w, c) or (units, features).
    """

    path: str
    units: tuple[int, ...]
    pictures: Array
    values: tuple[float, ...]
    best: tuple[float, ...] | None
    """The largest value for any of the examples compared with; None without them."""
    low: float
    high: float
    boxes: tuple[Box | None, ...] = ()
    """The pixels that the unit can see; None for all of them."""
    names: tuple[str, ...] = ()

    @property
    def patches(self) -> list[Array]:
        """What each unit can see of its picture."""
        return [
            p if box is None else p[box[0] : box[1], box[2] : box[3]]
            for p, box in zip(self.pictures, self.boxes, strict=True)
        ]

    @property
    def num_beyond(self) -> int:
        """How many units answer more to their picture than to any example."""
        pairs = zip(self.values, self.best or (), strict=False)
        return sum(value > best for value, best in pairs)

    def __str__(self) -> str:
        told = [
            f"{self.path}: inputs made for {len(self.units)} units, "
            f"levels from {self.low:g} to {self.high:g}"
        ]
        for i, (unit, value) in enumerate(zip(self.units, self.values, strict=True)):
            name = f" ({self.names[i]})" if self.names else ""
            line = f"  unit {unit}{name}: {value:.4g}"
            if value == 0:
                line += "; nothing that was tried wakes it"
            if self.best is not None:
                than = "more than" if value > self.best[i] else "not more than"
                line += f", {than} for the best example, {self.best[i]:.4g}"
            told.append(line)
        return "\n".join(told)

    def figure(self) -> Figure:
        titles = []
        for i, (unit, value) in enumerate(zip(self.units, self.values, strict=True)):
            best = "" if self.best is None else f" (best {self.best[i]:.3g})"
            name = self.names[i] if self.names else f"unit {unit}"
            titles.append(f"{name}\n{value:.3g}{best}")
        rows = [p if p.ndim == 3 else p.reshape(1, -1, 1) for p in self.patches]
        heading = f"made to excite {self.path}"
        levels = [shown(row) for row in rows]
        return grid(levels, titles, columns=5, side=1.3, heading=heading)


def visualise(
    model: Module,
    path: str,
    in_shape: Sequence[int],
    units: Sequence[int] | None = None,
    *,
    low: Any = 0.0,
    high: Any = 255.0,
    neutral: Any = None,
    steps: int = 192,
    examples: data.Dataset | Array | None = None,
    names: Sequence[str] = (),
    seed: int = 0,
) -> Visualised:
    """Climb the value of units to the inputs that excite them most.

    A picture is low + (high - low)·σ(neutral + Σ over frequencies of θ·cos·cos): never
    outside its range. Slow waves come easier than quick ones, and light and dark easier
    than colours. While θ climbs (Adam), the picture is moved by some pixels and zoomed
    a little at every step, which costs nothing with cosines, and θ fades. What is left
    is what the unit really asks for.

    The unit in the middle stands for a channel. Behind a ReLU, a sigmoid or a tanh its
    argument is climbed, whose gradient does not die. Each unit begins at the three of
    32 random pictures that it answers to most, and the highest end counts.

    Args:
        model: any network.
        path: of a layer, as ``model.summary`` prints it.
        in_shape: of one example, (h, w, c) or (features,).
        units: which ones; the first 10 unless given.
        low, high: the range of the training pixels, or of each channel or feature.
        neutral: what a picture is where nothing is asked for: a number or an array like
            an example, such as the mean of all; the middle of the range unless given.
        steps: how many.
        examples: what is shown to the network to compare with.
        names: of the units.
        seed: of the starts and the movements.

    Raises:
        IndexingError: for a unit that is not there.
        OptionError: for a path without a layer, an empty range, or no steps.
        ShapeError: for a range or a neutral picture that does not fit.
        DataError: for one that is not made of finite numbers.

    Example:
        >>> from chainrule import nn
        >>> net = nn.mlp((4, 4, 1), (), 1).initialize(0)
        >>> found = visualise(net, "output", (4, 4, 1))
        >>> w = net.output.weight.data.reshape(4, 4)
        >>> lit = found.pictures[0, :, :, 0] > 128  # where the weight is above 0
        >>> bool((lit == (w > 0)).mean() > 0.8)
        True

    Source: Erhan et al., "Visualizing higher-layer features of a deep network", 2009;
    Olah, Mordvintsev & Schubert, "Feature visualization", Distill, 2017, for moving the
    picture, frequencies and colours, which are those of Ruderman, Cronin & Chiao,
    "Statistics of cone responses to natural images", 1998; cosines and the choice of
    starts are ours.
    """
    shape, part = tuple(in_shape), UpTo(model, path)
    low, high = _fitting("low", low, shape), _fitting("high", high, shape)
    neutral = _fitting(
        "neutral", (low + high) / 2 if neutral is None else neutral, shape
    )
    if not (low < high).all() or steps < 1:
        raise OptionError(
            "visualise: nothing to climb",
            got=f"levels from {low.min():g} to {high.max():g}, {steps} steps",
            expected="low below high everywhere, and at least one step",
        )
    *axes, num_units = output_shape(part, shape)
    chosen = range(min(10, num_units)) if units is None else units
    units = tuple(unit_of(path, unit, num_units) for unit in chosen)
    middle = tuple(size // 2 for size in axes)
    dtype = float_type(model)
    canvas = Canvas(shape, neutral, low, high, dtype)

    def climbed(x: Tensor) -> Tensor:
        return _argument(part(x))[(slice(None), *middle)]

    with evaluating(model):
        theta = _starts(canvas, climbed, units, seed)
        _climb(canvas, climbed, theta, units * _NUM_CLIMBS, steps, seed)
        with no_grad():
            pictures = canvas(theta, canvas.still).numpy()
    own: Any = (np.arange(len(pictures)), *middle, list(units * _NUM_CLIMBS))
    reached = outputs(part, pictures)[own].reshape(_NUM_CLIMBS, len(units))
    highest = reached.argmax(axis=0) * len(units) + np.arange(len(units))
    pictures, values = pictures[highest], reached.max(axis=0)
    best = None
    if examples is not None:
        best = answers(model, examples, path).values.max(axis=0)[list(units)].tolist()
    box = None
    if len(shape) == 3 and len(middle) == 2:
        box = seen_by(receptive_field(part, shape), middle, shape[:2])
    return Visualised(
        path=path,
        units=units,
        pictures=pictures,
        values=tuple(values.tolist()),
        best=None if best is None else tuple(best),
        low=float(low.min()),
        high=float(high.max()),
        boxes=(box,) * len(units),
        names=tuple(names),
    )


def _fitting(name: str, given: Any, shape: tuple[int, ...]) -> Array:
    """Finite numbers of an example's shape; raises for those that are not."""
    try:
        found = np.broadcast_to(np.asarray(given, np.float64), shape)
    except ValueError:
        raise ShapeError(
            f"visualise: {name} does not fit the example",
            got=f"shape {np.shape(given)}",
            expected=f"a number, or shape {shape}",
        ) from None
    if not np.isfinite(found).all():
        raise DataError(
            f"visualise: {name} is not made of finite numbers",
            got="NaN or infinity",
            expected="levels of the training data",
        )
    return found


def _argument(y: Tensor) -> Tensor:
    """What went into a ReLU, sigmoid or tanh: it rises with them, and never dies."""
    while y.op is not None and y.op.name in _MONOTONE:
        (y,) = y.inputs
    return y


def _starts(
    canvas: Canvas,
    climbed: Callable[[Tensor], Tensor],
    units: tuple[int, ...],
    seed: int,
) -> Parameter:
    """θ of the random pictures, weak or strong, that each unit answers to most."""
    rng = generator(seed, "visualise starts")
    strengths = np.geomspace(0.1, 3.0, _NUM_STARTS).reshape(
        -1, *[1] * len(canvas.shape)
    )
    drawn = (strengths * rng.normal(size=(_NUM_STARTS, *canvas.shape))).astype(
        canvas.dtype
    )
    with enable_grad(), np.errstate(all="ignore"):
        # Recorded, so that what goes into an activation can be seen.
        x = canvas(Tensor(drawn, requires_grad=True), canvas.still)
        values = climbed(x).data
    best = np.argsort(-values[:, list(units)], axis=0, kind="stable")[:_NUM_CLIMBS]
    return Parameter(drawn[best.reshape(-1)])


def _climb(
    canvas: Canvas,
    climbed: Callable[[Tensor], Tensor],
    theta: Parameter,
    units: tuple[int, ...],
    steps: int,
    seed: int,
) -> None:
    """Steps of Adam, each from another point of view, all in native code."""
    rows = np.arange(len(units))

    def value(view: Sequence[Any]) -> Tensor:
        own = climbed(canvas(theta, view))
        return (own * wanted).sum()

    with enable_grad(), np.errstate(all="ignore"):
        example = climbed(canvas(theta, canvas.still))
    mask = np.zeros(example.shape, canvas.dtype)
    mask[rows, list(units)] = 1
    wanted = as_tensor(mask)
    climber = optimizer("adamw", [("theta", theta)], lr=_LR, weight_decay=_FADING / _LR)

    def step(*view: Any) -> Tensor:
        total = value(view)
        (slope,) = gradients(total, [theta])
        theta.grad = -slope
        climber.step()
        theta.grad = None
        return total

    rng = generator(seed, "visualise moves")
    moves = rng.uniform(-1, 1, size=(steps, 3))
    # The last ones are smaller: the picture comes to rest where it stands.
    moves *= np.minimum(1, 2 - 2 * np.arange(steps) / steps)[:, None]
    with enable_grad(), np.errstate(all="ignore"):
        compile(step).scan(canvas.views(moves))
