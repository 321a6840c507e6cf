"""The step in JAX: one call for each step, or a scan over many."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Problem, Workload

VERSION = f"JAX {jax.__version__}"


def make(problem: Problem, scan: bool, unroll: int = 1):
    """A function (start, count) that runs steps and returns how to read the losses."""
    workload = problem.workload
    # As jax.Arrays they stay where they are; as NumPy arrays each call would copy them.
    data = jnp.asarray(problem.inputs), jnp.asarray(problem.targets)
    order = jnp.asarray(problem.order.astype(np.int32))
    weights = [jnp.asarray(w) for w in problem.weights]
    num_slots = {"sgd": 0, "momentum": 1, "adam": 2}[workload.optimizer]
    state = (
        jnp.zeros((), jnp.int32),
        weights,
        *([jnp.zeros_like(w) for w in weights] for _ in range(num_slots)),
    )

    def step(state, rows, inputs, targets):
        if workload.is_full_batch:
            x, t = inputs, targets
        else:
            x = jnp.take(inputs, rows, axis=0, mode="clip")
            t = jnp.take(targets, rows, axis=0, mode="clip")
        loss, gradients = jax.value_and_grad(loss_of)(state[1], workload, x, t)
        return updated(workload, state, gradients), loss

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


def loss_of(weights, workload: Workload, x, t):
    stride = 2 if workload.has_bias else 1
    matrices = weights[::stride]
    activation = jax.nn.relu if workload.activation == "relu" else jax.nn.sigmoid
    for number, w in enumerate(matrices):
        x = x @ w
        if stride == 2:
            x = x + weights[2 * number + 1]
        if number < len(matrices) - 1:
            x = activation(x)
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
        loss = loss + workload.l2 * sum(jnp.sum(w * w) for w in matrices)
    return loss


def updated(workload: Workload, state, gradients):
    number, weights, *slots = state
    number = number + 1
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
        return number, weights, first, second
    if workload.optimizer == "momentum":
        gradients = [
            MOMENTUM * velocity + dw
            for velocity, dw in zip(slots[0], gradients, strict=True)
        ]
        slots = [gradients]
    weights = [w - workload.lr * dw for w, dw in zip(weights, gradients, strict=True)]
    return number, weights, *slots
