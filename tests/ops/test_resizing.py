"""Images of other sizes beside direct sums over pixels, Pillow and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.errors import OptionError, ShapeError

SEEDS = range(40)
MODES = ["area", "bicubic", "bilinear", "nearest", "nearest-exact"]


def along(x: np.ndarray, axis: int, new: int, pixel: Callable[..., Any]) -> np.ndarray:
    """x with ``new`` pixels along an axis, each made by ``pixel`` from the old ones."""
    columns = np.moveaxis(x, axis, 0)
    rows = [pixel(columns, i, len(columns), new) for i in range(new)]
    return np.moveaxis(np.stack(rows), 0, axis)


def clamped(x: np.ndarray, i: int) -> np.ndarray:
    return x[min(max(i, 0), len(x) - 1)]


def position(i: int, old: int, new: int, align_corners: bool) -> float:
    if align_corners:
        return i * (old - 1) / (new - 1) if new > 1 else 0.0
    return (i + 0.5) * old / new - 0.5


def nearest(x: np.ndarray, i: int, old: int, new: int) -> Any:
    return x[math.floor(i * old / new + 1e-9)]


def nearest_exact(x: np.ndarray, i: int, old: int, new: int) -> Any:
    return x[math.floor((i + 0.5) * old / new + 1e-9)]


def area(x: np.ndarray, i: int, old: int, new: int) -> Any:
    start, stop = math.floor(i * old / new), math.ceil((i + 1) * old / new)
    return x[start:stop].mean(axis=0)


def linear(align_corners: bool) -> Callable[..., Any]:
    def pixel(x: np.ndarray, i: int, old: int, new: int) -> Any:
        p = position(i, old, new, align_corners)
        first = math.floor(p)
        t = p - first
        return (1 - t) * clamped(x, first) + t * clamped(x, first + 1)

    return pixel


def cubic(align_corners: bool) -> Callable[..., Any]:
    """The cubic between two pixels with slopes a·(difference over two), a = -3/4."""

    def pixel(x: np.ndarray, i: int, old: int, new: int) -> Any:
        p = position(i, old, new, align_corners)
        first = math.floor(p)
        t = p - first
        before, left, right, behind = (clamped(x, first + k) for k in (-1, 0, 1, 2))
        slope, end_slope = 0.75 * (right - before), 0.75 * (behind - left)
        return (
            (2 * t**3 - 3 * t**2 + 1) * left
            + (t**3 - 2 * t**2 + t) * slope
            + (3 * t**2 - 2 * t**3) * right
            + (t**3 - t**2) * end_slope
        )

    return pixel


PIXELS: dict[str, tuple[str, bool, Callable[..., Any]]] = {
    "nearest": ("nearest", False, nearest),
    "nearest-exact": ("nearest-exact", False, nearest_exact),
    "area": ("area", False, area),
    "bilinear": ("bilinear", False, linear(False)),
    "bilinear, corners aligned": ("bilinear", True, linear(True)),
    "bicubic": ("bicubic", False, cubic(False)),
    "bicubic, corners aligned": ("bicubic", True, cubic(True)),
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_pixel_is_what_its_formula_says(seed, name, rank):
    mode, align_corners, pixel = PIXELS[name]
    rng = np.random.default_rng([seed, rank])
    old, new = rng.integers(1, 10, (2, rank)).tolist()
    if seed % 4 == 0:
        new = [h * int(rng.integers(1, 4)) for h in old]
    x = rng.normal(size=(2, *old, 3))
    expected = x
    for axis, size in enumerate(new, 1):
        expected = along(expected, axis, size, pixel)
    t = cr.Tensor(x, requires_grad=True)
    y = cr.resize(t, new, mode, align_corners=align_corners)
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-12)
    # It is linear: Σ dx·x = Σ dy·y.
    dy = rng.normal(size=y.shape)
    (dx,) = gradients(y, [t], [dy])
    assert (dx.data * x).sum() == pytest.approx((dy * y.data).sum(), abs=1e-10)


@pytest.mark.parametrize(
    ("mode", "theirs"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
@pytest.mark.parametrize("sizes", [(3, 5), (20, 31), (7, 40), (1, 1), (13, 17)])
def test_antialiased_images_are_those_of_pillow(mode, theirs, sizes):
    x = np.random.default_rng(0).random((13, 17)).astype(np.float32)
    expected = np.asarray(Image.fromarray(x).resize(sizes[::-1], theirs))
    y = cr.resize(x[None, ..., None], sizes, mode, antialias=True)
    np.testing.assert_allclose(y.data[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_that_grow_have_no_aliasing_to_take_away(mode):
    x = np.random.default_rng(0).random((1, 20, 20, 1))
    plain, smooth = (
        cr.resize(x, 50, mode, antialias=a).data[:, 10:-10, 10:-10] for a in (0, 1)
    )
    if mode == "bilinear":
        np.testing.assert_allclose(plain, smooth, rtol=1e-12)
    else:
        assert np.abs(plain - smooth).max() < 0.1  # kernels of -3/4 and -1/2


@pytest.mark.parametrize("mode", MODES)
def test_an_even_image_stays_even_and_its_own_size_changes_nothing(mode):
    x = np.random.default_rng(0).random((2, 5, 6, 3))
    np.testing.assert_allclose(cr.resize(x, (5, 6), mode).data, x, rtol=1e-13)
    even = cr.resize(np.full((1, 5, 6, 1), 0.3), (9, 4), mode)
    np.testing.assert_allclose(even.data, 0.3, rtol=1e-13)


def test_nearest_pixels_keep_their_dtype_and_means_do_not():
    labels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    for sizes in (4, 3):
        assert cr.resize(labels, sizes).dtype == np.uint8
    assert cr.resize(labels, 4)[0, ..., 0].tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [2, 2, 3, 3],
        [2, 2, 3, 3],
    ]
    assert cr.resize(labels, 1, "area").dtype == np.float32
    assert cr.resize(labels, 1, "area").item() == 1.5


def test_a_nan_stays_in_its_pixel_of_a_nearest_image():
    x = np.array([1.0, math.nan, 3.0]).reshape(1, 3, 1)
    assert np.isnan(cr.resize(x, 6).data).sum() == 2
    assert np.isnan(cr.resize(x, 5).data).sum() == 2


@pytest.mark.parametrize("mode", MODES)
def test_native_resizing_agrees_for_any_batch(mode, agreement):
    def f(x: cr.Tensor) -> list[cr.Tensor]:
        return [cr.resize(x, sizes, mode) for sizes in ((8, 12), (3, 7))]

    rng = np.random.default_rng(0)
    compiled = agreement.check(f, [rng.normal(size=(2, 4, 6, 3))], "float32")
    agreement.check_again(compiled, f, [rng.normal(size=(5, 4, 6, 3))], "float32")


@pytest.mark.parametrize(
    ("run", "kind", "text"),
    [
        (
            lambda x: cr.resize(x, 4, "linear"),
            OptionError,
            "unknown mode 'linear'\n"
            "  got:      'linear'\n"
            "  expected: one of area, bicubic, bilinear, nearest, nearest-exact\n"
            "  try:      did you mean 'bilinear'?",
        ),
        (
            lambda x: cr.resize(x, (4, 0)),
            OptionError,
            "resize: sizes does not fit\n"
            "  got:      sizes=(4, 0)\n"
            "  expected: a whole number from 1 on, or 2 of them",
        ),
        (
            lambda x: cr.resize(x, 4, align_corners=True),
            OptionError,
            "resize: nearest has no corners to align and no kernel to widen\n"
            "  got:      align_corners=True, antialias=False\n"
            "  expected: mode 'bilinear' or 'bicubic' for either",
        ),
        (
            lambda x: cr.resize(x, 4, "bicubic", align_corners=True, antialias=True),
            OptionError,
            "resize: with corners aligned, pixels have no width to average over\n"
            "  got:      align_corners=True, antialias=True\n"
            "  expected: one of the two",
        ),
        (
            lambda x: cr.resize(x[:, :0], 4),
            ShapeError,
            "resize: an image without pixels\n"
            "  got:      float32[2, 0, 6, 1]\n"
            "  expected: sizes of at least 1",
        ),
        (
            lambda x: cr.resize(x[0, 0], 4),
            ShapeError,
            "resize: not an image\n"
            "  got:      float32[6, 1]\n"
            "  expected: (n, h, w, channels)\n"
            "  try:      one example: x[None]; grey images: x[..., None]",
        ),
    ],
)
def test_what_cannot_be_resized_is_refused(run, kind, text):
    with pytest.raises(kind) as error:
        run(cr.Tensor(np.zeros((2, 5, 6, 1), np.float32)))
    assert str(error.value) == text
