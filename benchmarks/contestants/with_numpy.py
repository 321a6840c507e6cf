"""The step written by hand in NumPy: every buffer made once, every call prepared.

A step is a list of calls whose operands never change. Weights, gradients and the
optimizer's state are each one array, of which the layers see parts, so that the update
is a few passes whatever the number of layers.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from problems import Problem
from workloads import BETA1, BETA2, EPSILON, MOMENTUM

VERSION = f"NumPy {np.__version__}"


def make(problem: Problem, transposed: bool):
    """A function (start, count) that runs steps and returns how to read the losses."""
    np.seterr(over="ignore")  # 1 / (1 + exp(100)) is 0, as it should be
    return Steps(problem, transposed).run


class Steps:
    """``transposed`` holds matrices of weights as (out, in).

    Which of the two BLAS likes better depends on the sizes.
    """

    def __init__(self, problem: Problem, transposed: bool) -> None:
        self.workload = problem.workload
        self.network = problem.workload.network
        self.transposed = transposed
        self.calls = []
        self.order = problem.order
        self.inputs = problem.inputs
        is_classes = self.workload.loss != "squared"
        self.targets = problem.one_hot if is_classes else problem.targets
        weights = [w.T if transposed else w for w in problem.weights]
        self.w, self.weights, self.biases = self._split(weights)
        self.dw, self.weight_gradients, self.bias_gradients = self._split(
            [np.zeros_like(w) for w in weights]
        )
        if self.workload.is_full_batch:
            self.x, self.t = self.inputs, self.targets
        else:
            self.x = self._buffer(self.network.sizes[0])
            self.t = self._buffer(self.network.sizes[-1])
        self._write_step()

    def _split(self, arrays):
        """One array of all, and its parts: those of weights, those of biases."""
        whole = np.concatenate([a.ravel() for a in arrays])
        ends = np.cumsum([a.size for a in arrays])
        parts = [
            part.reshape(a.shape)
            for part, a in zip(np.split(whole, ends[:-1]), arrays, strict=True)
        ]
        stride = 2 if self.network.has_bias else 1
        return whole, parts[::stride], parts[1::stride] if stride == 2 else []

    def _buffer(self, num_columns: int, dtype=np.float32) -> np.ndarray:
        return np.empty((self.workload.batch, num_columns), dtype)

    def _do(self, function, *arguments) -> None:
        self.calls.append(partial(function, *arguments))

    # ------------------------------------------------------------------ the step

    def run(self, start: int, count: int):
        is_full_batch = self.workload.is_full_batch
        losses = []
        for rows in self.order[start : start + count]:
            if not is_full_batch:
                # Checked modes copy through a buffer.
                np.take(self.inputs, rows, 0, self.x, "clip")
                np.take(self.targets, rows, 0, self.t, "clip")
            for call in self.calls:
                call()
            losses.append(self.loss())
            self.update()
        return lambda: np.array(losses)

    def _write_step(self) -> None:
        activations = self._write_forward()
        self.loss, dy = getattr(self, f"_write_{self.workload.loss}")(activations[-1])
        self._write_backward(activations, dy)
        if self.workload.l2:
            self._write_penalty()
        self.update = getattr(self, f"_prepare_{self.workload.optimizer}")()

    def _write_forward(self) -> list[np.ndarray]:
        activations = [self.x]
        for number, w in enumerate(self.weights):
            w = w.T if self.transposed else w
            y = self._buffer(w.shape[1])
            self._do(np.dot, activations[-1], w, y)
            if self.biases:
                self._do(np.add, y, self.biases[number], y)
            if number < len(self.weights) - 1:
                if self.network.activation == "relu":
                    self._do(np.maximum, y, np.float32(0), y)
                else:
                    self._do(np.negative, y, y)
                    self._do(np.exp, y, y)
                    self._do(np.add, y, np.float32(1), y)
                    self._do(np.reciprocal, y, y)
            activations.append(y)
        return activations

    def _write_backward(self, activations: list[np.ndarray], dy: np.ndarray) -> None:
        for number in reversed(range(len(self.weights))):
            x = activations[number]
            w, dw = self.weights[number], self.weight_gradients[number]
            if self.transposed:
                self._do(np.dot, dy.T, x, dw)
            else:
                self._do(np.dot, x.T, dy, dw)
            if self.biases:
                self._do(np.add.reduce, dy, 0, None, self.bias_gradients[number])
            if number == 0:
                return
            dx = self._buffer(x.shape[1])
            self._do(np.dot, dy, w if self.transposed else w.T, dx)
            if self.network.activation == "relu":
                is_positive = self._buffer(x.shape[1], bool)
                self._do(np.greater, x, np.float32(0), is_positive)
                self._do(np.multiply, dx, is_positive, dx)
            else:
                # x is not needed any more: it becomes x·(1 - x).
                self._do(np.multiply, dx, x, dx)
                self._do(np.subtract, np.float32(1), x, x)
                self._do(np.multiply, dx, x, dx)
            dy = dx

    # ---------------------------------------------------------------- the losses
    # Each writes what comes before the backward pass, and returns how to read the loss
    # and where the gradient of the scores will be.

    def _write_softmax(self, scores: np.ndarray):
        n = self.workload.batch
        column = self._buffer(1)
        probabilities = self._buffer(scores.shape[1])
        dy = self._buffer(scores.shape[1])
        self._do(np.maximum.reduce, scores, 1, None, column, True)
        self._do(np.subtract, scores, column, scores)
        self._do(np.exp, scores, probabilities)
        self._do(np.add.reduce, probabilities, 1, None, column, True)
        self._do(np.divide, probabilities, column, probabilities)
        self._do(np.subtract, probabilities, self.t, dy)
        self._do(np.multiply, dy, np.float32(1 / n), dy)

        def loss():
            right = np.vdot(self.t, scores)
            np.log(column, column)
            return (np.add.reduce(column, None) - right) / n

        return loss, dy

    def _write_hinge(self, scores: np.ndarray):
        n = self.workload.batch
        column, count = self._buffer(1), self._buffer(1)
        dy = self._buffer(scores.shape[1])
        is_positive = self._buffer(scores.shape[1], bool)
        self._do(np.multiply, scores, self.t, dy)
        self._do(np.add.reduce, dy, 1, None, column, True)
        self._do(np.subtract, column, np.float32(1), column)
        self._do(np.subtract, scores, column, scores)
        # The right class itself has exactly the margin of 1 here.
        self._do(np.greater, scores, np.float32(0), is_positive)
        self._do(np.multiply, scores, is_positive, scores)
        self._do(np.add.reduce, is_positive, 1, np.float32, count, True)
        self._do(np.multiply, self.t, count, dy)
        self._do(np.subtract, is_positive, dy, dy)
        self._do(np.multiply, dy, np.float32(1 / n), dy)

        def loss():
            return np.add.reduce(scores, None) / n - 1

        return loss, dy

    def _write_squared(self, outputs: np.ndarray):
        n = 1 if self.workload.reduction == "sum" else self.workload.batch
        error = self._buffer(outputs.shape[1])
        dy = self._buffer(outputs.shape[1])
        self._do(np.subtract, outputs, self.t, error)
        self._do(np.multiply, error, np.float32(2 / n), dy)
        return lambda: np.vdot(error, error) / n, dy

    def _write_penalty(self) -> None:
        strength = np.float32(self.workload.l2)
        scratch = [np.empty_like(w) for w in self.weights]
        for w, dw, s in zip(self.weights, self.weight_gradients, scratch, strict=True):
            self._do(np.multiply, w, 2 * strength, s)
            self._do(np.add, dw, s, dw)
        loss = self.loss
        self.loss = lambda: loss() + strength * sum(np.vdot(w, w) for w in self.weights)

    # --------------------------------------------------------------- the updates

    def _prepare_sgd(self):
        w, dw, lr = self.w, self.dw, np.float32(self.workload.lr)

        def update():
            np.multiply(dw, lr, dw)
            np.subtract(w, dw, w)

        return update

    def _prepare_momentum(self):
        w, dw, lr = self.w, self.dw, np.float32(self.workload.lr)
        velocity, scratch = np.zeros_like(w), np.empty_like(w)
        momentum = np.float32(MOMENTUM)

        def update():
            np.multiply(velocity, momentum, velocity)
            np.add(velocity, dw, velocity)
            np.multiply(velocity, lr, scratch)
            np.subtract(w, scratch, w)

        return update

    def _prepare_adam(self):
        """Blocks that stay in the cache while the passes go over them."""
        state = (self.w, self.dw, np.zeros_like(self.w), np.zeros_like(self.w))
        num_blocks = max(1, self.w.size // 16_384)
        blocks = list(zip(*(np.array_split(a, num_blocks) for a in state), strict=True))
        scratch = np.empty_like(blocks[0][0])
        lr, beta1, beta2 = self.workload.lr, np.float32(BETA1), np.float32(BETA2)
        one_minus1, one_minus2 = np.float32(1 - BETA1), np.float32(1 - BETA2)
        t = 0

        def update():
            nonlocal t
            t += 1
            correction = (1 - BETA2**t) ** 0.5
            rate = np.float32(lr * correction / (1 - BETA1**t))
            floor = np.float32(EPSILON * correction)
            for w, dw, m, v in blocks:
                s = scratch[: w.size]
                np.multiply(m, beta1, m)
                np.multiply(dw, one_minus1, s)
                np.add(m, s, m)
                np.multiply(v, beta2, v)
                np.multiply(dw, dw, dw)
                np.multiply(dw, one_minus2, dw)
                np.add(v, dw, v)
                np.sqrt(v, s)
                np.add(s, floor, s)
                np.divide(m, s, s)
                np.multiply(s, rate, s)
                np.subtract(w, s, w)

        return update
