"""What a restoring network is compared with: the damage, and classical methods."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data import Dataset, arrays
from chainrule.data.corruptions import Chain, Corruption
from chainrule.data.damaged import DamagedPictures
from chainrule.errors import MissingDependencyError, OptionError, ShapeError
from chainrule.restoration import baselines
from chainrule.tasks.report import Strengths
from chainrule.tasks.tally import Tally, batches

if TYPE_CHECKING:
    from chainrule.tasks.restorer import Restorer

__all__ = ["by_strength", "compared", "other_strengths"]

_MOST_VALUES = 1 << 25
_MOST_VALUES_OF = {
    "non_local_means": 1 << 24,
    "richardson_lucy": 1 << 24,
    "camera_pipeline": 1 << 24,
    "biharmonic": 1 << 22,
}
"""That a method restores in an evaluation, so that none takes more than half a minute
or so."""

_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_STRENGTH_VALUES = 1 << 19
_STRENGTH_SIDE = 192


# ------------------------------------------------------------------------ in a table


def compared(restorer: Restorer, pictures: DamagedPictures) -> dict[str, Any]:
    """The scores of damaged pictures and of every classical method that applies.

    A slow method restores evenly spaced pictures of a large set only; ``num_examples``
    says how many, and ``network`` what the network's scores are on the same ones.
    """
    damage = Tally()
    for truth, damaged in batches(pictures):
        damage.add(truth, damaged.pictures, restorer.hole(damaged), with_ssim=True)
    methods: dict[str, Any] = {}
    for name in baselines.applicable(restorer.task.chain):
        try:
            methods[name] = _scores(restorer, pictures, name)
        except MissingDependencyError as error:
            methods[name] = {"skipped": f"{error.what}; {error.hint}"}
    return {"damaged": damage.scores(), "baselines": methods}


def _scores(restorer: Restorer, pictures: DamagedPictures, name: str) -> dict[str, Any]:
    base = pictures.base
    total = sum(math.prod(base.picture_shape(i)) for i in range(len(base)))
    most = _MOST_VALUES_OF.get(name, _MOST_VALUES)
    if restorer.fixed_mask(base.picture_shape(0)) is not None:
        most = _MOST_VALUES  # one system of equations for all holes
    step = max(1, -(-total // most))
    chosen = np.arange(0, len(base), step)
    tally, network = Tally(), Tally()
    tile = restorer.tile_for(pictures)
    for truth, damaged in batches(pictures, chosen):
        restored = baselines.restore_with(name, damaged, restorer.task.chain)
        hole = restorer.hole(damaged)
        tally.add(truth, restored, hole, with_ssim=True)
        if step > 1:
            ours = restorer.restored(damaged, tile)
            network.add(truth, ours, hole, with_ssim=True)
    scores: dict[str, Any] = {**tally.scores(), "num_examples": tally.count}
    if step > 1:
        scores["network"] = network.scores()
    return scores


# ----------------------------------------------------------------- over the strength


def by_strength(
    restorer: Restorer, pictures: DamagedPictures, method: str | None
) -> Strengths | None:
    """PSNR where the damage is weaker and stronger than what was trained on.

    Of some pictures, or the middles of large ones. None for damage without a strength.

    Args:
        method: the classical method to show beside the network, if any.
    """
    found = other_strengths(restorer.task.chain)
    if found is None:
        return None
    option, trained, versions = found
    samples = _samples(pictures)
    score = "psnr_hole" if restorer.task.has_hole else "psnr"
    names = ["this network", "as damaged", *([method] if method else [])]
    values: list[float] = []
    series: dict[str, list[float]] = {name: [] for name in names}
    for value, chain in versions:
        try:
            truth, damaged = DamagedPictures(samples, chain).damaged(
                range(len(samples))
            )
        except ShapeError:  # a hole larger than the picture
            continue
        restored = [restorer.restored(damaged), damaged.pictures]
        if method:
            restored.append(baselines.restore_with(method, damaged, chain))
        values.append(value)
        for name, result in zip(names, restored, strict=True):
            tally = Tally()
            tally.add(truth, result, restorer.hole(damaged))
            series[name].append(tally.scores()[score])
    if len(values) < 2:
        return None
    told = {name.replace("_", " "): row for name, row in series.items()}
    return Strengths(option, values, told, score, trained)


def other_strengths(
    chain: Chain,
) -> tuple[str, float, list[tuple[float, Chain]]] | None:
    """A chain with its first number smaller and larger; None if it has no number.

    Returns what the number is called, its own value, and the chains by value.

    Example:
        >>> from chainrule.data.corruptions import parse_corruptions
        >>> option, own, versions = other_strengths(parse_corruptions(["mask:box:10"]))
        >>> option, own, [value for value, _ in versions]
        ('mask box: side', 10.0, [2.0, 5.0, 8.0, 10.0, 12.0, 15.0, 20.0])
    """
    for position, step in enumerate(chain.steps):
        for field in dataclasses.fields(step):
            own = getattr(step, field.name)
            if not isinstance(own, (int, float)):
                continue
            versions = []
            for changed in _versions(step, field.name, own):
                steps = [*chain.steps]
                steps[position] = changed
                value = float(getattr(changed, field.name))
                versions.append((value, Chain(tuple(steps))))
            name = f"{step.name} {step.kind}".strip()
            return f"{name}: {field.name}", float(own), versions
    return None


def _versions(step: Corruption, option: str, own: float) -> Iterator[Corruption]:
    """The corruption with other values of an option, as far as it takes them."""
    values = [own * factor for factor in _FACTORS]
    if isinstance(own, int):
        values = [round(value) for value in values]
    for value in dict.fromkeys(values):
        try:
            yield dataclasses.replace(step, **{option: value})
        except OptionError:  # out of its range
            continue


def _samples(pictures: DamagedPictures) -> Dataset:
    """Some pictures of one size, evenly spaced, of large ones the middle."""
    base = pictures.base
    shapes = [base.picture_shape(i) for i in range(len(base))]
    height, width = (
        min(_STRENGTH_SIDE, min(shape[axis] for shape in shapes)) for axis in (0, 1)
    )
    most = max(1, _STRENGTH_VALUES // (height * width * shapes[0][2]))
    chosen = range(0, len(base), -(-len(base) // most))
    parts = []
    for index in chosen:
        h, w, _ = shapes[index]
        top, left = (h - height) // 2, (w - width) // 2
        parts.append(base.picture(index)[top : top + height, left : left + width])
    return arrays(np.stack(parts), np.zeros(len(parts)), task="restore")
