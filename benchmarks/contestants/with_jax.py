"""The step in JAX: one call for each step, or a scan over many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from networks import (
    BATCH_NORM_EPSILON,
    RUNNING_SHARE,
    Activation,
    BatchNorm,
    Convolution,
    Dense,
    Flatten,
    GlobalAverage,
    Layer,
    MaxPool,
    Residual,
    TransposedConvolution,
)
from problems import Problem
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Workload

VERSION = f"JAX {jax.__version__}"


def make(problem: Problem, scan: bool, unroll: int = 1):
    """A function (start, count) that runs steps and returns how to read the losses."""
    workload = problem.workload
    # As jax.Arrays they stay where they are; as NumPy arrays each call would copy them.
    data = jnp.asarray(problem.inputs), jnp.asarray(problem.targets)
    order = jnp.asarray(problem.order.astype(np.int32))
    weights = [jnp.asarray(w) for w in problem.weights]
    num_slots = {"sgd": 0, "momentum": 1, "adam": 2}[workload.optimizer]
    statistics = [
        statistic
        for channels in workload.network.normalised_channels
        for statistic in (jnp.zeros(channels), jnp.ones(channels))
    ]
    state = (
        jnp.zeros((), jnp.int32),
        statistics,
        weights,
        *([jnp.zeros_like(w) for w in weights] for _ in range(num_slots)),
    )

    def step(state, rows, inputs, targets):
        number, statistics, weights, *slots = state
        if workload.is_full_batch:
            x, t = inputs, targets
        else:
            x = jnp.take(inputs, rows, axis=0, mode="clip")
            t = jnp.take(targets, rows, axis=0, mode="clip")
        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, seen), gradients = value_and_grad(weights, workload, x, t)
        statistics = [
            (1 - RUNNING_SHARE) * old + RUNNING_SHARE * new
            for old, new in zip(statistics, seen, strict=True)
        ]
        number = number + 1
        return (
            number,
            statistics,
            *updated(workload, number, weights, slots, gradients),
        ), loss

    def one_step(state, position, order, inputs, targets):
        state, loss = step(state, order[position], inputs, targets)
        return state, position + 1, loss

    def many_steps(state, start, count, order, inputs, targets):
        chosen = jax.lax.dynamic_slice_in_dim(order, start, count)
        return jax.lax.scan(
            lambda state, rows: step(state, rows, inputs, targets),
            state,
            chosen,
            unroll=unroll,
        )

    one_step = jax.jit(one_step, donate_argnums=(0, 1))
    many_steps = jax.jit(many_steps, static_argnums=2, donate_argnums=0)

    def run_scan(start: int, count: int):
        nonlocal state
        state, losses = many_steps(state, start, count, order, *data)
        jax.block_until_ready((state, losses))
        return lambda: np.asarray(losses)

    def run_jit(start: int, count: int):
        nonlocal state
        position = jnp.asarray(start)
        losses = []
        for _ in range(count):
            state, position, loss = one_step(state, position, order, *data)
            losses.append(loss)
        jax.block_until_ready(state)
        return lambda: np.array(losses)

    return run_scan if scan else run_jit


def infer(problem: Problem):
    """A function from pictures to scores."""
    weights = [jnp.asarray(w) for w in problem.weights]
    layers = problem.workload.network.layers
    scores_of = jax.jit(lambda weights, x: _run(layers, x, iter(weights), []))
    return lambda pictures: np.asarray(scores_of(weights, pictures))


def loss_of(weights, workload: Workload, x, t):
    """The loss, and the mean and variance that each normalisation saw."""
    seen: list[jax.Array] = []
    x = _run(workload.network.layers, x, iter(weights), seen)
    n = len(x)
    # A comparison with all classes fuses with what follows; a gather would not.
    is_right = None if t.ndim > 1 else t[:, None] == jnp.arange(x.shape[1])
    if workload.loss == "softmax":
        logs = jax.nn.log_softmax(x)
        loss = -jnp.sum(jnp.where(is_right, logs, 0)) / n
    elif workload.loss == "hinge":
        right = jnp.sum(jnp.where(is_right, x, 0), axis=1, keepdims=True)
        # The right class itself adds exactly the margin of 1.
        loss = jnp.sum(jax.nn.relu(x - right + 1)) / n - 1
    else:
        loss = jnp.sum((x - t) ** 2) / (1 if workload.reduction == "sum" else n)
    if workload.l2:
        matrices = [w for w in weights if w.ndim > 1]
        loss = loss + workload.l2 * sum(jnp.sum(w * w) for w in matrices)
    return loss, seen


def _run(layers: Sequence[Layer], x, weights: Iterator[jax.Array], seen: list):
    for layer in layers:
        match layer:
            case Dense():
                x = x @ next(weights)
                if layer.has_bias:
                    x = x + next(weights)
            case Convolution():
                x = _convolution(x, next(weights), layer.stride, layer.padding)
                if layer.has_bias:
                    x = x + next(weights)
            case TransposedConvolution():
                x = _transposed(x, next(weights), layer.stride, layer.padding)
                x = x + next(weights)
            case BatchNorm():
                # One pass over x makes both sums.
                mean = jnp.mean(x, (0, 1, 2))
                variance = jnp.mean(x * x, (0, 1, 2)) - mean * mean
                seen += [mean, variance]
                scale = next(weights) * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
                x = (x - mean) * scale + next(weights)
            case Activation("relu"):
                x = jax.nn.relu(x)
            case Activation():
                x = jax.nn.sigmoid(x)
            case MaxPool(size, stride) if size == stride:
                # Windows that do not overlap: faster backwards than reduce_window.
                n, h, w, channels = x.shape
                x = x.reshape(n, h // size, size, w // size, size, channels)
                x = jnp.max(x, (2, 4))
            case MaxPool(size, stride):
                window, steps = (1, size, size, 1), (1, stride, stride, 1)
                x = jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, window, steps, "VALID"
                )
            case GlobalAverage():
                x = jnp.mean(x, (1, 2))
            case Flatten():
                x = x.reshape(len(x), -1)
            case Residual():
                y = _run(layer.body, x, weights, seen)
                x = y + _run(layer.shortcut, x, weights, seen)
    return x


# ------------------------------------------------------------------- convolutions
# XLA rewrites a convolution whose axes are not in this order, but not inside a loop,
# where what JAX itself derives for the filters would be fifty times slower.

_AXES = ("NHWC", "HWIO", "NHWC")


def _forward(x, w, stride: int, padding: int):
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_AXES
    )


def _to_data(dy, w, stride: int, padding: int, unseen: int = 0):
    """``unseen``: rows and columns at the end of the data that no filter reached."""
    around = len(w) - 1 - padding
    return jax.lax.conv_general_dilated(
        dy,
        jnp.flip(w, (0, 1)).swapaxes(2, 3),
        (1, 1),
        [(around, around + unseen)] * 2,
        lhs_dilation=(stride, stride),
        dimension_numbers=_AXES,
    )


def _to_filters(x, dy, stride: int, padding: int, unseen: int = 0):
    dw = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        [(padding, padding - unseen)] * 2,
        rhs_dilation=(stride, stride),
        dimension_numbers=_AXES,
    )
    return dw.transpose(1, 2, 0, 3)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x, w, stride: int, padding: int):
    return _forward(x, w, stride, padding)


def _convolution_gradients(stride: int, padding: int, saved, dy):
    x, w = saved
    unseen = (x.shape[1] + 2 * padding - len(w)) % stride
    return (
        _to_data(dy, w, stride, padding, unseen),
        _to_filters(x, dy, stride, padding, unseen),
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transposed(x, w, stride: int, padding: int):
    return _to_data(x, w, stride, padding)


def _transposed_gradients(stride: int, padding: int, saved, dy):
    x, w = saved
    return _forward(dy, w, stride, padding), _to_filters(dy, x, stride, padding)


_convolution.defvjp(
    lambda x, w, *how: (_forward(x, w, *how), (x, w)), _convolution_gradients
)
_transposed.defvjp(
    lambda x, w, *how: (_to_data(x, w, *how), (x, w)), _transposed_gradients
)


# -------------------------------------------------------------------- the update


def updated(workload: Workload, number, weights, slots, gradients):
    """New weights, and what the optimizer remembers."""
    if workload.weight_decay:
        gradients = [
            dw + workload.weight_decay * w if w.ndim > 1 else dw
            for w, dw in zip(weights, gradients, strict=True)
        ]
    if workload.optimizer == "adam":
        power = number.astype(jnp.float32)
        # 1 - 0.999**t in float32 would lose five digits in the first steps.
        correction = jnp.sqrt(-jnp.expm1(math.log(BETA2) * power))
        rate = workload.lr * correction / -jnp.expm1(math.log(BETA1) * power)
        first = [
            BETA1 * m + (1 - BETA1) * dw
            for m, dw in zip(slots[0], gradients, strict=True)
        ]
        second = [
            BETA2 * v + (1 - BETA2) * dw * dw
            for v, dw in zip(slots[1], gradients, strict=True)
        ]
        weights = [
            w - rate * m / (jnp.sqrt(v) + EPSILON * correction)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return weights, first, second
    if workload.optimizer == "momentum":
        gradients = [
            MOMENTUM * velocity + dw
            for velocity, dw in zip(slots[0], gradients, strict=True)
        ]
        slots = [gradients]
    weights = [w - workload.lr * dw for w, dw in zip(weights, gradients, strict=True)]
    return weights, *slots
