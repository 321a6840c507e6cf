"""One picture from a file: every mode, size and orientation ends up the same."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.data import list_pictures, read_picture
from chainrule.errors import OptionError

RED_LEFT = np.zeros((4, 6, 3), np.uint8)
RED_LEFT[:, :3, 0] = 255


def saved(array, name="picture.png", **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(name, **options)
    return name


def test_a_picture_of_the_right_size_comes_back_as_it_is():
    assert np.array_equal(read_picture(saved(RED_LEFT), (4, 6), 3), RED_LEFT)


def test_colour_becomes_grey_by_luma_and_grey_becomes_colour():
    grey = read_picture(saved(RED_LEFT), (4, 6), 1)
    assert grey.shape == (4, 6, 1)
    assert (grey[0, 0, 0], grey[0, 5, 0]) == (76, 0)
    ramp = np.arange(24, dtype=np.uint8).reshape(4, 6)
    colour = read_picture(saved(ramp), (4, 6), 3)
    assert np.array_equal(colour, np.repeat(ramp[:, :, None], 3, axis=2))


def test_sixteen_bits_are_scaled_to_eight():
    levels = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    for name in ("picture.png", "picture.tif"):
        grey = read_picture(saved(levels, name), (1, 4), 1)
        assert grey[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floats_are_scaled_from_one_or_taken_as_they_are():
    shares = np.array([[0, 0.5, 1.0, np.nan]], np.float32)
    grey = read_picture(saved(shares, "picture.tif"), (1, 4), 1)
    assert grey[0, :, 0].tolist() == [0, 128, 255, 0]
    levels = np.array([[0, 20, 200, 300]], np.float32)
    grey = read_picture(saved(levels, "picture.tif"), (1, 4), 1)
    assert grey[0, :, 0].tolist() == [0, 20, 200, 255]


def test_transparency_is_laid_over_white():
    clear = np.zeros((1, 3, 4), np.uint8)
    clear[0, :, 3] = [0, 255, 51]
    grey = read_picture(saved(clear), (1, 3), 3)
    assert grey[0, :, 0].tolist() == [255, 0, 204]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 200, 0, 0])
    read = read_picture(saved(palette, transparency=0), (1, 2), 3)
    assert read[0].tolist() == [[255, 255, 255], [200, 0, 0]]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_can_be_read(mode, channels):
    plain = Image.fromarray(RED_LEFT).convert("L" if mode in ("I;16", "F") else "RGB")
    image = plain.convert("I;16" if mode == "I;16" else mode)
    name = saved(image, "picture.tif")
    assert read_picture(name, (4, 6), channels).shape == (4, 6, channels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(orientation):
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6)
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = np.ascontiguousarray(undo[orientation](upright))
    read = read_picture(saved(lying, exif=exif), (4, 6), 1)
    assert np.array_equal(read[:, :, 0], upright)


def test_another_shape_is_covered_and_its_middle_kept():
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    assert (read_picture(saved(wide), (5, 5), 1) > 120).all()
    assert read_picture(saved(wide), (5, 15), 1)[2, [2, 7, 12], 0].tolist() == [
        0,
        255,
        0,
    ]


def test_a_large_jpeg_shrinks_to_its_averages():
    ramp = np.linspace(0, 255, 800).astype(np.uint8)[None].repeat(800, axis=0)
    name = saved(ramp, "picture.jpg", quality=95)
    small = read_picture(name, (8, 8), 1)[:, :, 0].astype(int)
    averages = ramp.reshape(8, 100, 8, 100).mean(axis=(1, 3))
    # At the borders the filter leans on fewer pixels.
    assert abs(small - averages).max() < 8


def test_a_crop_is_cut_out_of_the_turned_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
    upright = np.rot90(picture, -1)
    read = read_picture(saved(picture, exif=exif), (3, 2), 1, crop=(1, 2, 2, 3))
    assert np.array_equal(read[:, :, 0], upright[2:5, 1:3])


def test_pictures_are_listed_in_order_and_nothing_else():
    for name in ("b.PNG", "a/c.jpg", "notes.txt", ".hidden.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")
    assert list_pictures(".") == [Path("a/c.jpg"), Path("b.PNG")]


def test_a_size_that_is_none_is_refused():
    with pytest.raises(OptionError) as caught:
        read_picture(saved(RED_LEFT), (0, 5), 3)
    assert str(caught.value) == (
        "size: not a picture's size\n"
        "  got:      (0, 5)\n"
        "  expected: (height, width), from 1"
    )
