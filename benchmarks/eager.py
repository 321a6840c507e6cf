"""What eager execution costs beside a hand-written NumPy loop and HIPS autograd.

Two training steps, both in float32:

twenty_line   64 examples, 1000-100-10, sigmoid, summed squared error, descent
classifier    784-100-10, ReLU, softmax cross-entropy, Adam, minibatches of 64

The contestants take turns, a few steps each, in one process; the time of a step is the
median over all turns. After 100 steps their losses must agree.

All run with one BLAS thread, as ``chainrule train`` runs small nets.

    python benchmarks/eager.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import autograd
import autograd.numpy as anp
import numpy as np
from threadpoolctl import threadpool_limits

import chainrule as cr
from chainrule import nn
from chainrule.optim import optimizer

STEPS_IN_A_TURN = 20
NUM_TURNS = 60
STEPS_TO_AGREE = 100

Step = Callable[[], float]


# -------------------------------------------------------------------- twenty_line


def twenty_line_data():
    rng = np.random.default_rng(0)
    sizes = [(64, 1000), (64, 10), (1000, 100), (100, 10)]
    return [rng.standard_normal(size, np.float32) for size in sizes]


def twenty_line_numpy() -> Step:
    x, y, w1, w2 = twenty_line_data()
    h, dh, slope = (np.empty((64, 100), np.float32) for _ in range(3))
    e = np.empty((64, 10), np.float32)
    dw1, dw2 = np.empty_like(w1), np.empty_like(w2)
    lr = np.float32(1e-4)

    def step() -> float:
        np.matmul(x, w1, h)
        np.negative(h, h)
        np.exp(h, h)
        np.add(h, 1, h)
        np.reciprocal(h, h)
        np.matmul(h, w2, e)
        np.subtract(e, y, e)
        loss = np.vdot(e, e)
        np.multiply(e, 2, e)
        np.matmul(h.T, e, dw2)
        np.matmul(e, w2.T, dh)
        np.subtract(1, h, slope)
        np.multiply(slope, h, slope)
        np.multiply(dh, slope, dh)
        np.matmul(x.T, dh, dw1)
        np.multiply(dw1, lr, dw1)
        np.subtract(w1, dw1, w1)
        np.multiply(dw2, lr, dw2)
        np.subtract(w2, dw2, w2)
        return float(loss)

    return step


def twenty_line_chainrule() -> Step:
    x, y, w1, w2 = twenty_line_data()
    x, y = cr.Tensor(x), cr.Tensor(y)
    w1, w2 = cr.Parameter(w1), cr.Parameter(w2)
    descent = optimizer("sgd", [("w1", w1), ("w2", w2)], lr=1e-4)

    def step() -> float:
        loss = ((cr.sigmoid(x @ w1) @ w2 - y) ** 2).sum()
        loss.backward()
        descent.step()
        descent.zero_grad()
        return loss.item()

    return step


def twenty_line_autograd() -> Step:
    x, y, w1, w2 = twenty_line_data()
    lr = np.float32(1e-4)

    def loss_of(weights):
        # As autograd's own examples write it, for 1 / (1 + exp(-z)) overflows backward.
        h = 0.5 * (anp.tanh(0.5 * anp.dot(x, weights[0])) + 1)
        return anp.sum((anp.dot(h, weights[1]) - y) ** 2)

    value_and_grad = autograd.value_and_grad(loss_of)

    def step() -> float:
        loss, gradients = value_and_grad([w1, w2])
        for w, dw in zip((w1, w2), gradients, strict=True):
            w -= lr * dw
        return float(loss)

    return step


# --------------------------------------------------------------------- classifier


def classifier_data():
    rng = np.random.default_rng(1)
    images = rng.random((10_000, 784), np.float32)
    labels = rng.integers(0, 10, 10_000)
    # A tenth of the pixels is brighter in each class: there is something to learn.
    for k in range(10):
        images[labels == k, 78 * k : 78 * (k + 1)] += 0.5
    w1 = rng.standard_normal((784, 100), np.float32) * np.float32((2 / 784) ** 0.5)
    w2 = rng.standard_normal((100, 10), np.float32) * np.float32(0.1)
    weights = [w1, np.zeros(100, np.float32), w2, np.zeros(10, np.float32)]
    return images, labels, weights


def minibatches():
    """Sixty-four indices at a time, as a loader draws them."""
    rng = np.random.default_rng(2)
    while True:
        order = rng.permutation(10_000)
        for start in range(0, 10_000 - 63, 64):
            yield order[start : start + 64]


class NumpyAdam:
    """Adam as the paper orders it, in place, in twelve passes over each weight."""

    def __init__(self, weights):
        self.weights = weights
        self.m = [np.zeros_like(w) for w in weights]
        self.v = [np.zeros_like(w) for w in weights]
        self.scratch = [np.empty_like(w) for w in weights]
        self.t = 0

    def step(self, gradients):
        self.t += 1
        correction = (1 - 0.999**self.t) ** 0.5
        rate = np.float32(0.001 * correction / (1 - 0.9**self.t))
        floor = np.float32(1e-8 * correction)
        columns = (self.weights, gradients, self.m, self.v, self.scratch)
        for w, dw, m, v, s in zip(*columns, strict=True):
            np.multiply(m, 0.9, m)
            np.multiply(dw, 0.1, s)
            np.add(m, s, m)
            np.multiply(v, 0.999, v)
            np.multiply(dw, dw, s)
            np.multiply(s, 0.001, s)
            np.add(v, s, v)
            np.sqrt(v, s)
            np.add(s, floor, s)
            np.divide(m, s, s)
            np.multiply(s, rate, s)
            np.subtract(w, s, w)


def classifier_numpy() -> Step:
    images, labels, weights = classifier_data()
    w1, b1, w2, b2 = weights
    gradients = [np.empty_like(w) for w in weights]
    dw1, db1, dw2, db2 = gradients
    x = np.empty((64, 784), np.float32)
    h, dh = np.empty((64, 100), np.float32), np.empty((64, 100), np.float32)
    p, column = np.empty((64, 10), np.float32), np.empty((64, 1), np.float32)
    rows = np.arange(64)
    is_positive = np.empty((64, 100), bool)
    batches = minibatches()
    adam = NumpyAdam(weights)

    def step() -> float:
        chosen = next(batches)
        np.take(images, chosen, 0, x, "clip")  # checked modes copy through a buffer
        y = labels[chosen]
        np.matmul(x, w1, h)
        np.add(h, b1, h)
        np.maximum(h, 0, out=h)
        np.matmul(h, w2, p)
        np.add(p, b2, p)
        np.maximum.reduce(p, 1, None, column, True)
        np.subtract(p, column, p)
        right = p[rows, y].sum()
        np.exp(p, p)
        np.add.reduce(p, 1, None, column, True)
        np.divide(p, column, p)
        loss = (np.log(column).sum() - right) / 64
        p[rows, y] -= 1
        np.divide(p, 64, p)
        np.matmul(h.T, p, dw2)
        np.add.reduce(p, 0, None, db2)
        np.matmul(p, w2.T, dh)
        np.greater(h, 0, is_positive)
        np.multiply(dh, is_positive, dh)
        np.matmul(x.T, dh, dw1)
        np.add.reduce(dh, 0, None, db1)
        adam.step(gradients)
        return float(loss)

    return step


def classifier_chainrule() -> Step:
    images, labels, weights = classifier_data()
    model = nn.Sequential(nn.Dense(784, 100), nn.ReLU(), nn.Dense(100, 10))
    for (_, parameter), w in zip(model.named_parameters(), weights, strict=True):
        parameter.data = w
    adam = optimizer("adam", model.named_parameters(), lr=0.001)
    batches = minibatches()

    def step() -> float:
        chosen = next(batches)
        loss = nn.softmax_cross_entropy(model(images[chosen]), labels[chosen])
        loss.backward()
        adam.step()
        adam.zero_grad()
        return loss.item()

    return step


def classifier_autograd() -> Step:
    images, labels, weights = classifier_data()
    rows = np.arange(64)
    batches = minibatches()
    adam = NumpyAdam(weights)

    def loss_of(weights, x, y):
        w1, b1, w2, b2 = weights
        scores = anp.dot(anp.maximum(anp.dot(x, w1) + b1, 0), w2) + b2
        shifted = scores - anp.max(scores, axis=1, keepdims=True)
        total = anp.log(anp.sum(anp.exp(shifted), axis=1))
        return anp.mean(total - shifted[rows, y])

    value_and_grad = autograd.value_and_grad(loss_of)

    def step() -> float:
        chosen = next(batches)
        loss, gradients = value_and_grad(weights, images[chosen], labels[chosen])
        adam.step(gradients)
        return float(loss)

    return step


# --------------------------------------------------------------------- comparison

CONTESTS: dict[str, dict[str, Callable[[], Step]]] = {
    "twenty_line": {
        "NumPy": twenty_line_numpy,
        "chainrule": twenty_line_chainrule,
        "autograd": twenty_line_autograd,
    },
    "classifier": {
        "NumPy": classifier_numpy,
        "chainrule": classifier_chainrule,
        "autograd": classifier_autograd,
    },
}


def check_agreement(contest: str, contestants: dict[str, Callable[[], Step]]) -> None:
    """Stop if the losses of the first steps are not the same to rounding."""
    losses = {}
    for name, make in contestants.items():
        step = make()
        losses[name] = [step() for _ in range(STEPS_TO_AGREE)]
    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["NumPy"], rtol=1e-3, err_msg=name)
    first, last = losses["NumPy"][0], losses["NumPy"][-1]
    print(f"{contest}: losses agree from {first:.6g} to {last:.6g}")


def compare(contestants: dict[str, Callable[[], Step]]) -> dict[str, float]:
    """Median seconds of a step by contestant."""
    steps = {name: make() for name, make in contestants.items()}
    times_s: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(NUM_TURNS):
        for name, step in steps.items():
            step()  # the caches are the previous contestant's
            for _ in range(STEPS_IN_A_TURN):
                began = time.perf_counter()
                step()
                times_s[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in times_s.items()}


def main() -> None:
    np.seterr(over="ignore")  # 1 / (1 + exp(100)) is 0, as it should be
    for contest, contestants in CONTESTS.items():
        with threadpool_limits(1):
            check_agreement(contest, contestants)
            medians_s = compare(contestants)
        for name, value in medians_s.items():
            ratio = value / medians_s["NumPy"]
            print(f"  {name:10} {value * 1e6:7.0f} µs per step  {ratio:5.2f} × NumPy")


if __name__ == "__main__":
    main()
