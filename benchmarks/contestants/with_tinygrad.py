"""The step in tinygrad, captured by TinyJit."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from problems import Problem
from tinygrad import Tensor, TinyJit
from tinygrad.helpers import Context
from tinygrad.nn.optim import SGD, Adam
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Workload

VERSION = f"tinygrad {version('tinygrad')}"


def make(problem: Problem):
    """A function (start, count) that runs steps and returns how to read the losses."""
    workload = problem.workload
    inputs = Tensor(problem.inputs).realize()
    targets = problem.targets
    if workload.loss != "squared":
        targets = targets.astype(np.int32)
    targets = Tensor(targets).realize()
    order = Tensor(problem.order.astype(np.int32)).realize()
    weights = [Tensor(w).realize() for w in problem.weights]
    for w in weights:
        w.is_param_(True)
    if workload.optimizer == "adam":
        optimizer = Adam(weights, workload.lr, BETA1, BETA2, EPSILON)
    else:
        momentum = MOMENTUM if workload.optimizer == "momentum" else 0.0
        optimizer = SGD(weights, workload.lr, momentum)

    position = Tensor([0]).contiguous().realize()

    @TinyJit
    def step() -> Tensor:
        if workload.is_full_batch:
            x, t = inputs, targets
        else:
            rows = order[position].reshape(workload.batch)
            x, t = inputs[rows], targets[rows]
        optimizer.zero_grad()
        loss = loss_of(workload, weights, x, t)
        loss.backward()
        updated = optimizer.schedule_step()
        return loss.realize(*updated, position.assign(position + 1))

    def run(start: int, count: int):
        position.assign(Tensor([start])).realize()
        with Context(TRAINING=1):
            # A captured step writes its loss to the same place each time.
            losses = [step().item() for _ in range(count)]
        return lambda: np.array(losses)

    return run


def loss_of(workload: Workload, weights: list[Tensor], x: Tensor, t: Tensor) -> Tensor:
    stride = 2 if workload.network.has_bias else 1
    matrices = weights[::stride]
    for number, w in enumerate(matrices):
        x = x @ w
        if stride == 2:
            x = x + weights[2 * number + 1]
        if number < len(matrices) - 1:
            x = x.relu() if workload.network.activation == "relu" else x.sigmoid()
    n = x.shape[0]
    if workload.loss == "softmax":
        loss = x.sparse_categorical_crossentropy(t)
    elif workload.loss == "hinge":
        right = x.gather(1, t.reshape(n, 1))
        # The right class itself adds exactly the margin of 1.
        loss = (x - right + 1).relu().sum() / n - 1
    else:
        loss = (x - t).square().sum() / (1 if workload.reduction == "sum" else n)
    for w in matrices if workload.l2 else []:
        loss = loss + workload.l2 * w.square().sum()
    return loss
