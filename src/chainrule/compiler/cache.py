"""Native code kept on disk, so that a second process compiles nothing.

One file is one entry: object code, and the facts that its caller needs to run it. The
name is a hash of everything that the code depends on, so an entry is never out of date,
only unused; the least recently used are deleted when the folder has grown too large.

What is read here is executed. The folder and each file must therefore belong to the
user and be writable by nobody else, and a file must hold what its header says. Anything
else is treated as absent, as is everything in a folder that cannot be used; the one
error is an unknown value of ``CHAINRULE_CACHE``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from chainrule.compiler.host import Target
from chainrule.errors import OptionError
from chainrule.files import remove_leftovers

__all__ = ["Entry", "clear", "is_used", "key", "load", "status", "store"]

MOST_BYTES = 256 * 2**20
"""What the folder may hold, give or take a few entries."""

_ABANDONED_S = 3600  # the age at which a temporary file is nobody's any more
_MAGIC = b"chainrule cache1"
_HEADER = struct.Struct("<16sQ32s")  # magic and format, bytes of facts, seal

# Why the last entry could not be written; "" if it was.
_last_failure = ""


class Entry(NamedTuple):
    """Object code, and what JSON can hold of what is known about it.

    Facts come back as JSON returns them: tuples as lists, keys as strings.
    """

    code: bytes
    facts: dict[str, Any]


def key(target: Target, *parts: str) -> str:
    """The name of the entry for code made from these texts, for this target.

    It also depends on chainrule's own source, on LLVM and on the processor.
    """
    whole = json.dumps([_surroundings(), repr(target), *parts])
    return hashlib.blake2b(whole.encode(), digest_size=32).hexdigest()


def load(key: str) -> Entry | None:
    """The entry of this key, or None; a damaged one is deleted."""
    folder, _ = _folder()
    if folder is None:
        return None
    path = folder / f"{key}.native"
    content = _read(path)
    if content is None:
        return None
    entry = _unpacked(key, content)
    with contextlib.suppress(OSError):
        if entry is None:
            path.unlink()
        else:
            os.utime(path)  # used now: the last to be deleted
    return entry


def store(key: str, entry: Entry) -> None:
    """Keep an entry for later processes, if there is a place to keep it."""
    global _last_failure
    folder, _ = _folder()
    if folder is None:
        return
    content = _packed(key, entry)
    path = folder / f"{key}.native"
    # Not files.whole_file: a torn file costs one compilation, so nothing need wait for
    # the disk; and that function's files may be writable by a group.
    temporary = folder / f".{key}.{os.urandom(6).hex()}.tmp"
    try:
        with open(temporary, "xb", opener=_private) as file:
            file.write(content)
        os.replace(temporary, path)
        _last_failure = ""
    except OSError as error:
        _last_failure = _reason(error)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return
    # Looking through the folder takes longer than writing to it: one in 16 does.
    if key.startswith("0") or len(content) > MOST_BYTES // 16:
        _trim(folder)


def clear() -> int:
    """Delete every entry; how many there were."""
    folder, _ = _folder(even_if_off=True)
    count = 0
    if folder is not None:
        with contextlib.suppress(OSError):
            remove_leftovers(folder)
            for path in folder.glob("*.native"):
                path.unlink(missing_ok=True)
                count += 1
    return count


def is_used() -> bool:
    """Whether entries are kept at all."""
    return _folder()[0] is not None


def status() -> str:
    """Where entries are kept, or why they are not, as a line of a report."""
    folder, reason = _folder()
    if folder is None:
        return f"cache: not used, because {reason}"
    if _last_failure:
        return f"cache: {folder}, not written, because {_last_failure}"
    return f"cache: {folder}"


@cache
def _surroundings() -> str:
    """All that generated code depends on besides its graph and its target."""
    import llvmlite
    import llvmlite.binding as llvm  # loading an entry needs it too

    return json.dumps(
        [
            _source_hash(),
            llvmlite.__version__,
            llvm.llvm_version_info,
            llvm.get_process_triple(),
            llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(),
        ]
    )


@cache
def _source_hash() -> str:
    """A hash of the source that decides what code is made; "" if it cannot be read.

    A version number would not do: code from before an edit would answer for the
    edited source.
    """
    package = Path(__file__).parent.parent
    content = hashlib.blake2b(digest_size=32)
    files = [
        file
        for floor in ("core", "ops", "compiler")
        for file in sorted((package / floor).glob("*.py"))
    ]
    try:
        for file in files:
            content.update(f"{file.parent.name}/{file.name}\0".encode())
            content.update(hashlib.blake2b(file.read_bytes()).digest())
    except OSError:
        return ""
    return content.hexdigest() if files else ""


# The folder, and whom it belongs to.


def _is_on() -> bool:
    text = os.environ.get("CHAINRULE_CACHE", "").strip().lower()
    if text not in ("", "on", "1", "off", "0"):
        raise OptionError.unknown("CHAINRULE_CACHE", text, ("on", "off", "1", "0"))
    return text not in ("off", "0")


def _folder(*, even_if_off: bool = False) -> tuple[Path | None, str]:
    """The folder of entries, made if need be; or None, and the reason."""
    if not (_is_on() or even_if_off):
        return None, "CHAINRULE_CACHE is off"
    chosen = os.environ.get("CHAINRULE_CACHE_DIR")
    if not chosen:
        import platformdirs  # only where nothing is set

        chosen = platformdirs.user_cache_dir("chainrule")
        if chosen.startswith("~"):
            return None, "the user has no home folder"
    folder = Path(chosen) / "native"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        trouble = _distrust(folder.stat())
    except OSError as error:
        return None, f"{folder}: {_reason(error)}"
    if trouble:
        return None, f"{folder} {trouble}"
    if not _source_hash():
        return None, "chainrule's own source cannot be read"
    return folder, ""


def _distrust(found: os.stat_result) -> str:
    """Why what this describes might hold someone else's code; "" if it cannot."""
    if os.name == "nt":
        return ""  # there, a user's folders are closed to others by access lists
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by other users"
    return ""


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


# One file.


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _unhindered(path: str, flags: int) -> int:
    """Open without waiting for a writer, should a pipe stand there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such


def _read(path: Path) -> bytes | None:
    """The content of a file that only the user may have written."""
    try:
        with open(path, "rb", opener=_unhindered) as file:
            # Of the open file, not of the path: that can change in between.
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or _distrust(found):
                return None
            return file.read()
    except OSError:
        return None


def _packed(key: str, entry: Entry) -> bytes:
    facts = json.dumps(entry.facts).encode()
    contents = facts + entry.code
    return _header(key, len(facts), contents) + contents


def _unpacked(key: str, file: bytes) -> Entry | None:
    """The entry, if every byte is as it was written for this key."""
    header, contents = file[: _HEADER.size], file[_HEADER.size :]
    if len(header) < _HEADER.size:
        return None
    split = _HEADER.unpack(header)[1]
    if header != _header(key, split, contents):
        return None
    return Entry(contents[split:], json.loads(contents[:split]))


def _header(key: str, split: int, contents: bytes) -> bytes:
    """What stands before facts and code, which meet at ``split``."""
    seal = hashlib.blake2b(digest_size=32)
    for part in (key.encode(), split.to_bytes(8, "little"), contents):
        seal.update(part)
    return _HEADER.pack(_MAGIC, split, seal.digest())


# The size of the folder.


def _trim(folder: Path) -> None:
    """Delete the least recently used entries until a quarter of the room is free."""
    entries = []
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # another process may delete it meanwhile
            found = path.lstat()
            if path.suffix == ".native":
                entries.append((found.st_mtime_ns, found.st_size, path))
                total += found.st_size
            elif path.suffix == ".tmp" and _is_abandoned(found):
                path.unlink()
    if total <= MOST_BYTES:
        return
    for _, size, path in sorted(entries):
        if total <= MOST_BYTES * 3 // 4:
            return
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            total -= size


def _is_abandoned(found: os.stat_result) -> bool:
    """Whether a temporary file is left over from a process that was killed."""
    return found.st_mtime < time.time() - _ABANDONED_S
