"""Detail that is thrown away: fewer pixels, and the blocks of strong JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.corruptions.corruption import Corruption, Damaged, check_range
from chainrule.data.transforms import Keys
from chainrule.errors import ShapeError

__all__ = ["Downsample", "Jpeg", "resized"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Downsample(Corruption):
    """y = D x: a picture at 1/f of its size, brought back to it without new detail.

    Going down, a bicubic filter as wide as f pixels averages, so nothing aliases; going
    up, the same filter interpolates. A size that is no multiple of f is rounded up.
    Restoring is super-resolution, and what it is given is what bicubic enlarging gives.
    """

    name = "downsample"
    equation = "y = U D x"
    baselines = ("bicubic",)

    factor: int = 2

    def __post_init__(self) -> None:
        check_range(self, "factor", 2, 64)

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        _, h, w, _ = pictures.shape
        small = resized(pictures, (-(-h // self.factor), -(-w // self.factor)))
        return Damaged(resized(small, (h, w)))


@dataclass(frozen=True)
class Jpeg(Corruption):
    """What is left after saving as JPEG of this quality, 1 to 95, Pillow's scale.

    Pictures are rounded and clipped to bytes first, which is what a JPEG holds.

    Raises:
        ShapeError: for pictures of other than 1 or 3 channels.
    """

    name = "jpeg"
    equation = "y = Q⁻¹ round(Q x) in blocks of 8×8 cosines"
    baselines = ("non_local_means",)

    quality: int = 10

    def __post_init__(self) -> None:
        check_range(self, "quality", 1, 95)

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        from PIL import Image  # heavy, and only pictures need it

        if pictures.shape[-1] not in (1, 3):
            raise ShapeError(
                f"{self}: a JPEG holds grey or colour",
                got=f"{pictures.shape[-1]} channels",
                expected="1 or 3 channels",
            )
        found = np.empty(pictures.shape, np.float32)
        levels = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
        for i, picture in enumerate(levels):
            is_grey = picture.shape[-1] == 1
            buffer = io.BytesIO()
            image = Image.fromarray(picture[..., 0] if is_grey else picture)
            image.save(buffer, "JPEG", quality=self.quality)
            with Image.open(buffer) as decoded:
                found[i] = np.asarray(decoded).reshape(found[i].shape)
        return Damaged(found)


def resized(pictures: Array, size: tuple[int, int]) -> Array:
    """Pictures of another size by bicubic filtering, in float32, without clipping.

    Shapes: (n, h, w, c) -> (n, *size, c).
    """
    from PIL import Image  # heavy, and only pictures need it

    n, _, _, c = pictures.shape
    found = np.empty((n, *size, c), np.float32)
    for i, picture in enumerate(pictures):
        for channel in range(c):
            plane = Image.fromarray(np.ascontiguousarray(picture[..., channel]))
            wide = plane.resize((size[1], size[0]), Image.Resampling.BICUBIC)
            found[i, ..., channel] = np.asarray(wide)
    return found
