"""Pictures where they lie: in a folder or an archive, each readable at any time.

A compressed tar has no random access, so its pictures are copied, still encoded, into
one file of the cache folder on first use. Nothing is ever extracted under its own name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.archives import (
    checked_member,
    decompressed_tar,
    is_compressed,
    reading_archive,
)
from chainrule.data.pictures import is_picture_name
from chainrule.data.places import cache_folder, write_whole
from chainrule.errors import DataError, FileError, counted

__all__ = ["PictureFiles", "SomeFiles", "open_files"]

MAX_PICTURE_BYTES = 1 << 29
_MAX_DEPTH = 8
_ENCRYPTED = 1
_LITTER = ("__MACOSX", "Thumbs.db")


class PictureFiles(ABC):
    """The picture files of one place, by number.

    ``names`` are relative, with forward slashes; ``folders`` are all folders that hold
    them, the empty ones too; ``key`` changes when any of the files does.
    """

    def __init__(
        self, place: str, names: list[str], folders: Iterable[str], key: str
    ) -> None:
        self.place = place
        self.names = names
        self.folders = sorted(set(folders) | {_parent(name) for name in names})
        self.key = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, number: int) -> bytes:
        """The bytes of one file; FileError or DataError where they cannot be had."""

    @abstractmethod
    def size_bytes(self, number: int) -> int:
        """How long one file is."""

    def where(self, number: int) -> str:
        """How messages call one file."""
        return f"{self.place}: {self.names[number]}"


def open_files(path: Path) -> PictureFiles:
    """The pictures in a folder or an archive.

    Raises: DataError for a damaged archive, for one with a member that climbs out of
    its folder, and where there is no picture at all.
    """
    if path.is_dir():
        files: PictureFiles = _FolderFiles(path)
    elif zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        files = _ZipFiles(path)
    else:
        files = _open_tar(path)
    if not len(files):
        raise DataError(
            f"no pictures in {str(path)!r}",
            got=f"{counted(len(files.folders), 'folder')} and no file with a picture's "
            "ending",
            expected="one folder of pictures for each class",
        )
    return files


class _FolderFiles(PictureFiles):
    def __init__(self, root: Path) -> None:
        found: list[tuple[str, int, int]] = []
        folders = []
        for here, inner, names in os.walk(root, followlinks=True):
            relative = Path(here).relative_to(root)
            # The depth ends the walk where a link leads back up.
            kept = (n for n in inner if not n.startswith(".") and n not in _LITTER)
            inner[:] = sorted(kept) if len(relative.parts) < _MAX_DEPTH else []
            folders.append("" if relative == Path() else relative.as_posix())
            for name in filter(is_picture_name, names):
                full = (relative / name).as_posix()
                try:
                    status = os.stat(os.path.join(here, name))
                except OSError:  # a link to nowhere; reading it says so
                    found.append((full, 0, 0))
                    continue
                if stat.S_ISREG(status.st_mode):  # reading a pipe would never end
                    found.append((full, status.st_size, status.st_mtime_ns))
        found.sort()
        self._root = root
        self._sizes = [size for _, size, _ in found]
        key = f"{root.resolve()}{found}"
        super().__init__(str(root), [name for name, _, _ in found], folders, key)

    def read(self, number: int) -> bytes:
        path = self._root / self.names[number]
        try:
            return path.read_bytes()
        except OSError as error:
            raise FileError(
                f"cannot read {str(path)!r}",
                got=error.strerror or type(error).__name__,
                expected="a picture file",
            ) from error

    def size_bytes(self, number: int) -> int:
        return self._sizes[number]


class _ZipFiles(PictureFiles):
    def __init__(self, path: Path) -> None:
        with reading_archive(path):
            self._archive = zipfile.ZipFile(path)
            members = self._archive.infolist()
        folders, found = [], {}
        for member in members:
            name = checked_member(member.filename, path)
            if member.is_dir():
                folders.append(name)
            elif _is_wanted(name):
                if member.flag_bits & _ENCRYPTED:
                    raise _encrypted(path, name)
                found[name] = member
        self._path = path
        names = sorted(found)
        self._members = [found[name] for name in names]
        super().__init__(str(path), names, folders, _stamp(path))

    def read(self, number: int) -> bytes:
        member = self._members[number]
        if member.file_size > MAX_PICTURE_BYTES:
            raise _too_long(self.where(number), member.file_size)
        with reading_archive(self._path, self.names[number]):
            return self._archive.read(member)

    def size_bytes(self, number: int) -> int:
        return self._members[number].file_size


class _PackedFiles(PictureFiles):
    """Members one after the other in a single file: a tar, or our copy of one."""

    def __init__(
        self,
        path: Path,
        packed: Path,
        spans: dict[str, tuple[int, int]],
        folders: list[str],
    ) -> None:
        names = sorted(spans)
        self._spans = [spans[name] for name in names]
        # A map needs no lock and no open file; the bytes stay on the disk.
        self._bytes = (
            np.memmap(packed, np.uint8, "r") if names else np.empty(0, np.uint8)
        )
        super().__init__(str(path), names, folders, _stamp(path))

    def read(self, number: int) -> bytes:
        offset, size = self._spans[number]
        if size > MAX_PICTURE_BYTES:
            raise _too_long(self.where(number), size)
        return self._bytes[offset : offset + size].tobytes()

    def size_bytes(self, number: int) -> int:
        return self._spans[number][1]


class SomeFiles(PictureFiles):
    """The files of another place that have these names."""

    def __init__(self, base: PictureFiles, names: Iterable[str]) -> None:
        number_of = {name: number for number, name in enumerate(base.names)}
        chosen = sorted(set(names))
        self._base = base
        self._numbers = [number_of[name] for name in chosen]
        super().__init__(base.place, chosen, [], f"{base.key}:{chosen}")

    def read(self, number: int) -> bytes:
        return self._base.read(self._numbers[number])

    def size_bytes(self, number: int) -> int:
        return self._base.size_bytes(self._numbers[number])


def _open_tar(path: Path) -> PictureFiles:
    if is_compressed(path):
        return _unpacked(path)
    with reading_archive(path), path.open("rb") as file:
        spans: dict[str, tuple[int, int]] = {}
        folders: list[str] = []
        with tarfile.open(path, "r:") as archive:
            for name, member in _walk_tar(archive, path, folders):
                spans[name] = (member.offset_data, member.size)
            # tarfile also stops, without a word, at a damaged or missing header.
            file.seek(archive.offset)
            if file.read(512) != bytes(512):
                raise tarfile.ReadError("no end mark after the last member")
    return _PackedFiles(path, path, spans, folders)


def _unpacked(path: Path) -> PictureFiles:
    """A compressed tar through its copy in the cache folder, made on first use."""
    key = hashlib.blake2b(_stamp(path).encode(), digest_size=12).hexdigest()
    packed = cache_folder() / "pictures" / f"{key}.packed"
    index = packed.with_suffix(".json")
    found = _packed_index(index, packed)
    if found is None:
        spans, folders = _pack(path, packed)
        # The index is written last: where it is, the copy is whole.
        found = {
            "spans": spans,
            "folders": folders,
            "size_bytes": packed.stat().st_size,
        }
        with write_whole(index) as file:
            file.write(json.dumps(found).encode())
    spans = {name: (span[0], span[1]) for name, span in found["spans"].items()}
    return _PackedFiles(path, packed, spans, found["folders"])


def _packed_index(index: Path, packed: Path) -> Any:
    try:
        found = json.loads(index.read_text())
        is_whole = packed.stat().st_size == found["size_bytes"]
    except (OSError, ValueError):
        return None
    return found if is_whole else None


def _pack(path: Path, packed: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    spans: dict[str, tuple[int, int]] = {}
    folders: list[str] = []
    offset = 0
    with write_whole(packed) as file, decompressed_tar(path) as archive:
        room = _room(path, packed)
        for name, member in _walk_tar(archive, path, folders):
            if member.size + offset > room:
                raise DataError(
                    f"{str(path)!r} unpacks to more than is safe",
                    got=f"over {offset + member.size:,} bytes from "
                    f"{path.stat().st_size:,}",
                    expected=f"at most {room:,} bytes",
                    hint="if you trust it, unpack it yourself and give the folder, or "
                    "set CHAINRULE_CACHE_DIR to a disk with more room",
                )
            source = archive.extractfile(member)
            if source is not None:
                shutil.copyfileobj(source, file, 1 << 20)
                spans[name] = (offset, member.size)
                offset += member.size
    return spans, folders


def _room(path: Path, packed: Path) -> int:
    """What an archive may unpack to: pictures hardly shrink, so 100 times is ample."""
    free = shutil.disk_usage(packed.parent).free
    return min(free // 2, max(1 << 30, 100 * path.stat().st_size))


def _walk_tar(
    archive: tarfile.TarFile, path: Path, folders: list[str]
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The picture members with their checked names; folders go to ``folders``."""
    for member in archive:
        name = checked_member(member.name, path)
        if member.isdir():
            folders.append(name)
        elif member.isreg() and _is_wanted(name):
            yield name, member


def _is_wanted(name: str) -> bool:
    parts = name.split("/")
    is_litter = any(part.startswith(".") or part in _LITTER for part in parts)
    return is_picture_name(name) and not is_litter


def _parent(name: str) -> str:
    # pathlib would intern every name for the life of the process.
    return name.rpartition("/")[0]


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _encrypted(path: Path, name: str) -> DataError:
    return DataError(
        f"{str(path)!r} is encrypted",
        got=f"{name!r} needs a password",
        expected="an archive that can be read without one",
        hint="unpack it yourself and give the folder",
    )


def _too_long(where: str, size_bytes: int) -> DataError:
    return DataError(
        f"{where}: a file too long for a picture",
        got=f"{size_bytes:,} bytes",
        expected=f"at most {MAX_PICTURE_BYTES:,} bytes",
    )
