"""Targets in the forms that training knows: classes, labels, numbers, maps and none.

Where pictures are restored, the picture itself is the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from chainrule.errors import DataError, OptionError, counted

__all__ = [
    "IGNORED",
    "TASKS",
    "as_label_maps",
    "as_targets",
    "check_task",
    "natural_order",
    "presence",
]

TASKS = ("classify", "label", "regress", "restore", "segment")

IGNORED = 255
"""The number in a label map of pixels that do not count."""

Array = np.ndarray[Any, Any]


def check_task(task: str) -> None:
    """Raise OptionError for a task that does not exist."""
    if task not in TASKS:
        raise OptionError.unknown("task", task, TASKS)


def natural_order(names: Sequence[str]) -> list[str]:
    """Class names sorted, as numbers where all of them are: 9 comes before 10."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def as_targets(
    values: Any, task: str, class_names: Sequence[str] | None, name: str
) -> tuple[Array, tuple[str, ...] | None]:
    """Targets as training wants them, with the class names (None for numbers)."""
    check_task(task)
    array = np.asarray(values)
    if task == "classify":
        return _classes(array, class_names, name)
    if task == "label":
        return _labels(array, class_names, name)
    if task == "restore":
        return np.zeros((len(array), 0), np.float32), None
    return _numbers(array, name), None


def _classes(
    array: Array, class_names: Sequence[str] | None, name: str
) -> tuple[Array, tuple[str, ...]]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        array = _one_hot_classes(array, name)
    if array.ndim != 1:
        raise DataError(
            f"{name}: class targets have too many axes",
            got=f"shape {array.shape}",
            expected="(n,) integers or names, or (n, classes) one-hot",
        )
    if array.dtype.kind in "USO":
        return _named_classes(array, class_names, name)
    if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
        raise DataError(
            f"{name}: class targets are not whole numbers",
            got=f"an array of {array.dtype} with fractions or NaN",
            expected="integers from 0",
            hint='task="regress" learns numbers',
        )
    return _numbered_classes(array.astype(np.int64), class_names, name)


def _one_hot_classes(array: Array, name: str) -> Array:
    is_one_hot = array.dtype.kind in "uifb" and bool(
        np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()
    )
    if not is_one_hot:
        raise DataError(
            f"{name}: rows of class targets are not one-hot",
            got=f"{array.dtype} targets of shape {array.shape}",
            expected="exactly one 1 in each row, or one integer per example",
            hint='task="label" takes several labels per example, '
            'task="regress" numbers',
        )
    classes: Array = array.argmax(axis=1)
    return classes


def _named_classes(
    array: Array, class_names: Sequence[str] | None, name: str
) -> tuple[Array, tuple[str, ...]]:
    texts = [str(value) for value in array.tolist()]
    names = (
        natural_order(list(set(texts))) if class_names is None else list(class_names)
    )
    numbers = {text: number for number, text in enumerate(names)}
    for position, text in enumerate(texts):
        if text not in numbers:
            raise DataError(
                f"{name}: a target is none of the classes",
                got=f"{text!r} at example {position}",
                expected="one of " + ", ".join(names),
            )
    return np.array([numbers[t] for t in texts], np.int64), tuple(names)


def _numbered_classes(
    array: Array, class_names: Sequence[str] | None, name: str
) -> tuple[Array, tuple[str, ...]]:
    if not len(array):
        return array, tuple(class_names or ())
    low, high = int(array.min()), int(array.max())
    # A million classes for a thousand examples is a mistake, and would be a huge net.
    count = max(1000, len(array)) if class_names is None else len(class_names)
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        first = int(np.argmax(array == wrong))
        raise DataError(
            f"{name}: labels out of range",
            got=f"label {wrong} at example {first}",
            expected=f"integers from 0 to {count - 1}",
            hint="number them with np.unique(labels, return_inverse=True)",
        )
    names = class_names or [str(i) for i in range(high + 1)]
    return array, tuple(names)


def _labels(
    array: Array, class_names: Sequence[str] | None, name: str
) -> tuple[Array, tuple[str, ...]]:
    if array.ndim == 1 and array.dtype.kind in "uifb":
        array = array[:, None]
    if (
        array.ndim != 2
        or array.dtype.kind not in "uifb"
        or not np.isin(array, (0, 1)).all()
    ):
        raise DataError(
            f"{name}: label targets are not rows of 0 and 1",
            got=f"{array.dtype} targets of shape {array.shape}",
            expected="(n, labels) of 0 and 1",
        )
    names = class_names or [str(i) for i in range(array.shape[1])]
    if len(names) != array.shape[1]:
        raise DataError(
            f"{name}: as many names as label columns are needed",
            got=f"{counted(len(names), 'name')}, {counted(array.shape[1], 'column')}",
            expected="one name for each column",
        )
    return array.astype(np.float32), tuple(names)


def _numbers(array: Array, name: str) -> Array:
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "uifb":
        raise DataError(
            f"{name}: targets are not numbers",
            got=f"{array.dtype} targets of shape {array.shape}",
            expected="(n,) or (n, k) numbers",
        )
    # A float64 past float32's range must be refused, not silently become infinite.
    with np.errstate(over="ignore"):
        numbers: Array = array.astype(np.float32)
    is_bad = ~np.isfinite(numbers)
    if is_bad.any():
        row, column = map(int, np.argwhere(is_bad)[0])
        raise DataError(
            f"{name}: NaN or infinity in the targets",
            got=f"{array[row, column]} at example {row}, column {column}",
            expected="finite numbers that float32 can hold",
            hint="leave the example out, or put a number there",
        )
    return numbers


def as_label_maps(values: Any, name: str) -> Array:
    """The class of every pixel of every picture, uint8 (n, h, w).

    Raises: DataError for arrays that are none.
    """
    array = np.asarray(values)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.dtype.kind not in "uib":
        raise DataError(
            f"{name}: no label maps",
            got=f"{array.dtype} targets of shape {array.shape}",
            expected="whole numbers (n, h, w), a class for every pixel",
        )
    if array.size and not (array.min() >= 0 and array.max() <= IGNORED):
        raise DataError(
            f"{name}: a label map with numbers that are no classes",
            got=f"numbers from {array.min()} to {array.max()}",
            expected=f"classes from 0 to {IGNORED - 1}, and {IGNORED} for pixels that "
            "do not count",
        )
    return array.astype(np.uint8, copy=False)


def presence(
    maps: Iterable[Array], class_names: Sequence[str] | None, name: str
) -> tuple[Array, tuple[str, ...]]:
    """Which classes occur in each label map, as rows of 0 and 1, and their names.

    Without names, classes are the numbers up to the largest.

    Example:
        >>> presence([np.array([[0, 2]]), np.array([[255, 0]])], None, "maps")[0]
        array([[1., 0., 1.],
               [1., 0., 0.]], dtype=float32)

    Raises: DataError for a class that has no name, and where no pixel has a class.
    """
    rows = [np.bincount(m.reshape(-1), minlength=IGNORED + 1) > 0 for m in maps]
    occurs = np.array(rows, bool).reshape(-1, IGNORED + 1)[:, :IGNORED]
    (found,) = np.nonzero(occurs.any(axis=0))
    if not found.size and class_names is None:
        raise DataError(
            f"{name}: no pixel has a class",
            got=f"label maps of {IGNORED} alone" if len(rows) else "no label maps",
            expected="classes from 0",
        )
    count = int(found[-1]) + 1 if class_names is None else len(class_names)
    if found.size and found[-1] >= count:
        example = int(np.argmax(occurs[:, found[-1]]))
        raise DataError(
            f"{name}: a label map has a class without a name",
            got=f"class {found[-1]} in label map {example}",
            expected=f"classes from 0 to {count - 1}: {', '.join(class_names or ())}",
        )
    names = tuple(class_names or map(str, range(count)))
    return occurs[:, :count].astype(np.float32), names
