"""Augmentation: pictures changed at random, the same way whenever they are seen again.

What happens to a picture depends on the seed, the epoch and the picture's index, never
on the batch it comes in. Amounts are in the pictures' own units: pixels and, for uint8,
levels from 0 to 255, where results are clipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.rng import philox_4x32, stream_key
from chainrule.errors import OptionError

__all__ = [
    "Brightness",
    "Chain",
    "Crop",
    "Cutout",
    "Flip",
    "Keys",
    "Noise",
    "Rotate",
    "Shift",
    "Transform",
    "parse",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Keys:
    """What the random numbers of each picture of a batch are a function of."""

    seed: int
    epoch: int
    indices: Array

    place: str = ""
    """In front of every name: whose numbers these are, ``1:`` for a chain's second."""

    def at(self, position: int | str) -> Keys:
        """Keys of another stream, for a step at this place of a chain."""
        return dataclasses.replace(self, place=f"{self.place}{position}:")

    def uniform(self, name: str, count: int) -> Array:
        """``count`` numbers in [0, 1) for each picture, float64 (n, count).

        Four words come from each Philox block, so ``count`` is at most 4.
        """
        counter = np.zeros((len(self.indices), 4), np.uint32)
        counter[:, 0] = self.indices & 0xFFFFFFFF
        counter[:, 1] = np.asarray(self.indices) >> 32
        counter[:, 2] = self.epoch
        words = philox_4x32(counter, self._key(name))
        return words[:, :count] * 2.0**-32

    def generators(self, name: str) -> Iterator[np.random.Generator]:
        """A generator for each picture, for as many numbers as it takes."""
        low, high = self._key(name)
        for index in np.asarray(self.indices).tolist():
            counter = [0, 0, self.epoch, index]
            bits = np.random.Philox(key=low | high << 32, counter=counter)
            yield np.random.Generator(bits)

    def normal(self, name: str, shape: tuple[int, ...]) -> Array:
        """Standard normal numbers for each picture, float32 (n, *shape)."""
        numbers = np.empty((len(self.indices), *shape), np.float32)
        for row, rng in zip(numbers, self.generators(name), strict=True):
            rng.standard_normal(out=row, dtype=np.float32)
        return numbers

    def _key(self, name: str) -> tuple[int, int]:
        return stream_key(self.seed, f"augment:{self.place}{name}")


class Transform(ABC):
    """A pure function of pictures (n, h, w, c) and their keys; dtype and shape stay."""

    @abstractmethod
    def __call__(self, inputs: Array, keys: Keys) -> Array:
        """The changed pictures; ``inputs`` are left alone."""


@dataclass(frozen=True)
class Chain(Transform):
    """Several transforms, one after the other.

    Two of one kind in a chain draw different numbers.
    """

    steps: tuple[Transform, ...]

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        for position, step in enumerate(self.steps):
            # Another stream for each place: two flips must not undo each other.
            inputs = step(inputs, keys.at(position))
        return inputs


@dataclass(frozen=True)
class Shift(Transform):
    """Move by up to ``pixels`` in each direction; border pixels are repeated."""

    pixels: int = 2

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        _, h, w, _ = inputs.shape
        rows = np.clip(np.arange(-self.pixels, h + self.pixels), 0, h - 1)
        columns = np.clip(np.arange(-self.pixels, w + self.pixels), 0, w - 1)
        padded = inputs.take(rows, axis=1).take(columns, axis=2)
        return _window(padded, self.pixels, keys.uniform("shift", 2))


@dataclass(frozen=True)
class Crop(Transform):
    """Pad with ``pixels`` of black on each side and cut out the old size at random.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, 4.2.
    """

    pixels: int = 4

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        n, h, w, c = inputs.shape
        p = self.pixels
        padded = np.zeros((n, h + 2 * p, w + 2 * p, c), inputs.dtype)
        padded[:, p : p + h, p : p + w] = inputs
        return _window(padded, p, keys.uniform("crop", 2))


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror left and right, every other time."""

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        is_flipped = keys.uniform("flip", 1)[:, 0] < 0.5
        out = inputs.copy()
        out[is_flipped] = inputs[is_flipped, :, ::-1]
        return out


@dataclass(frozen=True)
class Rotate(Transform):
    """Turn about the centre by up to ``degrees`` either way, interpolating linearly.

    What comes from outside repeats the nearest border pixel.
    """

    degrees: float = 10.0

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        _, h, w, _ = inputs.shape
        turn = 2 * keys.uniform("rotate", 1)[:, :, None] - 1
        angle = (turn * math.radians(self.degrees)).astype(np.float32)
        y = np.arange(h, dtype=np.float32)[None, :, None] - (h - 1) / 2
        x = np.arange(w, dtype=np.float32)[None, None, :] - (w - 1) / 2
        rows = np.cos(angle) * y - np.sin(angle) * x + (h - 1) / 2
        columns = np.sin(angle) * y + np.cos(angle) * x + (w - 1) / 2
        return _like(_bilinear(inputs, rows, columns), inputs)


@dataclass(frozen=True)
class Brightness(Transform):
    """Multiply every pixel by one factor from 1 - amount to 1 + amount."""

    amount: float = 0.2

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        factor = 1 + self.amount * (2 * keys.uniform("brightness", 1) - 1)
        scaled = inputs * factor.astype(np.float32)[:, :, None, None]
        return _like(scaled, inputs)


@dataclass(frozen=True)
class Noise(Transform):
    """Add to every value its own normal number of this standard deviation."""

    deviation: float = 8.0

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        noise = keys.normal("noise", inputs.shape[1:])
        return _like(inputs + self.deviation * noise, inputs)


@dataclass(frozen=True)
class Cutout(Transform):
    """Hide a square of this side, centred anywhere, under the picture's mean colour.

    Source: DeVries & Taylor, "Improved regularization of convolutional neural networks
    with cutout", 2017. The paper puts 0 after the mean is subtracted; before that, the
    mean is the same colour.
    """

    pixels: int = 8

    def __call__(self, inputs: Array, keys: Keys) -> Array:
        n, h, w, c = inputs.shape
        chosen = keys.uniform("cutout", 2)
        corners = (chosen * (h, w)).astype(np.int64) - self.pixels // 2
        mean = inputs.reshape(n, h * w, c).mean(axis=1, dtype=np.float32)
        out = inputs.copy()
        fill = _like(mean, inputs)
        for picture, colour, (top, left) in zip(
            out, fill, corners.tolist(), strict=True
        ):
            bottom, right = max(0, top + self.pixels), max(0, left + self.pixels)
            picture[max(0, top) : bottom, max(0, left) : right] = colour
        return out


def _window(padded: Array, pixels: int, chosen: Array) -> Array:
    """The size without padding cut out of the pictures, each at its own place."""
    n, h, w, c = padded.shape
    h, w = h - 2 * pixels, w - 2 * pixels
    corners = (chosen * (2 * pixels + 1)).astype(np.int64).tolist()
    out = np.empty((n, h, w, c), padded.dtype)
    for i, (top, left) in enumerate(corners):
        out[i] = padded[i, top : top + h, left : left + w]
    return out


def _bilinear(inputs: Array, rows: Array, columns: Array) -> Array:
    """Values between pixels: (n, h, w, c) read at float (n, h, w) places."""
    n, h, w, c = inputs.shape
    rows, columns = np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    # Pixels are numbered through the batch: one index gathers faster than three.
    pixels = inputs.reshape(n * h * w, c).astype(np.float32)
    upper = (np.arange(n)[:, None, None] * h + top) * w
    lower = upper + np.where(top + 1 < h, w, 0)
    next_left = np.minimum(left + 1, w - 1)
    above, below = (
        _between(pixels.take(row + left, 0), pixels.take(row + next_left, 0), right)
        for row in (upper, lower)
    )
    return _between(above, below, down)


def _between(a: Array, b: Array, share: Array) -> Array:
    """From ``a`` (share 0) to ``b`` (share 1), in the memory of ``b``."""
    b -= a
    b *= share
    b += a
    return b


def _like(values: Array, inputs: Array) -> Array:
    """Floats back in the pictures' dtype; bytes are rounded and clipped."""
    if inputs.dtype != np.uint8:
        return values.astype(inputs.dtype, copy=False)
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)


_NAMED: dict[str, tuple[Callable[..., Transform], type[int] | type[float] | None]] = {
    "brightness": (Brightness, float),
    "crop": (Crop, int),
    "cutout": (Cutout, int),
    "flip": (Flip, None),
    "noise": (Noise, float),
    "rotate": (Rotate, float),
    "shift": (Shift, int),
}


def parse(text: str) -> Transform:
    """The augmentation that a text such as ``shift:2,flip,rotate:10`` names.

    Names: brightness (share), crop (pixels), cutout (pixels), flip, noise (standard
    deviation), rotate (degrees), shift (pixels). Without ``:amount`` each has its usual
    one.

    Raises: OptionError for an unknown name or an amount that is none.

    Example:
        >>> parse("shift:1,flip")
        Chain(steps=(Shift(pixels=1), Flip()))
    """
    steps = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, colon, amount = (p.strip() for p in part.partition(":"))
        if name not in _NAMED:
            raise OptionError.unknown("augmentation", name, _NAMED)
        make, number = _NAMED[name]
        steps.append(make(_amount(part, amount, number)) if colon else make())
    if not steps:
        raise OptionError(
            "augment: nothing is named",
            got=repr(text),
            expected="names joined by commas, such as shift:2,flip",
        )
    return Chain(tuple(steps))


def _amount(part: str, amount: str, number: type[int] | type[float] | None) -> float:
    value = -1.0
    if number is not None:
        with contextlib.suppress(ValueError):
            value = number(amount)
    if not 0 <= value < math.inf:
        kind = {None: "no amount", int: "a whole number of pixels", float: "a number"}
        raise OptionError(
            f"augment: {part!r} has an amount that does not fit",
            got=repr(amount),
            expected=f"{kind[number]}{'' if number is None else ' from 0'}",
        )
    return value
