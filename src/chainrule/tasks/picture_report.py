"""What a report shows of pictures that a network made: strips, methods, strengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data.damaged import DamagedPictures
from chainrule.tasks.report import Strip
from chainrule.tasks.words import score_text

if TYPE_CHECKING:
    from chainrule.tasks.restorer import Restorer
    from chainrule.tasks.trained import Examined

__all__ = ["chosen_examples", "restoration_fields"]

Array = np.ndarray[Any, Any]

_OF_EACH = 3  # strips for good, median and worst examples
_SHARE_OF_GOOD = 0.9
_LARGEST = 192  # pixels of a strip's picture; of a larger one the middle is shown
_ERROR_GAIN = 4
_NOTE = (
    "Pictures of the test set by how well they were restored: those that are better "
    "than nine in ten, those in the middle, and the worst. The error is the mean "
    f"difference of a pixel's channels, {_ERROR_GAIN} times as bright; of large "
    "pictures the middle is shown."
)


def restoration_fields(restorer: Restorer, found: Examined) -> dict[str, Any]:
    """Fields of ``Report`` for what an evaluation of a restoring network found."""
    from chainrule.tasks.comparison import by_strength  # see tally

    scored = {
        name: scores.get("psnr_hole", scores.get("psnr"))
        for name, scores in found.scores["baselines"].items()
        if "skipped" not in scores
    }
    best = max(scored, key=lambda name: scored[name], default=None)
    return {
        "strengths": by_strength(restorer, found.shown["pictures"], best),
        "strips": restoration_strips(restorer, found),
        "strips_note": _NOTE,
        "methods": methods(found.scores),
    }


def chosen_examples(merits: Sequence[float]) -> dict[str, list[int]]:
    """Good, median and the worst of examples by their merit, three of each.

    Good is what is better than nine in ten: the very best are often empty.

    Example:
        >>> chosen_examples([5.0, 1.0, 3.0])
        {'good': [0], 'median': [2], 'worst': [1]}
    """
    order = np.argsort(-np.asarray(merits), kind="stable")
    if len(order) < 3 * _OF_EACH:  # each once
        good, median, worst = np.array_split(order, 3)
    else:
        good_from = round((1 - _SHARE_OF_GOOD) * len(order))
        median_from = (len(order) - _OF_EACH) // 2
        good = order[max(0, good_from - _OF_EACH) :][:_OF_EACH]
        median, worst = order[median_from:][:_OF_EACH], order[-_OF_EACH:]
    found = {"good": good, "median": median, "worst": worst}
    return {kind: numbers.tolist() for kind, numbers in found.items() if len(numbers)}


def restoration_strips(restorer: Restorer, found: Examined) -> list[Strip]:
    """Damaged, restored, true and error, of good, median and the worst pictures."""
    pictures, measured = found.shown["pictures"], found.shown["measured"]
    chosen = chosen_examples([-error for error in measured.errors])
    return [
        _strip(restorer, pictures, index, kind)
        for kind, indices in chosen.items()
        for index in indices
    ]


def _strip(
    restorer: Restorer, pictures: DamagedPictures, index: int, kind: str
) -> Strip:
    from chainrule.restoration import quality  # see tally

    truth, damaged = pictures.damaged([index])
    restored = restorer.restored(damaged)
    error = np.abs(restored - truth).mean(axis=-1, keepdims=True) * _ERROR_GAIN
    shown = {
        "damaged": damaged.pictures,
        "restored": restored,
        "truth": truth,
        "error": error,
    }
    sources = pictures.base.sources
    return Strip(
        kind=kind,
        score=score_text("psnr", quality.psnr(truth, restored)),
        name=sources[index] if sources else f"picture {index}",
        pictures={name: middle_of(as_levels(x[0])) for name, x in shown.items()},
    )


def as_levels(picture: Array) -> Array:
    """Rounded and clipped to bytes."""
    levels: Array = np.clip(np.rint(picture), 0, 255)
    return levels.astype(np.uint8)


def middle_of(picture: Array) -> Array:
    """A picture, or the middle of a large one."""
    height, width = picture.shape[:2]
    top, left = max(0, (height - _LARGEST) // 2), max(0, (width - _LARGEST) // 2)
    return picture[top : top + _LARGEST, left : left + _LARGEST]


def methods(scores: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of the network, of the damage itself and of classical methods."""
    names = ("psnr", "ssim", "psnr_hole")
    own = {name: scores[name] for name in names if name in scores}
    return {
        "this network": own,
        **scores["baselines"],
        "as damaged": scores["damaged"],
    }
