"""Where to look: one output of a network, or the network up to one of its layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule import data
from chainrule.core.backward import gradients
from chainrule.core.graph import Tensor, enable_grad, no_grad
from chainrule.errors import DataError, IndexingError, OptionError, ShapeError, nearest
from chainrule.explanation.features.repeated import Repeated
from chainrule.nn.evaluating import evaluating
from chainrule.nn.module import Module
from chainrule.nn.observing import observe

__all__ = [
    "Output",
    "OutputOf",
    "UpTo",
    "as_example",
    "chosen_output",
    "entry",
    "float_type",
    "in_batches",
    "layer_at",
    "layer_outputs",
    "outputs",
    "read",
]

Array = np.ndarray[Any, Any]
Output = int | Sequence[int] | None
"""Which number a network puts out: a class, or row, column, channel; None: the largest.
"""

_BATCH = 64
_MOST_NAMED = 60


class _Reached(Exception):
    """The layer that was waited for has put out its result."""

    def __init__(self, y: Tensor) -> None:
        self.y = y


class UpTo(Module):
    """The first part of a network: it puts out what one of its layers does.

    What comes after that layer is not run. A layer that runs several times is shown the
    first time.

    Args:
        model: the whole network.
        path: of the layer, as ``model.summary`` prints it.

    Raises:
        OptionError: for a path without a layer, or, when run, a layer that is not used.

    Example:
        >>> from chainrule import nn
        >>> net = nn.mlp(4, (3,), 2)
        >>> UpTo(net, "activation1")([[1.0, 2.0, 3.0, 4.0]]).shape
        (1, 3)
    """

    def __init__(self, model: Module, path: str) -> None:
        layer_at(model, path)
        self.model = model
        self.path = path

    def forward(self, *inputs: Tensor) -> Tensor:
        wanted = layer_at(self.model, self.path)

        def stop(module: Module, y: Tensor) -> None:
            if module is wanted:
                raise _Reached(y)

        try:
            with observe(stop):
                self.model(*inputs)
        except _Reached as reached:
            return reached.y
        raise OptionError(
            f"layer {self.path} does not run",
            got=repr(wanted),
            expected="a layer that the network's forward calls",
        )


def layer_at(model: Module, path: str) -> Module:
    """The layer of a path, as ``model.summary`` prints it.

    Raises OptionError for a path without a layer, with those that there are.
    """
    layers = {name: module for name, module in model.named_modules() if name}
    if path in layers:
        return layers[path]
    names = list(layers)
    near = nearest(str(path), names)
    more = f" and {len(names) - _MOST_NAMED} more" * (len(names) > _MOST_NAMED)
    raise OptionError(
        f"no layer at {path!r}",
        got=repr(path),
        expected=("one of " + ", ".join(names[:_MOST_NAMED]) + more)
        if names
        else "a model that is made of layers",
        hint=f"did you mean {near!r}?" if near else None,
    )


def layer_outputs(model: Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a model and each of its layers put out, by path, in the order they ran.

    Everything is recorded, so that gradients by any of them can be had.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    found: dict[str, Tensor] = {}

    def note(module: Module, y: Tensor) -> None:
        found.setdefault(paths[id(module)], y)

    with evaluating(model), enable_grad(), observe(note), np.errstate(all="ignore"):
        y = model(x)
    found.pop("", None)
    return y, found


def as_example(what: str, model: Module, example: Any) -> Array:
    """One input as a batch of one, in the model's own float type.

    Raises:
        DataError: for what holds no finite numbers.
        ShapeError: for what has no axis.
    """
    array = np.asarray(example)
    if not array.ndim:
        raise ShapeError(
            f"{what}: a single number is no example",
            got=f"shape {array.shape}",
            expected="a picture (h, w, c) or a row of numbers",
        )
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise DataError(
            f"{what}: the example is not made of finite numbers",
            got=f"{array.dtype} of shape {array.shape}",
            expected="a picture (h, w, c) or a row of numbers",
        )
    return array[None].astype(float_type(model))


def float_type(model: Module) -> Any:
    """The type that a model computes in: that of its first weight."""
    floats = [p.dtype for p in model.parameters() if p.dtype.kind == "f"]
    return floats[0] if floats else np.dtype(np.float32)


def entry(
    what: str, shape: Sequence[int], index: int | Sequence[int]
) -> tuple[int, ...]:
    """An index into one example's output, counted from 0.

    Raises IndexingError for one that is not there.
    """
    try:
        found = tuple(
            operator.index(i)
            for i in (index if isinstance(index, (tuple, list)) else (index,))
        )
    except TypeError:
        found = ()
    if len(found) != len(shape) or not all(
        0 <= i < size for i, size in zip(found, shape, strict=True)
    ):
        each = " and ".join(f"0 to {size - 1}" for size in shape)
        raise IndexingError(
            f"{what}: no such output",
            got=repr(index),
            expected=each if len(shape) == 1 else f"{len(shape)} numbers: {each}",
        )
    return found


def chosen_output(
    what: str, model: Module, x: Array, output: Output
) -> tuple[tuple[int, ...], Array]:
    """The index that is meant, and the outputs for the example x (1, ...) itself."""
    values = outputs(model, x)[0]
    if output is None:
        return tuple(map(int, np.unravel_index(values.argmax(), values.shape))), values
    return entry(what, values.shape, output), values


def outputs(model: Module, inputs: Array) -> Array:
    """What a model puts out for a batch, nothing recorded."""
    with evaluating(model), no_grad(), np.errstate(all="ignore"):
        return model(inputs).numpy()


class OutputOf:
    """One number that a network puts out, and its gradient, for any examples.

    Shapes: (n, ...) -> (n,), with gradients (n,) and (n, ...).
    """

    def __init__(self, model: Module, index: tuple[int, ...]) -> None:
        self.model = model
        self._each: Any = (slice(None), *index)
        self._values = Repeated(lambda x: self.model(x)[self._each])
        self._both = Repeated(self._with_gradient)

    def values(self, inputs: Array) -> Array:
        """The output of each example."""
        with evaluating(self.model), no_grad():
            parts = [self._values(some) for _, some in in_batches(inputs)]
        return np.concatenate(parts)

    def gradients(self, inputs: Array) -> tuple[Array, Array]:
        """The output of each example, and its gradient by that example."""
        with evaluating(self.model), enable_grad():
            parts = [self._both(some) for _, some in in_batches(inputs)]
        values, slopes = zip(*parts, strict=True)
        return np.concatenate(values), np.concatenate(slopes)

    def _with_gradient(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        x = inputs.detach()
        x.requires_grad = True
        score = self.model(x)[self._each]
        # In evaluation examples do not touch each other: the sum keeps them apart.
        return score, gradients(score.sum(), [x])[0]


def in_batches(
    inputs: data.Dataset | Array, size: int = _BATCH
) -> Iterator[tuple[int, Array]]:
    """Examples, many at a time, with the number of the first one."""
    for start in range(0, len(inputs), size):
        yield start, read(inputs, np.arange(start, min(start + size, len(inputs))))


def read(inputs: data.Dataset | Array, indices: Array) -> Array:
    """Some examples of a data set or of an array."""
    if isinstance(inputs, data.Dataset):
        return inputs.read(indices)
    found: Array = np.asarray(inputs)[indices]
    return found
