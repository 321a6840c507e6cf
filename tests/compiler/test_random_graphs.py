"""Functions that nobody thought of compile to the eager answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr

Step = Callable[[list[cr.Tensor], "Choice"], Any]


class Choice:
    """Numbers that decide what a random function does: the same at every run of it."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.position = 0

    def below(self, count: int) -> int:
        number = self.numbers[self.position % len(self.numbers)]
        self.position += 1
        return (number + self.position) % count

    def value(self, values: list[cr.Tensor]) -> cr.Tensor:
        """A recent value more often than an old one."""
        return values[-1 - min(self.below(len(values)), self.below(len(values)))]


UNARY = [cr.tanh, cr.sigmoid, cr.sin, cr.relu, cr.abs, cr.softplus, cr.negative]
FOLDS = [cr.sum, cr.mean, cr.max, cr.logsumexp]


def unary(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    return UNARY[c.below(len(UNARY))](c.value(values))


def binary(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    """Two values that may broadcast; of others, the sum of one with it."""
    x, y = c.value(values), c.value(values)
    try:
        np.broadcast_shapes(tuple(map(int, x.shape)), tuple(map(int, y.shape)))
    except ValueError:
        y = cr.mean(y)
    kind = c.below(5)
    if kind == 0:
        return x + y
    if kind == 1:
        return x * cr.tanh(y)
    if kind == 2:
        return x - y
    if kind == 3:
        return cr.where(x > y, x, y * 0.5)
    return x / (cr.abs(y) + 1.0)


def fold(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    x = c.value(values)
    if not x.ndim or 0 in x.shape:
        return x * 2
    axis = c.below(x.ndim)
    return FOLDS[c.below(len(FOLDS))](x, axis, keepdims=bool(c.below(2)))


def along(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    x = c.value(values)
    if not x.ndim or 0 in x.shape:
        return x + 1
    axis = c.below(x.ndim)
    kind = c.below(4)
    if kind == 0:
        return cr.softmax(x, axis)
    if kind == 1:
        return cr.cumsum(x, axis) * 0.25
    if kind == 2:
        return cr.log_softmax(x, axis)
    return cr.flip(x, axis)


def view(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    x = c.value(values)
    if not x.ndim:
        return x.reshape(1, 1)
    kind, axis = c.below(9), c.below(x.ndim)
    before = (slice(None),) * axis
    if kind == 0:
        return x.T
    if kind == 1:
        return x.reshape(-1)
    if kind == 2:
        return x[None] if x.ndim < 4 else x.sum(0)
    if kind == 3 and x.shape[axis] > 1:
        return x[(*before, slice(1, None))]
    if kind == 4:
        return x[(*before, slice(None, None, -1))]
    if kind == 5 and x.shape[axis] > 0:
        return x[(*before, [0, -1, 0])]
    if kind == 6:
        return cr.pad(x, tuple((1, 1) if a == axis else (0, 0) for a in range(x.ndim)))
    if kind == 7 and x.size < 2000:
        return cr.concatenate([x, x * 2], axis)
    return x.reshape((*x.shape, 1)) if x.ndim < 4 else x.sum(-1)


def product(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    x, y = c.value(values), c.value(values)
    if not x.ndim or not y.ndim or max(x.ndim, y.ndim) > 3:
        return x * 0.5
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] == inner and x.ndim <= 2 >= y.ndim:
        return x @ y * 0.25
    if x.ndim == 2:
        return x.T @ x * 0.25 if c.below(2) else x @ x.T * 0.25
    return x * y.sum()


def labelled(values: list[cr.Tensor], c: Choice) -> cr.Tensor:
    x = c.value(values)
    if x.ndim != 2 or 0 in x.shape:
        return cr.tanh(x)
    labels = cr.argmax(x, 1)
    kind = c.below(3)
    if kind == 0:
        return x[cr.positions(x), labels]
    if kind == 1:
        return cr.scatter_add(x, labels, int(x.shape[1]))
    return x * cr.one_hot(labels, int(x.shape[1]), x.dtype)


STEPS: list[Step] = [unary, binary, binary, fold, along, view, view, product, labelled]


def random_function(numbers: list[int], num_steps: int) -> Callable[..., Any]:
    """A function that the numbers decide on."""

    def f(*inputs: cr.Tensor) -> list[cr.Tensor]:
        c = Choice(numbers)
        values: list[cr.Tensor] = list(inputs)
        for _ in range(num_steps):
            y = STEPS[c.below(len(STEPS))](values, c)
            values.append(y if y.size < 20000 else y.mean())
        return [values[-1], c.value(values), c.value(values)]

    return f


def check(
    agreement: Any,
    numbers: list[int],
    num_steps: int,
    n: int,
    m: int,
    other: int,
    dtype: str,
) -> None:
    """A random function, for two batch sizes."""
    f = random_function(numbers, num_steps)
    rng = np.random.default_rng(numbers[0])
    compiled = None
    for rows in (n, other):
        arrays = [rng.normal(size=s) for s in ((rows, m), (m,), (m, 4))]
        if compiled is None:
            compiled = agreement.check(f, arrays, dtype, least=1000)
        else:
            agreement.check_again(compiled, f, arrays, dtype, least=1000)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
@given(
    numbers=st.lists(st.integers(0, 2**16), min_size=12, max_size=40),
    num_steps=st.integers(1, 14),
    sizes=st.tuples(*[st.sampled_from([1, 3, 5, 17, 33])] * 2),
    other=st.sampled_from([1, 2, 8, 40]),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_a_random_graph_compiles_to_the_eager_answer(
    numbers, num_steps, sizes, other, dtype, agreement
):
    check(agreement, numbers, num_steps, *sizes, other, dtype)


# One flip undone by another, a value read in another shape where it is made, indices
# into what the same loop makes, kernels that waited for one another, one lane alone.
@pytest.mark.parametrize("seed", [9, 14, 126, 225, 243, 666, 1818, 2826])
def test_a_graph_that_was_once_compiled_wrongly(seed, agreement):
    rng = np.random.default_rng(seed)
    numbers = [int(x) for x in rng.integers(0, 2**16, rng.integers(12, 40))]
    num_steps = int(rng.integers(1, 15))
    n, m = (int(x) for x in rng.choice([1, 3, 5, 17, 33], 2))
    other = int(rng.choice([1, 2, 8, 40]))
    dtype = ["float64", "float32"][int(rng.integers(2))]
    check(agreement, numbers, num_steps, n, m, other, dtype)
