"""From a finished job to its report: what to show of data, model and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data
from chainrule.tasks.inside import activations, first_weights, layer_costs
from chainrule.tasks.job import Job
from chainrule.tasks.report import Mistake, Report, Sample, write_report
from chainrule.training import metrics

__all__ = ["worst_mistakes", "write_run_report"]

Array = np.ndarray[Any, Any]

_MEASURED = 8  # examples that run through the layers to measure them


def write_run_report(
    path: Path,
    job: Job,
    history: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any],
    outputs: Array,
) -> None:
    """Write the report of a finished job.

    Args:
        path: the file, inside the run's folder.
        job: the settings, the data and the trained model.
        history: one row for each epoch.
        results: scores on the test set, and the environment.
        outputs: the model's, for the whole test set.
    """
    task, test = job.task, job.splits.test
    probabilities = task.probabilities(outputs)
    predictor = job.predictor
    shown: dict[str, Any] = {}
    templates = first_weights(predictor.model, test.example_shape)
    if templates is not None:
        is_class = job.settings.model == "linear"
        shown["templates"] = templates.weights
        shown["template_kind"] = "class" if is_class else templates.kind
    first = test.read(np.arange(min(_MEASURED, len(test))))
    if len(test.example_shape) == 3:
        maps = activations(predictor, first[0])
        shown["sample"] = Sample(first[0], maps) if maps else None
    if task.name == "classify":
        predicted = outputs.argmax(axis=1)
        shown["confusion"] = metrics.confusion_matrix(
            predicted, test.targets, task.num_outputs
        )
        shown["mistakes"] = worst_mistakes(probabilities, test, task.names)
    elif task.name == "label":
        shown["label_scores"] = _label_scores(outputs, test.targets)
    else:
        shown["targets"], shown["predictions"] = test.targets, outputs
    report = Report(
        title=path.parent.resolve().name,
        settings=vars(job.settings),
        command=job.settings.command(),
        history=history,
        results={k: v for k, v in results.items() if k != "environment"},
        score=task.monitor,
        health=job.health.lines(),
        layers=layer_costs(predictor, first),
        names=task.names,
        environment=results["environment"],
        **shown,
    )
    write_report(path, report)


def worst_mistakes(
    probabilities: Array, dataset: data.Dataset, names: tuple[str, ...], count: int = 24
) -> list[Mistake]:
    """The wrongly classified examples whose own class got the least probability."""
    labels = dataset.targets
    own = probabilities[np.arange(len(labels)), labels]
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(own[wrong], kind="stable")][:count]
    is_picture = len(dataset.example_shape) == 3
    pictures = dataset.read(worst) if is_picture and len(worst) else None
    return [
        Mistake(
            true=names[labels[i]],
            predicted=names[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            probability_of_true=float(own[i]),
            picture=None if pictures is None else pictures[row],
            file=dataset.sources[i] if dataset.sources is not None else None,
        )
        for row, i in enumerate(worst.tolist())
    ]


def _label_scores(outputs: Array, targets: Array) -> dict[str, Array]:
    """F1 and average precision of every label."""
    columns = range(targets.shape[1])
    pairs = [(outputs[:, i : i + 1], targets[:, i : i + 1]) for i in columns]
    return {
        "f1": np.array([metrics.f1_scores(o, t)["f1_macro"] for o, t in pairs]),
        "average_precision": np.array(
            [metrics.average_precision(o, t) for o, t in pairs]
        ),
        "num_examples": (targets > 0.5).sum(axis=0),
    }
