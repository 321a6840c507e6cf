"""What to know about data before training on them: counts, gaps and near-duplicates."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chainrule.core.rng import generator
from chainrule.data.dataset import Array, Dataset
from chainrule.data.splits import Splits
from chainrule.errors import counted

__all__ = ["Duplicates", "Health", "health"]

_GRID = 8
_NUM_TABLES = 6
_NUM_BITS = 16
_NEIGHBOURS = 3
_MIN_COARSE = 0.96
_MIN_CORRELATION = 0.985
_MAX_VALUES = 1 << 28
_MAX_VALUES_FROM_FILES = 1 << 24
_CHUNK_VALUES = 1 << 22
_SHOWN = 12


@dataclass(frozen=True)
class Duplicates:
    """Pairs of nearly equal inputs, of which one is in each of two parts.

    ``num_conflicts`` of them have different targets; ``examples`` names some.
    """

    parts: tuple[str, str]
    num_pairs: int
    num_conflicts: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Health:
    """What ``health`` found.

    ``counts`` holds, for each part, how many examples each class or label has (None for
    numbers). ``num_compared`` is less than ``num_examples`` where near-duplicates were
    looked for in a sample.
    """

    name: str
    example_shape: tuple[int, ...]
    num_examples: dict[str, int]
    class_names: tuple[str, ...] | None
    counts: dict[str, list[int]] | None
    ranges: dict[str, tuple[float, float]] | None
    picture_sizes: dict[str, int] | None
    problems: list[str]
    duplicates: list[Duplicates]
    num_blank: int
    num_compared: int
    warnings: list[str]
    has_one_size: bool = True
    """False where pictures keep their sizes, and were compared in a small one."""

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The findings for a terminal."""
        parts = ", ".join(f"{n:,} {part}" for part, n in self.num_examples.items())
        shape = "×".join(map(str, self.example_shape))
        examples = f"examples of {shape}"
        if not self.has_one_size:
            examples = counted(self.example_shape[-1], "channel")
        rows = [f"{self.name}: {parts}; {examples}"]
        rows += self._count_lines() + self._size_lines()
        if self.problems:
            rows.append(f"{counted(len(self.problems), 'file')} left out")
        rows += _shortened([f"  {problem}" for problem in self.problems])
        rows += self._duplicate_lines()
        return rows + [f"warning: {warning}" for warning in self.warnings]

    def _count_lines(self) -> list[str]:
        if self.counts is None or self.class_names is None:
            return [
                f"  {name}: from {low:g} to {high:g}"
                for name, (low, high) in (self.ranges or {}).items()
            ]
        width = max(5, *map(len, self.class_names))
        heads = [f"{part:>12}" for part in self.counts]
        rows = [f"  {'class':<{width}}{''.join(heads)}"]
        for number, name in enumerate(self.class_names):
            cells = [f"{counts[number]:>12,}" for counts in self.counts.values()]
            rows.append(f"  {name:<{width}}{''.join(cells)}")
        return rows[:1] + _shortened(rows[1:])

    def _size_lines(self) -> list[str]:
        sizes = self.picture_sizes
        target = f"{self.example_shape[1]}×{self.example_shape[0]}" if sizes else ""
        if not sizes or list(sizes) == [target]:
            return []
        usual = ", ".join(f"{size} ({n:,})" for size, n in list(sizes.items())[:3])
        more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        then = f"resized to {target}" if self.has_one_size else "which they keep"
        return [f"pictures of {usual}{more}, {then}"]

    def _duplicate_lines(self) -> list[str]:
        total = sum(self.num_examples.values())
        among = (
            f"a sample of {self.num_compared:,} of {total:,}"
            if self.num_compared < total
            else f"{total:,}"
        )
        if not self.duplicates:
            return [f"no near-duplicates among {among} examples"]
        rows = [f"near-duplicates among {among} examples:"]
        for found in self.duplicates:
            first, second = found.parts
            where = f"inside {first}" if first == second else f"{first} and {second}"
            conflicts = (
                f", {found.num_conflicts:,} with different targets"
                if found.num_conflicts
                else ""
            )
            a, b = found.examples[0]
            rows.append(
                f"  {where}: {found.num_pairs:,}{conflicts} (such as {a} = {b})"
            )
        return rows


def health(splits: Splits, *, seed: int = 0) -> Health:
    """Look at data before training: cheap enough to do every time.

    Near-duplicates are found by hashing. Pictures are averaged on a grid of 8×8, their
    brightness and contrast taken away; pictures that fall on the same side of 16 random
    planes, in one of 6 draws, are compared, and pairs whose pixels correlate to 0.985
    count. Most such pairs are found, equal pictures always. Vectors must be equal.
    Beyond 268 million values (17 million where pictures are decoded at every reading) a
    sample is looked at.

    Example:
        >>> from chainrule.data.sources import load
        >>> print(health(load("digits")).lines()[0])
        digits: 1,294 train, 144 validation, 359 test; examples of 8×8×1

    Source: Charikar, "Similarity estimation techniques from rounding algorithms",
    STOC 2002 (the random planes).
    """
    parts = dict(splits.items())
    train = splits.train
    duplicates, num_blank, num_compared = _compare(parts, seed)
    counts = None
    if train.class_names is not None:
        counts = {part: _counts(data) for part, data in parts.items()}
    problems = list(dict.fromkeys(p for data in parts.values() for p in data.problems))
    found = Health(
        name=train.name,
        example_shape=train.example_shape,
        num_examples={part: len(data) for part, data in parts.items()},
        class_names=train.class_names,
        counts=counts,
        ranges=_ranges(train) if counts is None else None,
        picture_sizes=train.picture_sizes,
        problems=problems,
        duplicates=duplicates,
        num_blank=num_blank,
        num_compared=num_compared,
        warnings=[],
        has_one_size=train.has_one_size,
    )
    found.warnings.extend(_warnings(found, train))
    return found


def _counts(dataset: Dataset) -> list[int]:
    """How many examples each class or label has."""
    targets, names = dataset.targets, dataset.class_names or ()
    if targets.ndim == 2:
        return [int(n) for n in targets.sum(axis=0, dtype=np.float64)]
    return [int(n) for n in np.bincount(targets, minlength=len(names))]


def _ranges(dataset: Dataset) -> dict[str, tuple[float, float]]:
    columns = range(dataset.targets.shape[1])
    names = dataset.target_names or [f"target {column}" for column in columns]
    lows, highs = dataset.targets.min(axis=0), dataset.targets.max(axis=0)
    ends = zip(lows.tolist(), highs.tolist(), strict=True)
    return dict(zip(names, ends, strict=True))


def _warnings(found: Health, train: Dataset) -> list[str]:
    warnings = []
    names = found.class_names or ()
    for part, counts in (found.counts or {}).items():
        missing = [name for name, n in zip(names, counts, strict=True) if n == 0]
        if missing and found.num_examples[part]:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            warnings.append(f"no example of {shown} in {part}")
    if found.counts is not None and train.targets.ndim == 1:
        present = [n for n in found.counts["train"] if n]
        if len(present) == 1:
            warnings.append(
                "train holds one class only: there is nothing to tell apart"
            )
        elif max(present) > 10 * min(present):
            warnings.append(
                f"classes are unequal, from {min(present):,} to {max(present):,} "
                "examples: class weights may help"
            )
    # Of label maps a class may well occur in every one: the ground, or the sky.
    is_rows = train.targets.ndim == 2 and not train.has_label_maps
    if found.counts is not None and is_rows:
        always = [
            name
            for name, n in zip(names, found.counts["train"], strict=True)
            if n == len(train)
        ]
        if always:
            warnings.append(f"every example of train has {', '.join(always[:5])}")
    for name, (low, high) in (found.ranges or {}).items():
        if low == high:
            warnings.append(f"{name} is {low:g} everywhere: there is nothing to learn")
    if found.num_blank:
        warnings.append(f"{found.num_blank:,} pictures are of one colour")
    leaks = [d for d in found.duplicates if d.parts[0] != d.parts[1]]
    if leaks:
        total = sum(d.num_pairs for d in leaks)
        warnings.append(
            f"{total:,} near-duplicates stand in two parts: scores will flatter"
        )
    return warnings


def _compare(parts: dict[str, Dataset], seed: int) -> tuple[list[Duplicates], int, int]:
    """Near-duplicates, the number of blank pictures, and how many were looked at."""
    chosen = _sample(parts, seed)
    part_of = np.repeat(np.arange(len(chosen)), [len(c) for c in chosen.values()])
    number = np.concatenate(list(chosen.values()))
    total = sum(map(len, parts.values()))
    if len(next(iter(parts.values())).example_shape) == 3:
        thumbnails = _thumbnails(parts, chosen)
        is_blank = np.logical_not(thumbnails.any(axis=1))
        pairs = _candidates(thumbnails, is_blank, seed)
        pairs = _confirmed(pairs, parts, part_of, number)
    else:
        is_blank = np.zeros(len(number), bool)
        pairs = _equal_vectors(parts, chosen)
    return (
        _summary(pairs, parts, part_of, number),
        int(is_blank.sum()),
        min(total, len(number)),
    )


def _sample(parts: dict[str, Dataset], seed: int) -> dict[str, Array]:
    """The examples of each part that are looked at: all, if that is quick."""
    total = sum(map(len, parts.values()))
    size = int(np.prod(next(iter(parts.values())).example_shape))
    is_quick = all(data.is_array for data in parts.values())
    limit = (_MAX_VALUES if is_quick else _MAX_VALUES_FROM_FILES) // size
    share = min(1.0, limit / max(1, total))
    chosen = {}
    for part, data in parts.items():
        order = np.arange(len(data))
        if share < 1:
            order = generator(seed, f"health:{part}").permutation(order)
        chosen[part] = np.sort(order[: int(len(order) * share)])
    return chosen


def _thumbnails(parts: dict[str, Dataset], chosen: dict[str, Array]) -> Array:
    """Each picture as 64 averages, without mean and of length 1; blank ones are 0."""
    shape = next(iter(parts.values())).example_shape
    averaging = _averaging(*shape)
    rows = max(1, _CHUNK_VALUES // len(averaging))
    found = [np.empty((0, averaging.shape[1]), np.float32)]
    for part, numbers in chosen.items():
        for start in range(0, len(numbers), rows):
            pictures = parts[part].read(numbers[start : start + rows])
            flat = pictures.reshape(len(pictures), -1).astype(np.float32)
            found.append(flat @ averaging)
    return _normalised(np.concatenate(found))


def _averaging(h: int, w: int, c: int) -> Array:
    """The matrix that averages (h, w, c) pixels on a grid, grey."""
    of_rows = (np.arange(h) * min(h, _GRID)) // h
    of_columns = (np.arange(w) * min(w, _GRID)) // w
    rows = np.eye(min(h, _GRID), dtype=np.float32)[of_rows]
    columns = np.eye(min(w, _GRID), dtype=np.float32)[of_columns]
    rows /= rows.sum(axis=0)
    columns /= columns.sum(axis=0) * c
    grid = np.einsum("hi,wj->hwij", rows, columns).reshape(h * w, -1)
    return np.repeat(grid, c, axis=0)


def _normalised(values: Array) -> Array:
    values = values - values.mean(axis=1, keepdims=True)
    length = np.sqrt((values * values).sum(axis=1, keepdims=True))
    # Rounding leaves a trace of contrast in pictures that have none.
    is_flat = length < 1e-3
    scaled: Array = np.where(is_flat, 0, values / np.where(is_flat, 1, length))
    return scaled


def _candidates(thumbnails: Array, is_blank: Array, seed: int) -> Array:
    """Pairs (k, 2) of rows whose thumbnails nearly agree."""
    found = [np.empty((0, 2), np.int64)]
    weights = 1 << np.arange(_NUM_BITS)
    for table in range(_NUM_TABLES):
        rng = generator(seed, "health:planes", table)
        planes = rng.standard_normal((thumbnails.shape[1], _NUM_BITS + 1))
        sides = thumbnails @ planes.astype(np.float32)
        code = (sides[:, :-1] > 0) @ weights
        # Inside a bucket neighbours along one more direction are compared.
        order = np.lexsort((sides[:, -1], code))
        order = order[~is_blank[order]]
        for step in range(1, _NEIGHBOURS + 1):
            first, second = order[:-step], order[step:]
            is_same = code[first] == code[second]
            first, second = first[is_same], second[is_same]
            alike = (thumbnails[first] * thumbnails[second]).sum(axis=1) > _MIN_COARSE
            pair = np.stack([first[alike], second[alike]], axis=1)
            found.append(np.sort(pair, axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _confirmed(
    pairs: Array, parts: dict[str, Dataset], part_of: Array, number: Array
) -> Array:
    """The pairs whose full pictures correlate."""
    data = list(parts.values())
    size = int(np.prod(data[0].example_shape))
    rows = max(1, _CHUNK_VALUES // size)
    kept = [np.empty((0, 2), np.int64)]
    for start in range(0, len(pairs), rows):
        some = pairs[start : start + rows]
        first, second = (
            _normalised(_read(data, part_of[side], number[side])) for side in some.T
        )
        kept.append(some[(first * second).sum(axis=1) > _MIN_CORRELATION])
    return np.concatenate(kept)


def _read(data: list[Dataset], part_of: Array, number: Array) -> Array:
    out = np.empty((len(number), int(np.prod(data[0].example_shape))), np.float32)
    for part, dataset in enumerate(data):
        is_here = part_of == part
        out[is_here] = dataset.read(number[is_here]).reshape(-1, out.shape[1])
    return out


def _equal_vectors(parts: dict[str, Dataset], chosen: dict[str, Array]) -> Array:
    """Pairs of equal vectors, each with the next one of its kind."""
    rows = [parts[part].read(numbers) for part, numbers in chosen.items()]
    vectors = np.ascontiguousarray(np.concatenate(rows))
    as_bytes = vectors.view(f"V{vectors[0].nbytes}").reshape(-1)
    order = np.argsort(as_bytes, kind="stable")
    is_equal = as_bytes[order[1:]] == as_bytes[order[:-1]]
    return np.sort(np.stack([order[:-1], order[1:]], axis=1)[is_equal], axis=1)


def _summary(
    pairs: Array, parts: dict[str, Dataset], part_of: Array, number: Array
) -> list[Duplicates]:
    data, names = list(parts.values()), list(parts)
    totals: Counter[tuple[str, str]] = Counter()
    conflicts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for first, second in pairs.tolist():
        one, other = data[part_of[first]], data[part_of[second]]
        key = (names[part_of[first]], names[part_of[second]])
        i, j = int(number[first]), int(number[second])
        totals[key] += 1
        conflicts[key] += not np.array_equal(one.targets[i], other.targets[j])
        shown = examples.setdefault(key, [])
        if len(shown) < _SHOWN:
            shown.append((_label(one, key[0], i), _label(other, key[1], j)))
    return [
        Duplicates(key, totals[key], conflicts[key], examples[key])
        for key in sorted(totals)
    ]


def _label(dataset: Dataset, part: str, index: int) -> str:
    return dataset.sources[index] if dataset.sources else f"{part}[{index}]"


def _shortened(rows: list[str]) -> list[str]:
    if len(rows) <= _SHOWN:
        return rows
    return [*rows[: _SHOWN - 1], f"  … and {len(rows) - _SHOWN + 1} more"]
