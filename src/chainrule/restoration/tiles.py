"""Pictures of any size through a network, a tile at a time, without seams.

A network that looks ``before`` and ``after`` pixels around each output gives the middle
of a tile the values that it would have in the whole picture, if the tile lies on the
network's grid (a multiple of its strides). So tiles overlap by before + after, each
gives its middle, and tiled and whole results are the same. They do not depend on how
the picture is cut.

A network that looks at everything it is given, as dense layers do, has no such middle.
Its tiles overlap by half and are blended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from chainrule.errors import OptionError, ShapeError
from chainrule.nn.receptive_field import ReceptiveField

__all__ = ["restore_in_tiles"]

Array = np.ndarray[Any, Any]

_USUAL_SIDE = 512


def restore_in_tiles(
    forward: Callable[[Array], Array],
    picture: Array,
    receptive_field: ReceptiveField,
    *,
    tile: int | Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """What a network makes of a whole picture, given to it in tiles of one size.

    Where the receptive field is local, the result is the one of the whole picture at
    once, to rounding. All tiles have the same size, so that a compiled network is
    compiled once; those at the end lie further inside. Elsewhere tiles overlap by half,
    and each counts most in its middle: by sin²(π·(i + 1/2) / size) at its place i.

    Memory, beyond picture and result: what ``forward`` takes for one tile. With the
    maps of a network in float32 that is 4·(tile height)·(tile width)·(channels that
    live at a time) bytes, whatever the size of the picture.

    Args:
        forward: from one tile to its restoration, both with a batch axis of size 1.
        picture: with all channels that the network is given.
        receptive_field: the network's, see ``nn.receptive_field``.
        tile: height and width of a tile at most, one number or two; for a network that
            is not local, the size that it is for. By default four times the overlap,
            but no less than 512 pixels.
        progress: called after each tile with the number of tiles done and of all.

    Shapes: (h, w, c) -> float32 (h, w, outputs).

    Raises:
        OptionError: for tiles without a middle, for a network without a tile's size,
            and for one whose output is of another size than its input.
        ShapeError: for what is no picture.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> net = nn.encoder_decoder((28, 28, 1), 1).eval()
        >>> field = nn.receptive_field(net, (28, 28, 1))
        >>> picture = np.random.default_rng(0).random((90, 70, 1), np.float32)
        >>> forward = lambda x: net(cr.Tensor(x)).numpy()
        >>> tiled = restore_in_tiles(forward, picture, field, tile=48)
        >>> bool(np.abs(tiled - forward(picture[None])[0]).max() < 1e-5)
        True
    """
    if picture.ndim != 3 or not picture.size:
        raise ShapeError(
            "restore_in_tiles: not a picture",
            got=f"{picture.dtype.name}{list(picture.shape)}",
            expected="(height, width, channels)",
        )
    if not receptive_field.is_local:
        return _blended(forward, picture, _given(tile, receptive_field), progress)
    if any(stride != 1 for stride in receptive_field.stride):
        raise OptionError(
            "restore_in_tiles: the network puts out another size",
            got=f"an output for every {receptive_field.stride} input pixels",
            expected="an output for every pixel",
        )
    rows, columns = (
        _cuts(size, axis, receptive_field, tile)
        for axis, size in enumerate(picture.shape[:2])
    )
    result: Array | None = None
    places = [(row, column) for row in rows for column in columns]
    for number, ((y, top, bottom), (x, left, right)) in enumerate(places, start=1):
        height, width = rows.side, columns.side
        restored = forward(picture[None, y : y + height, x : x + width])[0]
        if result is None:
            shape = (*picture.shape[:2], restored.shape[-1])
            result = np.empty(shape, np.float32)
        result[top:bottom, left:right] = restored[
            top - y : bottom - y, left - x : right - x
        ]
        if progress is not None:
            progress(number, len(places))
    assert result is not None  # a picture with pixels has a tile
    return result


class _Cuts:
    """Tiles along one axis: (where it begins, what of the picture it gives)."""

    def __init__(self, side: int, starts: Sequence[int], ends: Sequence[int]) -> None:
        self.side = side
        self.starts = starts
        self.ends = ends
        """Where the parts begin that the tiles give, and where the last one ends."""

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for start, (first, stop) in zip(self.starts, pairwise(self.ends), strict=True):
            yield start, first, stop


def _cuts(
    size: int, axis: int, field: ReceptiveField, tile: int | Sequence[int] | None
) -> _Cuts:
    before, after = field.before[axis], field.after[axis]
    multiple = field.multiple[axis]
    if tile is None:
        limit = max(_USUAL_SIDE, 4 * (before + after)) + multiple
    else:
        limit = _sides(tile)[axis]
    if size <= limit:
        return _Cuts(size, [0], [0, size])
    # Tiles begin on the network's grid, and the last one ends with the picture.
    side = limit - (limit - size) % multiple
    around = before + after
    if side - around < multiple:
        raise OptionError(
            "restore_in_tiles: the tiles have no middle",
            got=f"tile={tile}, a picture of {size}",
            expected=f"at least {before} + {after} pixels around the middle, "
            f"and {2 * multiple - 1} for it",
        )
    count = 1 + math.ceil((size - side) / _step(side, around, multiple))
    while (count - 1) * _step(side - multiple, around, multiple) >= (
        size - side + multiple
    ):
        side -= multiple  # as many tiles, but none larger than they need to be
    starts = [*range(0, size - side, _step(side, around, multiple)), size - side]
    return _Cuts(side, starts, [0, *(s + before for s in starts[1:]), size])


def _step(side: int, around: int, multiple: int) -> int:
    """How far on the next tile of this size may begin: the middle, on the grid."""
    return (side - around) // multiple * multiple


def _sides(tile: int | Sequence[int]) -> tuple[int, int]:
    sides = (tile, tile) if isinstance(tile, int) else tuple(tile)
    if len(sides) != 2 or min(sides) < 1:
        raise OptionError(
            "restore_in_tiles: not the size of a tile",
            got=f"tile={tile}",
            expected="pixels, one number or (height, width)",
        )
    return sides


def _given(tile: int | Sequence[int] | None, field: ReceptiveField) -> tuple[int, int]:
    if tile is None:
        raise OptionError(
            "restore_in_tiles: the network looks at the whole picture",
            got=f"no size of tiles; {field.obstacle}",
            expected="the size of picture that the network is for",
            hint="tile=(28, 28)",
        )
    return _sides(tile)


def _blended(
    forward: Callable[[Array], Array],
    picture: Array,
    sides: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> Array:
    height, width = picture.shape[:2]
    missing = [max(0, t - h) for t, h in zip(sides, (height, width), strict=True)]
    if any(missing):
        picture = np.pad(picture, (*((0, m) for m in missing), (0, 0)), mode="edge")
    axes = [
        (_half_steps(size, side), np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2)
        for size, side in zip(picture.shape, sides, strict=False)
    ]
    (rows, by_row), (columns, by_column) = axes
    weight = (by_row[:, None] * by_column)[..., None].astype(np.float32)
    total: Array | None = None
    for number, (y, x) in enumerate(((y, x) for y in rows for x in columns), start=1):
        part = (slice(y, y + sides[0]), slice(x, x + sides[1]))
        restored = forward(picture[None, *part])[0]
        if total is None:
            shape = (*picture.shape[:2], restored.shape[-1])
            total = np.zeros(shape, np.float32)
        total[part] += weight * restored
        if progress is not None:
            progress(number, len(rows) * len(columns))
    assert total is not None  # a picture with pixels has a tile
    for axis, (starts, weights) in enumerate(axes):
        # A tile's weight is a product over the axes, and so is the sum of all weights.
        sums = np.zeros(total.shape[axis], np.float32)
        for start in starts:
            sums[start : start + len(weights)] += weights
        total /= sums[:, None, None] if axis == 0 else sums[:, None]
    return total[:height, :width]


def _half_steps(size: int, side: int) -> list[int]:
    """Where tiles begin that overlap by half or more and cover an axis evenly."""
    count = 1 + math.ceil((size - side) / max(1, side // 2))
    return [round(i * (size - side) / max(1, count - 1)) for i in range(count)]
