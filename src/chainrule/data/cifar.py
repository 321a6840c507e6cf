"""CIFAR-10 in its two published forms: binary records, or pickled Python batches."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from chainrule.data.archives import decompressed_tar
from chainrule.data.dataset import Array, ArrayDataset, Dataset
from chainrule.errors import DataError, FileError, counted

__all__ = ["is_cifar", "read_cifar"]

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_PLANE = 3 * 32 * 32
_RECORD = 1 + _PLANE
_BATCH = re.compile(r"(data|test)_batch(_\d+)?(\.bin)?$")
# A published batch has 31 MB; this leaves room and keeps a bomb out of memory.
_MAX_BATCH_BYTES = 1 << 28


def is_cifar(path: Path) -> bool:
    """Whether a folder, or an archive by its published name, holds CIFAR-10 batches."""
    if path.is_dir():
        return any(_BATCH.match(entry.name) for entry in path.iterdir())
    return re.match(r"cifar-10-(binary|python)\.(tar\.|tgz)", path.name) is not None


def read_cifar(path: Path) -> dict[str, Dataset]:
    """The parts "train" and "test" of CIFAR-10.

    Raises: DataError for a batch of a wrong length, a label over 9, a pickle that holds
    anything but arrays of bytes, or no training batch.
    """
    images: dict[str, list[Array]] = {"train": [], "test": []}
    labels: dict[str, list[Array]] = {"train": [], "test": []}
    for name, data in sorted(_batches(path)):
        part = "test" if name.startswith("test") else "train"
        where = f"{path}: {name}"
        parse = _parse_binary if name.endswith(".bin") else _parse_pickle
        planes, numbers = parse(data, where)
        if numbers.max(initial=0) >= len(CLASSES):
            raise DataError(
                f"{where}: labels out of range",
                got=f"label {numbers.max()} in record {numbers.argmax()}",
                expected="integers from 0 to 9",
            )
        pictures = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        images[part].append(np.ascontiguousarray(pictures))
        labels[part].append(numbers.astype(np.int64))
    if not images["train"]:
        raise DataError(
            f"{str(path)!r}: no training batch of CIFAR-10",
            got=counted(len(images["test"]), "test batch"),
            expected="data_batch_1 to data_batch_5, or the same with .bin",
        )
    return {
        part: ArrayDataset(
            np.concatenate(images[part]),
            np.concatenate(labels[part]),
            name=path.name,
            class_names=CLASSES,
        )
        for part in ("train", "test")
        if images[part]
    }


def _batches(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name and content of each batch."""
    if path.is_dir():
        for entry in path.iterdir():
            if _BATCH.match(entry.name) and entry.is_file():
                _check_length(str(entry), entry.stat().st_size)
                try:
                    yield entry.name, entry.read_bytes()
                except OSError as error:
                    raise FileError(
                        f"cannot read {str(entry)!r}",
                        got=error.strerror or type(error).__name__,
                        expected="a CIFAR-10 batch",
                    ) from error
        return
    with decompressed_tar(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if member.isreg() and _BATCH.match(name):
                _check_length(f"{path}: {name}", member.size)
                content = archive.extractfile(member)
                if content is not None:
                    yield name, content.read()


def _check_length(where: str, size_bytes: int) -> None:
    if size_bytes > _MAX_BATCH_BYTES:
        raise DataError(
            f"{where}: too long for a batch of CIFAR-10",
            got=f"{size_bytes:,} bytes",
            expected=f"at most {_MAX_BATCH_BYTES:,} bytes",
        )


def _parse_binary(data: bytes, where: str) -> tuple[Array, Array]:
    if not data or len(data) % _RECORD:
        raise DataError(
            f"{where}: cut short, or not CIFAR-10",
            got=f"{len(data):,} bytes",
            expected=f"whole records of {_RECORD:,} bytes",
            hint="fetch the file again",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0]


def _parse_pickle(data: bytes, where: str) -> tuple[Array, Array]:
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = batch[b"data"], batch[b"labels"]
        planes = np.frombuffer(pixels.content, np.uint8).reshape(-1, _PLANE)
        numbers = np.array(labels, np.uint8)
    except DataError as error:
        error.what = f"{where}: {error.what}"
        raise
    except Exception as error:
        # A damaged pickle can make the unpickler raise anything.
        raise DataError(
            f"{where}: not a Python batch of CIFAR-10",
            got=str(error) or type(error).__name__,
            expected="a pickled dictionary with data and labels",
            hint="fetch the file again",
        ) from error
    if len(planes) != len(numbers) or not len(planes):
        raise DataError(
            f"{where}: pictures and labels have different lengths",
            got=f"{counted(len(planes), 'picture')}, {counted(len(numbers), 'label')}",
            expected="one label for each picture",
        )
    return planes, numbers


class _Bytes:
    """Stands for an array while unpickling, and keeps nothing but its bytes."""

    content = b""

    def __setstate__(self, state: Any) -> None:
        content = state[4]
        if not isinstance(content, bytes):
            raise TypeError("an array that does not hold bytes")
        self.content = content


class _ElementType:
    """Stands for a dtype while unpickling; CIFAR-10 has bytes only."""

    def __init__(self, *args: Any) -> None:
        if args[:1] not in ((b"u1",), ("u1",)):
            raise TypeError(f"an array of {args[:1]}, not of bytes")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment mean nothing to single bytes."""


def _encode(text: str, encoding: str) -> bytes:
    """What Python 3 writes into old-style pickles in place of bytes."""
    return text.encode("latin-1")


def _reconstruct(*_: Any) -> _Bytes:
    return _Bytes()


class _Unpickler(pickle.Unpickler):
    """Makes nothing but the stand-ins above: a batch cannot run code.

    Source: the Python documentation of pickle, "Restricting globals".
    """

    _ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Bytes,
        ("numpy", "dtype"): _ElementType,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise DataError(
                "a pickle that asks for more than arrays",
                got=f"{module}.{name}",
                expected="arrays of bytes, lists and texts",
                hint="do not trust this file; use the binary version",
            )
        return self._ALLOWED[module, name]
