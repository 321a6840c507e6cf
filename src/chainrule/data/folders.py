"""Class folders: a folder of pictures for each class, as a directory or an archive."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from chainrule.data.dataset import Array, Dataset
from chainrule.data.files import PictureFiles, open_files
from chainrule.data.images import ImageDataset, Pictures
from chainrule.data.targets import natural_order
from chainrule.errors import DataError, OptionError, counted

__all__ = ["PARTS", "groups_of", "read_class_folders"]

PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What folders are called that hold the parts of a split."""


def read_class_folders(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    unreadable: str = "list",
    group_by: str | None = None,
) -> dict[str, Dataset]:
    """The parts of a folder or archive of class folders, by name.

    ``train/``, ``test/`` and ``validation/`` inside are the split; without ``train/``
    everything is the part "train". ``group_by`` is a regular expression that finds the
    group in a picture's path: its first group, or what it matches.

    Raises: DataError for an empty class folder, pictures in no class folder, a class
    that training never sees, and what ``open_files`` and ``Pictures`` refuse.
    """
    files = open_files(path)
    depth = _shared_depth(files.names)
    places = [tuple(name.split("/")[depth:]) for name in files.names]
    is_split = any(
        PARTS.get(place[0].lower()) == "train" for place in places if place[1:]
    )
    _check_no_class_is_empty(files, depth, is_split)
    rows: dict[str, list[tuple[int, str]]] = {}
    strays = []
    for number, place in enumerate(places):
        part = PARTS.get(place[0].lower()) if is_split else "train"
        inner = place[1:] if is_split else place
        if part is None or len(inner) < 2:
            strays.append(f"{files.names[number]}: in no class folder, left out")
        else:
            rows.setdefault(part, []).append((number, inner[0]))
    if "train" not in rows:
        raise DataError(
            f"{str(path)!r}: pictures, but no class folders",
            got=f"{counted(len(files), 'picture')}, such as {files.names[0]!r}",
            expected="one folder of pictures for each class",
            hint="or a CSV file that names each picture and its label",
        )
    classes = natural_order(list({label for _, label in rows["train"]}))
    _check_classes_are_learned(path, rows, classes)
    pictures = Pictures(files, size=size, channels=channels, unreadable=unreadable)
    groups = None if group_by is None else groups_of(files, group_by)
    number_of = {label: i for i, label in enumerate(classes)}
    parts: dict[str, Dataset] = {}
    for part, members in rows.items():
        good = [(n, number_of[label]) for n, label in members if pictures.is_good[n]]
        numbers, targets = np.array(good, np.int64).reshape(-1, 2).T.copy()
        parts[part] = ImageDataset(
            pictures,
            numbers,
            targets,
            name=path.name,
            class_names=classes,
            groups=None if groups is None else groups[numbers],
            problems=pictures.problems + ([] if unreadable == "skip" else strays),
        )
    _check_classes_are_readable(path, parts["train"])
    return parts


def _shared_depth(names: list[str]) -> int:
    """How many folders stand above the class folders (or train/ and test/)."""
    depth = 0
    split = [name.split("/") for name in names]
    while True:
        heads = {parts[depth] for parts in split}
        is_wrapper = len(heads) == 1 and heads.isdisjoint(
            {h for h in heads if h.lower() in PARTS}
        )
        if not is_wrapper or min(map(len, split)) < depth + 3:
            return depth
        depth += 1


def _check_no_class_is_empty(files: PictureFiles, depth: int, is_split: bool) -> None:
    level = depth + 1 + is_split
    holding = {tuple(name.split("/")[:-1][:level]) for name in files.names}
    for folder in files.folders:
        place = tuple(folder.split("/")) if folder else ()
        if len(place) != level or place in holding:
            continue
        if is_split and place[depth].lower() not in PARTS:
            continue
        raise DataError(
            f"{files.place}: class folder {folder!r} has no pictures",
            got="0 pictures",
            expected="at least one picture in each class folder",
            hint="delete the folder if the class is not wanted",
        )


def _check_classes_are_learned(
    path: Path, rows: dict[str, list[tuple[int, str]]], classes: list[str]
) -> None:
    for part, members in rows.items():
        unknown = natural_order(list({label for _, label in members} - set(classes)))
        if unknown:
            raise DataError(
                f"{str(path)!r}: class {unknown[0]!r} is in {part}/ but not in train/",
                got=", ".join(unknown),
                expected="the classes of train/: " + ", ".join(classes),
            )


def _check_classes_are_readable(path: Path, train: Dataset) -> None:
    classes = train.class_names or ()
    counts = np.bincount(train.targets, minlength=len(classes))
    for label, count in zip(classes, counts, strict=True):
        if not count:
            raise DataError(
                f"{str(path)!r}: no picture of class {label!r} can be read",
                got="\n".join(p for p in train.problems[:5]) or "0 readable pictures",
                expected="at least one readable picture in each class",
            )


def groups_of(files: PictureFiles, pattern: str) -> Array:
    """The group of each file, which a regular expression finds in its path.

    Raises: OptionError for no expression, DataError for a path in which it is not.
    """
    try:
        search = re.compile(pattern)
    except re.error as error:
        raise OptionError(
            "group_by: not a regular expression",
            got=f"{pattern!r}: {error}",
            expected=r"a pattern that finds the group in a path, such as '(\w+)_\d+'",
        ) from error
    groups = []
    for name in files.names:
        found = search.search(name)
        if found is None:
            raise DataError(
                "group_by: a picture belongs to no group",
                got=repr(name),
                expected=f"a path in which {pattern!r} is found",
            )
        groups.append(found.group(1) if search.groups else found.group())
    return np.array(groups)
