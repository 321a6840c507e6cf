"""The report of a run: one HTML file that opens anywhere, off-line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from chainrule.files import write_atomically
from chainrule.tasks.charts import (
    curves,
    map_urls,
    picture_url,
    scatter,
    template_urls,
)
from chainrule.tasks.inside import Activation, LayerCost
from chainrule.training.metrics import class_scores

__all__ = ["Mistake", "Report", "Sample", "score_name", "score_text", "write_report"]

Array = np.ndarray[Any, Any]

_MAX_MATRIX = 100  # classes; a larger matrix reads as noise, its worst cells do not
_MAX_NUMBERS = 20  # classes whose cells have room for their counts
_MAX_TEMPLATES = 64
_MAX_TARGETS = 8
_MAX_CONFUSIONS = 12
_SHARES = ("accuracy", "top_5_accuracy", "exact_match")


@dataclass(frozen=True)
class Mistake:
    """An example that the model was most wrong about.

    ``picture`` is (h, w, c), or None for vectors; ``probability`` is what the
    model gave to ``predicted``, and ``probability_of_true`` to the right answer.
    """

    true: str
    predicted: str
    probability: float
    probability_of_true: float
    picture: Array | None = None
    file: str | None = None


@dataclass(frozen=True)
class Sample:
    """A picture (h, w, c), and what layers made of it."""

    picture: Array
    activations: Sequence[Activation]


@dataclass(frozen=True)
class Report:
    """What a report tells; sections whose field is left empty are left out.

    Args:
        title: the run's name.
        settings: every option of the run by name.
        command: the command line that repeats it.
        history: one row for each epoch, as ``metrics.jsonl`` has them.
        results: scores on the test set by name; those that are numbers are shown.
        score: the name of the score that chose the best epoch.
        health: what is known of the data, line by line.
        layers: what each layer holds and costs.
        names: of the classes, the labels or the predicted numbers.
        confusion: counts (true class, predicted class), for ``classify``.
        label_scores: arrays by name (``f1`` ...) over labels, for ``label``.
        targets: (n, k) true numbers, for ``regress``.
        predictions: (n, k), beside them.
        mistakes: the worst first.
        templates: weights of the first layer as pictures (k, h, w, c).
        template_kind: whose they are: "class", "unit" or "filter".
        sample: a picture with the activations that it gives.
        environment: versions, processor and the like.
    """

    title: str
    settings: Mapping[str, Any]
    command: str
    history: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    score: str
    health: Sequence[str] = ()
    layers: Sequence[LayerCost] = ()
    names: Sequence[str] = ()
    confusion: Array | None = None
    label_scores: Mapping[str, Array] = field(default_factory=dict)
    targets: Array | None = None
    predictions: Array | None = None
    mistakes: Sequence[Mistake] = ()
    templates: Array | None = None
    template_kind: str = "unit"
    sample: Sample | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the report, whole or not at all; raises FileError if it cannot be."""
    # Imported here: half a second with matplotlib, and only a finished run needs it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # class and file names are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = share_text
    environment.filters["label"] = score_name
    page = environment.get_template("report.html").render(
        report=report,
        data_name=PurePath(report.settings["data"] or "digits").name,
        headline=_headline(report),
        tiles=_tiles(report),
        curves=_curves(report),
        matrix=_matrix(report),
        confusions=_confusions(report),
        rows=_rows(report),
        scatters=_scatters(report),
        mistakes=_mistakes(report),
        templates=_templates(report),
        sample=_sample(report),
        costs=_costs(report),
        settings={k: v for k, v in report.settings.items() if v not in (None, "", ())},
    )
    # File names may hold bytes that are no text.
    write_atomically(path, page.encode(errors="replace"))


def score_name(name: str) -> str:
    """What a score is called in a sentence.

    Example:
        >>> score_name("f1_micro"), score_name("r2"), score_name("num_examples")
        ('F1 micro', 'R²', 'examples')
    """
    words = name.removeprefix("num_").split("_")
    return " ".join({"f1": "F1", "r2": "R²"}.get(word, word) for word in words)


def score_text(name: str, value: float) -> str:
    """A score as a person reads it: 97.81 %, 0.0812 or 1,797.

    Example:
        >>> score_text("accuracy", 0.97812), score_text("loss", 0.0812345)
        ('97.81 %', '0.08123')
    """
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.2f} %" if name in _SHARES else f"{value:.4g}"


def share_text(value: float) -> str:
    """A probability in per cent; what is not certain is not rounded to 0 or 100."""
    if 0 < value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %"


# --------------------------------------------------------------------------- the head


def _headline(report: Report) -> dict[str, str]:
    """The score that matters most, and how sure the test set makes us of it."""
    value = report.results.get(report.score)
    if not isinstance(value, float):
        return {}
    count = int(report.results.get("num_examples", 0))
    note = f"on {count:,} test examples" if count else "on the test set"
    if report.score == "accuracy" and count:
        low, high = _interval(value, count)
        note += f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    return {
        "name": report.score,
        "value": score_text(report.score, value),
        "note": note,
    }


def _interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of ``count`` independent examples.

    Source: Wilson, "Probable inference", J. Am. Stat. Assoc. 22, 1927.
    """
    z = 1.96
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _tiles(report: Report) -> dict[str, str]:
    """The numbers below the headline, by name."""
    results = dict(report.results)
    best, epochs = results.pop("best_epoch", None), results.pop("epochs", None)
    time_s = results.pop("time_s", None)
    tiles = {
        name: score_text(name, value)
        for name, value in results.items()
        if isinstance(value, (int, float))
        and name not in (report.score, "num_examples", "num_parameters", "steps")
    }
    if "num_parameters" in results:
        tiles["parameters"] = f"{results['num_parameters']:,}"
    if epochs is not None:
        tiles["best epoch"] = f"{best} of {epochs}" if best else f"{epochs} epochs"
    if time_s is not None:
        tiles["training time"] = duration_text(time_s)
    return tiles


def duration_text(time_s: float) -> str:
    """A duration as a person reads it."""
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


# ------------------------------------------------------------------------ the sections


def _curves(report: Report) -> list[dict[str, str]]:
    """Loss and score by epoch, as charts with their descriptions."""
    if not report.history:
        return []
    epochs = [row["epoch"] for row in report.history]
    best = [row["epoch"] for row in report.history if row["is_best"]]
    found = []
    for name in dict.fromkeys(("loss", report.score)):
        series = {
            part: [row[part].get(name, math.nan) for row in report.history]
            for part in ("training", "validation")
        }
        known = {p: v for p, v in series.items() if np.isfinite(v).any()}
        if known:
            best_epoch = best[-1] if best else None
            found.append(
                {
                    "title": name,
                    "svg": curves(name, epochs, known, best_epoch),
                    "description": _told(name, epochs, known, best_epoch),
                }
            )
    return found


def _told(
    name: str,
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float]],
    best: int | None,
) -> str:
    """A chart in words, for those who do not see it."""
    parts = [
        f"{part} from {score_text(name, values[0])} to {score_text(name, values[-1])}"
        for part, values in series.items()
    ]
    told = f"{score_name(name)} over {len(epochs)} epochs: {', '.join(parts)}"
    return told + (f"; best epoch {best}" if best else "")


def _matrix(report: Report) -> dict[str, Any] | None:
    """The confusion matrix as cells: count, and how much of its row that is."""
    counts = report.confusion
    if counts is None or len(counts) > _MAX_MATRIX:
        return None
    shares = _row_shares(counts)
    rows = [
        {
            "name": report.names[i],
            "cells": [
                {"count": int(n), "depth": round(0.08 + 0.62 * math.sqrt(share), 3)}
                for n, share in zip(counts[i], shares[i], strict=True)
            ],
        }
        for i in range(len(counts))
    ]
    has_numbers = len(counts) <= _MAX_NUMBERS
    return {
        "rows": rows,
        "has_numbers": has_numbers,
        "is_upright": has_numbers and max(map(len, report.names)) <= 4,
    }


def _row_shares(counts: Array) -> Array:
    totals = counts.sum(axis=1, keepdims=True)
    shares: Array = counts / np.maximum(totals, 1)
    return shares


def _confusions(report: Report) -> list[dict[str, Any]]:
    """The most frequent mistakes, by true and predicted class."""
    if report.confusion is None or len(report.confusion) < 3:
        return []
    wrong = report.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSIONS]
    shares = _row_shares(report.confusion)
    return [
        {
            "true": report.names[i],
            "predicted": report.names[j],
            "count": int(wrong[i, j]),
            "share": float(shares[i, j]),
        }
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j]
    ]


def _rows(report: Report) -> list[tuple[str, dict[str, float]]]:
    """Scores of each class or label."""
    scores = dict(report.label_scores)
    if report.confusion is not None:
        scores = class_scores(report.confusion)
    columns = {name: values.tolist() for name, values in scores.items()}
    return [
        (name, {column: values[i] for column, values in columns.items()})
        for i, name in enumerate(report.names)
        if columns
    ]


def _scatters(report: Report) -> list[dict[str, str]]:
    """Predicted against true numbers, a chart for each."""
    if report.targets is None or report.predictions is None:
        return []
    found = []
    for column, name in enumerate(report.names[:_MAX_TARGETS]):
        true, predicted = report.targets[:, column], report.predictions[:, column]
        error = float(np.abs(predicted - true).mean())
        told = f"{name}: predicted against true, mean absolute error {error:.4g}"
        found.append(
            {"name": name, "svg": scatter(true, predicted), "description": told}
        )
    return found


def _mistakes(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "mistake": mistake,
            "url": None if mistake.picture is None else picture_url(mistake.picture),
            "file_name": PurePath(mistake.file or "").name,
        }
        for mistake in report.mistakes
    ]


def _templates(report: Report) -> list[dict[str, str]]:
    if report.templates is None:
        return []
    urls = template_urls(report.templates[:_MAX_TEMPLATES])
    names = [f"{report.template_kind} {i + 1}" for i in range(len(urls))]
    if report.template_kind == "class":
        names = list(report.names)
    return [{"name": n, "url": url} for n, url in zip(names, urls, strict=False)]


def _sample(report: Report) -> dict[str, Any] | None:
    """The sample as pictures, layer by layer."""
    if report.sample is None:
        return None
    rows = []
    for shown in report.sample.activations:
        height, width = shown.maps.shape[1:]
        count = f"{len(shown.maps)} of {shown.num_channels}"
        rows.append(
            {
                "path": shown.path.removeprefix("network."),
                "size": f"{height}×{width}, {count} channels",
                "urls": map_urls(shown.maps),
            }
        )
    return {"url": picture_url(report.sample.picture), "rows": rows}


def _costs(report: Report) -> dict[str, Any] | None:
    """The table of layers, with how large a part of the time each takes."""
    if not report.layers:
        return None
    total_s = sum(layer.time_s for layer in report.layers)
    rows = [
        {
            "layer": layer,
            "parameters": f"{layer.parameters:,}" if layer.parameters else "",
            "connections": f"{layer.connections:,}" if layer.connections else "",
            "memory": f"{layer.output_bytes / 1024:,.2f}",
            "time": f"{1000 * layer.time_s:.3f}",
            "share": f"{100 * layer.time_s / (total_s or 1.0):.1f}",
        }
        for layer in report.layers
    ]
    total = {
        "parameters": f"{sum(layer.parameters for layer in report.layers):,}",
        "connections": f"{sum(layer.connections for layer in report.layers):,}",
        "memory": f"{sum(layer.output_bytes for layer in report.layers) / 1024:,.2f}",
        "time": f"{1000 * total_s:.3f}",
    }
    return {"rows": rows, "total": total}
