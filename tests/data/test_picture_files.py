"""Pictures read and written again: what their form was is what it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from chainrule.data.picture_files import (
    PictureFile,
    read_mask,
    read_picture_file,
    restored_path,
)
from chainrule.errors import (
    DataError,
    FileError,
    MissingDependencyError,
    OptionError,
    ShapeError,
)

RNG = np.random.default_rng(0)
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def drawn(channels: int, depth: int, height: int = 5, width: int = 7) -> Any:
    """Values of which the low bytes matter too."""
    dtype = np.uint8 if depth == 8 else np.uint16
    return RNG.integers(0, 2**depth, (height, width, channels), dtype)


def found_in(file: PictureFile) -> Any:
    """The file's own values, from the levels and the transparency."""
    values = np.rint(file.levels.astype(np.float64) * ((2**file.depth - 1) / 255))
    if file.alpha is None:
        return values
    return np.concatenate([values, file.alpha[..., None]], axis=-1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_bits_come_back_as_they_were(
    tmp_path: Path, channels: int, suffix: str
) -> None:
    values = drawn(channels, 8)
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    Image.fromarray(values[:, :, 0] if channels == 1 else values).save(path)
    file = read_picture_file(path)
    assert file.levels.dtype == np.float32
    assert (file.alpha is not None) == (channels in (2, 4))
    np.testing.assert_array_equal(found_in(file), values)
    file.write(again, file.levels)
    with Image.open(again) as image:
        assert image.mode == MODES[channels]
        np.testing.assert_array_equal(np.asarray(image).reshape(values.shape), values)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_come_back_as_they_were(
    tmp_path: Path, channels: int, suffix: str
) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = drawn(channels, 16, 40, 61)
    values[:3] = np.arange(61)[:, None]  # rows alike, for PNG's filters
    path = tmp_path / f"a{suffix}"
    form = PictureFile(
        np.zeros((40, 61, 1 if channels < 3 else 3), np.float32),
        depth=16,
        alpha=values[..., -1] if channels in (2, 4) else None,
    )
    levels = values[..., : form.channels].astype(np.float32) / 257
    form.write(path, levels)
    if (suffix, channels) == (".tif", 2):
        values = values[..., [0, 0, 0, 1]]  # grey and transparency is written so
        levels = np.repeat(levels, 3, axis=-1)
    file = read_picture_file(path)
    assert file.depth == 16
    np.testing.assert_array_equal(found_in(file), values)
    np.testing.assert_allclose(file.levels, levels, rtol=1e-6)
    if suffix == ".tif":
        read = tifffile.imread(path).reshape(values.shape)
        np.testing.assert_array_equal(read, values)
    else:  # another reader agrees about what it reads: Pillow keeps the high bytes
        with Image.open(path) as image:
            kept = np.asarray(image.convert(MODES[channels])) if channels > 1 else None
        if kept is not None:
            np.testing.assert_array_equal(kept, values >> 8)


def test_skimage_reads_the_16_bit_grey_that_is_written(tmp_path: Path) -> None:
    skimage = pytest.importorskip("skimage")
    values = drawn(1, 16)
    form = PictureFile(np.zeros((5, 7, 1), np.float32), depth=16)
    form.write(tmp_path / "a.png", values / np.float32(257))
    from skimage import io

    assert skimage
    np.testing.assert_array_equal(io.imread(tmp_path / "a.png"), values[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_pictures_are_turned_as_the_camera_was_held_and_written_upright(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    image = Image.fromarray(np.kron(drawn(3, 8, 3, 4), np.ones((8, 8, 1), np.uint8)))
    exif = image.getexif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    image.save(path, exif=exif, quality=100)
    file = read_picture_file(path)
    with Image.open(path) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(file.levels, upright)
    file.write(again, file.levels)
    with Image.open(again) as opened:
        assert opened.getexif().get(0x0112, 1) == 1
        assert suffix == ".tif" or opened.getexif()[0x010F] == "a camera"
        assert opened.size == (upright.shape[1], upright.shape[0])
        np.testing.assert_allclose(np.asarray(opened), upright, atol=25)


def test_16_bit_colours_are_turned_too(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = drawn(3, 16)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="rgb", extratags=[(274, 3, 1, 6)]
    )
    file = read_picture_file(tmp_path / "a.tif")
    np.testing.assert_array_equal(found_in(file), np.rot90(values, -1))


def test_the_colour_profile_is_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", icc_profile=profile)
    file = read_picture_file(tmp_path / "a.png")
    deep = PictureFile(file.levels, 16, profile=file.profile)
    for form, name in ((file, "b.png"), (file, "b.jpg"), (deep, "c.png")):
        form.write(tmp_path / name, file.levels)
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == profile


def test_a_palette_becomes_colours_and_keeps_what_is_transparent(
    tmp_path: Path,
) -> None:
    values = drawn(3, 8)
    image = Image.fromarray(values).quantize(16)
    image.save(tmp_path / "a.png", transparency=0)
    image.save(tmp_path / "a.gif")
    file = read_picture_file(tmp_path / "a.png")
    assert file.channels == 3
    assert file.alpha is not None
    assert "palette" in file.notes[0]
    assert restored_path(tmp_path / "a.png", file).name == "a-restored.png"
    moving = read_picture_file(tmp_path / "a.gif")
    np.testing.assert_array_equal(moving.levels, np.asarray(image.convert("RGB")))
    assert restored_path("a.gif", moving).name == "a-restored.png"
    grey = Image.fromarray(values[..., 0]).convert("P")
    grey.save(tmp_path / "grey.png")
    assert read_picture_file(tmp_path / "grey.png").channels == 1


def test_black_and_white_and_inks_are_read(tmp_path: Path) -> None:
    Image.new("1", (9, 3), 1).save(tmp_path / "a.png")
    assert read_picture_file(tmp_path / "a.png").levels.shape == (3, 9, 1)
    Image.new("CMYK", (9, 3), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    file = read_picture_file(tmp_path / "a.jpg")
    assert "CMYK" in file.notes[0]
    assert file.levels.min() > 250, "no ink is white"


def test_levels_are_rounded_and_clipped(tmp_path: Path) -> None:
    form = PictureFile(np.zeros((1, 4, 1), np.float32))
    levels = np.array([-3.0, 0.6, 254.4, 999.0]).reshape(1, 4, 1)
    form.write(tmp_path / "a.png", levels)
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[0, 1, 254, 255]]


# ------------------------------------------------------------------------- refusals


def test_files_of_more_than_one_picture_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    for suffix in (".gif", ".png", ".webp", ".tif"):
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match="more than one picture") as raised:
            read_picture_file(path)
        assert "2 " in raised.value.got


def test_numbers_that_are_no_levels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (3, 3)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="not the numbers of a picture"):
        read_picture_file(tmp_path / "a.tif")
    Image.new("I", (3, 3), 70_000).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match="not the numbers of a picture"):
        read_picture_file(tmp_path / "b.tif")
    deep = b"P6 2 1 65535\n" + bytes(range(12))
    (tmp_path / "c.ppm").write_bytes(deep)
    with pytest.raises(DataError, match="16 bits in a form that is not read"):
        read_picture_file(tmp_path / "c.ppm")
    (tmp_path / "d.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="not a readable picture"):
        read_picture_file(tmp_path / "d.png")
    with pytest.raises(FileError, match="cannot read"):
        read_picture_file(tmp_path / "e.png")


def test_16_bit_tiff_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = PictureFile(np.zeros((5, 7, 3), np.float32), 16)
    form.write(tmp_path / "a.tif", form.levels)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingDependencyError) as raised:
        read_picture_file(tmp_path / "a.tif")
    assert "chainrule[vision]" in str(raised.value)


@pytest.mark.parametrize(
    ("form", "name", "told"),
    [
        (PictureFile(np.zeros((2, 2, 1)), 16), "a.jpg", "16 bits"),
        (PictureFile(np.zeros((2, 2, 1)), 8, np.zeros((2, 2))), "a.bmp", "transpar"),
        (PictureFile(np.zeros((2, 2, 1))), "a.gif", "unknown ending"),
    ],
)
def test_forms_that_a_format_does_not_hold_are_refused(
    tmp_path: Path, form: PictureFile, name: str, told: str
) -> None:
    with pytest.raises(OptionError, match=told):
        form.write(tmp_path / name, form.levels)
    assert not (tmp_path / name).exists()
    assert restored_path(name, form).suffix == ".png"
    with pytest.raises(ShapeError, match="another picture"):
        form.write(tmp_path / "a.png", np.zeros((3, 2, 1)))


def test_a_mask_is_white_where_to_restore_and_as_large_as_its_picture(
    tmp_path: Path,
) -> None:
    values = np.zeros((4, 6), np.uint8)
    values[1:3, 2:] = 255
    Image.fromarray(values).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", (4, 6))
    np.testing.assert_array_equal(mask[..., 0], values > 0)
    Image.fromarray(np.stack([values + 255, values], axis=-1)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png", (4, 6)), mask & True)
    with pytest.raises(DataError, match="another size") as raised:
        read_mask(tmp_path / "mask.png", (6, 4))
    assert raised.value.got == "6 × 4 pixels"
