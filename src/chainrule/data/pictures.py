"""One picture from a file to pixels, whatever its size and mode."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import DataError, FileError, OptionError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "bombs_are_errors",
    "check_form",
    "decode",
    "is_picture_name",
    "list_pictures",
    "measure",
    "opened",
    "orientation_of",
    "picture_bytes",
    "read_picture",
]

Array = np.ndarray[Any, Any]

MAX_PIXELS = 89_478_485
"""Pillow's own limit, a quarter of a GiB of RGB; past it a file counts as a bomb."""

_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
    ]
)
_ORIENTATION = 0x0112
_ON_ITS_SIDE = 5


def is_picture_name(name: str) -> bool:
    """Whether a file's name says that it is a picture; hidden files are not."""
    file = name.rpartition("/")[2]
    return os.path.splitext(file)[1].lower() in _SUFFIXES and not file.startswith(".")


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures in a folder and below, in order of their names.

    Raises: FileError for a path that is no folder, DataError for one without pictures.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileError(
            f"no folder {str(root)!r}",
            got="a file" if root.exists() else "nothing at this path",
            expected="a folder of pictures",
        )
    found = sorted(
        p for p in root.rglob("*") if is_picture_name(p.name) and p.is_file()
    )
    if not found:
        raise DataError(
            f"no pictures in {str(root)!r}",
            got="no file with a picture's ending",
            expected="files such as .png or .jpg",
        )
    return found


def check_form(size: tuple[int, int] | None, channels: int | None) -> None:
    """Raise OptionError for a size or a number of channels that no picture has."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise OptionError(
            "size: not a picture's size", got=size, expected="(height, width), from 1"
        )
    if channels not in (None, 1, 3):
        raise OptionError(
            "channels: not a number of channels",
            got=channels,
            expected="1 (grey) or 3 (colour)",
        )


def read_picture(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    channels: int,
    crop: tuple[int, int, int, int] | None = None,
) -> Array:
    """A picture as the net's input: uint8 (h, w, c), made like the training pictures.

    It is turned as its EXIF says; ``crop`` (x, y, width, height, in pixels of the
    turned picture) is cut out; transparency is laid over white; 16-bit grey is scaled
    to 8 bits; then it is grey or colour as ``channels`` says. To reach ``size``
    (height, width) it is resized until it covers it, keeping its proportions, and the
    middle is cut out; where the proportions agree this is plain resizing.

    Raises: FileError for a path that cannot be read; DataError for a file that is no
    whole picture, or for a crop outside it.
    """
    check_form(size, channels)
    data = picture_bytes(path)
    with bombs_are_errors():
        return decode(data, os.fspath(path), size, channels, crop)[0]


def picture_bytes(path: str | os.PathLike[str]) -> bytes:
    """What a picture's file holds; raises FileError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(
            f"cannot read {os.fspath(path)!r}",
            got=error.strerror or type(error).__name__,
            expected="a picture file",
        ) from error


@contextmanager
def bombs_are_errors() -> Iterator[None]:
    """Let Pillow refuse huge pictures instead of warning first.

    For the main thread only: the filters of ``warnings`` belong to the whole process.
    In other threads ``decode`` refuses by itself, and the warning stands beside it.
    """
    from PIL import Image  # 30 ms, and only pictures need it

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def measure(data: bytes, where: str) -> tuple[int, int, bool]:
    """Height, width and whether it is grey, from the header alone."""
    with opened(data, where) as image:
        width, height = image.size
        if orientation_of(image) >= _ON_ITS_SIDE:
            width, height = height, width
        return height, width, image.mode in ("1", "L", "LA", "I", "F", "I;16", "I;16B")


def decode(
    data: bytes,
    where: str,
    size: tuple[int, int],
    channels: int,
    crop: tuple[int, int, int, int] | None = None,
) -> tuple[Array, tuple[int, int]]:
    """The pixels of a picture file, as ``read_picture`` says, and the size it had."""
    from PIL import ImageOps  # heavy, and only pictures need it

    with opened(data, where) as image:
        orientation = orientation_of(image)
        had = image.size[::-1] if orientation < _ON_ITS_SIDE else image.size
        if crop is None:
            # A large JPEG is decoded at a fraction of its size: ample for resizing.
            side = 2 * max(size)
            image.draft("L" if channels == 1 else "RGB", (side, side))
        turned: Image.Image = image
        if orientation != 1:
            turned = ImageOps.exif_transpose(image)
        return _formed(turned, where, size, channels, crop), had


def form_picture(
    pixels: Any,
    size: tuple[int, int],
    channels: int,
    crop: tuple[int, int, int, int] | None = None,
) -> Array:
    """Pixels in memory as the net's input, made as ``read_picture`` makes files.

    Shapes: uint8 (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) -> uint8 (*size, channels).

    Raises: DataError for an array that is no picture, or for a crop outside it.
    """
    from PIL import Image  # heavy, and only pictures need it

    array = np.asarray(pixels)
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not is_picture or not array.size:
        raise DataError(
            "not a picture",
            got=f"{array.dtype.name}{list(array.shape)}",
            expected="uint8 (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)",
            hint="values from 0 to 255: (255 * x).astype('uint8')",
        )
    image = Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
    return _formed(image, "the array", size, channels, crop)


def _formed(
    image: Image.Image,
    where: str,
    size: tuple[int, int],
    channels: int,
    crop: tuple[int, int, int, int] | None,
) -> Array:
    from PIL import ImageOps

    if crop is not None:
        image = _cropped(image, crop, where)
    plain = _to_8_bits(image, channels)
    if plain.size != (size[1], size[0]):
        plain = ImageOps.fit(plain, (size[1], size[0]), _bilinear())
    return np.asarray(plain, np.uint8).reshape(*size, channels)


@contextmanager
def opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """A picture file as Pillow opens it; whatever goes wrong inside is a DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{where}: a picture too large to open safely",
            got="more pixels than the limit",
            expected=f"at most {MAX_PIXELS:,} pixels",
            hint="make it smaller with another program, if you trust it",
        ) from error
    except UnidentifiedImageError as error:
        reason = "no known picture format" if data else "an empty file"
        raise _unreadable(where, reason) from error
    except Exception as error:
        # On damaged files Pillow's readers raise whatever they trip over.
        raise _unreadable(where, str(error) or type(error).__name__) from error


def _unreadable(where: str, reason: str) -> DataError:
    return DataError(
        f"{where}: not a readable picture", got=reason, expected="a whole picture file"
    )


def orientation_of(image: Image.Image) -> int:
    """How a picture is to be turned, as EXIF counts: 1 for upright."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged EXIF takes nothing from the pixels.
        return 1


def _cropped(
    image: Image.Image, crop: tuple[int, int, int, int], where: str
) -> Image.Image:
    x, y, width, height = crop
    is_inside = x + width <= image.width and y + height <= image.height
    if min(x, y) < 0 or min(width, height) < 1 or not is_inside:
        raise DataError(
            f"{where}: the crop is not inside the picture",
            got=f"x={x}, y={y}, width={width}, height={height}",
            expected=f"a rectangle inside {image.width} × {image.height} pixels",
        )
    return image.crop((x, y, x + width, y + height))


def _to_8_bits(image: Image.Image, channels: int) -> Image.Image:
    from PIL import Image as images

    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith(("I", "F")):
        image = images.fromarray(_scaled(np.asarray(image)))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = images.new("RGBA", image.size, "white")
        image = images.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def _scaled(values: Array) -> Array:
    """16-bit integers over 257; floats times 255, or as they are if any is over 1."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0, neginf=0)
        levels = values * 255 if values.max(initial=0) <= 1 else values
    else:
        levels = values / 257
    scaled: Array = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return scaled


def _bilinear() -> Image.Resampling:
    from PIL import Image as images

    # Pillow widens the filter when shrinking, so this averages and does not alias.
    return images.Resampling.BILINEAR
