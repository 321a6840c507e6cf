"""The gradient that a run trains with, against differences, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data, nn
from chainrule.autodiff import GradientReport, check_gradients
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.rng import generator
from chainrule.errors import OptionError, counted
from chainrule.tasks.job import blas_threads, load_splits
from chainrule.tasks.named import load
from chainrule.tasks.run import read_settings
from chainrule.tasks.task import Task

__all__ = ["LayerCheck", "RunCheck", "check_run_gradients"]

Array = np.ndarray[Any, Any]

_MODES = {True: "in training", False: "in evaluation"}


@dataclass(frozen=True)
class LayerCheck:
    """One layer's parameters, or the input, against differences."""

    path: str
    layer: str
    """Its class; "" for the input."""
    num_probes: int
    num_kinks: int
    max_error: float
    is_right: bool


@dataclass(frozen=True)
class RunCheck:
    """What ``check_run_gradients`` found; prints as a table for each mode."""

    run: str
    num_examples: int
    tolerance: float
    layers: Mapping[str, tuple[LayerCheck, ...]]
    """By mode: "in training", "in evaluation", or both in one where they are alike."""
    faults: Mapping[str, tuple[str, ...]]
    """Ops whose own gradient is wrong, with their layers, by mode."""

    @property
    def passed(self) -> bool:
        return all(layer.is_right for found in self.layers.values() for layer in found)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "run": self.run,
            "passed": self.passed,
            "num_examples": self.num_examples,
            "tolerance": self.tolerance,
            "modes": {
                mode: {
                    "layers": [vars(layer) for layer in found],
                    "faults": list(self.faults[mode]),
                }
                for mode, found in self.layers.items()
            },
        }

    def __str__(self) -> str:
        lines = [
            f"the gradient of the loss of {counted(self.num_examples, 'example')}, "
            "against central differences in float64"
        ]
        for mode, layers in self.layers.items():
            rows = [(mode, "layer", "probes", "kinks", "largest error", "")]
            rows += [
                (
                    found.path,
                    found.layer,
                    str(found.num_probes),
                    str(found.num_kinks),
                    f"{found.max_error:.1e}",
                    "right" if found.is_right else "WRONG",
                )
                for found in layers
            ]
            wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
            lines.append("")
            lines += [
                "  ".join(t.ljust(n) for t, n in zip(row, wide, strict=True)).rstrip()
                for row in rows
            ]
            lines += [f"at fault: {fault}" for fault in self.faults[mode]]
        return "\n".join([*lines, "", self.verdict])

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.passed:
            return f"right: every gradient agrees to {self.tolerance:.0e} of its size"
        return (
            "WRONG: the way back from the loss goes wrong at the last of these layers, "
            "or just behind it"
        )


class _Loss(nn.Module):
    """A model with its task's loss of fixed targets: a function of the inputs alone."""

    def __init__(self, model: nn.Module, task: Task, targets: Array) -> None:
        self.model = model
        self._task = task
        self._targets = targets

    def forward(self, x: Tensor) -> Tensor:
        return self._task.loss(self.model(x), as_tensor(self._targets))


def check_run_gradients(
    folder: str | os.PathLike[str],
    *,
    num_examples: int = 4,
    num_entries: int = 3,
    num_directions: int = 2,
    seed: int = 0,
) -> RunCheck:
    """Check the gradient of a run's loss by differences, on a few training examples.

    The loss is the task's own, without penalties. Some entries of the input and of
    each parameter are moved, and each of them along some random directions, in
    float64. Where training and evaluation differ (batch normalisation, dropout), both
    are checked: with the batch's own statistics and a fixed mask, and without. Inputs
    are moved off their grid by a little noise, since pixels that are equal tie in max
    pooling, where there is no derivative. The run is left as it is.

    Raises:
        CheckpointError: if the folder is no run.
        OptionError: for no examples.
        NonFiniteError: if the loss is NaN or infinite.
    """
    if num_examples < 1:
        raise OptionError(
            "gradcheck: no examples", got=num_examples, expected="at least 1"
        )
    path = Path(folder)
    settings = read_settings(path)
    trained = load(path)
    examples = trained.task.examples(settings, load_splits(settings)).train
    batch = data.Loader(examples, num_examples, seed=settings.seed).batch(1, 0)
    inputs = np.asarray(batch.inputs, np.float64)
    noise = generator(seed, "gradcheck").uniform(-1, 1, inputs.shape)
    inputs = inputs + 1e-2 * max(float(inputs.std()), 1e-3) * noise
    loss = _Loss(trained.model, trained.task, batch.targets)
    layers: dict[str, tuple[LayerCheck, ...]] = {}
    faults: dict[str, tuple[str, ...]] = {}
    tolerance = 0.0
    with blas_threads(settings):
        modes = [True, False] if _differs(loss, inputs) else [False]
        for training in modes:
            loss.train(training)
            try:
                report = check_gradients(
                    loss,
                    inputs,
                    num_entries=num_entries,
                    num_directions=num_directions,
                    seed=seed,
                    raise_error=False,
                )
            finally:
                loss.eval()
            mode = _MODES[training] if len(modes) > 1 else " and ".join(_MODES.values())
            layers[mode] = tuple(_by_layer(loss, report))
            faults[mode] = tuple(str(f).replace("model.", "") for f in report.faults)
            tolerance = max(tolerance, report.tolerance)
    return RunCheck(str(path), len(inputs), tolerance, layers, faults)


def _differs(loss: nn.Module, inputs: Array) -> bool:
    """Whether the loss in training is another than in evaluation."""
    state = loss.state()
    values = []
    try:
        for training in (True, False):
            loss.train(training)
            with no_grad():
                values.append(float(loss(inputs).item()))
            loss.load_state(state)
    finally:
        loss.eval()
    return values[0] != values[1]


def _by_layer(loss: nn.Module, report: GradientReport) -> list[LayerCheck]:
    """The input, then every layer with parameters, first to last."""
    modules = dict(loss.named_modules())
    parameters = dict(loss.named_parameters())
    groups: dict[str, list[Any]] = {}
    for comparison in report.comparisons:
        is_own = comparison.name in parameters
        path = comparison.name.rpartition(".")[0] if is_own else "input"
        groups.setdefault(path, []).append(comparison)
    wrong = {id(c) for c in report.wrong}
    return [
        LayerCheck(
            path.removeprefix("model."),
            type(modules[path]).__name__ if path in modules else "",
            sum(len(c.probes) for c in found),
            sum(c.num_kinks for c in found),
            max(c.max_error for c in found),
            not any(id(c) in wrong for c in found),
        )
        for path, found in groups.items()
    ]
