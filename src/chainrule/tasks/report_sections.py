"""The sections of a report, each as what its template shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import counted
from chainrule.explanation.features import confused_pairs
from chainrule.tasks.charts import (
    curves,
    map_urls,
    picture_url,
    scatter,
    strengths,
    template_urls,
)
from chainrule.tasks.words import score_name, score_text
from chainrule.training.metrics import class_scores

if TYPE_CHECKING:
    from chainrule.tasks.report import Report

__all__ = ["sections"]

Array = np.ndarray[Any, Any]

_MAX_MATRIX = 100  # classes; a larger matrix reads as noise, its worst cells do not
_MAX_NUMBERS = 20  # classes whose cells have room for their counts
_MAX_COUNT = 99_999  # that a cell has room for
_MAX_TEMPLATES = 64
_MAX_TARGETS = 8
_MAX_CONFUSIONS = 12
_LARGEST_IN_STRIPS = 256  # pixels
_SMALL_IN_STRIPS = 64


def sections(report: Report) -> dict[str, Any]:
    """Every section by the name that the template has for it."""
    return {
        "curves": _curves(report),
        "matrix": _matrix(report),
        "confusions": _confusions(report),
        "rows": _rows(report),
        "scatters": _scatters(report),
        "mistakes": _mistakes(report),
        "strips": _strips(report),
        "methods": _methods(report),
        "strengths": _strengths(report),
        "templates": _templates(report),
        "sample": _sample(report),
        "costs": _costs(report),
    }


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
    over = counted(len(epochs), "epoch")
    told = f"{score_name(name)} over {over}: {', '.join(parts)}"
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
    has_numbers = len(counts) <= _MAX_NUMBERS and counts.max() <= _MAX_COUNT
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
    return [
        {
            "true": report.names[pair.true],
            "predicted": report.names[pair.predicted],
            "count": pair.count,
            "share": pair.share,
        }
        for pair in confused_pairs(report.confusion)[:_MAX_CONFUSIONS]
    ]


def _rows(report: Report) -> list[tuple[str, dict[str, float]]]:
    """Scores of each class or label."""
    scores = dict(report.label_scores)
    if report.confusion is not None and not scores:
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


def _strips(report: Report) -> list[dict[str, Any]]:
    """The strips of each kind, their pictures as URLs."""
    kinds = dict.fromkeys(strip.kind for strip in report.strips)
    return [
        {
            "kind": kind,
            "is_large": any(
                max(picture.shape) > _SMALL_IN_STRIPS
                for strip in report.strips
                for picture in strip.pictures.values()
            ),
            "rows": [
                {
                    "strip": strip,
                    "file_name": PurePath(strip.name).name,
                    "urls": {
                        name: picture_url(picture, max_side=_LARGEST_IN_STRIPS)
                        for name, picture in strip.pictures.items()
                    },
                }
                for strip in report.strips
                if strip.kind == kind
            ],
        }
        for kind in kinds
    ]


def _methods(report: Report) -> dict[str, Any] | None:
    """The table of methods, the best of each column marked."""
    if not report.methods:
        return None
    columns = [
        name
        for name in ("psnr_hole", "psnr", "ssim")
        if any(name in scores for scores in report.methods.values())
    ]
    best = {
        name: max(s.get(name, -math.inf) for s in report.methods.values())
        for name in columns
    }
    rows = [
        {
            "name": method.replace("_", " "),
            "note": scores.get("skipped", ""),
            "count": scores.get("num_examples"),
            "cells": [
                {
                    "text": score_text(name, scores[name]) if name in scores else "",
                    "is_best": scores.get(name) == best[name],
                }
                for name in columns
            ],
        }
        for method, scores in report.methods.items()
    ]
    total = report.results.get("num_examples")
    for row in rows:
        row["is_part"] = row["count"] is not None and row["count"] != total
    return {"columns": columns, "rows": rows}


def _strengths(report: Report) -> dict[str, str] | None:
    """Scores over the strength of the damage, as a chart with its description."""
    found = report.strengths
    if found is None:
        return None
    name = score_name(found.score)
    parts = [
        f"{method} from {score_text(found.score, row[0])} to "
        f"{score_text(found.score, row[-1])}"
        for method, row in found.series.items()
    ]
    told = f"{name} over {found.option}, {found.values[0]:g} to {found.values[-1]:g}"
    return {
        "title": f"{name} by strength",
        "svg": strengths(
            found.option, found.values, found.series, found.trained, f"{name}, dB"
        ),
        "description": f"{told}: {', '.join(parts)}",
    }


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
