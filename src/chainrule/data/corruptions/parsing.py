"""From a text such as ``noise:gaussian:25`` to the corruption that it names."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.corruptions.blur import (
    DefocusBlur,
    GaussianBlur,
    KernelBlur,
    MotionBlur,
)
from chainrule.data.corruptions.camera import Exposure, Mosaic, Raw
from chainrule.data.corruptions.corruption import Chain, Corruption
from chainrule.data.corruptions.masks import Box, Boxes, Half, Pixels, Strokes, Text
from chainrule.data.corruptions.noise import GaussianNoise, ImpulseNoise, PoissonNoise
from chainrule.data.corruptions.sampling import Downsample, Jpeg
from chainrule.data.pictures import decode, measure
from chainrule.errors import FileError, OptionError

__all__ = ["CORRUPTIONS", "parse_corruption", "parse_corruptions"]

CORRUPTIONS: dict[str, dict[str, type[Corruption]]] = {
    "mask": {
        "box": Box,
        "boxes": Boxes,
        "half": Half,
        "pixels": Pixels,
        "strokes": Strokes,
        "text": Text,
    },
    "noise": {
        "gaussian": GaussianNoise,
        "poisson": PoissonNoise,
        "impulse": ImpulseNoise,
    },
    "blur": {
        "gaussian": GaussianBlur,
        "motion": MotionBlur,
        "defocus": DefocusBlur,
        "kernel": KernelBlur,
    },
    "downsample": {"": Downsample},
    "jpeg": {"": Jpeg},
    "mosaic": {"bayer": Mosaic},
    "exposure": {"": Exposure},
    "raw": {"": Raw},
}
"""By name and kind; a name's first kind is meant where none is named."""

_OTHER_NAMES = {"salt_pepper": "impulse", "salt_and_pepper": "impulse"}


def parse_corruption(text: str) -> Corruption:
    """The corruption that ``NAME[:KIND][:VALUE]`` names; its ``str`` is that text.

    | text | what becomes of a picture |
    |---|---|
    | ``mask:box:SIDE``, ``mask:boxes:SIDE`` | a square is lost, central or anywhere |
    | ``mask:half`` | a half is lost, drawn from the four |
    | ``mask:pixels:SHARE`` | each pixel is lost with this probability |
    | ``mask:strokes:COUNT``, ``mask:text:HEIGHT`` | scratches, words |
    | ``noise:gaussian:SIGMA`` | normal noise, in levels of 0 to 255 |
    | ``noise:poisson:PEAK`` | white counts this many photons |
    | ``noise:impulse:SHARE`` | salt and pepper |
    | ``blur:gaussian:SIGMA``, ``blur:defocus:RADIUS`` | in pixels |
    | ``blur:motion:LENGTH[:ANGLE]`` | along a line, in pixels and degrees |
    | ``blur:kernel:1,2,1/2,4,2/1,2,1`` | any kernel, row by row |
    | ``blur:file:FILE`` | the kernel that a picture shows |
    | ``downsample:FACTOR``, ``jpeg:QUALITY`` | fewer pixels, blocks |
    | ``mosaic:bayer[:PATTERN]`` | one colour for each pixel |
    | ``exposure:GAIN``, ``raw[:PATTERN]:ISO`` | a camera's light and its sensor |

    Raises:
        OptionError: for a name or kind that does not exist, and values that do not fit.
        FileError, DataError: for a kernel's picture that cannot be read.

    Example:
        >>> parse_corruption("noise:gaussian:25")
        GaussianNoise(sigma=25.0)
        >>> str(parse_corruption("mask"))
        'mask:box:10'
    """
    name, *rest = (part.strip() for part in text.strip().split(":"))
    if name not in CORRUPTIONS:
        raise OptionError.unknown("corruption", name, CORRUPTIONS)
    kinds = CORRUPTIONS[name]
    if name == "blur" and rest[:1] == ["file"]:
        return _kernel_of_picture(":".join(rest[1:]))
    kind = next(iter(kinds))
    if kind and rest and not _is_number(rest[0]):
        kind = _OTHER_NAMES.get(rest[0], rest[0])
        rest = rest[1:]
        if kind not in kinds:
            raise OptionError.unknown(f"kind of {name}", kind, kinds)
    if kind == "kernel":
        return KernelBlur(_rows(text, ":".join(rest)))
    return kinds[kind](**_values(text, kinds[kind], rest))


def parse_corruptions(texts: Sequence[str]) -> Chain:
    """Several corruptions in the order in which they happen.

    Raises:
        OptionError: as ``parse_corruption``, and where nothing is named.

    Example:
        >>> str(parse_corruptions(["blur:gaussian:1.5", "noise:gaussian:2"]))
        'blur:gaussian:1.5 noise:gaussian:2'
    """
    if not texts:
        raise OptionError(
            "no corruption is named",
            got="nothing",
            expected="one or more, such as mask:box:10 or noise:gaussian:25",
        )
    return Chain(tuple(map(parse_corruption, texts)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(text: str, cls: type[Corruption], parts: Sequence[str]) -> dict[str, Any]:
    """The parts as the fields that can hold them: numbers in order, and words."""
    hints = typing.get_type_hints(cls)
    free = [field.name for field in dataclasses.fields(cls)]
    values: dict[str, Any] = {}
    for part in parts:
        is_word = not _is_number(part)
        fitting = [name for name in free if (hints[name] is str) == is_word]
        if not fitting:
            taken = ", ".join(f.name for f in dataclasses.fields(cls)) or "no value"
            raise OptionError(
                f"corruption {text!r}: a value that does not fit",
                got=repr(part),
                expected=taken,
            )
        name = fitting[0]
        free.remove(name)
        values[name] = part if is_word else _number(text, part, hints[name])
    return values


def _number(text: str, part: str, kind: type) -> Any:
    value = float(part)
    if kind is not int:
        return value
    if not value.is_integer():
        raise OptionError(
            f"corruption {text!r}: not a whole number",
            got=part,
            expected="a whole number",
        )
    return int(value)


def _rows(text: str, rows: str) -> tuple[tuple[float, ...], ...]:
    try:
        return tuple(tuple(map(float, row.split(","))) for row in rows.split("/"))
    except ValueError:
        raise OptionError(
            f"corruption {text!r}: weights that are no numbers",
            got=repr(rows),
            expected="numbers between commas, rows between slashes: 1,2,1/2,4,2/1,2,1",
        ) from None


def _kernel_of_picture(path: str) -> KernelBlur:
    """The kernel whose weights are a picture's grey levels."""
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise FileError(
            f"cannot read the kernel {path!r}",
            got=error.strerror or type(error).__name__,
            expected="a small grey picture of odd sides",
        ) from error
    height, width, _ = measure(content, path)
    levels, _ = decode(content, path, (height, width), 1)
    rows = np.asarray(levels[..., 0], np.float64).tolist()
    return KernelBlur(tuple(map(tuple, rows)))
