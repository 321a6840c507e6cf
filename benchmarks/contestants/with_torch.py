"""The step in PyTorch: eager as its tutorials write it, or compiled as one graph."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Problem, Workload

VERSION = f"PyTorch {torch.__version__}"


def make(problem: Problem, threads: int, compiled: bool = False, **options):
    """A function (start, count) that runs steps and returns how to read the losses."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    workload = problem.workload
    inputs, targets, order = map(
        torch.from_numpy, (problem.inputs, problem.targets, problem.order)
    )
    weights = [torch.from_numpy(w).contiguous() for w in problem.weights]
    if compiled:
        step = compiled_step(workload, weights, inputs, targets, **options)
    else:
        step = eager_step(workload, weights, inputs, targets)

    def run(start: int, count: int):
        losses = [step(rows) for rows in order[start : start + count].unbind()]
        if compiled:  # what was compiled stays right: nothing changes its shape
            torch.compiler.set_stance("default", skip_guard_eval_unsafe=True)
        return lambda: torch.stack(losses).numpy()

    return run


def loss_of(workload: Workload, weights, inputs, targets, rows):
    if workload.is_full_batch:
        x, t = inputs, targets
    else:
        x, t = inputs.index_select(0, rows), targets.index_select(0, rows)
    stride = 2 if workload.has_bias else 1
    matrices = weights[::stride]
    activation = torch.relu if workload.activation == "relu" else torch.sigmoid
    for number, w in enumerate(matrices):
        x = torch.addmm(weights[2 * number + 1], x, w) if stride == 2 else x @ w
        if number < len(matrices) - 1:
            x = activation(x)
    if workload.loss == "softmax":
        loss = F.cross_entropy(x, t)
    elif workload.loss == "hinge":
        right = x.gather(1, t[:, None])
        # The right class itself adds exactly the margin of 1.
        loss = torch.relu(x - right + 1).sum() / len(x) - 1
    else:
        loss = F.mse_loss(x, t, reduction="sum")
        if workload.reduction == "mean":
            loss = loss / len(x)
    if workload.l2:
        loss = loss + workload.l2 * sum((w * w).sum() for w in matrices)
    return loss


def eager_step(workload: Workload, weights, inputs, targets):
    for w in weights:
        w.requires_grad_()
    if workload.optimizer == "adam":
        optimizer = torch.optim.Adam(
            weights, workload.lr, (BETA1, BETA2), EPSILON, fused=True
        )
    else:
        momentum = MOMENTUM if workload.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD(weights, workload.lr, momentum, fused=True)

    def step(rows):
        optimizer.zero_grad()
        loss = loss_of(workload, weights, inputs, targets, rows)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def compiled_step(workload: Workload, weights, inputs, targets, mode, cpp_wrapper):
    """Minibatch, loss, gradients and update in one graph without a break.

    ``backward()`` and torch.optim would each be a graph of their own.
    """
    import torch._inductor.config as inductor

    inductor.cpp_wrapper = cpp_wrapper
    value_and_grad = torch.func.grad_and_value(
        lambda weights, *batch: loss_of(workload, weights, *batch)
    )
    first = [torch.zeros_like(w) for w in weights]
    second = [torch.zeros_like(w) for w in weights]
    number = torch.zeros(())

    @torch.compile(fullgraph=True, dynamic=False, mode=mode)
    def train(weights, first, second, number, inputs, targets, rows):
        gradients, loss = value_and_grad(weights, inputs, targets, rows)
        if workload.optimizer == "adam":
            number += 1
            # 1 - 0.999**t in float32 would lose five digits in the first steps.
            correction = torch.sqrt(-torch.expm1(math.log(BETA2) * number))
            rate = workload.lr * correction / -torch.expm1(math.log(BETA1) * number)
            for w, dw, m, v in zip(weights, gradients, first, second, strict=True):
                m.mul_(BETA1).add_(dw, alpha=1 - BETA1)
                v.mul_(BETA2).addcmul_(dw, dw, value=1 - BETA2)
                w.sub_(rate * m / (torch.sqrt(v) + EPSILON * correction))
        elif workload.optimizer == "momentum":
            for w, dw, velocity in zip(weights, gradients, first, strict=True):
                velocity.mul_(MOMENTUM).add_(dw)
                w.sub_(workload.lr * velocity)
        else:
            for w, dw in zip(weights, gradients, strict=True):
                w.sub_(workload.lr * dw)
        return loss

    @torch.no_grad()
    def step(rows):
        return train(weights, first, second, number, inputs, targets, rows)

    return step
