"""Patches: small squares cut out of pictures of any size, so that a batch has one size.

An epoch shows about as many pixels as the pictures have, each patch somewhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chainrule.data.dataset import Array, Dataset
from chainrule.data.transforms import Keys
from chainrule.errors import DataError, counted

__all__ = ["Patch", "Patches", "with_room"]


class Patch(NamedTuple):
    """Where a patch lies: in which picture, from where on, how large and how turned."""

    picture: int
    top: int
    left: int
    side: int
    symmetry: int

    def of(self, picture: Array) -> Array:
        """The patch of a picture (h, w, ...), or of anything that lies over it."""
        end_row, end_column = self.top + self.side, self.left + self.side
        part = picture[self.top : end_row, self.left : end_column]
        turned = np.rot90(part, self.symmetry % 4)
        return turned[:, ::-1] if self.symmetry >= 4 else turned


def with_room(pictures: Dataset, side: int) -> Dataset:
    """The pictures that a patch of this side fits into; others count as problems.

    Raises: DataError where it fits into none.
    """
    shapes = [pictures.picture_shape(i)[:2] for i in range(len(pictures))]
    has_room = np.array([min(shape) >= side for shape in shapes], bool)
    if has_room.all():
        return pictures
    if not has_room.any():
        height, width = max(shapes, key=min)
        raise DataError(
            f"{pictures.name}: pictures that are smaller than a patch",
            got=f"{counted(len(shapes), 'picture')}, the largest of {width}×{height}",
            expected=f"at least {side}×{side} pixels",
            hint=f"a smaller patch: {min(height, width)}",
        )
    found = pictures.subset(np.flatnonzero(has_room))
    found.problems = [*found.problems]
    for i in np.flatnonzero(~has_room).tolist():
        height, width = shapes[i]
        name = pictures.sources[i] if pictures.sources else f"picture {i}"
        found.problems.append(f"{name}: smaller than a patch ({width}×{height})")
    return found


class Patches:
    """The patches of pictures of these sizes, by number.

    Args:
        sizes: height and width of each picture.
        side: of every patch.

    Raises:
        DataError: for a picture that is smaller than a patch.

    Example:
        >>> patches = Patches([(100, 60), (40, 40)], 32)
        >>> len(patches)
        8
        >>> (patch,) = patches.at(Keys(seed=0, epoch=1, indices=np.array([7])))
        >>> patch.picture, patch.of(np.zeros((40, 40, 3))).shape
        (1, (32, 32, 3))
    """

    def __init__(self, sizes: Sequence[tuple[int, ...]], side: int) -> None:
        self.side = side
        self._sizes = np.array([size[:2] for size in sizes], np.int64).reshape(-1, 2)
        is_small = (self._sizes < side).any(axis=1)
        if is_small.any():
            height, width = self._sizes[is_small.argmax()]
            raise DataError(
                "pictures that are smaller than a patch",
                got=f"{counted(int(is_small.sum()), 'picture')}, one of "
                f"{width}×{height}",
                expected=f"at least {side}×{side} pixels",
                hint=f"patch={self._sizes.min()}, or leave them out",
            )
        # So many that they would cover a picture, side by side.
        counts = np.rint(self._sizes.prod(axis=1) / side**2).astype(np.int64)
        self._picture_of = np.repeat(np.arange(len(counts)), np.maximum(1, counts))

    def __len__(self) -> int:
        return len(self._picture_of)

    def at(self, keys: Keys) -> list[Patch]:
        """The patches of the keys' indices, where the keys put them.

        A patch shows one of its square's eight symmetries: turned by quarters, or
        mirrored and turned.
        """
        numbers = self._picture_of[np.asarray(keys.indices)]
        drawn = keys.uniform("patch", 3)
        free = self._sizes[numbers] - self.side + 1
        corners = (drawn[:, :2] * free).astype(np.int64)
        symmetries = (8 * drawn[:, 2]).astype(np.int64)
        rows = zip(numbers.tolist(), corners.tolist(), symmetries.tolist(), strict=True)
        return [Patch(n, top, left, self.side, s) for n, (top, left), s in rows]
