"""The step in PyTorch: eager as its tutorials write it, or compiled as one graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from networks import (
    BATCH_NORM_EPSILON,
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
from workloads import BETA1, BETA2, EPSILON, MOMENTUM

VERSION = f"PyTorch {torch.__version__}"


def make(
    problem: Problem,
    threads: int,
    compiled: bool = False,
    channels_last: bool = False,
    fused: bool = True,
    dtype: str = "float32",
    **options,
):
    """A function (start, count) that runs steps and returns how to read the losses."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_default_dtype(getattr(torch, dtype))
    model = Model(problem, channels_last)
    order = torch.from_numpy(problem.order)
    step = compiled_step(model, **options) if compiled else eager_step(model, fused)

    def run(start: int, count: int):
        losses = [step(rows) for rows in order[start : start + count].unbind()]
        if compiled:  # what was compiled stays right: nothing changes its shape
            torch.compiler.set_stance("default", skip_guard_eval_unsafe=True)
        return lambda: torch.stack(losses).numpy()

    return run


def infer(
    problem: Problem,
    threads: int,
    compiled: bool = False,
    channels_last: bool = False,
    dtype: str = "float32",
):
    """A function from pictures to scores."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_default_dtype(getattr(torch, dtype))
    model = Model(problem, channels_last)

    def scores_of(x: torch.Tensor) -> torch.Tensor:
        return model.scores(model.weights, x)

    if compiled:
        scores_of = torch.compile(scores_of, fullgraph=True, dynamic=False)

    @torch.inference_mode()
    def scores(pictures):
        x = _planes(_as_tensor(pictures))
        return scores_of(x if channels_last else x.contiguous()).numpy()

    return scores


class Model:
    """A workload with its numbers as tensors.

    ``channels_last`` holds pictures as (n, h, w, c) in memory; PyTorch's own order is
    (n, c, h, w), as are the sizes of a tensor in both cases.
    """

    def __init__(self, problem: Problem, channels_last: bool) -> None:
        self.workload = problem.workload
        self.channels_last = channels_last
        self.inputs = self._stored(problem.inputs)
        self.targets = self._stored(problem.targets)
        self.weights = list(self._weights(map(_as_tensor, problem.weights)))
        self.statistics = [
            statistic
            for channels in self.workload.network.normalised_channels
            for statistic in (torch.zeros(channels), torch.ones(channels))
        ]

    def _stored(self, array) -> torch.Tensor:
        x = _as_tensor(array)
        return _planes(x).contiguous() if x.ndim == 4 and not self.channels_last else x

    def _weights(self, given: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        flattened = () if self.channels_last else self.workload.network.flattened_shape
        for w in given:
            if w.ndim == 4:
                w = w.permute(3, 2, 0, 1).contiguous(memory_format=layout)
            elif w.ndim == 2 and flattened:
                # Its rows in the order in which planes become rows of numbers.
                planes = w.reshape(*flattened, -1).permute(2, 0, 1, 3)
                w, flattened = planes.flatten(0, 2).contiguous(), ()
            yield w

    @property
    def decays(self) -> list[float]:
        """The weight decay of each weight."""
        return [self.workload.weight_decay * (w.ndim > 1) for w in self.weights]

    def batch(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """The examples of a minibatch and their targets."""
        found = [self.inputs, self.targets]
        if not self.workload.is_full_batch:
            found = [x.index_select(0, rows) for x in found]
        if self.channels_last:
            found = [_planes(x) if x.ndim == 4 else x for x in found]
        return found

    def loss(self, weights: Sequence[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        workload = self.workload
        x, t = self.batch(rows)
        x = self.scores(weights, x)
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
            loss = loss + workload.l2 * sum(
                (w * w).sum() for w in weights if w.ndim > 1
            )
        return loss

    def scores(self, weights: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        layers = self.workload.network.layers
        return self._run(layers, x, iter(weights), iter(self.statistics))

    def _run(
        self,
        layers: Sequence[Layer],
        x: torch.Tensor,
        weights: Iterator[torch.Tensor],
        statistics: Iterator[torch.Tensor],
    ) -> torch.Tensor:
        for layer in layers:
            match layer:
                case Dense(has_bias=True):
                    w = next(weights)
                    x = torch.addmm(next(weights), x, w)
                case Dense():
                    x = x @ next(weights)
                case Convolution():
                    w, b = next(weights), next(weights) if layer.has_bias else None
                    x = F.conv2d(x, w, b, layer.stride, layer.padding)
                case TransposedConvolution():
                    w, b = next(weights), next(weights)
                    x = F.conv_transpose2d(x, w, b, layer.stride, layer.padding)
                case BatchNorm():
                    mean, variance = next(statistics), next(statistics)
                    x = F.batch_norm(
                        x,
                        mean,
                        variance,
                        next(weights),
                        next(weights),
                        training=True,
                        eps=BATCH_NORM_EPSILON,
                    )
                case Activation("relu"):
                    x = torch.relu_(x)
                case Activation():
                    x = torch.sigmoid(x)
                case MaxPool():
                    x = F.max_pool2d(x, layer.size, layer.stride)
                case GlobalAverage():
                    x = x.mean((2, 3))
                case Flatten():
                    x = (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)
                case Residual():
                    y = self._run(layer.body, x, weights, statistics)
                    y += self._run(layer.shortcut, x, weights, statistics)
                    x = y
        return x


def _as_tensor(array) -> torch.Tensor:
    """Whole numbers stay what they are; floats take the default dtype."""
    x = torch.from_numpy(array)
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x


def _planes(x: torch.Tensor) -> torch.Tensor:
    """(n, h, w, c) seen as (n, c, h, w)."""
    return x.permute(0, 3, 1, 2)


def eager_step(model: Model, fused: bool):
    """``fused`` updates all weights in one kernel; without it is the default."""
    workload = model.workload
    for w in model.weights:
        w.requires_grad_()
    parts = model.weights
    if workload.weight_decay:
        parts = [
            {"params": [w for w in parts if w.ndim > 1]},
            {"params": [w for w in parts if w.ndim == 1], "weight_decay": 0.0},
        ]
    settings = {"weight_decay": workload.weight_decay, "fused": fused}
    if workload.optimizer == "adam":
        optimizer = torch.optim.Adam(
            parts, workload.lr, (BETA1, BETA2), EPSILON, **settings
        )
    else:
        momentum = MOMENTUM if workload.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD(parts, workload.lr, momentum, **settings)

    def step(rows):
        optimizer.zero_grad()
        loss = model.loss(model.weights, rows)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def compiled_step(model: Model, mode: str, cpp_wrapper: bool):
    """Minibatch, loss, gradients and update in one graph without a break.

    ``backward()`` and torch.optim would each be a graph of their own.
    """
    import torch._inductor.config as inductor

    inductor.cpp_wrapper = cpp_wrapper
    workload, decays = model.workload, model.decays
    value_and_grad = torch.func.grad_and_value(model.loss)
    first = [torch.zeros_like(w) for w in model.weights]
    second = [torch.zeros_like(w) for w in model.weights]
    number = torch.zeros(())

    @torch.compile(fullgraph=True, dynamic=False, mode=mode)
    def train(weights, first, second, number, rows):
        gradients, loss = value_and_grad(weights, rows)
        if workload.weight_decay:
            gradients = [
                dw + decay * w
                for w, dw, decay in zip(weights, gradients, decays, strict=True)
            ]
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
        return train(model.weights, first, second, number, rows)

    return step
