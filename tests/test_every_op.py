"""One contract that every op of the table keeps."""

from __future__ import annotations

import math
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core import scalar
from chainrule.core.backward import gradients
from chainrule.core.graph import FUNCTIONS, OPS, Op, apply
from chainrule.core.spec import Spec
from chainrule.ops import (
    activations,
    convolution,
    elementwise,
    indexing,
    linalg,
    pooling,
    random,
    reduce,
    shape,
)
from chainrule.ops.elementwise import ElementwiseOp
from chainrule.ops.window import Window

STEP = 1e-5
FLOATS = ["float32", "float64"]


@dataclass(frozen=True)
class Sample:
    """An op and operands at which it has a derivative; floats are given as float64."""

    op: Op
    inputs: tuple[np.ndarray, ...]

    def arrays(self, dtype: str = "float64") -> list[np.ndarray]:
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in self.inputs]

    def tensors(self, dtype: str = "float64") -> list[cr.Tensor]:
        return [
            cr.Tensor(a, requires_grad=a.dtype.kind == "f") for a in self.arrays(dtype)
        ]


def spaced(*sizes: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Numbers in no order, each far enough from the others, and from 0, for a step."""
    count = math.prod(sizes)
    numbers = np.linspace(low, high, 2 * count + 2)[1 : 2 * count + 1 : 2]
    return np.random.default_rng(count).permutation(numbers).reshape(sizes)


def positive(*sizes: int) -> np.ndarray:
    return spaced(*sizes, low=0.3, high=3.0)


def ints(*sizes: int, below: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, below, sizes)


def bools(*sizes: int) -> np.ndarray:
    return ints(*sizes, below=2).astype(bool)


def samples(op: Op, *cases: tuple[np.ndarray, ...] | np.ndarray) -> list[Sample]:
    return [Sample(op, c if isinstance(c, tuple) else (c,)) for c in cases]


ANY = (spaced(3, 4), spaced(7), spaced(), spaced(0, 3), spaced(1, 5, 1))
ABOVE_0 = (positive(3, 4), positive(), positive(0))
PAIRS = (
    (spaced(3, 4), positive(3, 4)),
    (spaced(3, 1), positive(4)),
    (positive(2, 1, 3), spaced(5, 1)),
    (spaced(), positive()),
    (spaced(0, 3), positive(3)),
)
POSITIVE_PAIRS = tuple((np.abs(a), b) for a, b in PAIRS)
BOOL_PAIRS = (
    (bools(3, 4), bools(4)),
    (bools(2, 1), np.array([False, True])),
    (bools(), bools(3)),
    (bools(0), bools(1)),
)
SLICES = (("slice", 1, None, None), ("slice", None, None, -2))
MIXED = (("array",), ("new",), ("slice", 0, 2, None), ("integer", -1))

PLAIN = Window((2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
SIDE_BY_SIDE = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
STRIDED = Window((3, 2), (2, 3), ((1, 0), (2, 1)), (1, 1))
DILATED = Window((2, 3), (1, 2), ((1, 1), (2, 3)), (3, 2))
CROPPED = Window((2, 2), (1, 1), ((-1, 0), (1, -2)), (1, 1))
OVERLAPPING = Window((3, 2), (2, 1), ((1, 0), (1, 1)), (1, 1))
CENTRED = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
IN_A_ROW = Window((3,), (2,), ((1, 1),), (1,))


def strided(channels: int, filters: int, groups: int = 1) -> tuple[np.ndarray, ...]:
    """Images, filters and outputs that STRIDED leads from one to the other."""
    return (
        spaced(2, 5, 7, channels),
        positive(3, 2, channels // groups, filters),
        spaced(2, 2, 3, filters),
    )


X, W, Y = strided(3, 2)
X_GROUPS, W_GROUPS, Y_GROUPS = strided(4, 6, 2)
X_DEPTHWISE, W_DEPTHWISE, Y_DEPTHWISE = strided(3, 3, 3)

SAMPLES: dict[str, list[Sample]] = {
    "abs": samples(elementwise.Absolute.make(), *ANY),
    "add": samples(elementwise.Add.make(), *PAIRS),
    "argmax": samples(reduce.ArgMax.make(1), spaced(3, 4), spaced(2, 5, 1))
    + samples(reduce.ArgMax.make(0), spaced(7)),
    "argmin": samples(reduce.ArgMin.make(1), spaced(3, 4)),
    "astype": samples(elementwise.AsType.make(np.dtype("float64")), *ANY)
    + samples(elementwise.AsType.make(np.dtype("int64")), spaced(3)),
    "broadcast_to": samples(
        shape.BroadcastTo.make((2, 3, 4)), spaced(3, 4), spaced(3, 1), spaced()
    )
    + samples(shape.BroadcastTo.make((0, 3)), spaced(3), spaced(1, 1)),
    "clip": samples(elementwise.Clip.make(-1.0, 0.5), *ANY)
    + samples(elementwise.Clip.make(-math.inf, 0.5), spaced(7))
    + samples(elementwise.Clip.make(-0.5, math.inf), spaced(7)),
    "concatenate": samples(
        shape.Concatenate.make(1),
        (spaced(2, 3), spaced(2, 1), spaced(2, 0)),
        (spaced(2, 3, 2),),
    )
    + samples(shape.Concatenate.make(0), (spaced(3), positive(2))),
    "conv": samples(
        convolution.Convolve.make(PLAIN, 1),
        (spaced(2, 4, 5, 3), positive(2, 3, 3, 4)),
        (spaced(1, 2, 3, 1), positive(2, 3, 1, 1)),
        (spaced(0, 4, 5, 3), positive(2, 3, 3, 4)),
        (spaced(2, 3, 4, 0), positive(2, 3, 0, 4)),
    )
    + samples(convolution.Convolve.make(STRIDED, 1), (X, W))
    + samples(convolution.Convolve.make(STRIDED, 2), (X_GROUPS, W_GROUPS))
    + samples(convolution.Convolve.make(STRIDED, 3), (X_DEPTHWISE, W_DEPTHWISE))
    + samples(
        convolution.Convolve.make(DILATED, 1),
        (spaced(2, 5, 6, 2), positive(2, 3, 2, 3)),
    )
    + samples(
        convolution.Convolve.make(CROPPED, 1),
        (spaced(2, 5, 6, 2), positive(2, 2, 2, 3)),
    )
    + samples(
        convolution.Convolve.make(IN_A_ROW, 1), (spaced(2, 7, 3), positive(3, 3, 2))
    ),
    "conv_to_filters": samples(
        convolution.ConvolveToFilters.make(PLAIN, 1),
        (spaced(2, 4, 5, 3), spaced(2, 3, 3, 4)),
        (spaced(0, 4, 5, 3), spaced(0, 3, 3, 4)),
    )
    + samples(convolution.ConvolveToFilters.make(STRIDED, 1), (X, Y))
    + samples(convolution.ConvolveToFilters.make(STRIDED, 2), (X_GROUPS, Y_GROUPS))
    + samples(
        convolution.ConvolveToFilters.make(STRIDED, 3), (X_DEPTHWISE, Y_DEPTHWISE)
    )
    + samples(
        convolution.ConvolveToFilters.make(DILATED, 1),
        (spaced(2, 5, 6, 2), spaced(2, 4, 4, 3)),
    )
    + samples(
        convolution.ConvolveToFilters.make(CROPPED, 1),
        (spaced(2, 5, 6, 2), spaced(2, 3, 4, 3)),
    )
    + samples(
        convolution.ConvolveToFilters.make(IN_A_ROW, 1),
        (spaced(2, 7, 3), spaced(2, 4, 2)),
    ),
    "conv_transpose": samples(
        convolution.ConvolveToData.make(PLAIN, 1, (4, 5)),
        (spaced(2, 3, 3, 4), positive(2, 3, 3, 4)),
        (spaced(0, 3, 3, 4), positive(2, 3, 3, 4)),
    )
    + samples(convolution.ConvolveToData.make(STRIDED, 1, (5, 7)), (Y, W))
    + samples(convolution.ConvolveToData.make(STRIDED, 1, (4, 6)), (Y, W))
    + samples(convolution.ConvolveToData.make(STRIDED, 2, (5, 7)), (Y_GROUPS, W_GROUPS))
    + samples(
        convolution.ConvolveToData.make(STRIDED, 3, (5, 7)),
        (Y_DEPTHWISE, W_DEPTHWISE),
    )
    + samples(
        convolution.ConvolveToData.make(DILATED, 1, (5, 6)),
        (spaced(2, 4, 4, 3), positive(2, 3, 2, 3)),
    )
    + samples(
        convolution.ConvolveToData.make(CROPPED, 1, (5, 6)),
        (spaced(2, 3, 4, 3), positive(2, 2, 2, 3)),
    )
    + samples(
        convolution.ConvolveToData.make(IN_A_ROW, 1, (7,)),
        (spaced(2, 4, 2), positive(3, 3, 2)),
    ),
    "cos": samples(elementwise.Cos.make(), *ANY),
    "cumsum": samples(reduce.CumSum.make(1), spaced(3, 4), spaced(2, 0, 1))
    + samples(reduce.CumSum.make(0), spaced(7)),
    "divide": samples(elementwise.Divide.make(), *PAIRS),
    "dropout_mask": samples(
        random.DropoutMask.make(0.5), (spaced(5, 7), ints(2, below=9), ints(below=9))
    ),
    "elu": samples(activations.ELU.make(1.0), *ANY)
    + samples(activations.ELU.make(0.3), spaced(7)),
    "equal": samples(elementwise.Equal.make(), *PAIRS),
    "erf": samples(elementwise.Erf.make(), *ANY),
    "exp": samples(elementwise.Exp.make(), *ANY),
    "expm1": samples(elementwise.Expm1.make(), *ANY),
    "flip": samples(shape.Flip.make((0, 2)), spaced(2, 3, 4), spaced(0, 1, 2))
    + samples(shape.Flip.make(()), spaced()),
    "floor": samples(elementwise.Floor.make(), *ANY),
    "gelu": samples(activations.GELU.make(), *ANY),
    "greater": samples(elementwise.Greater.make(), *PAIRS),
    "greater_equal": samples(elementwise.GreaterEqual.make(), *PAIRS),
    "index": samples(indexing.Index.make(SLICES), spaced(3, 4), spaced(1, 1))
    + samples(
        indexing.Index.make(MIXED),
        (spaced(4, 3, 2), ints(5, below=4)),
        (spaced(4, 3, 2), ints(2, 2, below=4)),
        (spaced(4, 3, 2), ints(below=4)),
        (spaced(4, 3, 2), ints(0, below=4)),
    )
    + samples(
        indexing.Index.make((("array",), ("array",))),
        (spaced(3, 4, 2), ints(6, below=3), ints(6, below=4)),
        (spaced(3, 4), ints(6, 1, below=3), -1 - ints(2, below=4)),
    ),
    "index_add": samples(indexing.IndexAdd.make(SLICES, (3, 4)), spaced(2, 2))
    + samples(
        indexing.IndexAdd.make(MIXED, (4, 3, 2)), (spaced(5, 1, 2), ints(5, below=4))
    )
    + samples(
        indexing.IndexAdd.make((("array",),), (4, 3)),
        (spaced(5, 3), ints(5, below=4)),
        (spaced(0, 3), ints(0, below=4)),
    )
    + samples(
        indexing.IndexAdd.make((("array",), ("array",)), (3, 4)),
        (spaced(6), ints(6, below=3), ints(6, below=4) - 4),
    ),
    "leaky_relu": samples(activations.LeakyReLU.make(0.1), *ANY),
    "less": samples(elementwise.Less.make(), *PAIRS),
    "less_equal": samples(elementwise.LessEqual.make(), *PAIRS),
    "log": samples(elementwise.Log.make(), *ABOVE_0),
    "log1p": samples(elementwise.Log1p.make(), *ABOVE_0),
    "log_softmax": samples(reduce.LogSoftmax.make(1), spaced(3, 4), spaced(2, 5, 1))
    + samples(reduce.LogSoftmax.make(0), spaced(7)),
    "logical_and": samples(elementwise.LogicalAnd.make(), *BOOL_PAIRS),
    "logical_not": samples(elementwise.LogicalNot.make(), bools(3, 4), bools()),
    "logical_or": samples(elementwise.LogicalOr.make(), *BOOL_PAIRS),
    "logsumexp": samples(reduce.LogSumExp.make((0, 2), False), spaced(2, 3, 4))
    + samples(reduce.LogSumExp.make((1,), True), spaced(2, 3), spaced(0, 3))
    + samples(reduce.LogSumExp.make((), False), spaced(), spaced(3)),
    "matmul": samples(
        linalg.MatMul.make(),
        (spaced(2, 3), positive(3, 4)),
        (spaced(5, 2, 3), positive(3, 4)),
        (spaced(2, 1, 2, 3), positive(5, 3, 1)),
        (spaced(2, 0), positive(0, 3)),
        (spaced(0, 2), positive(2, 3)),
    )
    + samples(
        linalg.MatMul.make(True, False),
        (spaced(3, 2), positive(3, 4)),
        (spaced(5, 3, 2), positive(3, 4)),
    )
    + samples(
        linalg.MatMul.make(False, True),
        (spaced(2, 3), positive(4, 3)),
        (spaced(5, 2, 3), positive(1, 4, 3)),
    )
    + samples(
        linalg.MatMul.make(True, True),
        (spaced(3, 2), positive(4, 3)),
        (spaced(3, 2), positive(5, 4, 3)),
    ),
    "max": samples(reduce.Max.make((0, 2), False), spaced(2, 3, 4))
    + samples(reduce.Max.make((1,), True), spaced(2, 3), spaced(0, 3))
    + samples(reduce.Max.make((), False), spaced()),
    "max_pool": samples(
        pooling.MaxPool.make(SIDE_BY_SIDE), spaced(2, 4, 6, 3), spaced(0, 2, 2, 1)
    )
    + samples(pooling.MaxPool.make(PLAIN), spaced(2, 4, 5, 3))
    + samples(pooling.MaxPool.make(OVERLAPPING), X)
    + samples(pooling.MaxPool.make(DILATED), spaced(2, 5, 6, 2))
    + samples(pooling.MaxPool.make(IN_A_ROW), spaced(2, 7, 3)),
    "max_pool_pick": samples(
        pooling.MaxPoolPick.make(SIDE_BY_SIDE),
        (positive(2, 4, 6, 3), spaced(2, 4, 6, 3)),
        (positive(0, 2, 2, 1), spaced(0, 2, 2, 1)),
    )
    + samples(
        pooling.MaxPoolPick.make(PLAIN), (positive(2, 4, 5, 3), spaced(2, 4, 5, 3))
    )
    + samples(pooling.MaxPoolPick.make(OVERLAPPING), (positive(2, 5, 7, 3), X))
    + samples(
        pooling.MaxPoolPick.make(DILATED), (positive(2, 5, 6, 2), spaced(2, 5, 6, 2))
    )
    + samples(pooling.MaxPoolPick.make(IN_A_ROW), (positive(2, 7, 3), spaced(2, 7, 3))),
    "max_pool_route": samples(
        pooling.MaxPoolRoute.make(SIDE_BY_SIDE),
        (positive(2, 2, 3, 3), spaced(2, 4, 6, 3)),
        (positive(0, 1, 1, 1), spaced(0, 2, 2, 1)),
    )
    + samples(
        pooling.MaxPoolRoute.make(PLAIN), (positive(2, 3, 3, 3), spaced(2, 4, 5, 3))
    )
    + samples(pooling.MaxPoolRoute.make(OVERLAPPING), (positive(2, 2, 8, 3), X))
    + samples(
        pooling.MaxPoolRoute.make(DILATED), (positive(2, 4, 4, 2), spaced(2, 5, 6, 2))
    )
    + samples(
        pooling.MaxPoolRoute.make(IN_A_ROW), (positive(2, 4, 3), spaced(2, 7, 3))
    ),
    "maximum": samples(elementwise.Maximum.make(), *PAIRS),
    "mean": samples(reduce.Mean.make((0, 2), False), spaced(2, 3, 4))
    + samples(reduce.Mean.make((1,), True), spaced(2, 3), spaced(0, 3))
    + samples(reduce.Mean.make((), False), spaced()),
    "min": samples(reduce.Min.make((0, 2), False), spaced(2, 3, 4))
    + samples(reduce.Min.make((1,), True), spaced(2, 3)),
    "minimum": samples(elementwise.Minimum.make(), *PAIRS),
    "multiply": samples(elementwise.Multiply.make(), *PAIRS),
    "negative": samples(elementwise.Negative.make(), *ANY),
    "not_equal": samples(elementwise.NotEqual.make(), *PAIRS),
    "one_hot": samples(
        indexing.OneHot.make(4, np.dtype("float32")), ints(3, below=4), ints(below=4)
    ),
    "pad": samples(shape.Pad.make(((1, 2), (0, 3)), 0.5), spaced(2, 3), spaced(0, 1))
    + samples(shape.Pad.make((), 0.0), spaced()),
    "positions": samples(indexing.Positions.make(0), spaced(3, 4), ints(2, below=9))
    + samples(indexing.Positions.make(1), spaced(3, 0)),
    "power": samples(elementwise.Power.make(), *POSITIVE_PAIRS),
    "power_constant": samples(elementwise.PowerConstant.make(2), *ANY)
    + samples(elementwise.PowerConstant.make(0), *ANY)
    + samples(elementwise.PowerConstant.make(1), *ANY)
    + samples(elementwise.PowerConstant.make(3), *ANY)
    + samples(elementwise.PowerConstant.make(-1), *ANY)
    + samples(elementwise.PowerConstant.make(-2.5), *ABOVE_0),
    "relu": samples(activations.ReLU.make(), *ANY),
    "reshape": samples(shape.Reshape.make((3, -1)), spaced(2, 6), spaced(3))
    + samples(shape.Reshape.make(()), spaced(1, 1), spaced())
    + samples(shape.Reshape.make((0, 4)), spaced(3, 0)),
    "sigmoid": samples(activations.Sigmoid.make(), *ANY),
    "sign": samples(elementwise.Sign.make(), *ANY),
    "sin": samples(elementwise.Sin.make(), *ANY),
    "softmax": samples(reduce.Softmax.make(1), spaced(3, 4), spaced(2, 5, 1))
    + samples(reduce.Softmax.make(0), spaced(7)),
    "softplus": samples(activations.Softplus.make(), *ANY),
    "sqrt": samples(elementwise.Sqrt.make(), *ABOVE_0),
    "subtract": samples(elementwise.Subtract.make(), *PAIRS),
    "sum": samples(reduce.Sum.make((0, 2), False), spaced(2, 3, 4), spaced(2, 0, 1))
    + samples(reduce.Sum.make((1,), True), spaced(2, 3), spaced(0, 3))
    + samples(reduce.Sum.make((), False), spaced(), spaced(3)),
    "sum_pool": samples(
        pooling.SumPool.make(PLAIN), spaced(2, 4, 5, 3), spaced(0, 2, 3, 1)
    )
    + samples(pooling.SumPool.make(SIDE_BY_SIDE), spaced(2, 5, 6, 3))
    + samples(pooling.SumPool.make(OVERLAPPING), X)
    + samples(pooling.SumPool.make(DILATED), spaced(2, 5, 6, 2))
    + samples(pooling.SumPool.make(IN_A_ROW), spaced(2, 7, 3)),
    "sum_pool_to_data": samples(
        pooling.SumPoolToData.make(PLAIN, (4, 5)), spaced(2, 3, 3, 3)
    )
    + samples(pooling.SumPoolToData.make(SIDE_BY_SIDE, (5, 6)), spaced(2, 2, 3, 3))
    + samples(pooling.SumPoolToData.make(OVERLAPPING, (5, 7)), spaced(2, 2, 8, 3))
    + samples(pooling.SumPoolToData.make(DILATED, (5, 6)), spaced(2, 4, 4, 2))
    + samples(pooling.SumPoolToData.make(IN_A_ROW, (7,)), spaced(2, 4, 3)),
    "tanh": samples(activations.Tanh.make(), *ANY),
    "transpose": samples(shape.Transpose.make((2, 0, 1)), spaced(2, 3, 4))
    + samples(shape.Transpose.make(()), spaced()),
    "where": samples(
        elementwise.Where.make(),
        (bools(3, 4), spaced(3, 4), positive(3, 4)),
        (bools(3, 1), spaced(4), positive(1, 1)),
        (bools(), spaced(), positive()),
        (bools(0), spaced(0), positive(1)),
    ),
}

# Of ops that are not reached by a function of their own name.
FUNCTION_OF = {
    "conv_to_filters": "conv",
    "index_add": "scatter_add",
    "max_pool_pick": "max_pool",
    "max_pool_route": "max_pool",
    "power_constant": "power",
    "sum_pool": "average_pool",
    "sum_pool_to_data": "average_pool",
}

# Where operands of one shape need another window than the first sample's, or more axes.
IN_BOTH_PLACES: dict[str, tuple[Op, tuple[int, ...]]] = {
    "conv": (convolution.Convolve.make(PLAIN, 1), (2, 3, 3, 3)),
    "conv_to_filters": (convolution.ConvolveToFilters.make(CENTRED, 1), (2, 4, 4, 3)),
    "conv_transpose": (
        convolution.ConvolveToData.make(PLAIN, 1, (4, 5)),
        (2, 3, 3, 3),
    ),
    "max_pool_pick": (pooling.MaxPoolPick.make(CENTRED), (2, 4, 4, 3)),
    "max_pool_route": (pooling.MaxPoolRoute.make(CENTRED), (2, 4, 4, 3)),
}

# They choose their result's dtype themselves, whatever comes in.
SETS_DTYPE = {"astype", "argmax", "argmin", "one_hot", "positions"}

CASES = [
    pytest.param(s, id=f"{name}-{' '.join(str(list(a.shape)) for a in s.inputs)}-{i}")
    for name, rows in SAMPLES.items()
    for i, s in enumerate(rows)
]
ELEMENTWISE = [case for case in CASES if isinstance(case.values[0].op, ElementwiseOp)]
NAMES = sorted(OPS)


def is_ours(name: str) -> bool:
    """Gates that other tests define enter no table, but ops of plug-ins would."""
    return OPS[name].__module__.startswith("chainrule.")


def differentiable(sample: Sample) -> bool:
    y = apply(sample.op, *sample.tensors())
    return y.requires_grad and y.size > 0


def directions(sample: Sample, seed: int) -> list[np.ndarray]:
    """A direction for each input: 0 along integers."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=a.shape) if a.dtype.kind == "f" else np.zeros(a.shape)
        for a in sample.inputs
    ]


def weights_of(sample: Sample) -> np.ndarray:
    y = apply(sample.op, *sample.tensors())
    return np.random.default_rng(1).normal(size=y.shape)


def weighted(op: Op, tensors: list[cr.Tensor], weights: np.ndarray) -> cr.Tensor:
    return cr.sum(apply(op, *tensors) * weights)


def moved(sample: Sample, by: list[np.ndarray], step: float) -> list[cr.Tensor]:
    return [
        cr.Tensor(a + step * v, requires_grad=True) if a.dtype.kind == "f" else
        cr.Tensor(a)
        for a, v in zip(sample.inputs, by, strict=True)
    ]  # fmt: skip


def floats(tensors: list[cr.Tensor]) -> list[cr.Tensor]:
    return [t for t in tensors if t.requires_grad]


def slope(sample: Sample, tensors: list[cr.Tensor], create_graph: bool) -> list[Any]:
    y = weighted(sample.op, tensors, weights_of(sample))
    return gradients(y, floats(tensors), create_graph=create_graph)


def test_every_op_has_a_sample_row():
    assert {n for n in NAMES if is_ours(n)} == set(SAMPLES)
    for name, rows in SAMPLES.items():
        assert {s.op.name for s in rows} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_an_op_is_documented_and_has_a_function(name):
    cls, public = OPS[name], FUNCTIONS[FUNCTION_OF.get(name, name)]
    assert public.__doc__
    assert public.__doc__.strip()
    assert cls.pattern, f"{name} does not say how it treats the gradient"
    assert not cls.__doc__.startswith(f"{cls.__name__}("), f"{cls} has no docstring"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sample", CASES)
def test_the_spec_tells_shape_and_dtype_of_the_value(sample, dtype):
    arrays = sample.arrays(dtype)
    wanted = sample.op.dtypes(*(a.dtype for a in arrays))
    arrays = [a.astype(d) for a, d in zip(arrays, wanted, strict=True)]
    promised = sample.op.spec(*map(Spec.of, arrays))
    value = np.asarray(sample.op.compute(*arrays))
    assert promised == Spec.of(value)
    assert promised == apply(sample.op, *sample.tensors(dtype)).spec


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sample", CASES)
def test_the_dtype_is_kept_by_value_and_gradient(sample, dtype):
    tensors = sample.tensors(dtype)
    y = apply(sample.op, *tensors)
    if sample.op.name not in SETS_DTYPE and y.dtype.kind == "f":
        assert y.dtype == dtype
    if y.requires_grad:
        for x, dx in zip(floats(tensors), gradients(cr.sum(y), floats(tensors)),
                         strict=True):  # fmt: skip
            assert dx.spec == x.spec


@pytest.mark.parametrize("sample", CASES)
def test_operands_are_left_as_they_were(sample):
    tensors = sample.tensors()
    y = apply(sample.op, *tensors)
    if y.requires_grad:
        gradients(cr.sum(y), floats(tensors))
    for t, a in zip(tensors, sample.inputs, strict=True):
        np.testing.assert_array_equal(t.data, a)


@pytest.mark.parametrize("sample", [c for c in CASES if differentiable(c.values[0])])
def test_first_derivatives_agree_with_central_differences(sample):
    local = slope(sample, sample.tensors(), create_graph=False)
    for seed in range(3):
        by = directions(sample, seed)
        ahead, behind = (
            weighted(sample.op, moved(sample, by, h), weights_of(sample)).item()
            for h in (STEP, -STEP)
        )
        along = [
            v for v, a in zip(by, sample.inputs, strict=True) if a.dtype.kind == "f"
        ]
        expected = sum((g.data * v).sum() for g, v in zip(local, along, strict=True))
        assert (ahead - behind) / (2 * STEP) == pytest.approx(
            expected, rel=1e-6, abs=1e-7
        )


@pytest.mark.parametrize("sample", [c for c in CASES if differentiable(c.values[0])])
def test_second_derivatives_agree_with_differences_of_the_first(sample):
    tensors = sample.tensors()
    local = slope(sample, tensors, create_graph=True)
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=g.shape) for g in local]
    total = sum((cr.sum(g * w) for g, w in zip(local, weights, strict=True)), cr.Tensor(
        0.0, "float64"))  # fmt: skip
    second = gradients(total, floats(tensors))
    by = directions(sample, 3)
    ahead, behind = (
        sum(
            (g.data * w).sum()
            for g, w in zip(
                slope(sample, moved(sample, by, h), create_graph=False),
                weights,
                strict=True,
            )
        )
        for h in (STEP, -STEP)
    )
    along = [v for v, a in zip(by, sample.inputs, strict=True) if a.dtype.kind == "f"]
    expected = sum((g.data * v).sum() for g, v in zip(second, along, strict=True))
    assert (ahead - behind) / (2 * STEP) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("sample", [c for c in CASES if differentiable(c.values[0])])
def test_the_gradients_of_a_reused_input_add_up(sample):
    tensors = sample.tensors()
    once = slope(sample, tensors, create_graph=False)
    weights = weights_of(sample)
    twice = weighted(sample.op, tensors, weights) + 2 * weighted(
        sample.op, tensors, weights
    )
    for g, total in zip(once, gradients(twice, floats(tensors)), strict=True):
        np.testing.assert_allclose(total.data, 3 * g.data, rtol=1e-13)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, rows in SAMPLES.items()
        if [a.dtype.kind for a in rows[0].inputs] == ["f", "f"]
        and differentiable(rows[0])
    ],
)
def test_one_tensor_in_both_places_receives_both_gradients(name):
    op, sizes = IN_BOTH_PLACES.get(name, (SAMPLES[name][0].op, (3, 3)))
    point = positive(*sizes)
    x = cr.Tensor(point, requires_grad=True)
    p, q = (cr.Tensor(point, requires_grad=True) for _ in range(2))
    y = apply(op, x, x)
    weights = np.random.default_rng(0).normal(size=y.shape)
    (both,) = gradients(cr.sum(y * weights), [x])
    left, right = gradients(cr.sum(apply(op, p, q) * weights), [p, q])
    np.testing.assert_allclose(both.data, left.data + right.data, rtol=1e-13)


# ----------------------------------------------------------------------- compiled


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sample", CASES)
def test_native_code_agrees_in_values_and_gradients(sample, dtype, agreement):
    agreement.check(lambda *xs: apply(sample.op, *xs), sample.inputs, dtype)


# Of zeros with different signs, NumPy's maximum is either, as it comes.
OF_EITHER_SIGN = {"elu", "index_add", "max_pool", "max_pool_route", "maximum",
                  "minimum", "relu"}  # fmt: skip
CONVOLUTIONS = {"conv", "conv_to_filters", "conv_transpose"}
SUM_POOLINGS = {"sum_pool", "sum_pool_to_data"}
# Sums of 1e30 and small numbers are what their order makes of them.
IN_ANY_ORDER = {"cumsum", "matmul", "mean", "sum"} | CONVOLUTIONS | SUM_POOLINGS


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in SAMPLES if n not in IN_ANY_ORDER])
def test_native_code_agrees_at_extremes_to_the_sign_of_zero(name, dtype, agreement):
    sample = SAMPLES[name][0]
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def f(*given):
        xs = [x.detach() for x in given]
        for x in xs:
            x.requires_grad = x.dtype.kind == "f"
        y = apply(sample.op, *xs)
        dy = np.ones(y.shape, y.dtype)
        return [y, *(gradients(y, floats(xs), [dy]) if y.requires_grad else [])]

    compiled = cr.compile(f)
    for _ in range(20):
        tensors = [
            cr.Tensor(rng.choice(SPECIAL, a.shape).astype(dtype))
            if a.dtype.kind == "f"
            else cr.Tensor(a)
            for a in sample.inputs
        ]
        with np.errstate(all="ignore"):
            eager = [t.data for t in f(*tensors)]
        found = [t.data for t in compiled(*tensors)]
        for y, e in zip(found, eager, strict=True):
            if y.dtype.kind != "f":
                np.testing.assert_array_equal(y, e)
                continue
            rtol = 1e-13 if dtype == "float64" else 4e-6
            np.testing.assert_allclose(y, e, rtol=rtol, atol=2 * np.finfo(dtype).eps)
            if name not in OF_EITHER_SIGN:
                is_zero = (y == 0) & (e == 0)
                np.testing.assert_array_equal(np.signbit(y[is_zero]),
                                              np.signbit(e[is_zero]))  # fmt: skip


# -------------------------------------------------------------------- elementwise


def _divide(x: float, y: float) -> float:
    if y == 0:
        return math.nan if x == 0 else math.copysign(math.inf, x)
    return x / y


# Another reading of scalar expressions, one number at a time, with Python's math.
PYTHON = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": _divide,
    "negative": lambda x: -x,
    "power": lambda x, y: x**y,
    "exp": math.exp,
    "expm1": math.expm1,
    "log": math.log,
    "log1p": math.log1p,
    "sqrt": math.sqrt,
    "absolute": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "floor": math.floor,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
    "erf": math.erf,
    "minimum": min,
    "maximum": max,
    "equal": lambda x, y: x == y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "not_equal": lambda x, y: x != y,
    "logical_and": lambda x, y: x and y,
    "logical_or": lambda x, y: x or y,
    "logical_not": lambda x: not x,
    "select": lambda c, x, y: x if c else y,
}


@pytest.mark.parametrize("sample", ELEMENTWISE)
def test_the_value_is_what_the_expression_says_of_each_element(sample):
    op = sample.op
    value = np.asarray(op.compute(*sample.inputs))
    stretched = [np.broadcast_to(a, value.shape).ravel() for a in sample.inputs]
    for i, y in enumerate(value.ravel()):
        numbers = [a[i].item() for a in stretched]
        symbols = dict(zip(op.arguments, numbers, strict=True))
        expected = scalar.fold(op.expression, PYTHON, symbols, lambda v: v)
        assert y == pytest.approx(expected, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize(
    "name", [n for n, rows in SAMPLES.items() if isinstance(rows[0].op, ElementwiseOp)]
)
def test_an_elementwise_op_broadcasts_as_numpy_does(name):
    op, count = SAMPLES[name][0].op, len(SAMPLES[name][0].inputs)
    sizes = [(2, 1, 3), (4, 1), (3,)][:count] if count > 1 else [(2, 1, 3)]
    arrays = [positive(*s) for s in sizes]
    for i, given in enumerate(SAMPLES[name][0].inputs):
        if given.dtype == bool:
            arrays[i] = bools(*sizes[i])
    whole = np.broadcast_shapes(*sizes)
    narrow = Sample(op, tuple(arrays)).tensors()
    wide = Sample(op, tuple(np.broadcast_to(a, whole) for a in arrays)).tensors()
    y, z = apply(op, *narrow), apply(op, *wide)
    assert y.shape == whole
    np.testing.assert_allclose(y.data, z.data, rtol=1e-13)
    if not y.requires_grad:
        return
    weights = np.random.default_rng(0).normal(size=whole)
    summed = gradients(cr.sum(y * weights), floats(narrow))
    single = gradients(cr.sum(z * weights), floats(wide))
    for dx, dz, t in zip(summed, single, floats(narrow), strict=True):
        expected = cr.sum_to(dz, t.shape)
        np.testing.assert_allclose(dx.data, expected.data, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sample", ELEMENTWISE)
def test_an_elementwise_op_prints_as_a_formula(sample):
    names = [f"v{i}" for i in range(len(sample.inputs))]
    text = sample.op.formula(*names)
    assert all(n in text for n in names if sample.op.name != "power_constant")


@pytest.mark.parametrize("sample", CASES)
def test_an_op_prints_as_latex_that_mathtext_compiles(sample):
    from matplotlib.mathtext import MathTextParser

    names = [f"x_{{{i}}}" for i in range(len(sample.inputs))]
    text = sample.op.latex(*names)
    MathTextParser("path").parse(f"${text}$")
    assert all(n in text for n in names if sample.op.name != "power_constant")


@pytest.mark.parametrize("sample", [c for c in CASES if differentiable(c.values[0])])
def test_the_terms_that_explain_lists_of_an_op_are_its_gradient(sample):
    inputs = sample.tensors()
    loss = weighted(sample.op, inputs, weights_of(sample))
    rng = np.random.default_rng(0)
    for x in (t for t in floats(inputs) if t.size):
        entry = tuple(int(rng.integers(n)) for n in x.shape)
        found = cr.explain(loss, wrt=x, entry=entry, max_terms=1000)
        (gradient,) = gradients(loss, [x])
        wanted = gradient.data[entry]
        total = math.fsum(p.value for p in found.paths)
        assert total == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert found.value == pytest.approx(wanted, rel=1e-9, abs=1e-12)


# ------------------------------------------------------------------ extreme values

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e30, -1e30, 1e-30, math.inf, -math.inf, math.nan]
# NumPy itself reports inf - inf, 0·inf and overflow of these, as it does for arrays.
ARITHMETIC = {
    "add",
    "subtract",
    "multiply",
    "matmul",
    "sum",
    "mean",
    "index_add",
    "cumsum",
    *CONVOLUTIONS,
    *SUM_POOLINGS,
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in SAMPLES if n not in ARITHMETIC])
def test_values_and_gradients_at_extremes_come_without_a_warning(name, dtype):
    sample = SAMPLES[name][0]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(20):
        tensors = [
            cr.Tensor(rng.choice(SPECIAL, a.shape).astype(dtype), requires_grad=True)
            if a.dtype.kind == "f"
            else cr.Tensor(a)
            for a in sample.inputs
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            y = apply(sample.op, *tensors)
            if y.requires_grad:
                gradients(y, floats(tensors), [np.ones(y.shape)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "x", "y", "dx"),
    [
        ("sigmoid", [-1e4, 0.0, 1e4], [0.0, 0.5, 1.0], [0.0, 0.25, 0.0]),
        ("tanh", [-1e4, 0.0, 1e4], [-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
        ("softplus", [-1e4, 0.0, 1e4], [0.0, math.log(2), 1e4], [0.0, 0.5, 1.0]),
        ("log_sigmoid", [-1e4, 0.0, 1e4], [-1e4, -math.log(2), 0.0], [1.0, 0.5, 0.0]),
        ("silu", [-1e4, 0.0, 1e4], [0.0, 0.0, 1e4], [0.0, 0.5, 1.0]),
        ("gelu", [-1e4, 0.0, 1e4], [0.0, 0.0, 1e4], [0.0, 0.5, 1.0]),
        ("elu", [-1e4, 1e-9, 1e4], [-1.0, 1e-9, 1e4], [0.0, 1.0, 1.0]),
        ("erf", [-1e4, 1e4], [-1.0, 1.0], [0.0, 0.0]),
        ("relu", [-1e4, 0.0, 1e4], [0.0, 0.0, 1e4], [0.0, 0.0, 1.0]),
        ("log1p", [1e-12, 0.0], [1e-12, 0.0], [1.0, 1.0]),
        ("expm1", [1e-12, -1e4], [1e-12, -1.0], [1.0, 0.0]),
        ("abs", [-1e4, 0.0, 1e4], [1e4, 0.0, 1e4], [-1.0, 0.0, 1.0]),
        ("log", [0.0, math.inf], [-math.inf, math.inf], [math.inf, 0.0]),
        ("sqrt", [0.0, 1e30], [0.0, 1e15], [math.inf, 5e-16]),
    ],
)
def test_a_function_of_one_number_at_its_extremes(name, x, y, dx, dtype):
    t = cr.Tensor(x, dtype, requires_grad=True)
    value = FUNCTIONS[name](t)
    value.backward(np.ones(len(x)))
    np.testing.assert_allclose(value.data, y, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(t.grad.data, dx, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("form", ["none", "sigmoid", "tanh"])
def test_every_form_of_gelu_is_finite_far_out(form, dtype):
    x = cr.Tensor([-1e4, -0.5, 0.5, 1e4], dtype, requires_grad=True)
    y = cr.gelu(x, form)
    y.backward(np.ones(4))
    assert np.isfinite(y.data).all()
    np.testing.assert_allclose(x.grad.data[[0, 3]], [0.0, 1.0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_logsumexp_of_ten_thousands(sign, dtype):
    x = cr.Tensor([sign * 1e4, sign * 1e4, -1e5], dtype, requires_grad=True)
    y = cr.logsumexp(x)
    y.backward()
    assert y.item() == pytest.approx(sign * 1e4 + math.log(2), rel=1e-7)
    np.testing.assert_allclose(x.grad.data, [0.5, 0.5, 0.0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_log_softmax_across_a_gap_of_one_hot_size(dtype):
    x = cr.Tensor([[1e4, 0.0, -1e4]], dtype, requires_grad=True)
    y = cr.log_softmax(x)
    cr.sum(y * [[0.0, 1.0, 0.0]]).backward()
    np.testing.assert_allclose(y.data, [[0.0, -1e4, -2e4]])
    np.testing.assert_allclose(x.grad.data, [[-1.0, 1.0, 0.0]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_across_a_gap_of_one_hot_size(dtype):
    x = cr.Tensor([[1e4, 0.0, -1e4], [-1e4, -1e4, -3e4]], dtype, requires_grad=True)
    y = cr.softmax(x)
    y.backward(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(y.data, [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(x.grad.data, [[0.0, 0.0, 0.0], [-0.25, 0.25, 0.0]])


@pytest.mark.parametrize("name", ["max", "min", "sum", "mean", "logsumexp", "softmax"])
def test_a_nan_makes_the_reduction_nan(name):
    x = cr.Tensor([1.0, math.nan, 2.0])
    assert np.isnan(FUNCTIONS[name](x).data).all()


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "abs", "sign", "softplus"]
)
def test_a_nan_stays_nan(name):
    assert math.isnan(FUNCTIONS[name](cr.Tensor(math.nan)).item())
    assert math.isnan(cr.clip(cr.Tensor(math.nan), 0.0, 1.0).item())


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("pair", [(math.nan, 1.0), (1.0, math.nan)])
def test_the_larger_and_the_smaller_of_a_nan_and_a_number_is_nan(name, pair):
    assert math.isnan(FUNCTIONS[name](*map(cr.Tensor, pair)).item())
