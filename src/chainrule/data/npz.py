"""Arrays on disk: .npz files, and folders of .npy files, mapped where they can be."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from chainrule.data.dataset import Array, Dataset, arrays
from chainrule.errors import ChainruleError, DataError, FileError, OptionError

__all__ = ["has_npy", "read_npy_folder", "read_npz"]

_PAIRS = (("x", "y"), ("images", "labels"), ("data", "target"), ("inputs", "targets"))
_PARTS = (
    ("train", "train"),
    ("validation", "val"),
    ("validation", "validation"),
    ("test", "test"),
)
Keys = dict[str, tuple[str, str, str | None]]
# Deflate turns one byte into at most 1032; no honest member can promise more.
_MAX_RATIO = 1032
# Compressed arrays are held in memory; stored ones are mapped and may be any size.
_MAX_UNPACKED_BYTES = 1 << 32


def has_npy(folder: Path, task: str) -> bool:
    """Whether a folder holds a pair of .npy files that is known."""
    return _find_parts({p.stem for p in folder.glob("*.npy")}, task) is not None


def read_npz(path: Path, task: str, group_by: str | None = None) -> dict[str, Dataset]:
    """The parts of a .npz file: x and y, or images and labels, or one such pair for
    each of train, validation and test (x_train or train_images).

    Raises: FileError, DataError for a damaged file, names that are not known, objects
    in place of numbers, and arrays that do not fit one another.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy"): info for info in archive.infolist()
            }
            found = _parts_or_error(path, set(members), task, group_by)
            wanted = {key for keys in found.values() for key in keys if key}
            read = {key: _member(path, archive, members[key]) for key in sorted(wanted)}
    except ChainruleError:
        raise
    except OSError as error:
        raise FileError(
            f"cannot read {str(path)!r}",
            got=error.strerror or str(error),
            expected="a .npz file",
        ) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        RuntimeError,  # a member is encrypted, or packed in an unknown way
        MemoryError,
    ) as error:
        raise _damaged(path, error) from error
    return _datasets(path, task, found, read)


def read_npy_folder(
    folder: Path, task: str, group_by: str | None = None
) -> dict[str, Dataset]:
    """The parts of a folder with x.npy and y.npy, named as in a .npz file.

    All arrays are memory-mapped, so they may be larger than memory.
    """
    paths = {p.stem: p for p in sorted(folder.glob("*.npy"))}
    found = _parts_or_error(folder, set(paths), task, group_by)
    read = {}
    for key in sorted({key for keys in found.values() for key in keys if key}):
        try:
            read[key] = np.load(paths[key], mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(paths[key], error) from error
    return _datasets(folder, task, found, read)


def _datasets(
    path: Path, task: str, found: Keys, read: dict[str, Array]
) -> dict[str, Dataset]:
    return {
        part: arrays(
            read[x],
            read[y],
            task=task,
            name=path.name,
            groups=read[groups] if groups else None,
        )
        for part, (x, y, groups) in found.items()
    }


def _parts_or_error(
    path: Path, names: set[str], task: str, group_by: str | None
) -> Keys:
    found = _find_parts(names, task, group_by)
    if found is None:
        raise DataError(
            f"{str(path)!r}: no pair of arrays that is known",
            got=", ".join(sorted(names)) or "no arrays",
            expected="x and y, or images and labels; x_train … x_test for two parts",
            hint="np.savez(path, x=images, y=labels)",
        )
    missing = {groups for _, _, groups in found.values() if groups} - names
    if missing:
        raise OptionError.unknown("array for group_by", missing.pop(), names)
    return found


def _find_parts(names: set[str], task: str, group_by: str | None = None) -> Keys | None:
    """The names of inputs, targets and groups for each part.

    Pictures to restore are their own targets.
    """
    for x, other in _PAIRS:
        y = x if task == "restore" else other
        if {x, y} <= names:
            return {"train": (x, y, group_by)}
        for pattern in ("{0}_{1}", "{1}_{0}"):
            found: Keys = {}
            for part, word in _PARTS:
                groups = pattern.format(group_by, word) if group_by else None
                keys = (pattern.format(x, word), pattern.format(y, word), groups)
                if set(keys[:2]) <= names:
                    found[part] = keys
            if "train" in found:
                return found
    return None


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One array: mapped if it is stored as it is, else unpacked within bounds."""
    with archive.open(info) as file:
        dtype, shape, is_fortran = _npy_header(file)
        start = file.tell()
        count = math.prod(shape) * dtype.itemsize
        if start + count != info.file_size or info.file_size > (
            max(1, info.compress_size) * _MAX_RATIO
        ):
            raise DataError(
                f"{str(path)!r}: array {info.filename!r} does not have the length that "
                "its header promises",
                got=f"{info.file_size:,} bytes",
                expected=f"{start + count:,} bytes for {' × '.join(map(str, shape))}",
                hint="make the file again",
            )
        if count and info.compress_type == zipfile.ZIP_STORED:
            offset = _content_offset(path, info) + start
            order: Literal["F", "C"] = "F" if is_fortran else "C"
            # Written for numbers of any type, which numpy's stubs cannot tell.
            mapped: Array = np.memmap(path, dtype, "r", offset, shape, order)
            return mapped
        if count > _MAX_UNPACKED_BYTES:
            raise DataError(
                f"{str(path)!r}: array {info.filename!r} unpacks to more than is safe",
                got=f"{count:,} bytes",
                expected=f"at most {_MAX_UNPACKED_BYTES:,} bytes",
                hint="np.savez, not compressed, is mapped and may be any size",
            )
        content = bytearray()
        while chunk := file.read(1 << 20):
            content += chunk
    if len(content) != count:
        raise EOFError(f"{info.filename} ends early")
    values: Array = np.frombuffer(content, dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _npy_header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format")
    if dtype.hasobject:
        raise ValueError("Python objects, which could run code, in place of numbers")
    return dtype, shape, is_fortran


def _content_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind a local header of its own length."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return info.header_offset + 30 + name + extra


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{str(path)!r} cannot be read as arrays",
        got=str(error) or type(error).__name__,
        expected="numbers as np.save or np.savez writes them",
        hint="make the file again; object arrays are not read",
    )
