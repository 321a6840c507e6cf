"""IDX files, the format of MNIST: a small header, then numbers, raw or gzipped."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.dataset import Array, ArrayDataset, Dataset
from chainrule.data.targets import as_targets
from chainrule.errors import DataError, FileError

__all__ = ["is_idx", "read_idx", "read_idx_folder"]

_DTYPES = {
    0x08: ">u1",
    0x09: ">i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}
_NAME = re.compile(
    r"(?P<part>train|t10k|test)[-_.]?(?P<kind>images|labels)[-_.]?idx\d[-_.]ubyte(\.gz)?$"
)
# Deflate turns one byte into at most 1032; no honest file can promise more.
_MAX_GZIP_RATIO = 1032
# Unpacked numbers are held in memory; raw files are mapped and may be any size.
_MAX_GZIP_BYTES = 1 << 31


def is_idx(path: Path) -> bool:
    """Whether a file has one of the usual names of IDX files."""
    return _NAME.match(path.name) is not None


def read_idx_folder(folder: Path, task: str) -> dict[str, Dataset]:
    """The parts "train" and, where its files are there, "test" of an IDX data set.

    Raises: DataError for a damaged file, or one without its partner.
    """
    found: dict[str, dict[str, Path]] = {}
    for entry in sorted(folder.iterdir(), reverse=True):
        match = _NAME.match(entry.name)
        if match:  # sorted backwards, a raw file comes after its .gz and is preferred
            part = "train" if match["part"] == "train" else "test"
            found.setdefault(part, {})[match["kind"]] = entry
    parts: dict[str, Dataset] = {}
    for part in ("train", "test"):
        paths = found.get(part, {})
        if part == "test" and not paths:
            continue
        missing = {"images", "labels"} - set(paths)
        if missing:
            raise DataError(
                f"{str(folder)!r}: an IDX file is missing",
                got=", ".join(
                    sorted(p.name for f in found.values() for p in f.values())
                ),
                expected=f"the {part} {' and '.join(sorted(missing))} too",
            )
        images, values = read_idx(paths["images"]), read_idx(paths["labels"])
        targets, names = as_targets(values, task, None, str(paths["labels"]))
        parts[part] = ArrayDataset(images, targets, name=folder.name, class_names=names)
    return parts


def read_idx(path: Path) -> Array:
    """The numbers of one IDX file; a raw one is memory-mapped.

    Raises: FileError for a path that cannot be read, DataError for a file that is not
    IDX, whose length does not fit its header, or that is damaged.

    Source: the description of the format on the MNIST page of LeCun, Cortes & Burges.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        if is_gzip:
            return _read_gzip(path, size_bytes * _MAX_GZIP_RATIO)
        with path.open("rb") as file:
            dtype, shape, start = _header(path, file.read(4 + 4 * 255))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{str(path)!r} is damaged or cut short",
            got=str(error),
            expected="a whole gzip file",
            hint="fetch the file again",
        ) from error
    except OSError as error:
        raise FileError(
            f"cannot read {str(path)!r}",
            got=error.strerror or type(error).__name__,
            expected="an IDX file",
        ) from error
    promised = start + math.prod(shape) * dtype.itemsize
    if size_bytes != promised:
        raise _wrong_length(path, size_bytes, promised, shape)
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset=start, shape=shape)


def _read_gzip(path: Path, limit: int) -> Array:
    with gzip.open(path) as file:
        dtype, shape, start = _header(path, file.read(4 + 4 * 255))
        count = math.prod(shape) * dtype.itemsize
        if start + count > limit:
            raise _wrong_length(path, f"at most {limit:,}", start + count, shape)
        if count > _MAX_GZIP_BYTES:
            raise DataError(
                f"{str(path)!r} unpacks to more than is safe",
                got=f"{count:,} bytes",
                expected=f"at most {_MAX_GZIP_BYTES:,} bytes",
                hint="if you trust it, gunzip it: raw files may be any size",
            )
        file.seek(start)
        content = file.read(count)
        if len(content) < count:
            raise _wrong_length(path, start + len(content), start + count, shape)
        if file.read(1):
            raise _wrong_length(path, f"over {start + count:,}", start + count, shape)
    return np.frombuffer(content, dtype).reshape(shape)


def _header(path: Path, head: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Element type, shape and where the numbers begin."""
    is_idx = (
        len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _DTYPES and head[3] > 0
    )
    if not is_idx:
        raise DataError(
            f"{str(path)!r} is not an IDX file",
            got=f"it begins with {head[:4].hex(' ') or 'nothing'}",
            expected="00 00, a type from 08 to 0e, and the number of axes",
        )
    ndim = head[3]
    start = 4 + 4 * ndim
    if len(head) < start:
        raise DataError(
            f"{str(path)!r} ends inside its header",
            got=f"{len(head)} bytes",
            expected=f"{start} bytes of header for {ndim} axes",
            hint="fetch the file again",
        )
    shape = tuple(int(n) for n in np.frombuffer(head, ">u4", ndim, offset=4))
    return np.dtype(_DTYPES[head[2]]), shape, start


def _wrong_length(
    path: Path, got: int | str, promised: int, shape: tuple[int, ...]
) -> DataError:
    return DataError(
        f"{str(path)!r} does not have the length that its header promises",
        got=f"{got:,} bytes" if isinstance(got, int) else f"{got} bytes",
        expected=f"{promised:,} bytes for {' × '.join(map(str, shape))}",
        hint="fetch the file again",
    )
