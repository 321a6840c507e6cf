"""Pictures that keep their sizes: decoded once into one map on the disk.

For patches and for whole pictures, where class folders bring all to one size. A patch
then costs the pages of the map that it lies on, however large its picture is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np

from chainrule.data.dataset import Array, Dataset, Facts
from chainrule.data.files import PictureFiles, open_files
from chainrule.data.folders import PARTS, groups_of
from chainrule.data.images import FALLBACK_SIZE, UNREADABLE, ImageDataset, Pictures
from chainrule.data.pictures import bombs_are_errors, decode, form_picture, measure
from chainrule.data.places import cache_folder, write_whole
from chainrule.errors import ChainruleError, DataError, OptionError, counted

__all__ = ["PhotoDataset", "Photos", "read_photos"]

_VERSION = 1


class Photos:
    """All picture files of one place in their own sizes, all grey or all colour.

    Making it reads every file once, or learns from the cache what that showed.

    Raises: OptionError for ``unreadable`` outside list, skip, error; DataError for a
    file that cannot be read where that is an error, and where none can, or where the
    pixels do not fit on the disk.
    """

    form: ClassVar[str] = "own sizes"
    """What the map in the cache holds; part of its name."""

    def __init__(
        self,
        files: PictureFiles,
        *,
        channels: int | None = None,
        unreadable: str = "list",
    ) -> None:
        if unreadable not in UNREADABLE:
            raise OptionError.unknown("choice for unreadable", unreadable, UNREADABLE)
        self.files = files
        found = self._found(channels)
        self.channels: int = found["channels"]
        self.shapes: list[tuple[int, int, int]] = [
            (height, width, self.channels) for height, width in found["sizes"]
        ]
        self.problems: list[str] = [] if unreadable == "skip" else found["problems"]
        self.is_good = np.array([height > 0 for height, _ in found["sizes"]], bool)
        ends = np.cumsum([height * width for height, width in found["sizes"]])
        self._ends = ends * self.channels
        if found["problems"] and (unreadable == "error" or not self.is_good.any()):
            raise DataError(
                f"{files.place}: {len(found['problems'])} of {len(files)} pictures "
                "cannot be read",
                got="\n".join(found["problems"][:5]),
                expected="picture files that are whole",
                hint='unreadable="list" leaves them out' if any(self.is_good) else None,
            )

    @property
    def picture_sizes(self) -> dict[str, int]:
        """How many pictures have each size, the most frequent first."""
        counts = Counter(f"{w}×{h}" for h, w, _ in self.shapes if h)
        return dict(counts.most_common())

    def picture(self, number: int) -> Array:
        """The pixels of one file, uint8 (h, w, c), as a view of the map."""
        shape = self.shapes[number]
        end = int(self._ends[number])
        flat: Array = self._pixels[end - int(np.prod(shape)) : end]
        return flat.reshape(shape)

    def measured(self, content: bytes, where: str) -> tuple[int, int, bool]:
        """Height and width of a file's picture, and whether it is grey."""
        return measure(content, where)

    def decoded(
        self, content: bytes, where: str, size: tuple[int, int], channels: int
    ) -> Array:
        """The pixels of a file, uint8 (*size, channels)."""
        return decode(content, where, size, channels)[0]

    def _found(self, channels: int | None) -> Any:
        """What the first pass found; the map of pixels lies beside it."""
        key = f"{_VERSION}:{self.files.key}:{self.form}:{channels}"
        name = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
        folder = cache_folder() / "pictures"
        findings, pixels = folder / f"{name}.json", folder / f"{name}.pixels"
        found = _cached(findings, pixels)
        if found is None:
            self._first_pass(findings, pixels, channels)
            found = json.loads(findings.read_text())
        size_bytes = pixels.stat().st_size
        empty: Array = np.empty(0, np.uint8)  # what cannot be mapped
        mapped = np.memmap(pixels, np.uint8, "r") if size_bytes else empty
        self._pixels = mapped.view(np.ndarray)
        return found

    def _first_pass(self, findings: Path, pixels: Path, channels: int | None) -> None:
        sizes, problems, is_grey = [], [], []
        contents = range(len(self.files))
        with bombs_are_errors():
            for number in contents:
                try:
                    *size, grey = self.measured(
                        self.files.read(number), self.files.where(number)
                    )
                    sizes.append(size)
                    is_grey.append(grey)
                except ChainruleError as error:
                    problems.append(f"{error.what}: {error.got}")
                    sizes.append([0, 0])
            channels = channels or (1 if is_grey and all(is_grey) else 3)
            self._check_room(channels * sum(h * w for h, w in sizes))
            with write_whole(pixels) as file:
                for number, (height, width) in enumerate(sizes):
                    if not height:
                        continue
                    content, where = self.files.read(number), self.files.where(number)
                    try:
                        found = self.decoded(content, where, (height, width), channels)
                    except ChainruleError as error:
                        problems.append(f"{error.what}: {error.got}")
                        sizes[number] = [0, 0]
                        continue
                    file.write(found.tobytes())
        # Written last: where the findings are, the pixels are whole.
        with write_whole(findings) as file:
            told = {"channels": channels, "sizes": sizes, "problems": problems}
            file.write(json.dumps(told).encode())

    def _check_room(self, size_bytes: int) -> None:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(folder).free // 2
        if size_bytes > room:
            raise DataError(
                f"{self.files.place}: the pictures' pixels do not fit on the disk",
                got=f"{size_bytes:,} bytes",
                expected=f"at most {room:,} bytes, half of what is free",
                hint="fewer pictures, or CHAINRULE_CACHE_DIR on another disk",
            )


class PhotoDataset(Dataset):
    """Some of the pictures of one place, without targets, in their own sizes.

    ``read`` gives small versions of one size, by which near-duplicates are found.
    """

    def __init__(self, photos: Photos, numbers: Array, **facts: Unpack[Facts]) -> None:
        names = photos.files.names
        facts["sources"] = [names[number] for number in numbers.tolist()]
        facts["picture_sizes"] = photos.picture_sizes
        targets = np.zeros((len(numbers), 0), np.float32)
        super().__init__((*FALLBACK_SIZE, photos.channels), targets, **facts)
        self._photos = photos
        self._numbers = numbers

    @property
    def has_one_size(self) -> bool:
        return False

    def picture_shape(self, index: int) -> tuple[int, ...]:
        return self._photos.shapes[int(self._numbers[index])]

    def picture(self, index: int) -> Array:
        return self._photos.picture(int(self._numbers[index]))

    def read(self, indices: Array) -> Array:
        channels = self._photos.channels
        rows = [
            form_picture(self.picture(i), FALLBACK_SIZE, channels)
            for i in np.asarray(indices).tolist()
        ]
        return np.stack(rows) if rows else np.empty((0, *self.example_shape), np.uint8)


def read_photos(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    unreadable: str = "list",
    group_by: str | None = None,
) -> dict[str, Dataset]:
    """The parts of a folder or archive of pictures, whatever folders they lie in.

    Pictures keep their sizes unless ``size`` is given. Those below ``train/``,
    ``test/`` and ``validation/`` are that split; where there is no ``train/``, all are
    the part "train". ``group_by`` is a regular expression, as for class folders.

    Raises: DataError where ``open_files`` and ``Photos`` refuse, and for a training
    part without a picture that can be read.
    """
    files = open_files(path)
    photos: Photos | Pictures
    if size is None:
        photos = Photos(files, channels=channels, unreadable=unreadable)
    else:
        photos = Pictures(files, size=size, channels=channels, unreadable=unreadable)
    groups = None if group_by is None else groups_of(files, group_by)
    rows, strays = _parts(files.names)
    problems = photos.problems + ([] if unreadable == "skip" else strays)
    parts: dict[str, Dataset] = {}
    for part, members in rows.items():
        numbers = np.array([n for n in members if photos.is_good[n]], np.int64)
        facts = Facts(
            name=path.name,
            problems=problems,
            groups=None if groups is None else groups[numbers],
        )
        if isinstance(photos, Photos):
            parts[part] = PhotoDataset(photos, numbers, **facts)
        else:
            nothing = np.zeros((len(numbers), 0), np.float32)
            parts[part] = ImageDataset(photos, numbers, nothing, **facts)
    if not len(parts["train"]):
        raise DataError(
            f"{str(path)!r}: no picture to train on",
            got=f"{counted(len(files), 'file')}, none of which can be read in train/",
            expected="at least one picture",
        )
    return parts


def _parts(names: list[str]) -> tuple[dict[str, list[int]], list[str]]:
    """The numbers of the pictures of each part, and what is said of those of none."""
    places = [name.split("/") for name in names]
    # A folder around everything, as archives have it, says nothing.
    while min(map(len, places)) > 2 and len({place[0] for place in places}) == 1:
        if places[0][0].lower() in PARTS:
            break
        places = [place[1:] for place in places]
    part_of = [PARTS.get(place[0].lower(), "") for place in places]
    if "train" not in part_of:
        return {"train": list(range(len(names)))}, []
    rows: dict[str, list[int]] = {}
    strays = []
    for number, part in enumerate(part_of):
        if part:
            rows.setdefault(part, []).append(number)
        else:
            strays.append(f"{names[number]}: in none of the parts, left out")
    return rows, strays


def _cached(findings: Path, pixels: Path) -> Any:
    """What an earlier first pass wrote, or None where it is not there whole."""
    try:
        found = json.loads(findings.read_text())
        count = sum(height * width for height, width in found["sizes"])
        is_whole = pixels.stat().st_size == found["channels"] * count
    except (OSError, ValueError, KeyError):
        return None
    return found if is_whole else None
