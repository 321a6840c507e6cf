"""The report of a run: one HTML file that opens anywhere, off-line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from chainrule.errors import counted
from chainrule.explanation.features import Activation
from chainrule.files import write_atomically
from chainrule.tasks.inside import LayerCost
from chainrule.tasks.report_sections import sections
from chainrule.tasks.words import duration_text, score_name, score_text, share_text

__all__ = [
    "Mistake",
    "Report",
    "Sample",
    "Strengths",
    "Strip",
    "write_html",
    "write_report",
]

Array = np.ndarray[Any, Any]


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
class Strip:
    """An example of pictures in, pictures out: each picture (h, w, c) by its name.

    ``kind`` is "good", "median" or "worst"; ``score`` a text such as 31.50 dB.
    """

    kind: str
    score: str
    name: str
    pictures: Mapping[str, Array]


@dataclass(frozen=True)
class Strengths:
    """Scores over the strength of the damage.

    ``option`` is what the strength is called, ``series`` the scores of each method at
    ``values``, and ``trained`` the strength that the network was trained on.
    """

    option: str
    values: Sequence[float]
    series: Mapping[str, Sequence[float]]
    score: str
    trained: float


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
        network: a drawing of the layers, as SVG.
        names: of the classes, the labels or the predicted numbers.
        confusion: counts (true class, predicted class), for ``classify``.
        label_scores: arrays by name (``f1`` ...) over labels or classes; without them
            those of a confusion matrix are shown.
        targets: (n, k) true numbers, for ``regress``.
        predictions: (n, k), beside them.
        mistakes: the worst first.
        strips: examples of pictures that the model made, good ones first.
        strips_note: how to read them.
        methods: scores by method, for ``restore``.
        strengths: scores over the strength of the damage.
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
    network: str = ""
    names: Sequence[str] = ()
    confusion: Array | None = None
    label_scores: Mapping[str, Array] = field(default_factory=dict)
    targets: Array | None = None
    predictions: Array | None = None
    mistakes: Sequence[Mistake] = ()
    strips: Sequence[Strip] = ()
    strips_note: str = ""
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strengths: Strengths | None = None
    templates: Array | None = None
    template_kind: str = "unit"
    sample: Sample | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the report, whole or not at all; raises FileError if it cannot be."""
    write_html(
        path,
        "report.html",
        report=report,
        data_name=PurePath(report.settings["data"] or "digits").name,
        headline=_headline(report),
        tiles=_tiles(report),
        **sections(report),
        settings={k: v for k, v in report.settings.items() if v not in (None, "", ())},
    )


def write_html(path: str | os.PathLike[str], template: str, **shown: Any) -> None:
    """Fill a template and write the page, whole or not at all.

    Raises FileError if it cannot be written.
    """
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
    page = environment.get_template(template).render(**shown)
    # File names may hold bytes that are no text.
    write_atomically(path, page.encode(errors="replace"))


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
        none = counted(epochs, "epoch")
        tiles["best epoch"] = f"{best} of {epochs}" if best else none
    if time_s is not None:
        tiles["training time"] = duration_text(time_s)
    return tiles
