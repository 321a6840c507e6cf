"""Archives read in place: what is in them is checked, and no member is extracted."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chainrule.errors import ChainruleError, DataError, FileError

__all__ = [
    "checked_member",
    "decompressed_tar",
    "is_archive",
    "is_compressed",
    "reading_archive",
]

_MAX_PADDING_BYTES = 1 << 24
_MAGICS = {b"\x1f\x8b": gzip, b"\xfd7zXZ\0": lzma, b"BZh": bz2}


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive."""
    name = path.name.lower()
    return name.endswith((".zip", ".tar", ".tgz", ".txz", ".tbz2")) or (
        path.suffix.lower() in (".gz", ".xz", ".bz2")
        and Path(path.stem).suffix.lower() == ".tar"
    )


def is_compressed(path: Path) -> bool:
    """Whether a tar file is packed with gzip, xz or bzip2, by its first bytes."""
    with reading_archive(path), path.open("rb") as file:
        return file.read(6).startswith(tuple(_MAGICS))


@contextmanager
def decompressed_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A compressed tar to be read once, front to back; its end is checked too."""
    with reading_archive(path):
        with path.open("rb") as file:
            magic = file.read(6)
        module = next((m for k, m in _MAGICS.items() if magic.startswith(k)), None)
        if module is None:
            raise tarfile.ReadError("neither gzip nor xz nor bzip2")
        # The modules' own readers notice a cut stream; tarfile's would not.
        with module.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                yield archive
            for _ in range(_MAX_PADDING_BYTES >> 16):
                if not stream.read(1 << 16):
                    break


def checked_member(name: str, path: Path) -> str:
    """A member's name as a relative path; DataError where it leaves its folder."""
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or re.match("[A-Za-z]:/", plain):
        raise DataError(
            f"{str(path)!r} has a member that climbs out of its folder",
            got=repr(name),
            expected="names below the archive's own folder",
            hint="do not trust this archive",
        )
    return "/".join(parts)


@contextmanager
def reading_archive(path: Path, member: str = "") -> Iterator[None]:
    """Turn what zipfile, tarfile and the decompressors raise into one error."""
    try:
        yield
    except ChainruleError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise  # the cache's disk, not the archive, and its writer says so
        if error.errno is not None:
            raise FileError(
                f"cannot read {str(path)!r}",
                got=error.strerror,
                expected="an archive that can be read",
            ) from error
        raise _damaged(path, member, error) from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        ValueError,
        RuntimeError,  # zipfile: a member is encrypted
    ) as error:
        raise _damaged(path, member, error) from error


def _damaged(path: Path, member: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(
        f"{str(path)!r} is damaged or cut short",
        got=f"{member}: {reason}" if member else reason,
        expected="a whole zip, tar, tar.gz, tar.bz2 or tar.xz archive",
        hint="fetch or make the archive again",
    )
