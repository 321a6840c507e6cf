"""Augmentation: pure, seeded per example, and what each transform promises."""

import numpy as np
import pytest

from chainrule.data import Keys, parse
from chainrule.data.transforms import Chain, Flip, Rotate
from chainrule.errors import OptionError

NAMES = ["brightness", "crop", "cutout", "flip", "noise", "rotate", "shift"]
EVERYTHING = "shift:2,flip,rotate:10,brightness:0.2,noise:8,crop:4,cutout:3"


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 12, 10, 3), dtype=np.uint8)


def keys(count=40, epoch=0, seed=0):
    return Keys(seed, epoch, np.arange(count))


@pytest.mark.parametrize("name", [*NAMES, EVERYTHING])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_transform_is_pure_and_keeps_shape_and_dtype(name, dtype, images):
    images = images.astype(dtype)
    before = images.copy()
    transform = parse(name)
    first = transform(images, keys())
    assert first.shape == images.shape
    assert first.dtype == dtype
    assert np.array_equal(images, before)
    assert np.array_equal(first, transform(images, keys()))
    assert not np.array_equal(first, images)
    assert not np.array_equal(first, transform(images, keys(epoch=1)))
    assert not np.array_equal(first, transform(images, keys(seed=1)))


@pytest.mark.parametrize("name", [*NAMES, EVERYTHING])
def test_what_happens_to_a_picture_does_not_depend_on_its_batch(name, images):
    transform = parse(name)
    whole = transform(images, keys())
    some = np.array([31, 2, 17])
    assert np.array_equal(transform(images[some], Keys(0, 0, some)), whole[some])


@pytest.mark.parametrize(
    "text", ["shift:0", "crop:0", "rotate:0", "brightness:0", "noise:0", "cutout:0"]
)
def test_an_amount_of_zero_changes_nothing(text, images):
    assert np.array_equal(parse(text)(images, keys()), images)


def test_flip_mirrors_about_half_of_the_pictures(images):
    out = Flip()(images, keys())
    is_flipped = (out == images[:, :, ::-1]).all(axis=(1, 2, 3))
    is_kept = (out == images).all(axis=(1, 2, 3))
    assert (is_flipped ^ is_kept).all()
    assert 10 <= is_flipped.sum() <= 30


def test_two_flips_in_a_chain_draw_different_numbers(images):
    assert not np.array_equal(Chain((Flip(), Flip()))(images, keys()), images)


def test_shift_moves_by_whole_pixels_and_repeats_the_border():
    image = np.zeros((200, 5, 5, 1), np.uint8)
    image[:, 2, 2] = 255
    image[:, 0] = 9
    out = parse("shift:1")(image, keys(200))
    places = {tuple(np.argwhere(p[:, :, 0] == 255)[0].tolist()) for p in out}
    assert places == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}
    moved_down = out[[p[3, :, 0].max() == 255 for p in out]]
    assert (moved_down[:, :2] == 9).all()


def test_crop_fills_with_black():
    out = parse("crop:1")(np.full((200, 4, 4, 1), 50, np.uint8), keys(200))
    assert set(np.unique(out)) == {0, 50}
    assert (out == 50).all(axis=(1, 2, 3)).any()


def test_rotation_by_a_quarter_turn_is_exact(monkeypatch):
    image = np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1)
    monkeypatch.setattr(Keys, "uniform", lambda *_: np.ones((1, 1)))
    out = Rotate(90.0)(image, keys(1))
    assert np.array_equal(out[0, :, :, 0], np.rot90(image[0, :, :, 0], -1))


def test_rotation_keeps_a_plain_picture_plain():
    image = np.full((5, 8, 6, 3), 77, np.uint8)
    assert (Rotate(30.0)(image, keys(5)) == 77).all()


def test_brightness_and_noise_clip_bytes_instead_of_wrapping():
    bright = np.full((50, 2, 2, 1), 250, np.uint8)
    assert parse("brightness:0.5")(bright, keys(50)).min() >= 125
    dark = np.zeros((50, 8, 8, 1), np.uint8)
    noisy = parse("noise:8")(dark, keys(50))
    assert noisy.max() < 60
    assert 0.45 < (noisy == 0).mean() < 0.6


def test_noise_has_the_deviation_that_was_asked_for():
    grey = np.full((50, 20, 20, 1), 128, np.uint8)
    noise = parse("noise:8")(grey, keys(50)).astype(float) - 128
    assert abs(noise.std() - 8) < 0.2
    assert abs(noise.mean()) < 0.2


def test_cutout_hides_a_square_under_the_mean():
    image = np.random.default_rng(0).integers(0, 100, (100, 9, 9, 1), dtype=np.uint8)
    image[:, 0, 0] = 255
    out = parse("cutout:3")(image, keys(100))
    for before, after in zip(image, out, strict=True):
        changed = np.argwhere((before != after)[:, :, 0])
        assert np.ptp(changed, axis=0).max() <= 2
        colour = after[tuple(changed[0])]
        assert abs(float(colour[0]) - before.mean()) <= 0.5


def test_an_unknown_augmentation_is_named_with_the_nearest():
    with pytest.raises(OptionError) as caught:
        parse("shift:2,fliip")
    assert str(caught.value) == (
        "unknown augmentation 'fliip'\n"
        "  got:      'fliip'\n"
        "  expected: one of brightness, crop, cutout, flip, noise, rotate, shift\n"
        "  try:      did you mean 'flip'?"
    )


@pytest.mark.parametrize(
    ("text", "got", "expected"),
    [
        ("shift:1.5", "'1.5'", "a whole number of pixels from 0"),
        ("rotate:much", "'much'", "a number from 0"),
        ("noise:-1", "'-1'", "a number from 0"),
        ("noise:inf", "'inf'", "a number from 0"),
        ("flip:2", "'2'", "no amount"),
    ],
)
def test_an_amount_that_does_not_fit_is_refused(text, got, expected):
    with pytest.raises(OptionError) as caught:
        parse(text)
    assert str(caught.value) == (
        f"augment: {text!r} has an amount that does not fit\n"
        f"  got:      {got}\n"
        f"  expected: {expected}"
    )


def test_nothing_to_do_is_refused():
    with pytest.raises(OptionError) as caught:
        parse(" , ")
    assert str(caught.value) == (
        "augment: nothing is named\n"
        "  got:      ' , '\n"
        "  expected: names joined by commas, such as shift:2,flip"
    )
