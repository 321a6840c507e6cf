"""From what a user points at to training, validation and test data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.archives import is_archive
from chainrule.data.cifar import is_cifar, read_cifar
from chainrule.data.dataset import ArrayDataset, Dataset
from chainrule.data.download import KNOWN, fetch, locate
from chainrule.data.folders import read_class_folders
from chainrule.data.idx import is_idx, read_idx_folder
from chainrule.data.images import UNREADABLE
from chainrule.data.label_maps import read_labelled
from chainrule.data.npz import has_npy, read_npy_folder, read_npz
from chainrule.data.photos import read_photos
from chainrule.data.pictures import check_form
from chainrule.data.places import data_folder
from chainrule.data.splits import Splits, complete
from chainrule.data.tables import read_table
from chainrule.data.targets import check_task
from chainrule.errors import DataError, FileError, OptionError, counted, nearest

__all__ = ["Source", "available", "load"]

DIGITS = "digits"


@dataclass(frozen=True)
class Source:
    """One line of the list of data sets: what it is, how large, and where it lies.

    ``place`` is None for one that would be downloaded first.
    """

    name: str
    title: str
    num_examples: int | None
    size_bytes: int
    place: str | None


@dataclass(frozen=True)
class _Request:
    """What ``load`` was asked for, as the readers need it."""

    task: str
    size: tuple[int, int] | None
    channels: int | None
    unreadable: str
    group_by: str | None
    labels: Path | None

    @property
    def reading(self) -> dict[str, Any]:
        """What every reader of picture files is told."""
        return {
            "channels": self.channels,
            "unreadable": self.unreadable,
            "group_by": self.group_by,
        }


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    task: str = "classify",
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    unreadable: str = "list",
    validation: float = 0.1,
    test: float = 0.2,
    group_by: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Splits:
    """Data from a name or a path, split for training.

    ``source`` is ``digits`` (the default, 1,797 real handwritten digits that need no
    network), ``mnist`` or ``cifar10`` (in ``CHAINRULE_DATA_DIR``, or downloaded) or a
    path: class folders as a directory or an archive, a folder of IDX files, CIFAR-10
    batches, a ``.npz`` file or a folder of ``.npy`` files, or a CSV file that names
    pictures. ``labels`` is such a CSV file for the pictures in ``source``.

    With task="restore" pictures are their own targets: they need no class folders, and
    keep their sizes unless ``size`` is given. For other tasks pictures are brought to
    ``size`` (height, width) and ``channels`` (1 or 3); without them to what all of them
    have, else 64×64. With task="segment" a folder holds ``images/`` and ``labels/``,
    pictures that keep their sizes and a class for every pixel of theirs. ``unreadable``
    pictures are listed in ``problems`` and left out ("list"), left out ("skip"), or an
    "error".

    A test part that comes with the data stays the test part; else the share ``test`` of
    everything is. The share ``validation`` of what remains chooses the weights.
    Both are drawn by ``seed``; classes keep their shares. ``group_by`` keeps each group
    on one side: a column of the CSV file, an array beside the others, or, for class
    folders, a regular expression that finds the group in a picture's path.

    Raises: FileError for a path that is not there (with the nearest name), DataError
    for data that cannot be learned from, OptionError for options that do not fit,
    DownloadError.

    Example:
        >>> splits = load("digits")
        >>> [len(part) for _, part in splits.items()], splits.train.example_shape
        ([1294, 144, 359], (8, 8, 1))
    """
    check_task(task)
    check_form(size, channels)
    if unreadable not in UNREADABLE:
        raise OptionError.unknown("choice for unreadable", unreadable, UNREADABLE)
    table = None if labels is None else Path(labels)
    request = _Request(task, size, channels, unreadable, group_by, table)
    parts = _parts(source, request)
    _check_learnable(parts, task)
    return complete(parts, validation=validation, test=test, seed=seed)


def available() -> list[Source]:
    """The data sets that ``load`` knows by name or finds in ``CHAINRULE_DATA_DIR``."""
    title = "handwritten digits, 8×8 grey, 10 classes (UCI, in scikit-learn)"
    found = [Source(DIGITS, title, 1797, 57_523, "built in")]
    for known in KNOWN.values():
        place = locate(known.name)
        size_bytes = known.size_bytes if place is None else _size_bytes(place)
        where = None if place is None else str(place)
        found.append(
            Source(known.name, known.title, known.num_examples, size_bytes, where)
        )
    folder = data_folder()
    if folder is not None and folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name not in KNOWN and not entry.name.startswith("."):
                title = "a folder" if entry.is_dir() else f"a {entry.suffix} file"
                found.append(
                    Source(entry.name, title, None, _size_bytes(entry), str(entry))
                )
    return found


def _size_bytes(path: Path) -> int:
    files = [path] if path.is_file() else (p for p in path.rglob("*") if p.is_file())
    return sum(p.stat().st_size for p in files)


def _parts(
    source: str | os.PathLike[str] | None, request: _Request
) -> Mapping[str, Dataset]:
    if source is None and request.labels is not None:
        source = request.labels
    if source is None or source == DIGITS:
        _refuse(DIGITS, request, "task", "size", "channels", "group_by", "labels")
        return {"train": _digits()}
    if isinstance(source, str) and source in KNOWN:
        return _read(fetch(source), request)
    return _read(_existing(source), request)


def _digits() -> Dataset:
    # A second to import, most of it scipy, and only this data set needs it.
    from sklearn.datasets import load_digits

    found = load_digits()
    # The data have 17 levels; 255 is white for every other picture.
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    names = [str(digit) for digit in range(10)]
    targets = found.target.astype(np.int64)
    return ArrayDataset(images, targets, name=DIGITS, class_names=names)


def _existing(source: str | os.PathLike[str]) -> Path:
    path = Path(source).expanduser()
    if path.exists():
        return path
    folder = data_folder()
    if folder is not None and (folder / path).exists():
        return folder / path
    # Names are compared, not paths: any two files of one folder have long alike paths.
    known = {name: name for name in (DIGITS, *KNOWN)}
    if path.parent.is_dir():
        entries = sorted(path.parent.iterdir())
        known = {entry.name: str(entry) for entry in entries} | known
    name = nearest(path.name, known)
    near = known[name] if name else None
    raise FileError(
        f"no data at {os.fspath(source)!r}",
        got="nothing at this path",
        expected="a folder, an archive, a .npz or .csv file, or one of "
        + ", ".join([DIGITS, *KNOWN]),
        hint=f"did you mean {near!r}?" if near else None,
    )


def _read(path: Path, request: _Request) -> Mapping[str, Dataset]:
    """Whatever lies at a path, by its form."""
    if path.is_dir() and request.labels is None:
        return _read_folder(path, request)
    if request.labels is not None or path.suffix.lower() == ".csv":
        return _read_csv(path, request)
    if path.suffix.lower() == ".npz":
        _refuse(str(path), request, "size", "channels")
        return read_npz(path, request.task, request.group_by)
    if is_cifar(path):
        _refuse(str(path), request, "task", "size", "channels", "group_by")
        return read_cifar(path)
    if is_archive(path):
        return _read_class_folders(path, request)
    if is_idx(path):
        return _read_folder(path.parent, request)
    raise DataError(
        f"{str(path)!r} is no data set",
        got=f"a file ending in {path.suffix!r}" if path.suffix else "no ending",
        expected="a folder, an archive (.zip, .tar, .tar.gz, .tar.xz), .npz or .csv",
    )


def _read_folder(folder: Path, request: _Request) -> Mapping[str, Dataset]:
    try:
        entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
    except OSError as error:
        raise FileError(
            f"cannot read {str(folder)!r}",
            got=error.strerror or type(error).__name__,
            expected="a folder of data",
        ) from error
    if not entries:
        raise DataError(
            f"{str(folder)!r} is empty",
            got="a folder without files",
            expected="class folders, IDX files, CIFAR-10 batches, arrays or an archive",
        )
    if any(map(is_idx, entries)):
        _refuse(str(folder), request, "size", "channels", "group_by")
        return read_idx_folder(folder, request.task)
    if is_cifar(folder):
        _refuse(str(folder), request, "task", "size", "channels", "group_by")
        return read_cifar(folder)
    if has_npy(folder, request.task):
        _refuse(str(folder), request, "size", "channels")
        return read_npy_folder(folder, request.task, request.group_by)
    tables = [e for e in entries if e.suffix.lower() == ".csv"]
    if len(tables) == 1 and request.task in ("label", "regress"):
        return _read_csv(tables[0], request)
    # A folder around one thing is that thing: what a download or an archive leaves.
    if len(entries) == 1 and (_is_file_of_data(entries[0]) or is_cifar(entries[0])):
        return _read(entries[0], request)
    return _read_class_folders(folder, request)


def _is_file_of_data(path: Path) -> bool:
    return path.is_file() and (
        is_archive(path) or path.suffix.lower() in (".npz", ".csv")
    )


def _read_csv(path: Path, request: _Request) -> Mapping[str, Dataset]:
    """A table and its pictures; ``path`` is either of them."""
    if request.task == "segment":
        raise OptionError(
            f"{str(request.labels or path)!r}: a table has no class for every pixel",
            got="task='segment'",
            expected="folders images/ and labels/ with equal names inside",
            hint="give the folder that holds both",
        )
    if request.task == "restore":
        raise OptionError(
            f"{str(request.labels or path)!r}: a table says what pictures show",
            got="task='restore'",
            expected="pictures alone, which are their own targets",
            hint="give the folder of the pictures",
        )
    table = request.labels or path
    is_the_table = request.labels is None or path == table
    return read_table(
        table,
        table.parent if is_the_table else path,
        request.task,
        size=request.size,
        **request.reading,
    )


def _read_class_folders(path: Path, request: _Request) -> Mapping[str, Dataset]:
    if request.task == "restore":
        return read_photos(path, size=request.size, **request.reading)
    if request.task == "segment":
        if request.size is not None:
            raise OptionError(
                f"{str(path)!r}: pictures with label maps keep their sizes",
                got=f"size={request.size}",
                expected="no size; training takes patches of pictures of any size",
                hint="--patch 64",
            )
        return read_labelled(path, **request.reading)
    if request.task != "classify":
        raise OptionError(
            f"{str(path)!r}: folders say classes only",
            got=f"task={request.task!r}",
            expected="task='classify', or a CSV file of pictures and their targets",
            hint="labels='targets.csv'",
        )
    return read_class_folders(path, size=request.size, **request.reading)


def _refuse(name: str, request: _Request, *options: str) -> None:
    """Raise OptionError for an option that means nothing to this kind of data."""
    for option in options:
        value = getattr(request, option)
        if value is None or (option == "task" and value in ("classify", "restore")):
            continue
        raise OptionError(
            f"{name}: {option} does not apply to this data set",
            got=f"{option}={value!r}",
            expected="task='classify'" if option == "task" else f"no {option}",
        )


def _check_learnable(parts: Mapping[str, Dataset], task: str) -> None:
    train = parts["train"]
    for part, dataset in parts.items():
        if not len(dataset):
            raise DataError(
                f"{train.name}: no examples for {part}",
                got="0 examples",
                expected="at least one",
            )
        if dataset.example_shape != train.example_shape:
            raise DataError(
                f"{train.name}: examples of {part} have another shape than train's",
                got=dataset.example_shape,
                expected=train.example_shape,
            )
        _check_targets(dataset, train, part)
    if task == "classify" and (train.targets == train.targets[0]).all():
        names = train.class_names or ()
        raise DataError(
            f"{train.name}: one class only",
            got=f"{counted(len(train), 'example')}, all of class "
            f"{names[train.targets[0]]!r}",
            expected="at least two classes to tell apart",
        )


def _check_targets(dataset: Dataset, train: Dataset, part: str) -> None:
    if dataset.targets.shape[1:] != train.targets.shape[1:]:
        raise DataError(
            f"{train.name}: targets of {part} have other columns than train's",
            got=dataset.targets.shape[1:],
            expected=train.targets.shape[1:],
        )
    highest = int(dataset.targets.max()) if dataset.targets.ndim == 1 else 0
    if highest >= len(train.class_names or (0,)):
        raise DataError(
            f"{train.name}: labels of {part} out of range",
            got=f"label {highest}",
            expected=f"the classes of train, 0 to {len(train.class_names or ()) - 1}",
        )
