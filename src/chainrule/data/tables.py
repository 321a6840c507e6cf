"""CSV tables that name pictures and say what is in them: classes, labels or numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule.data.dataset import Array, Dataset
from chainrule.data.files import PictureFiles, SomeFiles, open_files
from chainrule.data.images import ImageDataset, Pictures
from chainrule.data.targets import as_targets, natural_order
from chainrule.errors import DataError, FileError, OptionError, counted

__all__ = ["read_table"]

_FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "picture")
_SEPARATORS = str.maketrans("|", ";")


@dataclass(frozen=True)
class _Table:
    """The columns of a CSV file, as texts."""

    path: Path
    names: list[str]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        position = self.names.index(name)
        return [row[position] for row in self.rows]


def read_table(
    table: Path,
    pictures: Path,
    task: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    unreadable: str = "list",
    group_by: str | None = None,
) -> dict[str, Dataset]:
    """The part "train" of the pictures that a CSV file names.

    The column ``file`` (or filename, path, image, picture; else the first one) names
    each picture inside ``pictures``, a folder or an archive. For classes one column
    follows. For labels there is one column of labels joined by ``;`` or ``|``, or one
    column of 0 and 1 for each label. For numbers every other column is one.
    ``group_by`` names a column that is none of these.

    Raises: DataError, naming the line, for a file that is not there, a value that is no
    number, a label that is neither 0 nor 1, or rows of different lengths.
    """
    found = _read(table)
    file_column = next(
        (n for n in found.names if n.lower() in _FILE_COLUMNS), found.names[0]
    )
    if group_by is not None and group_by not in found.names:
        raise OptionError.unknown("column for group_by", group_by, found.names)
    value_columns = [n for n in found.names if n not in (file_column, group_by)]
    if not value_columns:
        raise DataError(
            f"{str(table)!r}: no column of targets",
            got=", ".join(found.names),
            expected="a column of files and at least one of targets",
        )
    names = [_as_member(name) for name in found.column(file_column)]
    everything = open_files(pictures)
    _check_pictures_exist(found, names, everything)
    values, class_names = _values(found, value_columns, task)
    targets, class_names = as_targets(values, task, class_names, str(table))
    files = SomeFiles(everything, names)
    read = Pictures(files, size=size, channels=channels, unreadable=unreadable)
    number_of = {name: number for number, name in enumerate(files.names)}
    numbers = np.array([number_of[name] for name in names], np.int64)
    rows = np.flatnonzero(read.is_good[numbers])
    groups = None if group_by is None else np.array(found.column(group_by))[rows]
    dataset = ImageDataset(
        read,
        numbers[rows],
        targets[rows],
        name=table.name,
        class_names=class_names,
        target_names=value_columns if task == "regress" else None,
        groups=groups,
        problems=read.problems,
    )
    return {"train": dataset}


def _read(path: Path) -> _Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, strict=True))
    except OSError as error:
        raise FileError(
            f"cannot read {str(path)!r}",
            got=error.strerror or type(error).__name__,
            expected="a CSV file",
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{str(path)!r} is not a CSV file",
            got=str(error),
            expected="rows of values joined by commas, in UTF-8",
        ) from error
    filled = [(line, row) for line, row in enumerate(rows, start=1) if any(row)]
    if len(filled) < 2:
        raise DataError(
            f"{str(path)!r} has no rows",
            got=counted(len(filled), "line"),
            expected="a line of column names, and a line for each picture",
        )
    names = [name.strip() for name in filled[0][1]]
    if len(set(names)) < len(names):
        raise DataError(
            f"{str(path)!r}: two columns of one name",
            got=", ".join(names),
            expected="a different name for each column",
        )
    for line, row in filled[1:]:
        if len(row) != len(names):
            raise DataError(
                f"{str(path)!r}, line {line}: not as many values as columns",
                got=counted(len(row), "value"),
                expected=f"{len(names)}: {', '.join(names)}",
            )
    return _Table(path, names, [[v.strip() for v in row] for _, row in filled[1:]])


def _as_member(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _check_pictures_exist(table: _Table, names: list[str], files: PictureFiles) -> None:
    known = set(files.names)
    missing = [name for name in names if name not in known]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{str(table.path)!r} names pictures that are not there",
            got=", ".join(map(repr, missing[:3])) + more,
            expected=f"paths inside {files.place!r}, such as {files.names[0]!r}",
        )


def _values(
    table: _Table, columns: list[str], task: str
) -> tuple[Array, Sequence[str] | None]:
    if task == "regress":
        return _numbers(table, columns), None
    if len(columns) == 1 and task == "classify":
        return np.array(table.column(columns[0])), None
    if task == "classify":
        raise DataError(
            f"{str(table.path)!r}: several columns where one class is expected",
            got=", ".join(columns),
            expected="a column of files and one of classes",
            hint='task="label" takes several labels, task="regress" numbers',
        )
    texts = table.column(columns[0])
    if len(columns) == 1 and not set(texts) <= {"0", "1"}:
        return _joined_labels(table, texts)
    values = _numbers(table, columns)
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{str(table.path)!r}, row {row + 1}: a label is neither 0 nor 1",
            got=f"{values[row, column]:g} in column {columns[column]!r}",
            expected="0 or 1 in each label's column",
            hint='task="regress" learns numbers',
        )
    return values, columns


def _joined_labels(table: _Table, texts: list[str]) -> tuple[Array, list[str]]:
    sets = [
        {label.strip() for label in text.translate(_SEPARATORS).split(";")} - {""}
        for text in texts
    ]
    names = natural_order(list(set().union(*sets)))
    if not names:
        raise DataError(
            f"{str(table.path)!r}: no picture has a label",
            got=f"{counted(len(texts), 'row')}, without a label",
            expected="labels joined by ; or |",
        )
    return np.array([[name in labels for name in names] for labels in sets]), names


def _numbers(table: _Table, columns: list[str]) -> Array:
    values = np.empty((len(table.rows), len(columns)))
    for position, name in enumerate(columns):
        for row, text in enumerate(table.column(name)):
            try:
                values[row, position] = float(text)
            except ValueError as error:
                raise DataError(
                    f"{str(table.path)!r}, row {row + 1}: not a number",
                    got=f"{text!r} in column {name!r}",
                    expected="a number",
                    hint="a column of names can be left out, or be group_by",
                ) from error
    return values
