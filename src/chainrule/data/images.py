"""Pictures as a data set: decoded once into a map on the disk, or whenever read.

Training reads each picture many times, so the first use decodes all of them, checks
them on the way, and keeps the pixels as uint8 in the cache folder, from where a memory
map reads them. Data too large for that are decoded again at every reading. Either way
memory holds a batch, whatever the number of pictures.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar, Unpack

import numpy as np

from chainrule.core.threads import num_threads
from chainrule.data.dataset import Array, Dataset, Facts
from chainrule.data.files import PictureFiles
from chainrule.data.pictures import bombs_are_errors, check_form, decode, measure
from chainrule.data.places import cache_folder, write_whole
from chainrule.errors import ChainruleError, DataError, OptionError

__all__ = ["UNREADABLE", "ImageDataset", "Pictures"]

UNREADABLE = ("list", "skip", "error")

FALLBACK_SIZE = (64, 64)
"""What pictures of many sizes, or of a large one, are brought to where nobody says."""

_LARGEST_DEFAULT = 256
_MAX_CACHE_BYTES = 8 << 30
_SURVEYED = 200
_BLOCK = 64
_SMALL_FILE_BYTES = 16_384
_VERSION = 1

T = TypeVar("T")


class Pictures:
    """All picture files of one place, brought to one size.

    Making it reads every file once (or learns from the cache what that showed):
    ``is_good`` says which could be read and ``problems`` why the others could not.

    Raises: OptionError for ``unreadable`` outside list, skip, error; DataError for a
    file that cannot be read where that is an error, and where none can.
    """

    def __init__(
        self,
        files: PictureFiles,
        *,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        unreadable: str = "list",
    ) -> None:
        if unreadable not in UNREADABLE:
            raise OptionError.unknown("choice for unreadable", unreadable, UNREADABLE)
        check_form(size, channels)
        self.files = files
        self.size, self.channels = _form(files, size, channels)
        self.is_good = np.ones(len(files), bool)
        self.picture_sizes: dict[str, int] = {}
        self._pixels: Array | None = None
        bad = self._read_all()
        self.problems = [] if unreadable == "skip" else list(bad.values())
        if bad and (unreadable == "error" or len(bad) == len(files)):
            raise DataError(
                f"{files.place}: {len(bad)} of {len(files)} pictures cannot be read",
                got="\n".join(list(bad.values())[:5]),
                expected="picture files that are whole",
                hint=None
                if len(bad) == len(files)
                else 'unreadable="list" leaves them out',
            )

    @property
    def is_decoded(self) -> bool:
        """Whether the pixels are in the cache folder, not decoded at each reading."""
        return self._pixels is not None

    def read(self, numbers: Array) -> Array:
        """The pixels of the files of these numbers, uint8 (n, h, w, c)."""
        if self._pixels is not None:
            return self._pixels.take(numbers, axis=0)
        out = np.empty((len(numbers), *self.size, self.channels), np.uint8)
        for row, found in enumerate(self._each(self._decode, numbers.tolist())):
            out[row] = found[0]
        return out

    def _decode(self, number: int) -> tuple[Array, tuple[int, int]]:
        data, where = self.files.read(number), self.files.where(number)
        return decode(data, where, self.size, self.channels)

    def _read_all(self) -> dict[int, str]:
        """Decode every picture once; what went wrong, by number."""
        shape = (len(self.files), *self.size, self.channels)
        key = f"{_VERSION}:{self.files.key}:{shape}"
        name = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
        folder = cache_folder() / "pictures"
        findings, pixels = folder / f"{name}.json", folder / f"{name}.pixels"
        found = _cached(findings, pixels, shape)
        if found is None:
            self._first_pass(findings, pixels if self._fits(shape) else None)
            found = json.loads(findings.read_text())
        if found["has_pixels"]:
            mapped = np.memmap(pixels, np.uint8, "r", shape=shape)
            # A plain view of a map gathers as fast as an array; the subclass does not.
            self._pixels = mapped.view(np.ndarray)
        self.picture_sizes = found["picture_sizes"]
        bad = {int(number): reason for number, reason in found["bad"].items()}
        self.is_good[list(bad)] = False
        return bad

    def _first_pass(self, findings: Path, pixels: Path | None) -> None:
        bad: dict[int, str] = {}
        sizes: Counter[str] = Counter()
        blank = bytes(self.size[0] * self.size[1] * self.channels)

        def attempt(number: int) -> tuple[str, bytes]:
            picture, (height, width) = self._decode(number)
            return f"{width}×{height}", picture.tobytes()

        def guarded(number: int) -> tuple[str, bytes]:
            try:
                return attempt(number)
            except ChainruleError as error:
                bad[number] = f"{error.what}: {error.got}"
                return "", blank

        def fill(file: IO[bytes] | None) -> None:
            for size, data in self._each(guarded, range(len(self.files))):
                sizes.update([size] if size else [])
                if file is not None:
                    file.write(data)

        with bombs_are_errors():
            if pixels is None:
                fill(None)
            else:
                with write_whole(pixels) as file:
                    fill(file)
        # Written last: where the findings are, the pixels are whole.
        with write_whole(findings) as file:
            found = {
                "has_pixels": pixels is not None,
                "picture_sizes": dict(sizes.most_common()),
                "bad": dict(sorted(bad.items())),
            }
            file.write(json.dumps(found).encode())

    def _fits(self, shape: tuple[int, ...]) -> bool:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        room = min(_MAX_CACHE_BYTES, shutil.disk_usage(folder).free // 2)
        return math.prod(shape) <= room

    def _each(
        self, function: Callable[[int], T], numbers: Sequence[int]
    ) -> Iterator[T]:
        """Results in order; large files in threads, of which only a block is held."""
        sample = list(numbers[:_BLOCK])
        mean = sum(map(self.files.size_bytes, sample)) / max(1, len(sample))
        if mean < _SMALL_FILE_BYTES:
            # Small files spend their time in Python, where threads only take turns.
            yield from map(function, numbers)
            return
        with ThreadPoolExecutor(num_threads()) as pool:
            for start in range(0, len(numbers), _BLOCK):
                yield from pool.map(function, numbers[start : start + _BLOCK])


class ImageDataset(Dataset):
    """Some of the pictures of one place, with their targets.

    Memory holds one batch, however many pictures there are.
    """

    def __init__(
        self, pictures: Pictures, numbers: Array, targets: Array, **facts: Unpack[Facts]
    ) -> None:
        names = pictures.files.names
        facts["sources"] = [names[number] for number in numbers.tolist()]
        facts["picture_sizes"] = pictures.picture_sizes
        super().__init__((*pictures.size, pictures.channels), targets, **facts)
        self._pictures = pictures
        self._numbers = numbers

    @property
    def is_array(self) -> bool:
        return self._pictures.is_decoded

    def read(self, indices: Array) -> Array:
        return self._pictures.read(self._numbers[indices])


def _cached(findings: Path, pixels: Path, shape: tuple[int, ...]) -> Any:
    """What an earlier first pass wrote, or None where it is not there whole."""
    try:
        found = json.loads(findings.read_text())
        is_whole = not found["has_pixels"] or pixels.stat().st_size == math.prod(shape)
    except (OSError, ValueError):
        return None
    return found if is_whole else None


def _form(
    files: PictureFiles, size: tuple[int, int] | None, channels: int | None
) -> tuple[tuple[int, int], int]:
    """The size and channels to bring pictures to: what they have, if they agree."""
    if size is not None and channels is not None:
        return size, channels
    found = set()
    step = -(-len(files) // _SURVEYED)
    for number in range(0, len(files), step):
        try:
            found.add(measure(files.read(number), files.where(number)))
        except ChainruleError:
            continue  # the first pass lists it
    if size is None:
        sizes = {(height, width) for height, width, _ in found}
        size = sizes.pop() if len(sizes) == 1 else FALLBACK_SIZE
        if max(size) > _LARGEST_DEFAULT:
            size = FALLBACK_SIZE
    if channels is None:
        channels = 1 if found and all(is_grey for _, _, is_grey in found) else 3
    return size, channels
