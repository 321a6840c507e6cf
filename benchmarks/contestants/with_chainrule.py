"""The step in chainrule: eager, or the same function compiled, many steps at a call."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from workloads import MOMENTUM, Problem, Workload

import chainrule as cr
from chainrule import nn, optim

VERSION = f"chainrule {version('chainrule')}"


def make(problem: Problem, compiled: bool):
    """A function (start, count) that runs steps and returns how to read the losses."""
    workload = problem.workload
    step = lecture_step(problem) if workload.is_full_batch else model_step(problem)
    inputs, targets, order = problem.inputs, problem.targets, problem.order
    if compiled:
        many_steps = cr.compile(step).scan

        def run(start: int, count: int):
            losses = many_steps(order[start : start + count], inputs, targets)
            return losses.numpy

    else:

        def run(start: int, count: int):
            losses = [
                step(rows, inputs, targets) for rows in order[start : start + count]
            ]
            return lambda: np.array([loss.item() for loss in losses])

    return run


def model_step(problem: Problem):
    workload = problem.workload
    if workload.activation:
        hidden = workload.sizes[1:-1]
        model = nn.mlp(
            workload.sizes[0], hidden, workload.sizes[-1], workload.activation
        )
    else:
        model = nn.linear(*workload.sizes)
    for parameter, w in zip(model.parameters(), problem.weights, strict=True):
        parameter.data = w
    optimizer = optimizer_of(workload, model.named_parameters())
    loss_of = {
        "softmax": nn.softmax_cross_entropy,
        "hinge": nn.multiclass_hinge,
        "squared": nn.squared_error,
    }[workload.loss]

    def step(rows, inputs, targets):
        loss = loss_of(model(inputs[rows]), targets[rows])
        if workload.l2:
            loss = loss + nn.penalty(model, l2=workload.l2)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def lecture_step(problem: Problem):
    w1, w2 = (cr.Parameter(w) for w in problem.weights)
    optimizer = optimizer_of(problem.workload, [("w1", w1), ("w2", w2)])

    def step(rows, x, y):
        del rows  # the batch is all there is
        loss = ((cr.sigmoid(cr.as_tensor(x) @ w1) @ w2 - y) ** 2).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def optimizer_of(workload: Workload, named_parameters) -> optim.Optimizer:
    settings = {"momentum": MOMENTUM} if workload.optimizer == "momentum" else {}
    return optim.optimizer(
        workload.optimizer, named_parameters, lr=workload.lr, **settings
    )
