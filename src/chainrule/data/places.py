"""Where data and caches live on this machine, and how a file is put there whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from chainrule.errors import FileError

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
    """A file that appears under its name when it is complete, or not at all.

    Raises: FileError where the folder cannot be written or the disk is full.
    """
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            scratch = Path(file.name)
            # The wrapper of tempfile costs as much as a small write.
            yield file.file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise FileError(
            f"cannot write {str(path)!r}",
            got=error.strerror or type(error).__name__,
            expected="a folder that can be written, with room on its disk",
            hint="set CHAINRULE_CACHE_DIR to another folder",
        ) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
