"""What a camera does to a picture: colour filters, exposure, and a whole sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.corruptions.corruption import (
    Corruption,
    Damaged,
    check_range,
    value_text,
)
from chainrule.data.transforms import Keys
from chainrule.errors import OptionError, ShapeError

__all__ = ["Exposure", "Mosaic", "Raw", "from_light", "to_light"]

Array = np.ndarray[Any, Any]

_COLORS = "rgb"
_SATURATION = 255.0
_BAYER = ("rggb", "grbg", "gbrg", "bggr")


# ----------------------------------------------------------------------- tone curve


def to_light(levels: Array) -> Array:
    """Levels 0 to 255 of a picture file as amounts of light from 0 to 1, float32.

    l = v / 12.92 below v = 0.04045, else ((v + 0.055) / 1.055)^2.4, of v = level / 255.
    What lies outside 0 to 255 is taken as the nearest end.

    Source: the standard of picture files, IEC 61966-2-1 (sRGB).
    """
    v = np.clip(np.asarray(levels, np.float32) / 255, 0, 1)
    curve = ((v + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(v <= 0.04045, v / np.float32(12.92), curve)


def from_light(light: Array) -> Array:
    """Amounts of light from 0 to 1 as levels 0 to 255: the inverse of ``to_light``.

    Example:
        >>> from_light(to_light(np.array([0.0, 10.0, 128.0, 255.0]))).round(3).tolist()
        [0.0, 10.0, 128.0, 255.0]
    """
    x = np.clip(np.asarray(light, np.float32), 0, 1)
    curve = 1 + np.float32(1.055) * (x ** np.float32(1 / 2.4) - 1)  # 1 at 1, exactly
    return 255 * np.where(x <= 0.0031308, np.float32(12.92) * x, curve)


# ---------------------------------------------------------------------- corruptions


@dataclass(frozen=True)
class Mosaic(Corruption):
    """One colour for each pixel, as a sensor under colour filters measures it.

    ``lost`` says for each pixel which two of its three colours nobody has seen.

    Args:
        pattern: the filters of the 2×2 pixels at the top left, row by row, which
            repeat: rggb, grbg, gbrg or bggr. A Bayer pattern has two greens, as the
            eye sees detail in green.

    Raises:
        OptionError: for another pattern.
        ShapeError: when called with pictures that are not in colour.

    Example:
        >>> from chainrule.data import Keys
        >>> white = np.full((1, 2, 2, 3), 255, np.float32)
        >>> seen = Mosaic()(white, Keys(0, 0, np.arange(1))).pictures
        >>> seen[0].argmax(axis=-1).tolist()
        [[0, 1], [1, 2]]

    Source: Bayer, "Color imaging array", US patent 3,971,065, 1976.
    """

    name = "mosaic"
    kind = "bayer"
    equation = "y = m · x, one colour of each pixel"
    baselines = ("bilinear", "malvar")

    pattern: str = "rggb"

    def __post_init__(self) -> None:
        _check_pattern("mosaic", self.pattern)

    def __str__(self) -> str:
        return f"{self.name}:{self.kind}{_after_colon(self.pattern)}"

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        _check_color("mosaic", pictures)
        n, h, w, c = pictures.shape
        is_seen = filter_map(self.pattern, h, w)
        lost = np.broadcast_to(~is_seen, (n, h, w, c))
        return Damaged(np.where(lost, np.float32(0), pictures), lost.copy())


@dataclass(frozen=True)
class Exposure(Corruption):
    """Too much light: what is brighter than the sensor's full well is clipped.

    y = T(min(1, gain · T⁻¹(x))) with the tone curve T of picture files. The scene x
    has room for all its lights; the one picture y of it that was taken has lost those
    that were ``1 / gain`` and brighter.

    Args:
        gain: by what the light is multiplied, 1 or more; 2 is one stop of exposure.

    Raises:
        OptionError: for a gain below 1.

    Source: the inverse problem is that of Eilertsen, Kronander, Denes, Mantiuk & Unger,
    "HDR image reconstruction from a single exposure using deep CNNs", 2017, section 3.
    """

    name = "exposure"
    equation = "y = T(min(1, g · T⁻¹(x)))"
    baselines = ("highlight_expansion", "color_correlation")

    gain: float = 2.0

    def __post_init__(self) -> None:
        check_range(self, "gain", 1)

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        return Damaged(from_light(to_light(pictures) * np.float32(self.gain)))

    def undone(self, pictures: Array) -> Array:
        """Pictures with the exposure taken back; clipped values stay at 1 / gain."""
        return from_light(to_light(pictures) / np.float32(self.gain))

    def is_clipped(self, pictures: Array) -> Array:
        """Where an exposed picture has reached the end of its range."""
        return np.asarray(pictures) >= _SATURATION - 0.5


@dataclass(frozen=True)
class Raw(Corruption):
    """What a sensor would have recorded of a picture: raw data, to be developed.

    The finished picture's levels are turned back into light, into the sensor's own
    colours, and unbalanced: daylight reaches a sensor with less red and blue than
    green. Then y = min(1, m · s + n): a mosaic of Bayer filters, and noise of variance
    shot · s + read² on the signal s from 0 to 1. Values are 255 · y, in proportion to
    light, without a tone curve; in the dark, noise takes them below 0, as sensors keep
    a black level for. ``lost`` is as of ``Mosaic``.

    Args:
        iso: the sensor's sensitivity setting S. shot = read = S·10⁻⁶, so both are large
            where photons are few; 0 is a sensor without noise.
        pattern: of the filters, as of ``Mosaic``.

    Raises:
        OptionError: for a sensitivity that is negative or not finite, and another
            pattern.
        ShapeError: when called with pictures that are not in colour.

    Source: the pipeline is that of Brooks, Mildenhall, Xue, Chen, Sharlet & Barron,
    "Unprocessing images for learned raw denoising", 2019, section 3, with one camera in
    the place of many, the plain tone curve of picture files, and the range of its noise
    as a function of one number. The photon noise is drawn as normal, as there.
    """

    name = "raw"
    equation = "y = min(1, s + n), s = m · C W⁻¹ T⁻¹(x), n ~ N(0, shot·s + read²)"
    baselines = ("camera_pipeline",)

    iso: float = 1600.0
    pattern: str = "rggb"

    def __post_init__(self) -> None:
        check_range(self, "iso", 0)
        _check_pattern("raw", self.pattern)

    def __str__(self) -> str:
        return f"{self.name}{_after_colon(self.pattern)}:{value_text(self.iso)}"

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        _check_color("raw", pictures)
        n, h, w, _ = pictures.shape
        is_seen = filter_map(self.pattern, h, w)
        colors = to_light(pictures) @ (SENSOR_COLORS / WHITE_BALANCE).astype(np.float32)
        signal = np.where(is_seen, colors, 0).sum(axis=-1)
        noise = keys.normal("raw", (h, w))
        signal = np.minimum(signal + noise * self.deviation(signal), 1)
        lost = np.broadcast_to(~is_seen, (n, h, w, 3)).copy()
        return Damaged(np.where(lost, np.float32(0), 255 * signal[..., None]), lost)

    def deviation(self, signal: Array) -> Array:
        """The noise's standard deviation at signals from 0 to 1."""
        shot = read = self.iso * 1e-6
        return np.sqrt(shot * np.maximum(signal, 0) + read**2).astype(np.float32)

    def developed(self, colors: Array) -> Array:
        """The finished picture of the sensor's three colours at every pixel.

        Balance, colours and tone curve; neither demosaicking nor denoising.

        Shapes: levels (..., 3), in proportion to light -> levels (..., 3).
        """
        inverse = np.linalg.inv(SENSOR_COLORS / WHITE_BALANCE).astype(np.float32)
        return from_light(np.asarray(colors, np.float32) / 255 @ inverse)


# A camera's spectral sensitivities overlap: how much of light's red, green and blue
# (rows) its three filters let through (columns). Grey stays grey: columns sum to 1.
SENSOR_COLORS = np.array([[0.65, 0.15, 0.05], [0.28, 0.70, 0.25], [0.07, 0.15, 0.70]])
WHITE_BALANCE = np.array([2.0, 1.0, 1.7])
"""By what a sensor's red, green and blue are multiplied for white to come out white."""


# ---------------------------------------------------------------------------- parts


def filter_map(pattern: str, height: int, width: int) -> Array:
    """Which color each pixel has the filter of: bool (height, width, 3)."""
    filters = np.array([_COLORS.index(color) for color in pattern]).reshape(2, 2)
    tiled = np.tile(filters, (-(-height // 2), -(-width // 2)))[:height, :width]
    return np.asarray(tiled[..., None] == np.arange(3))


def _after_colon(pattern: str) -> str:
    """A pattern as it stands in a corruption's text; the usual one goes unsaid."""
    return "" if pattern == _BAYER[0] else f":{pattern}"


def _check_pattern(name: str, pattern: str) -> None:
    if pattern not in _BAYER:
        raise OptionError.unknown(f"pattern of {name}", pattern, _BAYER)


def _check_color(name: str, pictures: Array) -> None:
    if pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ShapeError(
            f"{name}: colour filters need pictures in colour",
            got=f"an array of shape {pictures.shape}",
            expected="(n, h, w, 3)",
            hint="grey pictures have no colours to lose",
        )
