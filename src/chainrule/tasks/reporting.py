"""From a finished job to its report: what to show of data, model and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.explanation.drawing import draw_network
from chainrule.explanation.features import activations, first_weights
from chainrule.tasks.inside import layer_costs
from chainrule.tasks.job import Job
from chainrule.tasks.report import Report, Sample, write_report
from chainrule.tasks.task import Task
from chainrule.tasks.trained import Examined

__all__ = ["write_run_report"]

Array = np.ndarray[Any, Any]

_MEASURED = 8  # examples that run through the layers to measure them


def write_run_report(
    path: Path,
    job: Job,
    history: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any],
    found: Examined,
) -> None:
    """Write the report of a finished job.

    Args:
        path: the file, inside the run's folder.
        job: the settings, the data and the trained model.
        history: one row for each epoch.
        results: scores on the test set, and the environment.
        found: what the evaluation on the test set showed.
    """
    task, predictor = job.task, job.predictor
    # What the network is shown: of pictures whose target is a picture, patches.
    seen = job.trainer.loader.dataset if task.is_dense else job.splits.test
    shown = dict(predictor.report_fields(found, job.splits.test))
    templates = first_weights(predictor.model, seen.example_shape)
    if templates is not None:
        is_class = job.settings.model == "linear"
        shown["templates"] = templates.weights
        shown["template_kind"] = "class" if is_class else templates.kind
    first = seen.read(np.arange(min(_MEASURED, len(seen))))
    if len(seen.example_shape) == 3:
        maps = activations(predictor.model, first[0]).layers
        picture = _visible(first[0], task)
        shown["sample"] = Sample(picture, maps) if maps else None
    report = Report(
        title=path.parent.resolve().name,
        settings=vars(job.settings),
        command=job.settings.command(),
        history=history,
        results={k: v for k, v in results.items() if k != "environment"},
        score=task.monitor,
        health=job.health.lines(),
        layers=layer_costs(predictor, first),
        network=draw_network(predictor.model, predictor.architecture.input_shape).svg,
        names=task.names,
        environment=results["environment"],
        **shown,
    )
    write_report(path, report)


def _visible(inputs: Array, task: Task) -> Array:
    """The picture of a network's inputs, which may have masks beside it."""
    if not task.is_dense or inputs.dtype == np.uint8:
        return inputs
    channels = 3 if inputs.shape[-1] >= 3 and task.num_outputs == 3 else 1
    levels: Array = np.clip(np.rint(inputs[..., :channels]), 0, 255)
    return levels.astype(np.uint8)
