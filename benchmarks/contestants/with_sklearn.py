"""scikit-learn's multilayer perceptron, one ``partial_fit`` for each step."""

from __future__ import annotations

import warnings

import numpy as np
import sklearn
from problems import Problem
from sklearn.neural_network import MLPClassifier, MLPRegressor
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Workload

VERSION = f"scikit-learn {sklearn.__version__}"


def make(problem: Problem):
    """A function (start, count) that runs steps and returns how to read the losses."""
    workload = problem.workload
    network = perceptron(workload)
    # A first call makes weights and optimizer, which then take their first values.
    first = problem.order[0]
    fit = network.partial_fit
    if workload.loss == "softmax":
        fit(problem.inputs[first], problem.targets[first], classes=np.arange(10))
    else:
        fit(problem.inputs[first], problem.targets[first])
    ours = problem.weights[::2] + problem.weights[1::2]
    for w, first_w in zip(network.coefs_ + network.intercepts_, ours, strict=True):
        w[...] = first_w
    optimizer = network._optimizer
    for state in ("ms", "vs", "velocities"):
        setattr(optimizer, state, [np.zeros_like(w) for w in ours])
    optimizer.t = 0
    inputs, targets, order = problem.inputs, problem.targets, problem.order
    # Its squared error is half the mean over the outputs, not their sum.
    factor = 1 if workload.loss == "softmax" else 2 * workload.network.sizes[-1]
    epsilon = EPSILON if workload.loss == "softmax" else EPSILON / 2

    def run(start: int, count: int):
        losses = []
        for rows in order[start : start + count]:
            # It adds epsilon to √v, the paper to √v̂.
            optimizer.epsilon = epsilon * (1 - BETA2 ** (optimizer.t + 1)) ** 0.5
            fit(inputs[rows], targets[rows])
            losses.append(network.loss_)
        return lambda: np.array(losses) * factor

    return run


def perceptron(workload: Workload):
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    kind = MLPClassifier if workload.loss == "softmax" else MLPRegressor
    return kind(
        hidden_layer_sizes=workload.network.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(workload.network.activation, "relu"),
        solver="adam" if workload.optimizer == "adam" else "sgd",
        # It halves the penalty and divides it by the number of examples.
        alpha=2 * workload.l2 * workload.batch,
        batch_size=workload.batch,
        learning_rate_init=workload.lr,
        momentum=MOMENTUM if workload.optimizer == "momentum" else 0.0,
        nesterovs_momentum=False,
        beta_1=BETA1,
        beta_2=BETA2,
        shuffle=False,
    )
