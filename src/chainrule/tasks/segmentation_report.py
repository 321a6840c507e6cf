"""What a report shows of segmented pictures: overlays, confusions, scores by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data.label_maps import class_colours
from chainrule.data.targets import IGNORED
from chainrule.tasks.picture_report import as_levels, chosen_examples, middle_of
from chainrule.tasks.report import Strip
from chainrule.tasks.words import score_text
from chainrule.training.metrics import class_scores, intersection_over_union

if TYPE_CHECKING:
    from chainrule.tasks.segmenter import Segmenter
    from chainrule.tasks.trained import Examined

__all__ = ["overlay", "segmentation_fields"]

Array = np.ndarray[Any, Any]

_OPACITY = 0.6
_NOTE = (
    "Pictures of the test set by their share of right pixels: those that are better "
    "than nine in ten, those in the middle, and the worst. Classes are laid over the "
    "picture in colours, the first one as black; white marks wrong pixels, grey ones "
    "that do not count; of large pictures the middle is shown."
)


def segmentation_fields(segmenter: Segmenter, found: Examined) -> dict[str, Any]:
    """Fields of ``Report`` for what an evaluation of a segmenting network found."""
    confusions = found.shown["confusions"]
    counts = confusions.counts
    each = class_scores(counts)
    scores = {
        "iou": np.nan_to_num(intersection_over_union(counts)),
        "precision": each["precision"],
        "recall": each["recall"],
        "num_pixels": each["num_examples"],
    }
    return {
        "confusion": counts,
        "label_scores": scores,
        "strips": _strips(segmenter, found),
        "strips_note": _NOTE,
    }


def _strips(segmenter: Segmenter, found: Examined) -> list[Strip]:
    pictures, confusions = found.shown["pictures"], found.shown["confusions"]
    sources = pictures.base.sources
    strips = []
    for kind, indices in chosen_examples(confusions.accuracies).items():
        for index in indices:
            levels, labels = (x[0] for x in pictures.whole([index]))
            predicted = segmenter.segment(levels)
            wrong = np.where(labels == IGNORED, 128, 255 * (predicted != labels))
            shown = {
                "picture": levels,
                "predicted": overlay(levels, predicted),
                "truth": overlay(levels, labels),
                "wrong": wrong[..., None],
            }
            accuracy = confusions.accuracies[index]
            strips.append(
                Strip(
                    kind=kind,
                    score=score_text("pixel_accuracy", accuracy),
                    name=sources[index] if sources else f"picture {index}",
                    pictures={n: middle_of(as_levels(x)) for n, x in shown.items()},
                )
            )
    return strips


def overlay(levels: Array, classes: Array) -> Array:
    """A picture with the colours of its pixels' classes over it: float (h, w, 3)."""
    colours = class_colours(IGNORED + 1)[classes]
    grey = levels.mean(axis=-1, keepdims=True)
    mixed: Array = (1 - _OPACITY) * grey + _OPACITY * colours
    return mixed
