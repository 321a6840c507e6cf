"""Where data and caches live on this machine, and how a file is put there whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from chainrule.errors import FileError
from chainrule.files import whole_file

__all__ = ["cache_folder", "data_folder", "write_whole"]


def data_folder() -> Path | None:
    """``CHAINRULE_DATA_DIR``: the user's folder of data sets, if there is one."""
    folder = os.environ.get("CHAINRULE_DATA_DIR")
    return Path(folder) if folder else None


def cache_folder() -> Path:
    """``CHAINRULE_CACHE_DIR``, or the place the system has for caches."""
    folder = os.environ.get("CHAINRULE_CACHE_DIR")
    if folder:
        return Path(folder)
    import platformdirs  # only where nothing is set

    return Path(platformdirs.user_cache_dir("chainrule"))


@contextmanager
def write_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file of the cache that appears when it is complete, its folder made first.

    Raises: FileError where the folder cannot be written or the disk is full.
    """
    expected = "a folder that can be written, with room on its disk"
    hint = "set CHAINRULE_CACHE_DIR to another folder"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {path.parent}",
            got=error.strerror or type(error).__name__,
            expected=expected,
            hint=hint,
        ) from error
    with whole_file(path, expected=expected, hint=hint) as file:
        yield file
