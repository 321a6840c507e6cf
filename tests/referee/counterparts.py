"""Entries of PyTorch's op database and what chainrule has in their place.

An adapter is called as PyTorch's function is, with chainrule tensors in the place of
torch's, and returns a tensor or a tuple of tensors. It raises Skip where the sample
asks for what chainrule leaves out on purpose. Where no function of ours has the name,
the adapter is what a user would write in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn

Tensor = cr.Tensor


class Skip(Exception):
    """A sample outside chainrule's scope, with the reason."""


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Skip(reason)


COUNTERPARTS: dict[str, Callable[..., Any]] = {}

LEFT_OUT = {
    "nn.functional.batch_norm.without_cudnn": "batch_norm again, on a GPU",
    "nn.functional.ctc_loss": "sequences",
    "nn.functional.embedding_bag": "bags of words",
    "nn.functional.fractional_max_pool2d": "random windows",
    "nn.functional.fractional_max_pool3d": "random windows",
    "nn.functional.grid_sample": "pixels read at positions that a network computes",
    "grid_sampler_2d": "pixels read at positions that a network computes",
    "grid_sampler_3d": "pixels read at positions that a network computes",
    "nn.functional.hardsigmoid": "PyTorch's slope in float64 is float32's 1/6",
    "nn.functional.hinge_embedding_loss": "sums of five numbers that cancel, which "
    "PyTorch gets exactly",
    "nn.functional.linear_cross_entropy": "linear and cross_entropy in one",
    "nn.functional.linear_cross_entropy.chunked": "linear and cross_entropy in one",
    "nn.functional.linear_cross_entropy.chunked_none": "linear and cross_entropy in "
    "one",
    "nn.functional.multi_head_attention_forward": "a layer of twenty options",
    "nn.functional.multilabel_margin_loss": "labels as lists that -1 ends",
    "nn.functional.silu.complex": "complex numbers",
}
"""Functions of networks, and of images, for which nothing stands here; and why."""


def counterpart(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(adapter: Callable[..., Any]) -> Callable[..., Any]:
        COUNTERPARTS.update(dict.fromkeys(names, adapter))
        return adapter

    return enter


def sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    """view(2, 3) and view((2, 3)) alike."""
    one = len(given) == 1 and isinstance(given[0], (tuple, list))
    return tuple(given[0]) if one else tuple(given)


def axis_of(x: Tensor, dim: Any) -> Any:
    """PyTorch's axes in our words: an empty list is all, a scalar has an axis 0."""
    is_all = isinstance(dim, (tuple, list)) and not dim
    return None if is_all or not x.ndim else dim


# --------------------------------------------------------------------- elementwise

UNARY = {
    "abs": cr.abs,
    "clone": cr.identity,
    "cos": cr.cos,
    "erf": cr.erf,
    "exp": cr.exp,
    "exp2": lambda x: 2.0**x,
    "expm1": cr.expm1,
    "floor": cr.floor,
    "log": cr.log,
    "log1p": cr.log1p,
    "neg": cr.negative,
    "positive": cr.identity,
    "reciprocal": cr.reciprocal,
    "rsqrt": lambda x: x**-0.5,
    "sgn": cr.sign,
    "sigmoid": cr.sigmoid,
    "sign": cr.sign,
    "sin": cr.sin,
    "sqrt": cr.sqrt,
    "square": cr.square,
    "tan": lambda x: cr.sin(x) / cr.cos(x),
    "tanh": cr.tanh,
    "erfc": lambda x: 1.0 - cr.erf(x),
    "sinh": lambda x: (cr.exp(x) - cr.exp(-x)) / 2,
    "cosh": lambda x: (cr.exp(x) + cr.exp(-x)) / 2,
    "frac": lambda x: x - cr.sign(x) * cr.floor(cr.abs(x)),
    "trunc": lambda x: cr.sign(x) * cr.floor(cr.abs(x)),
    "ceil": lambda x: -cr.floor(-x),
    "isnan": lambda x: x != x,
    "isinf": lambda x: cr.abs(x) == math.inf,
    "isfinite": lambda x: cr.abs(x) < math.inf,
    "logical_not": lambda x: ~(x != 0),
    "zeros_like": lambda x, dtype=None, **layout: cr.zeros_like(
        x if dtype is None else x.astype(dtype)
    ),
    "ones_like": lambda x, dtype=None, **layout: cr.ones_like(
        x if dtype is None else x.astype(dtype)
    ),
    "nn.functional.hardswish": lambda x: x * cr.clip(x / 6 + 0.5, 0, 1),
    "nn.functional.logsigmoid": cr.log_sigmoid,
    "nn.functional.mish": lambda x: x * cr.tanh(cr.softplus(x)),
    "nn.functional.relu": lambda x, inplace=False: cr.relu(x),
    "nn.functional.relu6": lambda x, inplace=False: cr.clip(x, 0, 6),
    "nn.functional.silu": lambda x, inplace=False: cr.silu(x),
    "nn.functional.softsign": lambda x: x / (1 + cr.abs(x)),
    "nn.functional.tanhshrink": lambda x: x - cr.tanh(x),
}
COUNTERPARTS.update(UNARY)

BINARY = {
    "__radd__": lambda x, y: y + x,
    "__rdiv__": lambda x, y: y / x,
    "__rmatmul__": lambda x, y: y @ x,
    "__rmul__": lambda x, y: y * x,
    "__rpow__": lambda x, y: y**x,
    "__rsub__": lambda x, y: y - x,
    "eq": cr.equal,
    "ge": cr.greater_equal,
    "gt": cr.greater,
    "hypot": lambda x, y: cr.sqrt(x * x + y * y),
    "le": cr.less_equal,
    "lt": cr.less,
    "max.binary": cr.maximum,
    "maximum": cr.maximum,
    "min.binary": cr.minimum,
    "minimum": cr.minimum,
    "logical_and": lambda x, y: (x != 0) & (y != 0),
    "logical_or": lambda x, y: (x != 0) | (y != 0),
    "logical_xor": lambda x, y: (x != 0) != (y != 0),
    "mul": cr.multiply,
    "ne": cr.not_equal,
    "pow": cr.power,
    "true_divide": cr.divide,
    "div.no_rounding_mode": lambda x, y, rounding_mode=None: cr.divide(x, y),
    "logaddexp": lambda x, y: cr.maximum(x, y) + cr.log1p(cr.exp(-cr.abs(x - y))),
    "xlogy": lambda x, y: x * cr.log(y),
}
COUNTERPARTS.update(BINARY)


@counterpart("add")
def add(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    return x + y if alpha == 1 else x + y * alpha


@counterpart("sub")
def subtract(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    return x - y if alpha == 1 else x - y * alpha


@counterpart("rsub")
def reversed_subtract(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    return y - x * alpha


@counterpart("float_power")
def float_power(x: Tensor, y: Any) -> Tensor:
    return x.astype("float64") ** y


@counterpart("addcmul")
def add_product(x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    return x + a * b * value


@counterpart("addcdiv")
def add_quotient(x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    return x + a / b * value


@counterpart("lerp")
def lerp(x: Tensor, y: Tensor, weight: Any) -> Tensor:
    return x + (y - x) * weight


@counterpart("clamp")
def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        x = x if min is None else cr.maximum(x, min)
        return x if max is None else cr.minimum(x, max)
    return cr.clip(x, min, max)


@counterpart("clamp_min")
def clamp_min(x: Tensor, min: Any) -> Tensor:
    return cr.maximum(x, min)


@counterpart("clamp_max")
def clamp_max(x: Tensor, max: Any) -> Tensor:
    return cr.minimum(x, max)


@counterpart("where")
def where(x: Tensor, condition: Tensor, y: Any) -> Tensor:
    return cr.where(condition, x, y)


@counterpart("masked_fill")
def masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    return cr.where(mask, value, x)


@counterpart("nn.functional.leaky_relu")
def leaky_relu(
    x: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    return cr.leaky_relu(x, negative_slope)


@counterpart("nn.functional.elu")
def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return cr.elu(x, alpha)


@counterpart("nn.functional.celu")
def celu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return cr.elu(x / alpha) * alpha


@counterpart("nn.functional.selu")
def selu(x: Tensor, inplace: bool = False) -> Tensor:
    return (
        cr.elu(x, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946
    )


@counterpart("nn.functional.gelu")
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return cr.gelu(x, approximate)


@counterpart("nn.functional.softplus")
def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    # PyTorch goes over to x itself above the threshold; we have no need to.
    need(x.size == 0 or float((x.data * beta).max()) <= threshold or threshold >= 20,
         "softplus cut off at a threshold")  # fmt: skip
    return cr.softplus(x * beta) / beta


@counterpart("nn.functional.hardtanh")
def hardtanh(
    x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return cr.clip(x, min_val, max_val)


@counterpart("nn.functional.threshold")
def threshold(
    x: Tensor, threshold: float, value: float, inplace: bool = False
) -> Tensor:
    return cr.where(x > threshold, x, value)


@counterpart("nn.functional.hardshrink")
def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    return cr.where(cr.abs(x) > lambd, x, 0.0)


@counterpart("nn.functional.softshrink")
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    return cr.sign(x) * cr.relu(cr.abs(x) - lambd)


@counterpart("nn.functional.glu")
def glu(x: Tensor, dim: int = -1) -> Tensor:
    half = x.shape[dim] // 2
    a, b = cr.split(x, (half, half), dim)
    return a * cr.sigmoid(b)


@counterpart("nn.functional.prelu")
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    if not weight.ndim or x.ndim < 2:
        weight = cr.reshape(weight, ())
    else:  # one slope for each channel, which PyTorch keeps on axis 1
        weight = cr.reshape(weight, (-1, *(1 for _ in x.shape[2:])))
    return cr.where(x > 0, x, x * weight)


@counterpart("nn.functional.dropout", "nn.functional.dropout2d",
             "nn.functional.alpha_dropout")  # fmt: skip
def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    need(not training or p == 0, "random: two generators draw different masks")
    return nn.Dropout(p).eval()(x) if p < 1 else x


# ---------------------------------------------------------------------- reductions


def reduction(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None):
        need(dtype is None, "a dtype argument")
        return f(x, axis_of(x, dim), keepdims=keepdim)

    return adapter


COUNTERPARTS |= {
    "amax": reduction(cr.max),
    "amin": reduction(cr.min),
    "logsumexp": reduction(cr.logsumexp),
    "mean": reduction(cr.mean),
    "sum": reduction(cr.sum),
    "nansum": reduction(
        lambda x, axis, keepdims: cr.sum(
            cr.where(x == x, x, 0.0), axis, keepdims=keepdims
        )
    ),
}


@counterpart("max.reduction_no_dim")
def max_of_all(x: Tensor) -> Tensor:
    return cr.max(x)


@counterpart("min.reduction_no_dim")
def min_of_all(x: Tensor) -> Tensor:
    return cr.min(x)


def extremum_and_position(
    extremum: Callable[..., Tensor], position: Callable[..., Tensor]
) -> Callable[..., Any]:
    def adapter(x: Tensor, dim: int, keepdim: bool = False) -> Any:
        if not x.ndim:
            return extremum(x), position(x)
        where = position(x, dim)
        kept = cr.expand_dims(where, dim) if keepdim else where
        return extremum(x, dim, keepdims=keepdim), kept

    return adapter


COUNTERPARTS |= {
    "max.reduction_with_dim": extremum_and_position(cr.max, cr.argmax),
    "min.reduction_with_dim": extremum_and_position(cr.min, cr.argmin),
}


def position(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        if not x.ndim:
            return f(x)
        found = f(x, dim)
        if not keepdim:
            return found
        if dim is None:
            return cr.reshape(found, (1,) * x.ndim)
        return cr.expand_dims(found, dim)

    return adapter


COUNTERPARTS |= {"argmax": position(cr.argmax), "argmin": position(cr.argmin)}


def softmax_like(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
        if dtype is not None:
            x = x.astype(dtype)
        if not x.ndim:
            return cr.reshape(f(cr.reshape(x, 1), 0), ())
        need(x.shape[dim] > 0, "softmax of nothing raises an error here")
        return f(x, dim)

    return adapter


for name in ("softmax", "log_softmax"):
    f = softmax_like(getattr(cr, name))
    COUNTERPARTS |= {name: f, f"{name}.with_dtype": f}
softmin = softmax_like(lambda x, axis: cr.softmax(-x, axis))
COUNTERPARTS |= {
    "nn.functional.softmin": softmin,
    "nn.functional.softmin.with_dtype": softmin,
}


@counterpart("var", "var.unbiased")
def var(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return spread(cr.var, x, *args, **kwargs)


@counterpart("std", "std.unbiased")
def std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return spread(cr.std, x, *args, **kwargs)


@counterpart("var_mean", "var_mean.unbiased")
def var_mean(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return spread(cr.var, x, *args, **kwargs), mean_beside(x, *args, **kwargs)


@counterpart("std_mean", "std_mean.unbiased")
def std_mean(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return spread(cr.std, x, *args, **kwargs), mean_beside(x, *args, **kwargs)


def spread(
    f: Callable[..., Tensor], x: Tensor, *args: Any, unbiased: bool = True,
    dim: Any = None, keepdim: bool = False, correction: Any = None,
) -> Tensor:  # fmt: skip
    for given in args:
        if isinstance(given, bool):
            unbiased = given
        else:
            dim = given
    need(correction is None or float(correction).is_integer(), "a broken correction")
    correction = int(unbiased) if correction is None else int(correction)
    return f(x, axis_of(x, dim), keepdims=keepdim, correction=correction)


def mean_beside(
    x: Tensor, *args: Any, dim: Any = None, keepdim: bool = False, **rest: Any
) -> Tensor:
    for given in args:
        dim = dim if isinstance(given, bool) else given
    return cr.mean(x, axis_of(x, dim), keepdims=keepdim)


@counterpart("cumsum")
def cumsum(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    need(dtype is None, "a dtype argument")
    return cr.cumsum(x, dim) if x.ndim else x


@counterpart("count_nonzero")
def count_nonzero(x: Tensor, dim: Any = None) -> Tensor:
    return cr.sum(x != 0, axis_of(x, dim))


@counterpart("norm", "norm.fro", "norm.inf")
def norm(x: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False) -> Tensor:
    p = 2 if p in ("fro", None) else p
    axis, options = axis_of(x, dim), {"keepdims": keepdim}
    if p in (1, 2, math.inf):
        return cr.norm(x, axis, order=p, **options)
    if p == -math.inf:
        return cr.min(cr.abs(x), axis, **options)
    if p == 0:
        return cr.sum((x != 0).astype(x.dtype), axis, **options)
    need(p >= 1, "an order below 1, which makes no norm")
    largest = cr.max(cr.abs(x), axis, keepdims=True).detach() if x.size else 1.0
    powers = cr.sum((cr.abs(x) / largest) ** p, axis, keepdims=True) ** (1 / p)
    return cr.sum(powers * largest, axis, **options)


@counterpart("linalg.vector_norm")
def vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    need(dtype is None, "a dtype argument")
    return norm(x, ord, dim, keepdim)


@counterpart("dist")
def dist(x: Tensor, y: Tensor, p: Any = 2) -> Tensor:
    return norm(x - y, p)


@counterpart("nn.functional.normalize")
def normalize(x: Tensor, p: Any = 2, dim: Any = 1, eps: float = 1e-12, out: Any = None):
    need(out is None, "an out= argument")
    return x / cr.maximum(norm(x, p, dim, True), eps)


@counterpart("trace")
def trace(x: Tensor) -> Tensor:
    n = np.arange(min(x.shape))
    return cr.sum(x[n, n])


# -------------------------------------------------------------------------- shapes


@counterpart("reshape", "view", "view_copy")
def reshape(x: Tensor, *shape: Any) -> Tensor:
    return cr.reshape(x, sizes(shape))


@counterpart("reshape_as", "view_as")
def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    return cr.reshape(x, other.shape)


@counterpart("ravel")
def ravel(x: Tensor) -> Tensor:
    return cr.reshape(x, -1)


@counterpart("flatten")
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    need(end_dim in (-1, x.ndim - 1), "flatten that stops before the last axis")
    return cr.flatten(x, start_dim)


@counterpart("unflatten")
def unflatten(x: Tensor, dim: int, sizes: Any) -> Tensor:
    a = dim % x.ndim
    return cr.reshape(x, (*x.shape[:a], *sizes, *x.shape[a + 1 :]))


@counterpart("permute", "permute_copy")
def permute(x: Tensor, *dims: Any) -> Tensor:
    return cr.transpose(x, sizes(dims))


@counterpart("transpose", "transpose_copy")
def transpose(x: Tensor, a: int, b: int) -> Tensor:
    return cr.swap_axes(x, a, b) if x.ndim else x


@counterpart("movedim")
def move_axis(x: Tensor, source: Any, destination: Any) -> Tensor:
    numbered = np.empty(range(x.ndim))  # axis i has size i
    return cr.transpose(x, np.moveaxis(numbered, source, destination).shape)


@counterpart("T", "t", "t_copy", "H")
def transposed(x: Tensor) -> Tensor:
    return x.T


@counterpart("mT", "mH")
def matrix_transposed(x: Tensor) -> Tensor:
    return cr.swap_axes(x, -1, -2)


@counterpart("expand", "expand_copy")
def expand(x: Tensor, *shape: Any) -> Tensor:
    wanted = list(sizes(shape))
    for i in range(1, x.ndim + 1):
        wanted[-i] = x.shape[-i] if wanted[-i] == -1 else wanted[-i]
    return cr.broadcast_to(x, wanted)


@counterpart("broadcast_to")
def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    return cr.broadcast_to(x, shape)


@counterpart("expand_as")
def expand_as(x: Tensor, other: Tensor) -> Tensor:
    return cr.broadcast_to(x, other.shape)


@counterpart("sum_to_size")
def sum_to_size(x: Tensor, *shape: Any) -> Tensor:
    return cr.sum_to(x, sizes(shape))


@counterpart("unsqueeze", "unsqueeze_copy")
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    return cr.expand_dims(x, dim)


@counterpart("squeeze", "squeeze.multiple", "squeeze_copy")
def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    if dim is None:
        return cr.squeeze(x)
    given = (dim,) if isinstance(dim, int) else dim
    # PyTorch passes over an axis that is longer than 1, we raise an error.
    ones = [a for a in given if x.ndim and x.shape[a] == 1]
    return cr.squeeze(x, ones)


@counterpart("flip")
def flip(x: Tensor, dims: Any) -> Tensor:
    return cr.flip(x, dims)


@counterpart("fliplr")
def flip_columns(x: Tensor) -> Tensor:
    return cr.flip(x, 1)


@counterpart("flipud")
def flip_rows(x: Tensor) -> Tensor:
    return cr.flip(x, 0)


@counterpart("roll")
def roll(x: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    if dims is None or not np.size(dims):
        return cr.reshape(cr.roll(cr.reshape(x, -1), int(np.sum(shifts)), 0), x.shape)
    for shift, axis in zip(np.atleast_1d(shifts), np.atleast_1d(dims), strict=True):
        x = cr.roll(x, int(shift), int(axis)) if x.ndim else x
    return x


@counterpart("cat")
def concatenate(tensors: Any, dim: int = 0) -> Tensor:
    # An empty vector joins anything in PyTorch, a relic that is left out here.
    need(
        all(t.ndim == tensors[0].ndim for t in tensors), "cat of a vector and a matrix"
    )
    return cr.concatenate(tensors, dim)


@counterpart("stack")
def stack(tensors: Any, dim: int = 0) -> Tensor:
    return cr.stack(tensors, dim)


@counterpart("hstack")
def hstack(tensors: Any) -> Tensor:
    return cr.concatenate(tensors, 1 if tensors[0].ndim > 1 else 0)


@counterpart("vstack")
def vstack(tensors: Any) -> Tensor:
    rows = [t if t.ndim > 1 else cr.reshape(t, (1, -1)) for t in tensors]
    return cr.concatenate(rows, 0)


@counterpart("column_stack")
def column_stack(tensors: Any) -> Tensor:
    columns = [t if t.ndim > 1 else cr.reshape(t, (-1, 1)) for t in tensors]
    return cr.concatenate(columns, 1)


@counterpart("split", "split.list_args", "unsafe_split")
def split(x: Tensor, size: Any, dim: int = 0) -> Any:
    if isinstance(size, int):
        count = x.shape[dim]
        size = [min(size, count - start) for start in range(0, count, size)]
    return tuple(cr.split(x, size, dim))


@counterpart("split_with_sizes", "split_with_sizes_copy")
def split_with_sizes(x: Tensor, split_sizes: Any, dim: int = 0) -> Any:
    return tuple(cr.split(x, split_sizes, dim))


@counterpart("chunk", "unsafe_chunk")
def chunk(x: Tensor, chunks: int, dim: int = 0) -> Any:
    return split(x, -(-x.shape[dim] // chunks), dim)


@counterpart("unbind", "unbind_copy")
def unbind(x: Tensor, dim: int = 0) -> Any:
    return tuple(cr.take(x, i, dim) for i in range(x.shape[dim]))


@counterpart("repeat", "tile")
def tile(x: Tensor, *repeats: Any) -> Tensor:
    return cr.tile(x, sizes(repeats))


@counterpart("repeat_interleave")
def repeat(x: Tensor, repeats: Any, dim: int | None = None, **rest: Any) -> Tensor:
    need(not isinstance(repeats, Tensor), "another number of repeats for each element")
    x, dim = (cr.reshape(x, -1), 0) if dim is None else (x, dim)
    return cr.repeat(x, repeats, dim)


@counterpart("nn.functional.pad.constant", "constant_pad_nd")
def pad(x: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    value = mode if isinstance(mode, (int, float)) else value
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    border = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
    return cut(cr.pad(x, border, 0.0 if value is None else value), pairs)


def cut(x: Tensor, pairs: Any) -> Tensor:
    """x without what negative pads, (before, after) for each axis, cut off."""
    axes = zip(x.shape, pairs, strict=True)
    return x[tuple(slice(max(-lo, 0), h - max(-hi, 0)) for h, (lo, hi) in axes)]


# ------------------------------------------------------------------------ indexing


@counterpart("__getitem__")
def getitem(x: Tensor, key: Any) -> Tensor:
    return x[key]


@counterpart("select")
def select(x: Tensor, dim: int, index: int) -> Tensor:
    return x[(*(slice(None),) * (dim % x.ndim), index)]


@counterpart("slice")
def slice_of(
    x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
):
    return x[(*(slice(None),) * (dim % x.ndim), slice(start, end, step))]


@counterpart("narrow", "narrow_copy")
def narrow(x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    start = int(start) % max(x.shape[dim], 1) if int(start) < 0 else int(start)
    return slice_of(x, dim, start, start + length)


@counterpart("index_select")
def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    if not x.ndim:
        return cr.reshape(cr.take(cr.reshape(x, 1), index, 0), ())
    return cr.take(x, cr.reshape(index, -1), dim)


@counterpart("take")
def take(x: Tensor, index: Tensor) -> Tensor:
    return cr.take(cr.reshape(x, -1), index, 0)


@counterpart("gather")
def gather(x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    if not x.ndim or not index.ndim:
        whole = cr.take(cr.reshape(x, -1), cr.reshape(index, -1), 0)
        return cr.reshape(whole, index.shape)
    need(index.ndim == x.ndim, "empty indices of another number of axes")
    return cr.take_along_axis(x, index, dim)


@counterpart("take_along_dim")
def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    if dim is None:
        return cr.take(cr.reshape(x, -1), cr.reshape(indices, -1), 0)
    need(
        all(a == dim % x.ndim or n == m
            for a, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True))),
        "indices that broadcast",
    )  # fmt: skip
    return cr.take_along_axis(x, indices, dim)


@counterpart("masked_select")
def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    shape = np.broadcast_shapes(x.shape, mask.shape) or (1,)
    return cr.broadcast_to(x, shape)[np.broadcast_to(mask.data, shape)]


@counterpart("index_add")
def index_add(
    x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1
) -> Tensor:
    if not x.ndim:
        return x + cr.sum(cr.reshape(source, -1)) * alpha
    added = cr.scatter_add(source, cr.reshape(index, -1), x.shape[dim], dim)
    return x + added * alpha


@counterpart("nn.functional.embedding")
def embedding(weight: Tensor, index: Tensor, **options: Any) -> Tensor:
    need(options.get("max_norm") is None, "embedding: max_norm")
    need(options.get("padding_idx") is None, "embedding: padding_idx")
    need(not options.get("scale_grad_by_freq"), "embedding: scale_grad_by_freq")
    need(not options.get("sparse"), "embedding: sparse gradients")
    return cr.take(weight, index, 0)


@counterpart("nn.functional.one_hot")
def one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    count = int(labels.data.max()) + 1 if num_classes < 0 else num_classes
    return cr.one_hot(labels, count, "int64")


# ------------------------------------------------------------------------ products

COUNTERPARTS |= {
    "bmm": cr.matmul,
    "dot": cr.matmul,
    "inner": lambda x, y: cr.matmul(x, cr.transpose(y)) if x.ndim and y.ndim else x * y,
    "matmul": cr.matmul,
    "mm": cr.matmul,
    "mv": cr.matmul,
    "vdot": cr.matmul,
    "outer": lambda x, y: x[:, None] * y,
}


@counterpart("addmm", "addmm.decomposed", "addmv", "baddbmm")
def add_matmul(
    x: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1
) -> Tensor:
    return x * beta + a @ b * alpha


@counterpart("addbmm")
def add_matmuls(
    x: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1
) -> Tensor:
    return x * beta + cr.sum(a @ b, 0) * alpha


@counterpart("addr")
def add_outer(
    x: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1
) -> Tensor:
    need(beta != 0, "beta = 0, which makes PyTorch pass over NaN")
    return x * beta + a[:, None] * b * alpha


@counterpart("linalg.vecdot")
def vecdot(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    return cr.sum(x * y, dim)


@counterpart("linalg.multi_dot")
def multi_dot(tensors: Any) -> Tensor:
    product = tensors[0]
    for t in tensors[1:]:
        product = product @ t
    return product


@counterpart("nn.functional.linear")
def linear(x: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    y = x @ cr.transpose(weight)
    return y if bias is None else y + bias


@counterpart("nn.functional.bilinear")
def bilinear(x: Tensor, y: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    outer = cr.expand_dims(x, -1) * cr.expand_dims(y, -2)
    flat = cr.reshape(outer, (*outer.shape[:-2], math.prod(outer.shape[-2:])))
    out, *inner = weight.shape
    return linear(flat, cr.reshape(weight, (out, math.prod(inner))), bias)


# -------------------------------------------------------------------------- losses


def reduced(terms: Tensor, reduction: str) -> Tensor:
    """PyTorch's mean is over all elements, ours over examples."""
    return {"mean": cr.mean, "sum": cr.sum, "none": cr.identity}[reduction](terms)


def same_shape(x: Tensor, y: Tensor) -> None:
    need(x.shape == y.shape, "predictions and targets that broadcast")


@counterpart("nn.functional.mse_loss")
def mse_loss(x: Tensor, y: Tensor, reduction: str = "mean", weight: Any = None):
    need(weight is None, "weights for elements")
    return elements(nn.squared_error, x, y, reduction)


@counterpart("nn.functional.l1_loss")
def l1_loss(x: Tensor, y: Tensor, reduction: str = "mean", weight: Any = None):
    need(weight is None, "weights for elements")
    return elements(nn.absolute_error, x, y, reduction)


def elements(
    loss: Callable[..., Tensor], x: Tensor, y: Tensor, reduction: str
) -> Tensor:
    """A loss that takes every element as an example of its own."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    p, t = (cr.reshape(cr.broadcast_to(v, shape), -1) for v in (x, y))
    terms = loss(p, t, reduction="none")
    return reduced(cr.reshape(terms, shape), reduction)


@counterpart("nn.functional.binary_cross_entropy_with_logits")
def bce_with_logits(
    x: Tensor, y: Tensor, weight: Any = None, reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:  # fmt: skip
    need(pos_weight is None, "weights for positive examples")
    terms = elements(nn.sigmoid_cross_entropy, x, y, "none")
    return reduced(terms if weight is None else terms * weight, reduction)


@counterpart("nn.functional.cross_entropy")
def cross_entropy(
    x: Tensor, y: Tensor, weight: Any = None, reduction: str = "mean",
    ignore_index: int = -100, label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    need(weight is None or weight.data.min() >= 0, "negative class weights")
    rows = rows_of_classes(x)
    if y.ndim and x.ndim == y.ndim:
        labels = rows_of_classes(y)
        need(np.allclose(labels.data.sum(1), 1), "labels that do not sum to 1")
    elif ignore_index >= 0:
        logs = cr.log_softmax(x, 1)
        return nll_loss(logs, y, weight, reduction, ignore_index)
    else:
        labels = cr.reshape(y, -1)
    loss = nn.softmax_cross_entropy(
        rows, labels, class_weights=weight, label_smoothing=label_smoothing,
        reduction=reduction,
    )  # fmt: skip
    if reduction != "none":
        return loss
    return cr.reshape(loss, (x.shape[0], *x.shape[2:]) if x.ndim > 1 else ())


def rows_of_classes(x: Tensor) -> Tensor:
    """Classes on axis 1, or alone, as rows of classes: one for each pixel."""
    x = x if x.ndim > 1 else x[None]
    x = cr.transpose(x, (0, *range(2, x.ndim), 1))
    return cr.reshape(x, (-1, x.shape[-1]))


@counterpart("nn.functional.nll_loss")
def nll_loss(
    x: Tensor, y: Tensor, weight: Any = None, reduction: str = "mean",
    ignore_index: int = -100, **rest: Any,
) -> Tensor:  # fmt: skip
    need(weight is None or weight.data.min() >= 0, "negative class weights")
    need(
        x.ndim < 4 or reduction == "none" or x.data.max() <= 0,
        "scores of pixels that are no log-probabilities: their sum cancels",
    )
    rows, labels = rows_of_classes(x), y.data.reshape(-1)
    counts = (labels != ignore_index).astype(x.dtype)
    labels = np.where(labels == ignore_index, 0, labels)
    weights = counts if weight is None else cr.take(weight, labels) * counts
    picked = cr.take_along_axis(rows, labels[:, None], 1)
    terms = -cr.squeeze(picked, 1) * weights
    if reduction == "mean":
        return cr.sum(terms) / cr.sum(weights)
    return reduced(cr.reshape(terms, y.shape), reduction)


@counterpart("nn.functional.multi_margin_loss")
def multi_margin_loss(
    x: Tensor, y: Tensor, p: int = 1, margin: float = 1.0, weight: Any = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    need(p == 1, "squared hinges")
    need(weight is None, "class weights")
    need(x.ndim == 2, "a single example")
    need(margin >= 0, "a negative margin")
    # PyTorch divides by the number of classes, the lectures do not.
    return nn.multiclass_hinge(x, y, margin=margin, reduction=reduction) / x.shape[1]


@counterpart("nn.functional.smooth_l1_loss")
def smooth_l1_loss(x: Tensor, y: Tensor, reduction: str = "mean", beta: float = 1.0):
    distance = cr.abs(x - y)
    if beta == 0:
        return reduced(distance, reduction)
    near = distance * distance * (0.5 / beta)
    return reduced(cr.where(distance < beta, near, distance - 0.5 * beta), reduction)


@counterpart("nn.functional.huber_loss")
def huber_loss(
    x: Tensor,
    y: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Any = None,
) -> Tensor:
    need(weight is None, "weights for elements")
    distance = cr.abs(x - y)
    far = delta * (distance - 0.5 * delta)
    near = distance * distance * 0.5
    return reduced(cr.where(distance < delta, near, far), reduction)


@counterpart("nn.functional.soft_margin_loss")
def soft_margin_loss(x: Tensor, y: Tensor, reduction: str = "mean", **rest: Any):
    return reduced(cr.softplus(-y * x), reduction)


@counterpart("nn.functional.layer_norm")
def layer_norm(
    x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    need(math.prod(shape) > 1, "one number normalised: a gradient of rounding errors")
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    deviation = x - cr.mean(x, axes, keepdims=True)
    y = deviation / cr.sqrt(cr.var(x, axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@counterpart("nn.functional.cosine_similarity")
def cosine_similarity(x: Tensor, y: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    need(x.shape == y.shape, "vectors that broadcast")
    axis = axis_of(x, dim)
    p, q = (t / cr.maximum(cr.norm(t, axis, keepdims=True), eps) for t in (x, y))
    return cr.sum(p * q, axis)


@counterpart("nn.functional.pairwise_distance")
def pairwise_distance(
    x: Tensor, y: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    return norm(x - y + eps, p, -1, keepdim)


@counterpart("nn.functional.kl_div")
def kl_div(
    x: Tensor, y: Tensor, reduction: str = "mean", log_target: bool = False, **rest: Any
) -> Tensor:
    terms = cr.exp(y) * (y - x) if log_target else y * (cr.log(y) - x)
    if reduction == "batchmean":
        return cr.sum(terms) / x.shape[0]
    return reduced(terms, reduction)


@counterpart("nn.functional.binary_cross_entropy")
def binary_cross_entropy(
    x: Tensor, y: Tensor, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    terms = y * cr.maximum(cr.log(x), -100.0)
    terms = -(terms + (1 - y) * cr.maximum(cr.log(1 - x), -100.0))
    return reduced(terms if weight is None else terms * weight, reduction)


@counterpart("nn.functional.multilabel_soft_margin_loss")
def multilabel_soft_margin_loss(
    x: Tensor, y: Tensor, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    terms = -(y * cr.log_sigmoid(x) + (1 - y) * cr.log_sigmoid(-x))
    terms = terms if weight is None else terms * weight
    return reduced(cr.mean(terms, -1), reduction)


@counterpart("nn.functional.margin_ranking_loss")
def margin_ranking_loss(
    x: Tensor, z: Tensor, y: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    return reduced(cr.relu(-y * (x - z) + margin), reduction)


@counterpart("nn.functional.cosine_embedding_loss")
def cosine_embedding_loss(
    x: Tensor, z: Tensor, y: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    squares = ((cr.sum(t * t, -1) + 1e-12) for t in (x, z))
    cosine = cr.sum(x * z, -1) / cr.sqrt(math.prod(squares))
    together = cr.where(y == 1, 1 - cosine, 0.0)
    apart = cr.where(y == -1, cr.relu(cosine - margin), 0.0)
    return reduced(together + apart, reduction)


@counterpart("nn.functional.triplet_margin_loss",
             "nn.functional.triplet_margin_with_distance_loss")  # fmt: skip
def triplet_margin_loss(
    x: Tensor, near: Tensor, far: Tensor, margin: float = 1.0, swap: bool = False,
    reduction: str = "mean", distance_function: Any = None,
) -> Tensor:  # fmt: skip
    to_near, to_far = (pairwise_distance(x, t, eps=1e-6) for t in (near, far))
    if swap:
        to_far = cr.minimum(to_far, pairwise_distance(near, far, eps=1e-6))
    return reduced(cr.relu(margin + to_near - to_far), reduction)


@counterpart("nn.functional.poisson_nll_loss")
def poisson_nll_loss(
    x: Tensor, y: Tensor, log_input: bool = True, full: bool = False,
    eps: float = 1e-8, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    terms = cr.exp(x) - y * x if log_input else x - y * cr.log(x + eps)
    if full:
        stirling = y * cr.log(y) - y + 0.5 * cr.log(2 * math.pi * y)
        terms = terms + cr.where(y > 1, stirling, 0.0)
    return reduced(terms, reduction)


@counterpart("nn.functional.gaussian_nll_loss")
def gaussian_nll_loss(
    x: Tensor, y: Tensor, var: Tensor, full: bool = False, eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    if var.shape == x.shape[:-1]:
        var = cr.expand_dims(var, -1)
    # The floor under the variance does not stop its gradient.
    var = var + (cr.maximum(var, eps) - var).detach()
    terms = 0.5 * (cr.log(var) + (x - y) ** 2 / var)
    return reduced(terms + 0.5 * math.log(2 * math.pi) * full, reduction)


@counterpart("nn.functional.pdist")
def distances_of_rows(x: Tensor, p: float = 2.0) -> Tensor:
    i, j = np.triu_indices(x.shape[0], 1)
    return norm(x[i] - x[j], p, 1)


@counterpart("nn.functional.rrelu")
def rrelu(
    x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Tensor:
    need(not training, "random: two generators draw different slopes")
    return cr.leaky_relu(x, (lower + upper) / 2)


@counterpart("nn.functional.scaled_dot_product_attention")
def attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:  # fmt: skip
    need(not dropout_p, "random: two generators draw different masks")
    scores = q @ cr.swap_axes(k, -1, -2) / math.sqrt(q.shape[-1])
    if is_causal:
        scores = cr.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -math.inf)
    if attn_mask is not None:
        scores = scores + attn_mask
    return cr.softmax(scores, -1) @ v
