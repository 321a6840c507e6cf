"""metrics.jsonl: a line for each step and each epoch of a run, in order, once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from chainrule.errors import FileError

__all__ = ["MetricsLog", "read_rows"]


class MetricsLog:
    """An append-only file of JSON lines that can be cut back to a checkpoint.

    A resumed run repeats the steps after its checkpoint; their old lines are dropped
    first, so that no step stands in the file twice.

    Args:
        path: the file; made if missing.
        position: bytes to keep, as ``sync`` returned them; None keeps nothing.
    """

    def __init__(
        self, path: str | os.PathLike[str], position: int | None = None
    ) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("ab")
            _lock(self._file, self.path)
            # Never beyond its end: that would fill a shorter file up with zeros.
            self._file.truncate(min(position or 0, self.path.stat().st_size))
            self._file.seek(0, os.SEEK_END)  # from where it ended before
        except FileError:
            self._file.close()
            raise
        except OSError as error:
            raise self._cannot_write(error) from None

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line; it reaches the disk at the next ``sync``."""
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> FileError:
        return FileError(
            f"cannot write {self.path}", got=error.strerror, expected="a writable file"
        )

    def sync(self) -> int:
        """Bring every line to the disk and return the file's length in bytes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise FileError(
                f"cannot write {self.path}",
                got=error.strerror,
                expected="room on the disk for the run's metrics",
                hint="free some space, then: chainrule resume " + str(self.path.parent),
            ) from None
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold the file until it is closed or the process ends, however it ends.

    Raises FileError if another process holds it: two runs must not write one folder.
    """
    try:
        import fcntl
    except ImportError:
        return  # Windows: it does not let two programs rename over an open file anyway
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(
            f"{path.parent} is being trained by another process",
            got=f"{path.name} is locked",
            expected="one training process for each run folder",
            hint="wait for it, or train into another folder with --out",
        ) from None


def read_rows(
    path: str | os.PathLike[str], event: str | None = None
) -> list[dict[str, Any]]:
    """The lines of one event ("step", "epoch"), or all, but no torn last line."""
    file = Path(path)
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # a run that is being written to, or was killed
        if isinstance(row, dict) and event in (None, row.get("event")):
            rows.append(row)
    return rows
