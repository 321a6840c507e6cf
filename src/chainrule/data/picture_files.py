"""Pictures read to be written again: changed pixels in the form that the file had.

Depth, grey or colour, transparency and colour profile are kept. Pillow reads colours of
16 bits as 8, so 16-bit PNG is decoded twice, for the high and the low bytes, and
written here; 16-bit colour TIFF is tifffile's, which comes with scikit-image.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data.pictures import (
    bombs_are_errors,
    opened,
    orientation_of,
    picture_bytes,
)
from chainrule.errors import (
    DataError,
    MissingDependencyError,
    OptionError,
    ShapeError,
)
from chainrule.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PictureFile", "read_mask", "read_picture_file", "restored_path"]

Array = np.ndarray[Any, Any]

_ORIENTATION = 0x0112
_OF_ONE_FORMAT = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".bmp": "BMP",
    ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
    ".pnm": "PPM", ".jp2": "JPEG2000",
}  # fmt: skip
"""The formats that are written, by the endings of their files."""
_WITH_ALPHA = ("PNG", "TIFF", "WEBP")
_OF_16_BITS = ("PNG", "TIFF")
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


@dataclass(frozen=True)
class PictureFile:
    """A picture's levels, with what it takes to write a file of the same form.

    Attributes:
        levels: float32 (h, w, 1) or (h, w, 3), from 0 to 255 at any depth, upright.
        depth: bits of each value in the file, 8 or 16.
        alpha: how opaque each pixel is, (h, w) of the file's depth; None where all are.
        profile: the colour profile, as the file holds it.
        exif: what the camera noted, of an upright picture.
        notes: what a written file does not keep, in words.
    """

    levels: Array
    depth: int = 8
    alpha: Array | None = None
    profile: bytes | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.levels.shape[-1])

    def write(self, path: str | os.PathLike[str], levels: Array) -> None:
        """Write other levels in this picture's form, as the ending says.

        Values are rounded and clipped to the file's depth. JPEG has quality 95.

        Args:
            path: of the file, which appears whole or not at all.
            levels: (h, w, channels), from 0 to 255.

        Raises:
            OptionError: for an ending that says no format, and one whose files do not
                hold 16 bits or transparency that the picture has.
            ShapeError: for levels of another picture.
            FileError: if the file cannot be written.
            MissingDependencyError: for 16-bit colour TIFF without tifffile.
        """
        target = Path(path)
        kind = self._format(target)
        if levels.shape != self.levels.shape:
            raise ShapeError(
                f"{target.name}: levels of another picture",
                got=f"{levels.dtype.name}{list(levels.shape)}",
                expected=str(list(self.levels.shape)),
            )
        largest, dtype = (255, np.uint8) if self.depth == 8 else (65535, np.uint16)
        values = np.clip(np.rint(levels * np.float32(largest / 255)), 0, largest)
        pixels = values.astype(dtype)
        if self.alpha is not None:
            pixels = np.concatenate([pixels, self.alpha[..., None]], axis=-1)
        if self.depth == 8:
            data = self._encoded_by_pillow(pixels, kind)
        elif kind == "PNG":
            data = _png_of_16_bits(pixels, self.profile)
        else:
            data = _tiff_of_16_bits(pixels, target.name)
        write_atomically(target, data)

    def _format(self, target: Path) -> str:
        kind = _OF_ONE_FORMAT.get(target.suffix.lower())
        if kind is None:
            raise OptionError.unknown(
                "ending of a picture file", target.suffix, _OF_ONE_FORMAT
            )
        wanted = []
        if self.depth == 16 and kind not in _OF_16_BITS:
            wanted.append("16 bits")
        if self.alpha is not None and kind not in _WITH_ALPHA:
            wanted.append("transparency")
        if wanted:
            raise OptionError(
                f"{target.name}: {kind} files are not written with "
                + " and ".join(wanted),
                got=f"a picture with {' and '.join(wanted)}",
                expected=".png, .tif" + (", .webp" if self.depth == 8 else ""),
            )
        return kind

    def _encoded_by_pillow(self, pixels: Array, kind: str) -> bytes:
        from PIL import Image  # 30 ms, and only pictures need it

        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)
        options = dict(_OPTIONS.get(kind, {}))
        if self.profile:
            options["icc_profile"] = self.profile
        if self.exif:
            options["exif"] = self.exif
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()


def read_picture_file(path: str | os.PathLike[str]) -> PictureFile:
    """A picture file at its own size, upright, with what another one like it takes.

    Transparency is kept aside. Palettes and colours for printing become red, green and
    blue, which ``notes`` says.

    Raises:
        FileError: for a path that cannot be read.
        DataError: for what is no whole picture, moves, has several pages, or holds
            numbers of other kinds than 8 or 16 bits.
        MissingDependencyError: for 16-bit colour TIFF without tifffile.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("LA", (3, 2), (51, 128)).save(f"{folder}/grey.png")
        ...     found = read_picture_file(f"{folder}/grey.png")
        >>> found.levels.shape, found.levels.max(), found.alpha.tolist()[0]
        ((2, 3, 1), np.float32(51.0), [128, 128, 128])
    """
    where = os.fspath(path)
    data = picture_bytes(path)
    with bombs_are_errors(), opened(data, where) as image:
        _check_frames(image, where)
        raw, kind = _raw_mode(image), image.format
        is_deep = ";16" in raw and image.mode in ("LA", "RGB", "RGBA")
        noted = orientation_of(image)
        image.load()
        # Pillow turns TIFF by itself when it is loaded, and then says so.
        orientation = noted if is_deep else orientation_of(image)
        pixels, notes = _pixels(image, where)
        profile, exif = image.info.get("icc_profile"), _upright_exif(image)
        size = image.size
    if is_deep:
        pixels = _colours_of_16_bits(kind, raw, data, where)
        # Pillow may have turned the size already.
        if sorted(pixels.shape[:2]) != sorted(size):
            raise DataError(
                f"{where}: 16-bit colours laid out one after the other",
                got=f"planes of shape {pixels.shape}",
                expected="the values of a pixel side by side",
                hint="save the picture as PNG",
            )
    pixels = _turned(pixels, orientation)
    alpha = None
    if pixels.shape[-1] in (2, 4):
        pixels, alpha = pixels[..., :-1], np.ascontiguousarray(pixels[..., -1])
    depth = 8 * pixels.itemsize
    levels = pixels.astype(np.float32) / np.float32((2**depth - 1) / 255)
    return PictureFile(levels, depth, alpha, profile, exif, notes)


def read_mask(path: str | os.PathLike[str], size: tuple[int, int]) -> Array:
    """What of a picture is to be restored: True where the mask is white.

    From half grey on, a pixel counts as white; what is transparent does not.

    Shapes: -> bool (h, w, 1).

    Raises:
        FileError: for a path that cannot be read.
        DataError: for what is no picture, or one of another size than (h, w).
    """
    found = read_picture_file(path)
    height, width = found.levels.shape[:2]
    if (height, width) != tuple(size):
        raise DataError(
            f"{os.fspath(path)}: the mask has another size than the picture",
            got=f"{width} × {height} pixels",
            expected=f"{size[1]} × {size[0]} pixels",
            hint="a mask is as large as the picture, and white where to restore it",
        )
    white: Array = found.levels.mean(axis=-1, keepdims=True)
    if found.alpha is not None:
        white = white * found.alpha[..., None] / (2**found.depth - 1)
    return white > 127


def restored_path(path: str | os.PathLike[str], found: PictureFile) -> Path:
    """Where a restored picture belongs: beside the damaged one, in a form that fits.

    Example:
        >>> form = PictureFile(np.zeros((2, 2, 1), np.float32))
        >>> restored_path("old/letter.jpg", form).as_posix()
        'old/letter-restored.jpg'
        >>> restored_path("old/letter.gif", form).name  # 256 colours are too few
        'letter-restored.png'
    """
    source = Path(path)
    kind = _OF_ONE_FORMAT.get(source.suffix.lower(), "")
    is_held = kind and (found.depth == 8 or kind in _OF_16_BITS)
    is_held = is_held and (found.alpha is None or kind in _WITH_ALPHA)
    return source.with_name(
        f"{source.stem}-restored{source.suffix if is_held else '.png'}"
    )


# ------------------------------------------------------------------------ reading


def _check_frames(image: Image.Image, where: str) -> None:
    frames = getattr(image, "n_frames", 1)
    # A camera's MPO is a JPEG with views of the same picture behind it.
    if frames > 1 and image.format != "MPO":
        pages = "pages" if image.format == "TIFF" else "pictures that move"
        raise DataError(
            f"{where}: more than one picture in the file",
            got=f"{frames} {pages} in a {image.format} file",
            expected="a file of one picture",
            hint="save the one you mean as a file of its own",
        )


def _raw_mode(image: Image.Image) -> str:
    """How the file lays out its values, as Pillow's decoder is told."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if image.format == "PPM" and image.mode == "RGB" and "65535" in str(arguments):
        return "RGB;16B"
    return first if isinstance(first, str) else ""


def _pixels(image: Image.Image, where: str) -> tuple[Array, tuple[str, ...]]:
    """(h, w, channels) of uint8 or uint16, and what is not kept of the form."""
    notes: tuple[str, ...] = ()
    mode = image.mode
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise _odd_numbers(where, "32-bit integers")
        return values.astype(np.uint16)[..., None], notes
    if mode == "F":
        raise _odd_numbers(where, "floats")
    if mode == "P":
        notes = ("a palette of at most 256 colours: restored ones are not of it",)
        wanted = "RGBA" if image.has_transparency_data else "RGB"
        image = image.convert(wanted)
        pixels = np.asarray(image)
        if (pixels[..., :1] == pixels[..., 1:3]).all():
            pixels = np.delete(pixels, [1, 2], axis=-1)
        return pixels, notes
    if mode not in ("L", "LA", "RGB", "RGBA"):
        if mode not in ("1", "La", "RGBa", "RGBX"):
            notes = (f"{mode} colours: written as red, green and blue",)
        grey = {"1": "L", "La": "LA", "RGBa": "RGBA"}
        image = image.convert(grey.get(mode, "RGB"))
    if image.mode in ("L", "RGB") and image.has_transparency_data:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1), notes


def _odd_numbers(where: str, got: str) -> DataError:
    return DataError(
        f"{where}: not the numbers of a picture",
        got=got,
        expected="values of 8 or 16 bits",
        hint="save it with 16 bits, scaled to 0 to 65535",
    )


def _colours_of_16_bits(kind: str | None, raw: str, data: bytes, where: str) -> Array:
    """(h, w, channels) of uint16, of which Pillow by itself reads the high bytes."""
    if kind == "TIFF":
        tifffile = _tifffile(where)
        try:
            return np.asarray(tifffile.imread(io.BytesIO(data)), np.uint16)
        except Exception as error:
            # Compressions that it leaves to another library, and damaged files.
            raise DataError(
                f"{where}: 16-bit colours that cannot be read",
                got=str(error),
                expected="a TIFF file without compression, or with deflate",
                hint="save the picture as PNG",
            ) from error
    if kind != "PNG":
        raise DataError(
            f"{where}: 16 bits in a form that is not read",
            got=f"a {kind} file with {raw.partition(';')[0]} of 16 bits",
            expected="PNG or TIFF, which keep 16 bits",
        )
    if raw.startswith("LA"):
        # Its four bytes, grey and alpha, high and low, are read as four channels.
        high_and_low = _decoded_as("RGBA", data, where)
        return _words(high_and_low[..., ::2], high_and_low[..., 1::2])
    # Read as if the low byte came first, the one that Pillow keeps is the low one.
    low = _decoded_as(raw.replace("16B", "16L"), data, where)
    return _words(_decoded_as(raw, data, where), low)


def _decoded_as(raw: str, data: bytes, where: str) -> Array:
    with opened(data, where) as image:
        files: Any = image  # a file has tiles, and Image.open promises only an image
        codec, extents, offset, _ = files.tile[0]
        files.tile = [(codec, extents, offset, raw)]
        return np.asarray(image)


def _words(high: Array, low: Array) -> Array:
    return high.astype(np.uint16) << 8 | low


def _turned(pixels: Array, orientation: int) -> Array:
    """Upright, as EXIF says where the first row and column of the file belong."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _upright_exif(image: Image.Image) -> bytes | None:
    try:
        exif = image.getexif()
        if not exif or image.format == "TIFF":  # whose tags describe its own layout
            return None
        exif[_ORIENTATION] = 1
        return exif.tobytes()
    except Exception:
        # Damaged EXIF takes nothing from the pixels.
        return None


# ------------------------------------------------------------------------ writing


def _png_of_16_bits(pixels: Array, profile: bytes | None) -> bytes:
    """A PNG file; each row is written as its difference to the one above.

    Source: "Portable Network Graphics (PNG) Specification", W3C, sections 9 and 11.
    """
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)  # 2 is "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [_chunk(b"IHDR", header)]
    if profile:
        parts.append(_chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile)))
    parts += [_chunk(b"IDAT", zlib.compress(filtered.tobytes())), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return b"".join(
        (struct.pack(">I", len(content)), kind, content, struct.pack(">I", check))
    )


def _tiff_of_16_bits(pixels: Array, where: str) -> bytes:
    if pixels.shape[-1] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]  # readers know grey with transparency badly
    buffer = io.BytesIO()
    if pixels.shape[-1] == 1:
        from PIL import Image  # 30 ms, and only pictures need it

        Image.fromarray(pixels[:, :, 0]).save(buffer, "TIFF")
    else:
        _tifffile(where).imwrite(
            buffer,
            pixels,
            photometric="rgb",
            extrasamples=None if pixels.shape[-1] == 3 else ["unassalpha"],
        )
    return buffer.getvalue()


def _tifffile(where: str) -> Any:
    try:
        import tifffile  # an optional extra, for files that few have
    except ImportError:
        raise MissingDependencyError(
            f"{where}: 16-bit colours in TIFF files need tifffile",
            got="no module named tifffile",
            expected="tifffile, which comes with scikit-image",
            hint="pip install 'chainrule[vision]', or save the picture as PNG",
        ) from None
    return tifffile
