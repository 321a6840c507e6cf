"""Every corruption by one contract, and what each promises of its numbers."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, signal

from chainrule.data import Keys
from chainrule.data.corruptions import (
    CORRUPTIONS,
    Box,
    Boxes,
    Chain,
    DefocusBlur,
    GaussianBlur,
    GaussianNoise,
    Half,
    ImpulseNoise,
    Jpeg,
    KernelBlur,
    MotionBlur,
    Pixels,
    PoissonNoise,
    parse_corruption,
    parse_corruptions,
)
from chainrule.data.corruptions.sampling import resized
from chainrule.errors import FileError, OptionError, ShapeError

TEXTS = [
    "mask:box:5",
    "mask:boxes:5",
    "mask:half",
    "mask:pixels:0.25",
    "mask:strokes:3",
    "mask:text:8",
    "noise:gaussian:25",
    "noise:poisson:30",
    "noise:impulse:0.1",
    "blur:gaussian:1.5",
    "blur:motion:7:30",
    "blur:defocus:2.5",
    "blur:kernel:1,2,1/2,4,2/1,2,3",
    "downsample:3",
    "jpeg:10",
    "mosaic:bayer",
    "exposure:2",
    "raw:1600",
]
DRAWN = ("boxes", "half", "pixels", "strokes", "text", "noise", "raw")


def photographs(count=4, size=(24, 33)):
    """Smooth colour pictures with edges, from 0 to 255."""
    rng = np.random.default_rng(0)
    rough = rng.uniform(0, 255, (count, *size, 3))
    smooth = ndimage.gaussian_filter(rough, (0, 2, 2, 0))
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) * (255 / (high - low))).astype(np.float32)


def keys(indices, epoch=1, seed=3):
    return Keys(seed, epoch, np.asarray(indices))


def test_every_corruption_that_has_a_name_is_tested_here():
    named = {(name, kind) for name, kinds in CORRUPTIONS.items() for kind in kinds}
    tested = set()
    for text in TEXTS:
        name, kind, *_ = [*text.split(":"), ""]
        tested.add((name, kind if kind in CORRUPTIONS[name] else ""))
    assert tested == named


@pytest.mark.parametrize("text", TEXTS)
def test_every_corruption_keeps_the_contract(text):
    corruption = parse_corruption(text)
    assert parse_corruption(str(corruption)) == corruption
    assert corruption.equation
    pictures = photographs()
    before = pictures.copy()
    damaged = corruption(pictures, keys([7, 8, 9, 10]))
    np.testing.assert_array_equal(pictures, before)
    assert damaged.pictures.shape == pictures.shape
    assert damaged.pictures.dtype == np.float32
    assert not np.array_equal(damaged.pictures, pictures)
    if damaged.lost is not None:
        assert damaged.lost.dtype == bool
        assert damaged.lost.shape in {(4, 24, 33, 1), (4, 24, 33, 3)}
        assert not damaged.pictures[np.broadcast_to(damaged.lost, pictures.shape)].any()
    # What happens to a picture does not depend on the batch that it comes in.
    (alone,) = corruption(pictures[2:3], keys([9])).pictures
    np.testing.assert_allclose(alone, damaged.pictures[2], atol=2e-4)
    again = corruption(pictures, keys([7, 8, 9, 10], epoch=2)).pictures
    is_drawn = any(word in text for word in DRAWN)
    assert np.array_equal(again, damaged.pictures) == (not is_drawn)


# ------------------------------------------------------------------------------- masks


def test_the_central_box_lies_where_the_lectures_put_it():
    lost = Box(10).lost((1, 28, 28), keys([0]))[0]
    assert np.argwhere(lost)[[0, -1]].tolist() == [[9, 9], [18, 18]]
    assert lost.sum() == 100


def test_boxes_reach_every_corner_and_stay_inside():
    lost = Boxes(8).lost((2000, 10, 12), keys(np.arange(2000)))
    assert (lost.sum(axis=(1, 2)) == 64).all()
    assert lost[:, [0, 0, -1, -1], [0, -1, 0, -1]].any(axis=0).all()


def test_each_half_is_lost_about_as_often():
    lost = Half().lost((4000, 6, 8), keys(np.arange(4000)))
    assert (lost.sum(axis=(1, 2)) == 24).all()
    left, top = lost[:, -1, 0] & lost[:, 0, 0], lost[:, 0, 0] & lost[:, 0, -1]
    for share in (left.mean(), top.mean()):
        assert share == pytest.approx(0.25, abs=0.03)


def test_a_share_of_the_pixels_is_lost():
    lost = Pixels(0.3).lost((20, 50, 50), keys(np.arange(20)))
    assert lost.mean() == pytest.approx(0.3, abs=0.01)


def test_a_box_that_leaves_nothing_is_refused():
    with pytest.raises(ShapeError) as error:
        Box(10)(photographs(size=(8, 30)), keys([0, 1, 2, 3]))
    assert str(error.value) == (
        "mask:box:10: the square leaves nothing of the picture\n"
        "  got:      a picture of 30×8\n"
        "  expected: sides of more than 10 pixels\n"
        "  try:      mask:box:4"
    )


# ------------------------------------------------------------------------------- noise


def test_noise_has_the_distribution_that_it_states():
    grey = np.full((4, 100, 100, 1), 100, np.float32)
    found = GaussianNoise(25)(grey, keys(range(4))).pictures - grey
    assert found.mean() == pytest.approx(0, abs=0.5)
    assert found.std() == pytest.approx(25, rel=0.02)
    assert found.min() < -75, "it is not clipped"
    counted = PoissonNoise(30)(grey, keys(range(4))).pictures
    assert counted.mean() == pytest.approx(100, rel=0.01)
    assert counted.std() == pytest.approx(np.sqrt(255 * 100 / 30), rel=0.02)
    photons = counted * (30 / 255)
    np.testing.assert_allclose(photons, np.rint(photons), atol=1e-4)
    salted = ImpulseNoise(0.2)(grey, keys(range(4))).pictures
    for level, share in ((0, 0.1), (255, 0.1), (100, 0.8)):
        assert (salted == level).mean() == pytest.approx(share, abs=0.01)


def test_two_noises_of_a_chain_are_independent():
    once = np.full((1, 60, 60, 1), 100, np.float32)
    twice = Chain((GaussianNoise(10), GaussianNoise(10)))(once, keys([0])).pictures
    assert (twice - once).std() == pytest.approx(10 * np.sqrt(2), rel=0.05)


# -------------------------------------------------------------------------------- blur


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_gaussian_blur_agrees_with_scipy(sigma):
    x = photographs()
    expected = ndimage.gaussian_filter(
        x.astype(np.float64), (0, sigma, sigma, 0), mode="reflect", truncate=4.0
    )
    found = GaussianBlur(sigma)(x, keys(range(4))).pictures
    # The kernel is cut off at 4σ, rounded up here and to the nearest there.
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize(
    "blur",
    [
        MotionBlur(9, 30),
        MotionBlur(4.5, -80),
        DefocusBlur(3.3),
        KernelBlur(((0, 1, 5), (2, 0, 0), (9, 0, 1))),
        KernelBlur(((1, 2, 1),)),
        KernelBlur(((1,), (2,), (4,))),
    ],
    ids=str,
)
def test_blur_is_the_convolution_with_its_kernel(blur):
    kernel = blur.kernel
    assert kernel.sum() == pytest.approx(1)
    assert kernel.min() >= 0
    assert all(side % 2 for side in kernel.shape)
    x = photographs(1)
    found = blur(x, keys([0])).pictures[0]
    for channel in range(3):
        plane = x[0, ..., channel].astype(np.float64)
        expected = signal.convolve2d(plane, kernel, "same", "symm")
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-3)


def test_kernels_look_as_they_are_called():
    line = MotionBlur(5, 0).kernel
    assert line.shape == (1, 5)
    np.testing.assert_allclose(MotionBlur(5, 90).kernel, line.T, atol=1e-9)
    disc = DefocusBlur(4).kernel
    assert (disc > disc.max() / 2).sum() == pytest.approx(np.pi * 16, rel=0.12)


def test_a_kernel_can_be_a_picture(tmp_path):
    weights = np.array([[0, 10, 0], [20, 200, 20], [0, 10, 0]], np.uint8)
    Image.fromarray(weights).save(tmp_path / "kernel.png")
    blur = parse_corruption(f"blur:file:{tmp_path / 'kernel.png'}")
    np.testing.assert_allclose(blur.kernel, weights / 260)
    # Its text needs the file no more.
    assert str(blur) == "blur:kernel:0,10,0/20,200,20/0,10,0"
    with pytest.raises(FileError, match="cannot read the kernel"):
        parse_corruption("blur:file:nowhere.png")


# ------------------------------------------------------------------- sampling and JPEG


def test_a_smaller_picture_does_not_alias_and_comes_back_as_large():
    stripes = np.zeros((1, 32, 32, 1), np.float32)
    stripes[:, :, ::2] = 255
    found = parse_corruption("downsample:4")(stripes, keys([0])).pictures
    # Stripes of one pixel are grey from afar; every fourth column alone would be white.
    assert found[:, 4:-4, 4:-4].std() < 6
    assert found.mean() == pytest.approx(127.5, abs=3)


def test_resizing_agrees_with_pillow_and_keeps_what_is_outside_bytes():
    x = photographs(1)[..., :1] * 2 - 100
    plane = Image.fromarray(x[0, ..., 0]).resize((10, 9), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resized(x, (9, 10))[0, ..., 0], np.asarray(plane))


def test_jpeg_is_what_a_file_would_hold():
    x = np.rint(photographs(1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(x[0]).save(buffer, "JPEG", quality=10)
    expected = np.asarray(Image.open(buffer))
    found = Jpeg(10)(x.astype(np.float32), keys([0])).pictures[0]
    np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------------------------------ chains


def test_a_chain_goes_in_order_and_what_is_lost_stays_lost():
    x = photographs()
    chain = parse_corruptions(["mask:box:6", "noise:gaussian:25", "mask:half"])
    damaged = chain(x, keys(range(4)))
    steps = [step(x, keys(range(4)).at(i)) for i, step in enumerate(chain.steps)]
    np.testing.assert_array_equal(damaged.lost, steps[0].lost | steps[2].lost)
    everywhere = np.broadcast_to(damaged.lost, x.shape)
    assert not damaged.pictures[everywhere].any()
    kept = ~everywhere
    np.testing.assert_array_equal(damaged.pictures[kept], steps[1].pictures[kept])


# --------------------------------------------------------------------------- the texts


@given(st.floats(0.001, 200).map(lambda x: float(f"{x:.6g}")))
def test_numbers_survive_the_text(sigma):
    noise = GaussianNoise(sigma)
    assert parse_corruption(str(noise)) == noise


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nois:gaussian:25",
            "unknown corruption 'nois'\n"
            "  got:      'nois'\n"
            "  expected: one of blur, downsample, exposure, jpeg, mask, mosaic, noise, "
            "raw\n"
            "  try:      did you mean 'noise'?",
        ),
        (
            "noise:gausian:25",
            "unknown kind of noise 'gausian'\n"
            "  got:      'gausian'\n"
            "  expected: one of gaussian, impulse, poisson\n"
            "  try:      did you mean 'gaussian'?",
        ),
        (
            "noise:gaussian:loud",
            "corruption 'noise:gaussian:loud': a value that does not fit\n"
            "  got:      'loud'\n"
            "  expected: sigma",
        ),
        (
            "mask:half:3",
            "corruption 'mask:half:3': a value that does not fit\n"
            "  got:      '3'\n"
            "  expected: no value",
        ),
        (
            "mask:box:2.5",
            "corruption 'mask:box:2.5': not a whole number\n"
            "  got:      2.5\n"
            "  expected: a whole number",
        ),
        (
            "mask:pixels:1.5",
            "mask pixels: share out of range\n"
            "  got:      1.5\n"
            "  expected: a number from 0 to 1",
        ),
        (
            "noise:gaussian:nan",
            "noise gaussian: sigma out of range\n"
            "  got:      nan\n"
            "  expected: a number from 0",
        ),
        (
            "jpeg:0",
            "jpeg: quality out of range\n"
            "  got:      0\n"
            "  expected: a number from 1 to 95",
        ),
        (
            "blur:kernel:1,2/3,4",
            "blur kernel: not a kernel\n"
            "  got:      rows of 2×2 weights, from 1 to 4\n"
            "  expected: rows of equal, odd length, an odd number of them, weights "
            "from 0 on and one above\n"
            "  try:      KernelBlur(((1, 2, 1), (2, 4, 2), (1, 2, 1)))",
        ),
        (
            "blur:kernel:1,x,1",
            "corruption 'blur:kernel:1,x,1': weights that are no numbers\n"
            "  got:      '1,x,1'\n"
            "  expected: numbers between commas, rows between slashes: "
            "1,2,1/2,4,2/1,2,1",
        ),
    ],
)
def test_a_text_that_names_no_corruption_is_explained(text, message):
    with pytest.raises(OptionError) as error:
        parse_corruption(text)
    assert str(error.value) == message


def test_usual_kinds_and_values_go_without_saying():
    assert parse_corruption("noise") == GaussianNoise(25)
    assert parse_corruption("mask:12") == Box(12)
    assert parse_corruption("noise:salt_and_pepper:0.2") == ImpulseNoise(0.2)
    with pytest.raises(OptionError, match="no corruption is named"):
        parse_corruptions([])


def test_corruptions_are_values():
    assert GaussianNoise(25) == GaussianNoise(25.0)
    assert hash(parse_corruption("blur:kernel:1,2,1")) == hash(KernelBlur(((1, 2, 1),)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Box(3).side = 4
