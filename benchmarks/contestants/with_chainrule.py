"""The step in chainrule: eager, or the same function compiled, many steps at a call."""

from __future__ import annotations

from importlib.metadata import version

import llvmlite.binding  # noqa: F401  chainrule imports it when it first compiles
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
from workloads import MOMENTUM, Workload

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


def infer(problem: Problem, compiled: bool):
    """A function from pictures to scores."""
    model = model_of(problem)
    model.eval()
    scores_of = cr.compile(model) if compiled else model
    return lambda pictures: scores_of(pictures).numpy()


def model_of(problem: Problem) -> nn.Module:
    model = nn.Sequential(*map(layer_of, problem.workload.network.layers))
    for parameter, w in zip(model.parameters(), problem.weights, strict=True):
        parameter.data = w
    problem.weights.clear()  # the model has them: nobody else holds them twice
    return model


def model_step(problem: Problem):
    workload = problem.workload
    model = model_of(problem)
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


def layer_of(layer: Layer) -> nn.Module:
    """The layer of chainrule's that a description means."""
    match layer:
        case Dense():
            return nn.Dense(layer.in_features, layer.out_features, bias=layer.has_bias)
        case Convolution():
            return nn.Conv(
                layer.in_channels,
                layer.out_channels,
                layer.size,
                stride=layer.stride,
                padding=layer.padding,
                bias=layer.has_bias,
            )
        case TransposedConvolution():
            return nn.ConvTranspose(
                layer.in_channels,
                layer.out_channels,
                layer.size,
                stride=layer.stride,
                padding=layer.padding,
            )
        case BatchNorm(channels):
            return nn.BatchNorm(
                channels, momentum=RUNNING_SHARE, eps=BATCH_NORM_EPSILON
            )
        case Activation(name):
            return nn.activation(name)
        case MaxPool(size, stride):
            return nn.MaxPool(size, stride=stride)
        case GlobalAverage():
            return nn.GlobalAveragePool()
        case Flatten():
            return nn.Flatten()
        case Residual(body, shortcut):
            around = nn.Sequential(*map(layer_of, shortcut)) if shortcut else None
            return nn.Residual(nn.Sequential(*map(layer_of, body)), around)
    raise TypeError(layer)


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
        workload.optimizer,
        named_parameters,
        lr=workload.lr,
        weight_decay=workload.weight_decay,
        **settings,
    )
