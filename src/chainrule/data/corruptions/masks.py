"""Masks: parts of pictures that are lost, all channels of a pixel together.

The forward model is y = (1 - m)·x with a mask m that is known: 1 where a pixel is lost.
Restoring is inpainting: what was there has to be guessed from what is around it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.corruptions.corruption import Corruption, Damaged, check_range
from chainrule.data.transforms import Keys
from chainrule.errors import ShapeError

__all__ = ["Box", "Boxes", "Half", "Mask", "Pixels", "Strokes", "Text"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Mask(Corruption):
    """y = (1 - m)·x: pixels are lost, and it is known which."""

    name = "mask"
    equation = "y = (1 - m)·x"
    baselines = ("mean_fill", "biharmonic")

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        lost = self.lost(pictures.shape[:3], keys)[..., None]
        return Damaged(np.where(lost, np.float32(0), pictures), lost)

    @abstractmethod
    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        """bool (n, h, w), True where a pixel is lost."""


@dataclass(frozen=True)
class Box(Mask):
    """A square of this side in the middle.

    Raises:
        ShapeError: for pictures in which it does not leave a pixel.

    Example:
        >>> keys = Keys(seed=0, epoch=0, indices=np.arange(1))
        >>> damaged = Box(10)(np.ones((1, 28, 28, 1), np.float32), keys)
        >>> np.argwhere(damaged.lost[0, :, 9, 0]).ravel().tolist()
        [9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
    """

    kind = "box"

    side: int = 10

    def __post_init__(self) -> None:
        check_range(self, "side", 1)

    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        top, left = ((size - self.side) // 2 for size in _sizes(self, shape, self.side))
        lost = np.zeros(shape, bool)
        lost[:, top : top + self.side, left : left + self.side] = True
        return lost


@dataclass(frozen=True)
class Boxes(Mask):
    """A square of this side anywhere inside, elsewhere in each picture.

    Raises:
        ShapeError: for pictures in which it does not leave a pixel.
    """

    kind = "boxes"

    side: int = 10

    def __post_init__(self) -> None:
        check_range(self, "side", 1)

    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        free = np.array([s - self.side + 1 for s in _sizes(self, shape, self.side)])
        corners = (keys.uniform("boxes", 2) * free).astype(np.int64)
        lost = np.zeros(shape, bool)
        for mask, (top, left) in zip(lost, corners.tolist(), strict=True):
            mask[top : top + self.side, left : left + self.side] = True
        return lost


@dataclass(frozen=True)
class Half(Mask):
    """The left, right, upper or lower half, which one is drawn for each picture."""

    kind = "half"

    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        _, h, w = _sized(shape)
        lost = np.zeros(shape, bool)
        chosen = (4 * keys.uniform("half", 1)[:, 0]).astype(np.int64)
        for mask, side in zip(lost, chosen.tolist(), strict=True):
            halves = (
                mask[:, : w // 2], mask[:, w - w // 2 :],
                mask[: h // 2], mask[h - h // 2 :],
            )  # fmt: skip
            halves[side][...] = True
        return lost


@dataclass(frozen=True)
class Pixels(Mask):
    """Every pixel by itself with this probability."""

    kind = "pixels"

    share: float = 0.5

    def __post_init__(self) -> None:
        check_range(self, "share", 0, 1)

    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        lost = np.empty(shape, bool)
        for mask, rng in zip(lost, keys.generators("pixels"), strict=True):
            mask[...] = rng.random(mask.shape, np.float32) < self.share
        return lost


@dataclass(frozen=True)
class Strokes(Mask):
    """This many bent strokes from anywhere to anywhere, as scratches are.

    A stroke is a quadratic Bézier curve, 2 to 5 pixels wide in pictures of any size, so
    that what is learned from patches holds for whole pictures.
    """

    kind = "strokes"

    count: int = 5

    def __post_init__(self) -> None:
        check_range(self, "count", 1, 10_000)

    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        from PIL import Image, ImageDraw  # heavy, and only pictures need it

        _, h, w = _sized(shape)
        t = np.linspace(0, 1, 33)[:, None]
        lost = np.empty(shape, bool)
        for mask, rng in zip(lost, keys.generators("strokes"), strict=True):
            image = Image.new("1", (w, h))
            draw = ImageDraw.Draw(image)
            for _ in range(self.count):
                a, b, c = rng.random((3, 2)) * (w - 1, h - 1)
                width = int(rng.integers(2, 6))
                curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
                draw.line(list(map(tuple, curve)), fill=1, width=width, joint="curve")
            mask[...] = np.asarray(image)
        return lost


_WORDS = ("words", "over", "a", "picture", "hide", "some", "of", "what", "it", "shows")


@dataclass(frozen=True)
class Text(Mask):
    """Lines of words written across the picture, in letters of this height in pixels.

    Pillow's own font is used, as every machine has it; words and the place of the lines
    are drawn for each picture.
    """

    kind = "text"

    height: int = 12

    def __post_init__(self) -> None:
        check_range(self, "height", 4, 1000)

    def lost(self, shape: tuple[int, ...], keys: Keys) -> Array:
        from PIL import Image, ImageDraw, ImageFont  # heavy, and only pictures need it

        _, h, w = _sized(shape)
        font = ImageFont.load_default(self.height)
        lost = np.empty(shape, bool)
        for mask, rng in zip(lost, keys.generators("text"), strict=True):
            image = Image.new("L", (w, h))
            draw = ImageDraw.Draw(image)
            # A letter is about half as wide as high: enough words to cross the picture.
            count = 2 + 2 * w // self.height
            for top in range(
                int(rng.integers(-self.height, self.height)), h, 2 * self.height
            ):
                words = " ".join(rng.choice(_WORDS, count))
                left = -int(rng.integers(0, 2 * self.height))
                draw.text((left, top), words, fill=255, font=font)
            mask[...] = np.asarray(image) > 64
        return lost


def _sized(shape: tuple[int, ...]) -> tuple[int, int, int]:
    n, h, w = shape
    return n, h, w


def _sizes(mask: Mask, shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width; raises ShapeError unless a square of the side leaves a rest."""
    _, h, w = _sized(shape)
    if side > min(h, w) or side == h == w:
        raise ShapeError(
            f"{mask}: the square leaves nothing of the picture",
            got=f"a picture of {w}×{h}",
            expected=f"sides of more than {side} pixels",
            hint=f"mask:{mask.kind}:{max(1, min(h, w) // 2)}",
        )
    return h, w
