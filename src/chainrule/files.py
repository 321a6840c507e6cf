"""Writing files so that a crash, a kill or a full disk never leaves half of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from chainrule.errors import ChainruleError, FileError

__all__ = ["remove_leftovers", "sync_folder", "whole_file", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Put ``content`` at ``path``, whole or not at all.

    Raises:
        FileError: if the folder is missing or read-only, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    with whole_file(
        Path(path),
        expected=f"a writable folder with {len(data):,} bytes free",
        hint="free some space or choose another folder; earlier files are unharmed",
    ) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(target: Path, *, expected: str, hint: str) -> Iterator[IO[bytes]]:
    """A file that appears under its name when the block ends, or not at all.

    Written beside the target under a temporary name, flushed to the disk and renamed;
    an earlier file stays until the new one is complete.

    Raises:
        FileError: with these words, if it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except ChainruleError:
        raise  # the block's own, some of which are OSErrors too
    except OSError as error:
        raise FileError(
            f"cannot write {target}",
            got=error.strerror or error,
            expected=expected,
            hint=hint,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left in a folder."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut, where the system can."""
    if os.name == "nt":
        return  # Windows cannot open a folder to flush it
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
