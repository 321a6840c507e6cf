"""Splitting examples so that every part shows the same classes, and no group twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.rng import generator
from chainrule.data.dataset import Array, Dataset
from chainrule.errors import DataError, OptionError, counted

__all__ = ["Splits", "complete", "split"]


@dataclass(frozen=True)
class Splits:
    """What is learned from, what chooses the weights, and what is read once."""

    train: Dataset
    validation: Dataset
    test: Dataset

    def items(self) -> list[tuple[str, Dataset]]:
        """The parts with their names."""
        return [
            ("train", self.train),
            ("validation", self.validation),
            ("test", self.test),
        ]


def split(
    dataset: Dataset,
    fraction: float,
    *,
    seed: int,
    name: str,
    groups: Any = None,
) -> tuple[Dataset, Dataset]:
    """Part a data set in two: what remains, and about ``fraction`` of it.

    Classes keep their shares. ``groups`` (default: the data set's own) stay whole, and
    then shares are only as near as whole groups allow. The same seed and name give the
    same parts.

    Raises: OptionError for a fraction outside 0 to 1; DataError where a part that was
    asked for would be empty.

    Example:
        >>> from chainrule.data.dataset import arrays
        >>> whole = arrays(np.zeros((10, 4)), [0] * 5 + [1] * 5)
        >>> rest, part = split(whole, 0.2, seed=0, name="test")
        >>> len(rest), len(part), sorted(part.targets.tolist())
        (8, 2, [0, 1])
    """
    if not 0 <= fraction < 1:
        raise OptionError(
            f"split: the {name} part is no share of the data",
            got=fraction,
            expected="a number from 0 up to, not including, 1",
        )
    members = dataset.groups if groups is None else np.asarray(groups)
    rng = generator(seed, f"split:{name}")
    if fraction == 0:
        is_taken = np.zeros(len(dataset), bool)
    elif members is None:
        is_taken = _take_examples(_strata(dataset), fraction, rng)
    else:
        is_taken = _take_groups(_strata(dataset), members, fraction, rng)
    if fraction > 0 and (not is_taken.any() or is_taken.all()):
        unit = "example" if members is None else "group"
        count = len(dataset) if members is None else len(np.unique(members))
        raise DataError(
            f"split: too few {unit}s of {dataset.name!r} for a {name} part",
            got=f"{counted(count, unit)}, of which {fraction:g} for {name}",
            expected=f"at least one of the {unit}s on each side",
            hint="give more data, or another share",
        )
    return (
        dataset.subset(np.flatnonzero(~is_taken)),
        dataset.subset(np.flatnonzero(is_taken)),
    )


def complete(
    parts: Mapping[str, Dataset], *, validation: float, test: float, seed: int
) -> Splits:
    """Make the parts that a source does not bring along."""
    train = parts["train"]
    if "test" in parts:
        tested = parts["test"]
        _check_groups(train, tested)
    else:
        train, tested = split(train, test, seed=seed, name="test")
    if "validation" in parts:
        chosen_by = parts["validation"]
        _check_groups(train, chosen_by)
    else:
        train, chosen_by = split(train, validation, seed=seed, name="validation")
    return Splits(train, chosen_by, tested)


def _strata(dataset: Dataset) -> Array:
    """The class of each example, or one stratum for labels and numbers."""
    targets = dataset.targets
    return targets if targets.ndim == 1 else np.zeros(len(dataset), np.int64)


def _take_examples(strata: Array, fraction: float, rng: np.random.Generator) -> Array:
    """The same share of every class: whole parts first, then the largest remainders."""
    classes, counts = np.unique(strata, return_counts=True)
    shares = counts * fraction
    takes = np.floor(shares).astype(np.int64)
    missing = round(len(strata) * fraction) - int(takes.sum())
    takes[np.argsort(takes - shares, kind="stable")[:missing]] += 1
    # A class with two examples or more is seen on both sides.
    takes = np.where(counts >= 2, np.clip(takes, 1, counts - 1), 0)
    is_taken = np.zeros(len(strata), bool)
    for number, count in zip(classes, takes, strict=True):
        members = np.flatnonzero(strata == number)
        is_taken[rng.permutation(members)[:count]] = True
    return is_taken


def _take_groups(
    strata: Array, groups: Array, fraction: float, rng: np.random.Generator
) -> Array:
    """Whole groups, each taken if it brings the class counts nearer to their share."""
    names, member_of = np.unique(groups, return_inverse=True)
    classes, stratum_of = np.unique(strata, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (member_of, stratum_of), 1)
    wanted = counts.sum(axis=0) * fraction
    have = np.zeros(len(classes))
    is_taken = np.zeros(len(names), bool)
    for group in rng.permutation(len(names)):
        more = have + counts[group]
        if ((wanted - more) ** 2).sum() < ((wanted - have) ** 2).sum():
            have, is_taken[group] = more, True
    if not is_taken.any() and len(names) > 1:
        # Every group is larger than the share; the smallest comes nearest to it.
        is_taken[counts.sum(axis=1).argmin()] = True
    return np.asarray(is_taken[member_of])


def _check_groups(train: Dataset, other: Dataset) -> None:
    if train.groups is None or other.groups is None:
        return
    shared = np.intersect1d(train.groups, other.groups)
    if len(shared):
        raise DataError(
            f"{train.name}: groups stand on both sides of the data's own split",
            got=f"{len(shared)} shared, for example {str(shared[0])!r}",
            expected="each group in one part only",
            hint="put all pictures in one folder per class, and the split is made",
        )
