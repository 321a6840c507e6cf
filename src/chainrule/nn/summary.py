"""What a model is made of: its layers, what they put out, and how much they hold.

Nothing is computed for them: the model runs on tensors without values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.capture import capture
from chainrule.core.graph import Parameter, Tensor
from chainrule.core.spec import as_dtype
from chainrule.core.trace import tracing
from chainrule.errors import CaptureError
from chainrule.nn.evaluating import evaluating
from chainrule.nn.observing import observe
from chainrule.ops.convolution import Convolve, ConvolveToData
from chainrule.ops.linalg import MatMul

if TYPE_CHECKING:
    from chainrule.nn.module import Module

__all__ = ["Counts", "LayerCount", "as_html", "count", "output_shape", "summarize"]


@dataclass(frozen=True)
class LayerCount:
    """One layer of ``count``; numbers are for one example."""

    path: str
    layer: str
    shape: tuple[int, ...] | None
    """Of the output, without the batch axis; None for a layer that did not run."""
    parameters: int
    units: int
    """Weighted sums that it puts out."""
    connections: int
    """Multiplications with a weight: each unit's inputs, biases aside."""


@dataclass(frozen=True)
class Counts:
    """The layers of a network, with their numbers; printed as a table."""

    layers: tuple[LayerCount, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def units(self) -> int:
        return sum(layer.units for layer in self.layers)

    @property
    def connections(self) -> int:
        return sum(layer.connections for layer in self.layers)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("path", "layer", "output", "parameters", "units", "connections")
        ]
        for layer in self.layers:
            told = (layer.path, layer.layer, _shape_text(layer.shape))
            numbers = (layer.parameters, layer.units, layer.connections)
            rows.append((*told, *map(_number, numbers)))
        totals = (self.parameters, self.units, self.connections)
        return _table([*rows, ("", "", "", *(f"{n:,}" for n in totals))], num_left=3)


def count(
    model: Module,
    input_shape: Sequence[int],
    *,
    dtype: Any = "float32",
    max_rows: int | None = None,
) -> Counts:
    """How large a network is: parameters, units and connections of every layer.

    A convolution has few parameters, which many units share, and many connections.

    Args:
        model: any module.
        input_shape: the shape of one example, without the batch axis.
        dtype: of the example.
        max_rows: where there are more layers, blocks of them are told as one, as far as
            that helps.

    Raises:
        ShapeError: where the example does not fit a layer.

    Example:
        >>> from chainrule import nn
        >>> pair = nn.Sequential(nn.Conv(1, 6, 5), nn.Flatten(), nn.Dense(3456, 10))
        >>> print(count(pair, (28, 28, 1)))
        path  layer                output         parameters  units  connections
        0     Conv(1, 6, 5)        (n, 24, 24, 6)        156  3,456       86,400
        1     Flatten()            (n, 3456)
        2     Dense(in_features=3456, out_features=10)
                                   (n, 10)            34,570     10       34,560
                                                      34,726  3,466      120,960

    """
    run = _Run(model, tuple(input_shape), dtype)
    parameters = _parameter_counts(model)
    found = []
    for path, module in model.named_modules():
        is_container = any(m is not module for _, m in module.named_modules())
        key = id(module)
        # Of what holds layers, what does something to their results stands here too.
        if not is_container or parameters[path] or run.results[key]:
            numbers = parameters[path], run.units[key], run.connections[key]
            shape = run.shapes.get(key)
            found.append(LayerCount(path or "(model)", repr(module), shape, *numbers))
    depth = max((_depth(layer.path) for layer in found), default=0)
    whole, rows = found, found
    while max_rows is not None and len(rows) > max_rows and depth > 1:
        depth -= 1
        rows = _in_blocks(whole, depth, dict(model.named_modules()), run.shapes)
    return Counts(tuple(rows))


def _depth(path: str) -> int:
    return path.count(".") + 1


def _in_blocks(
    layers: Sequence[LayerCount],
    depth: int,
    modules: Mapping[str, Module],
    shapes: Mapping[int, tuple[int, ...]],
) -> list[LayerCount]:
    """The layers, those with longer paths added up in the block that holds them."""
    blocks: dict[str, list[LayerCount]] = {}
    for layer in layers:
        blocks.setdefault(".".join(layer.path.split(".")[:depth]), []).append(layer)
    rows = []
    for path, inside in blocks.items():
        name, shape = inside[0].layer, inside[0].shape
        if len(inside) > 1:
            # A list is no module: its last layer's output is its own.
            module = modules.get(path)
            shape = shapes.get(id(module)) if module else inside[-1].shape
            name = f"{sum(layer.path != path for layer in inside)} layers"
        numbers = ((c.parameters, c.units, c.connections) for c in inside)
        totals = [sum(column) for column in zip(*numbers, strict=True)]
        rows.append(LayerCount(path, name, shape, *totals))
    return rows


def summarize(
    model: Module, input_shape: tuple[int, ...], dtype: Any, max_rows: int | None
) -> str:
    """See ``Module.summary``."""
    rows = [("path", "layer", "output", "parameters")]
    rows += [
        (layer.path, layer.layer, _shape_text(layer.shape), f"{layer.parameters:,}")
        for layer in count(model, input_shape, dtype=dtype, max_rows=max_rows).layers
    ]
    size_bytes = sum(p.spec.size_bytes for p in model.parameters())
    return (
        f"{_table(rows, num_left=3)}\n\n"
        f"{model.num_parameters():,} parameters "
        f"({model.num_parameters(trainable_only=True):,} trainable), "
        f"{size_bytes:,} bytes"
    )


def as_html(model: Module) -> str:
    """A model's layers and their parameters as a table, which notebooks show.

    Without the shape of an example nothing is known of outputs.
    """
    counts = _parameter_counts(model)
    rows = "".join(
        f"<tr><td>{escape(path or '(model)')}</td><td>{escape(repr(module))}</td>"
        f'<td style="text-align:right">{_number(counts[path])}</td></tr>'
        for path, module in model.named_modules()
        if counts[path] or not any(m is not module for _, m in module.named_modules())
    )
    return (
        f"<table><caption>{type(model).__name__}, {model.num_parameters():,} "
        "parameters; draw_network(model, input_shape) draws it</caption>"
        f"<tr><th>path</th><th>layer</th><th>parameters</th></tr>{rows}</table>"
    )


def output_shape(model: Module, input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of what a model makes of one example; nothing is computed.

    Raises:
        ShapeError: where the example does not fit a layer, with the layer's path.

    Example:
        >>> from chainrule import nn
        >>> output_shape(nn.Conv(3, 8, 5, stride=2), (32, 32, 3))
        (14, 14, 8)
    """
    return _Run(model, tuple(input_shape), "float32").shapes[id(model)]


# ------------------------------------------------------------------------- the run


class _Run:
    """What the modules of a model make of one example, by their ids."""

    def __init__(self, model: Module, input_shape: tuple[int, ...], dtype: Any) -> None:
        example = np.zeros((1, *input_shape), as_dtype(dtype))
        with evaluating(model), tracing():
            try:
                self._observe(lambda: capture(model, (example,)))
            except CaptureError:  # a layer that looks at values
                self._observe(lambda: model(example))

    def _observe(self, run: Callable[[], object]) -> None:
        self.shapes: dict[int, tuple[int, ...]] = {}
        """Of each module's first output, without the batch axis."""
        self.results: Counter[int] = Counter()
        """How many ops it has run itself, and not the modules inside it."""
        self.connections: Counter[int] = Counter()
        self.units: Counter[int] = Counter()
        self._seen: dict[int, Tensor] = {}
        with observe(self._note):
            run()

    def _note(self, module: Module, y: Tensor) -> None:
        key = id(module)
        self.shapes.setdefault(key, tuple(map(int, y.shape[1:])))
        for made in _made_since(y, self._seen):
            each = _connections(made)
            self.results[key] += made.op is not None
            self.connections[key] += each
            self.units[key] += int(made.size) if each else 0


def _made_since(y: Tensor, seen: dict[int, Tensor]) -> Iterator[Tensor]:
    """The results that y is made of and that nobody has seen yet."""
    stack = [y]
    while stack:
        t = stack.pop()
        if id(t) not in seen:
            seen[id(t)] = t
            stack += t.inputs
            yield t


def _connections(y: Tensor) -> int:
    """In how many multiplications of a number with a weight a result was made."""
    if not isinstance(y.op, (Convolve, ConvolveToData, MatMul)):
        return 0
    x, w = y.inputs
    if isinstance(y.op, MatMul):
        if not (_is_weight(x) or _is_weight(w)):
            return 0
        return int(y.size) * int(x.shape[-2 if y.op.transposes_a else -1])
    if not _is_weight(w):
        return 0
    per_place = math.prod(w.shape[:-1])
    return per_place * int(y.size if isinstance(y.op, Convolve) else x.size)


def _is_weight(t: Tensor) -> bool:
    """Whether it is a parameter, or one in another shape or dtype."""
    while len(t.inputs) == 1:
        (t,) = t.inputs
    return isinstance(t, Parameter)


def _parameter_counts(model: Module) -> Counter[str]:
    """How many numbers the parameters of each module hold, by its path."""
    modules = dict(model.named_modules())
    counts: Counter[str] = Counter()
    for path, parameter in model.named_parameters():
        owner = path
        while owner not in modules:  # the root's path is "", so this ends there
            owner = owner.rpartition(".")[0]
        counts[owner] += parameter.size
    return counts


# ------------------------------------------------------------------------- as text


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "not run" if shape is None else f"({', '.join(['n', *map(str, shape)])})"


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _table(rows: Sequence[tuple[str, ...]], num_left: int) -> str:
    """Columns side by side, the first of them flush left and numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if i < num_left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
