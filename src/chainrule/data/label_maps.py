"""Pairs of pictures and label maps: a class for every pixel, to learn segmentation.

A label map is a PNG (or another format that loses nothing) whose pixels are numbers of
classes, as grey levels or as places in a palette; 255 stands for pixels that do not
count. The picture of ``labels/a/b.png`` is ``images/a/b`` with whatever ending.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from chainrule.data.dataset import Array, Dataset, Facts
from chainrule.data.files import PictureFiles, SomeFiles, open_files
from chainrule.data.folders import PARTS, groups_of
from chainrule.data.patches import Patches, with_room
from chainrule.data.photos import PhotoDataset, Photos
from chainrule.data.pictures import measure, opened, orientation_of
from chainrule.data.targets import IGNORED, presence
from chainrule.data.transforms import (
    Brightness,
    Chain,
    Flip,
    Keys,
    Noise,
    Shift,
    Transform,
)
from chainrule.errors import DataError, OptionError, counted

__all__ = ["LabelledPictures", "read_label_map", "read_labelled", "write_label_map"]

CLASS_NAMES_FILE = "classes.txt"
_FOLDERS = ("images", "labels")
_SHOWN = 5  # names in a message
_MOVING = (Flip, Shift)
_RECOLOURING = (Brightness, Noise)


# ------------------------------------------------------------------------ label maps


def read_label_map(content: bytes, where: str) -> Array:
    """The class of every pixel, uint8 (h, w), from a file's bytes.

    Raises:
        DataError: for what is no picture, for colours without a palette, for numbers
            above 255, and for a format that changes numbers.
    """
    from PIL import ImageOps  # heavy, and only pictures need it

    with opened(content, where) as image:
        if image.format in ("JPEG", "MPO"):
            raise _no_map(where, "a JPEG, which changes numbers", "a PNG")
        upright = image
        if orientation_of(image) != 1:
            upright = ImageOps.exif_transpose(image)
        if upright.mode not in ("1", "L", "P") and not upright.mode.startswith("I"):
            raise _no_map(
                where,
                f"pixels of the form {upright.mode}",
                "grey levels, or places in a palette, that number the classes",
            )
        numbers = np.asarray(upright)
    if numbers.min() < 0 or numbers.max() > IGNORED:
        raise _no_map(
            where,
            f"numbers from {numbers.min()} to {numbers.max()}",
            f"classes from 0 to {IGNORED - 1}, and {IGNORED} for what does not count",
        )
    return numbers.astype(np.uint8)


def _no_map(where: str, got: str, expected: str) -> DataError:
    return DataError(f"{where}: no label map", got=got, expected=expected)


def write_label_map(path: Path, classes: Array) -> None:
    """Write classes (h, w) as a PNG with a palette, in which they are told apart.

    Raises: FileError if it cannot be written.
    """
    from PIL import Image  # 30 ms, and only pictures need it

    from chainrule.files import write_atomically

    image = Image.fromarray(classes.astype(np.uint8), "P")
    image.putpalette(class_colours(IGNORED + 1).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def class_colours(count: int) -> Array:
    """A colour for each class, uint8 (count, 3); the first is black.

    Bits of a class's number, the lowest first, become the highest bits of red, green
    and blue in turn, so that classes nearby are far from each other.

    Example:
        >>> class_colours(4).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]

    Source: the colours of Everingham et al., "The Pascal visual object classes
    challenge", 2010, development kit.
    """
    numbers = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = numbers >> (3 * place + channel) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


class LabelMaps(Photos):
    """The label maps of one place in their own sizes, decoded once."""

    form = "label maps"

    def measured(self, content: bytes, where: str) -> tuple[int, int, bool]:
        return (*measure(content, where)[:2], True)

    def decoded(
        self, content: bytes, where: str, size: tuple[int, int], channels: int
    ) -> Array:
        return read_label_map(content, where)


# --------------------------------------------------------------------------- folders


class LabelledPhotos(PhotoDataset):
    """Some of the pictures of one place, in their own sizes, with their label maps.

    Where all of the place have one size, ``read`` gives them as they are.
    """

    def __init__(
        self,
        photos: Photos,
        maps: LabelMaps,
        numbers: Array,
        map_numbers: Array,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(photos, numbers, **facts)
        self._maps = maps
        self._map_numbers = map_numbers
        self.targets, self.class_names = presence(
            [self.label_map(i) for i in range(len(numbers))],
            facts.get("class_names"),
            self.name,
        )

        # Of all parts: those of one split have to have one shape of examples.
        shapes = {shape for shape in photos.shapes if shape[0]}
        self._has_one_size = len(shapes) == 1
        if self._has_one_size:
            (self.example_shape,) = shapes

    @property
    def has_one_size(self) -> bool:
        return self._has_one_size

    def read(self, indices: Array) -> Array:
        if not self._has_one_size:
            return super().read(indices)
        rows = [self.picture(i) for i in np.asarray(indices).tolist()]
        return np.stack(rows) if rows else np.empty((0, *self.example_shape), np.uint8)

    @property
    def has_label_maps(self) -> bool:
        return True

    def label_map(self, index: int) -> Array:
        return self._maps.picture(int(self._map_numbers[index]))[..., 0]


def read_labelled(
    path: Path,
    *,
    channels: int | None = None,
    unreadable: str = "list",
    group_by: str | None = None,
) -> dict[str, Dataset]:
    """The parts of a folder or archive of pictures and their label maps.

    Pictures lie below ``images/`` and label maps below ``labels/``, with equal names
    but for their endings; either may be inside ``train/``, ``test/`` and
    ``validation/``, or hold them. In a folder, ``classes.txt`` names the classes, one
    in each line; otherwise they are numbers.

    Raises: DataError for a picture without a label map and the reverse, for pairs of
    different sizes, for a class without a name, and where ``open_files`` refuses.
    """
    files = open_files(path)
    pairs = _pairs(files)
    pictures, label_maps = zip(*pairs.values(), strict=True)
    photos = Photos(
        SomeFiles(files, pictures), channels=channels, unreadable=unreadable
    )
    maps = LabelMaps(SomeFiles(files, label_maps), channels=1, unreadable=unreadable)
    # Files are sorted with their endings, so a pair may have two numbers.
    numbers = np.stack([_numbers(photos, pictures), _numbers(maps, label_maps)], axis=1)
    groups = None if group_by is None else groups_of(photos.files, group_by)
    members: dict[str, list[int]] = {}
    for row, key in enumerate(pairs):
        picture, label_map = numbers[row].tolist()
        if photos.is_good[picture] and maps.is_good[label_map]:
            _check_sizes(photos, picture, maps, label_map)
            members.setdefault(_part(key), []).append(row)
    if "train" not in members:
        members = {"train": sorted(row for rows in members.values() for row in rows)}
    members.pop("", None)
    names = _class_names(path)
    parts: dict[str, Dataset] = {}
    for part in sorted(members, key=lambda part: part != "train"):
        own, own_maps = numbers[members[part]].reshape(-1, 2).T
        parts[part] = LabelledPhotos(
            photos,
            maps,
            own,
            own_maps,
            name=path.name,
            class_names=names,
            problems=photos.problems + maps.problems,
            groups=None if groups is None else groups[own],
        )
        names = parts["train"].class_names
    return parts


def _pairs(files: PictureFiles) -> dict[str, tuple[str, str]]:
    """The names of pictures and of their label maps, by what they share.

    Raises DataError where a partner is missing, or two files claim one place.
    """
    found: dict[str, dict[str, str]] = {kind: {} for kind in _FOLDERS}
    for name in files.names:
        *folders, file = name.split("/")
        kinds = [f.lower() for f in folders]
        kind = next((k for k in _FOLDERS if k in kinds), None)
        if kind is None:
            continue
        folders.pop(kinds.index(kind))
        key = "/".join((*folders, Path(file).stem))
        first = found[kind].setdefault(key, name)
        if first != name:
            raise DataError(
                f"{files.place}: two files for one place in {kind}/",
                got=f"{first} and {name}",
                expected="names that differ before their endings",
            )
    pictures, maps = (found[kind] for kind in _FOLDERS)
    if not pictures or not maps:
        raise DataError(
            f"{files.place}: no pairs of pictures and label maps",
            got=f"{counted(len(pictures), 'picture')} in images/, "
            f"{counted(len(maps), 'label map')} in labels/",
            expected="folders images/ and labels/ with equal names inside",
        )
    for kind, own, other in (
        ("images", pictures, maps),
        ("labels", maps, pictures),
    ):
        alone = sorted(set(own) - set(other))
        if alone:
            raise DataError(
                f"{files.place}: {counted(len(alone), 'file')} in {kind}/ without "
                "a partner",
                got=", ".join(alone[:_SHOWN]) + (", …" if alone[_SHOWN:] else ""),
                expected="in images/ and labels/ equal names, whatever their endings",
            )
    return {key: (pictures[key], maps[key]) for key in sorted(pictures)}


def _numbers(photos: Photos, names: Sequence[str]) -> Array:
    number_of = {name: number for number, name in enumerate(photos.files.names)}
    return np.array([number_of[name] for name in names], np.int64)


def _check_sizes(photos: Photos, picture: int, maps: LabelMaps, label_map: int) -> None:
    (h, w, _), (map_h, map_w, _) = photos.shapes[picture], maps.shapes[label_map]
    if (h, w) != (map_h, map_w):
        raise DataError(
            f"{maps.files.where(label_map)}: the label map has another size",
            got=f"{map_w}×{map_h}, the picture is {w}×{h}",
            expected="one class for every pixel",
        )


def _part(key: str) -> str:
    folders = key.lower().split("/")[:-1]
    return next((PARTS[f] for f in folders if f in PARTS), "")


def _class_names(path: Path) -> tuple[str, ...] | None:
    file = path / CLASS_NAMES_FILE
    if not path.is_dir() or not file.is_file():
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: not a list of names", got=error, expected="a name in each line"
        ) from None
    return tuple(line.strip() for line in lines if line.strip())


# -------------------------------------------------------------------------- examples


class LabelledPictures(Dataset):
    """Patches or whole pictures of another data set, with a class for every pixel.

    Unlike those for restoring, patches are neither turned nor mirrored: a 6 is no 9.

    Args:
        base: pictures with label maps.
        patch: the side of the patches; None for whole pictures of one size.
        augment: flips, shifts, brightness and noise; the first two move labels too.
        ignore_label: a number in label maps that does not count, beside 255.

    Shapes: inputs (n, h, w, c), targets uint8 (n, h, w), 255 where nothing counts.

    Raises:
        OptionError: for an augmentation that is none for label maps.
    """

    def __init__(
        self,
        base: Dataset,
        *,
        patch: int | None = None,
        augment: Transform | None = None,
        ignore_label: int = IGNORED,
    ) -> None:
        self.base = base
        self.steps = augment.steps if isinstance(augment, Chain) else ()
        self.ignore_label = ignore_label
        self.patches: Patches | None = None
        for step in self.steps:
            if not isinstance(step, (*_MOVING, *_RECOLOURING)):
                raise OptionError(
                    "option augment: it would leave pixels without a class",
                    got=type(step).__name__.lower(),
                    expected="flip, shift, brightness or noise",
                )
        if patch is not None:
            self.base = base = with_room(base, patch)
        height, width, channels = base.picture_shape(0)
        if patch is not None:
            sizes = [base.picture_shape(i) for i in range(len(base))]
            self.patches = Patches(sizes, patch)
            height = width = patch
        count = len(base) if self.patches is None else len(self.patches)
        super().__init__(
            (height, width, channels),
            np.zeros((count, 0), np.float32),
            name=base.name,
            class_names=base.class_names,
            sources=base.sources if self.patches is None else None,
            problems=base.problems,
        )

    def read(self, indices: Array) -> Array:
        return self.pairs(indices, Keys(0, 0, indices))[0]

    def pairs(self, indices: Array, keys: Keys) -> tuple[Array, Array]:
        pictures, maps = self._whole_or_patches(indices, keys)
        for position, step in enumerate(self.steps):
            here = keys.at(position)
            pictures = step(pictures, here)
            if isinstance(step, _MOVING):
                maps = step(maps[..., None], here)[..., 0]
        return pictures, self.counted(maps)

    def counted(self, maps: Array) -> Array:
        """Label maps with 255 for all that does not count."""
        if self.ignore_label == IGNORED:
            return maps
        return np.where(maps == self.ignore_label, np.uint8(IGNORED), maps)

    def whole(self, numbers: Sequence[int] | Array) -> tuple[Array, Array]:
        """Whole pictures of one size, and their label maps."""
        chosen: list[int] = np.asarray(numbers, np.int64).reshape(-1).tolist()
        pictures: list[Any] = [self.base.picture(i) for i in chosen]
        maps: list[Any] = [self.base.label_map(i) for i in chosen]
        return np.stack(pictures), self.counted(np.stack(maps))

    def _whole_or_patches(self, indices: Array, keys: Keys) -> tuple[Array, Array]:
        if self.patches is None:
            chosen = np.asarray(indices).tolist()
            maps = [self.base.label_map(i) for i in chosen]
            return self.base.read(np.asarray(indices)), np.stack(maps)
        pictures, maps = [], []
        for drawn in self.patches.at(keys):
            patch = drawn._replace(symmetry=0)
            pictures.append(patch.of(self.base.picture(patch.picture)))
            maps.append(patch.of(self.base.label_map(patch.picture)))
        return np.stack(pictures), np.stack(maps)
