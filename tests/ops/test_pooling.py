"""Pooling beside its definition, written as loops over the places of a window."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.core.graph import apply
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.pooling import MaxPoolPick
from chainrule.ops.window import window

SEEDS = range(50)
NATIVE_SEEDS = range(12)

Places = list[list[list[int]]]
"""For each axis, for each place, the elements that the window sees there; those of the
padding are negative or behind the axis."""


def draw(
    seed: int, rank: int, below: int = 5
) -> tuple[np.ndarray, dict[str, Any], Places]:
    """Images, the options of a window of 1 to ``below`` taps, where it stands."""
    rng = np.random.default_rng([seed, rank])
    size = rng.integers(1, below, rank).tolist()
    stride = rng.integers(1, 4, rank).tolist()
    gaps = rng.integers(1, 3, rank).tolist()
    reach = [d * (k - 1) + 1 for d, k in zip(gaps, size, strict=True)]
    pairs = [
        (int(rng.integers(0, r // 2 + 1)), int(rng.integers(0, r // 2 + 1)))
        for r in reach
    ]
    sizes = [r + int(rng.integers(0, 5)) for r in reach]
    options = {
        "size": size,
        "stride": stride,
        "padding": pairs,
        "dilation": gaps,
        "partial": bool(rng.integers(2)),
    }
    places = []
    for h, k, s, d, (lo, hi) in zip(sizes, size, stride, gaps, pairs, strict=True):
        on_axis = []
        for p in range(50):
            seen = [s * p + d * i - lo for i in range(k)]
            # A partial window begins in the image or before it, and lies over the edge
            # by less than a stride.
            fits = seen[-1] < h + hi
            hangs = seen[0] < h and seen[-1] - (h + hi - 1) < s
            if fits or (options["partial"] and hangs):
                on_axis.append(seen)
        places.append(on_axis)
    n, channels = rng.integers(1, 4, 2).tolist()
    # Few different numbers, so that there are ties.
    x = rng.integers(-3, 4, size=(n, *sizes, channels)).astype(float)
    return x, options, places


def windows(places: Places) -> Any:
    """(place, the pixels that the window sees there), in reading order."""
    for place in itertools.product(*(range(len(axis)) for axis in places)):
        seen = (axis[p] for axis, p in zip(places, place, strict=True))
        yield place, list(itertools.product(*seen))


def inside(pixel: tuple[int, ...], x: np.ndarray) -> bool:
    return all(0 <= a < h for a, h in zip(pixel, x.shape[1:-1], strict=True))


def largest(x: np.ndarray, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """The maxima, and for weights 1, 2, 3 ... of them what comes back to x."""
    y = np.zeros((x.shape[0], *map(len, places), x.shape[-1]))
    dy = weights(y)
    dx = np.zeros_like(x)
    for place, pixels in windows(places):
        pixels = [p for p in pixels if inside(p, x)]
        for n, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
            best = max(pixels, key=lambda p, n=n, c=c: x[(n, *p, c)])  # the first
            y[(n, *place, c)] = x[(n, *best, c)]
            dx[(n, *best, c)] += dy[(n, *place, c)]
    return y, dx


def weights(y: np.ndarray) -> np.ndarray:
    return np.arange(1.0, y.size + 1).reshape(y.shape)


def averaged(x: np.ndarray, places: Places, pairs: Any, counts_padding: bool) -> Any:
    y = np.zeros((x.shape[0], *map(len, places), x.shape[-1]))
    dy, dx = weights(y), np.zeros_like(x)
    for place, pixels in windows(places):
        own = [p for p in pixels if inside(p, x)]
        counted = [
            p
            for p in pixels
            if all(
                -lo <= a < h + hi
                for a, h, (lo, hi) in zip(p, x.shape[1:-1], pairs, strict=True)
            )
        ]
        count = len(counted if counts_padding else own)
        at = (slice(None), *place)
        for pixel in own:
            y[at] += x[(slice(None), *pixel)] / count
            dx[(slice(None), *pixel)] += dy[at] / count
    return y, dx


def check(found: cr.Tensor, x: cr.Tensor, y: np.ndarray, dx: np.ndarray) -> None:
    np.testing.assert_allclose(found.data, y, rtol=1e-13, atol=1e-13)
    (slope,) = gradients(found, [x], [weights(y)])
    np.testing.assert_allclose(slope.data, dx, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_max_pooling_is_what_the_loops_say_and_routes_to_the_first_of_equals(
    seed, rank
):
    images, options, places = draw(seed, rank)
    x = cr.Tensor(images, requires_grad=True)
    check(cr.max_pool(x, **options), x, *largest(images, places))


@pytest.mark.parametrize("counts_padding", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_average_pooling_is_what_the_loops_say(seed, rank, counts_padding):
    images, options, places = draw(seed, rank)
    x = cr.Tensor(images, requires_grad=True)
    y = cr.average_pool(x, **options, counts_padding=counts_padding)
    check(y, x, *averaged(images, places, options["padding"], counts_padding))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", NATIVE_SEEDS)
def test_native_pooling_agrees_for_any_geometry(seed, dtype, agreement):
    images, options, _ = draw(seed, rank=1 if seed % 4 == 0 else 2)
    agreement.check(
        lambda x: (cr.max_pool(x, **options), cr.average_pool(x, **options)),
        [images],
        dtype,
    )


@pytest.mark.parametrize("seed", range(8))
def test_native_second_derivatives_of_max_pooling_agree(seed, agreement):
    images, options, _ = draw(seed, rank=2, below=4)

    def f(x: cr.Tensor, z: cr.Tensor) -> cr.Tensor:
        view = window("max_pool", x.shape[1:-1], **options_of_a_window(options))
        return apply(MaxPoolPick.make(view), z, x)

    agreement.check(f, [images, np.random.default_rng(seed).normal(size=images.shape)])


def options_of_a_window(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k != "partial"}


# ------------------------------------------------------------------ ties, NaN, edges


def pooled_with_slope(x: Any, **options: Any) -> tuple[Any, Any]:
    t = cr.Tensor(np.asarray(x, float)[None, ..., None], requires_grad=True)
    y = cr.max_pool(t, **options)
    (dx,) = gradients(y, [t], [np.ones(y.shape)])
    return y.data[0, ..., 0].tolist(), dx.data[0, ..., 0].tolist()


def test_of_equal_elements_the_first_in_reading_order_receives_the_gradient():
    y, dx = pooled_with_slope([[1, 2], [2, 2]], size=2)
    assert y == [[2.0]]
    assert dx == [[0.0, 1.0], [0.0, 0.0]]


def test_an_element_that_wins_in_two_windows_receives_both_gradients():
    y, dx = pooled_with_slope([0, 5, 0], size=2, stride=1)
    assert (y, dx) == ([5.0, 5.0], [0.0, 2.0, 0.0])


def test_a_nan_is_the_largest_and_receives_the_gradient():
    y, dx = pooled_with_slope([[1, math.nan], [math.inf, math.nan]], size=2)
    assert math.isnan(y[0][0])
    assert dx == [[0.0, 1.0], [0.0, 0.0]]


def test_padding_never_wins():
    y, dx = pooled_with_slope([-5, -7], size=2, stride=1, padding=1)
    assert (y, dx) == ([-5.0, -5.0, -7.0], [2.0, 1.0])


def test_integers_are_pooled_too():
    x = cr.Tensor(np.arange(-4, 5).reshape(1, 9, 1))
    y = cr.max_pool(x, 3, stride=4, padding=1)
    assert y.dtype == np.int64
    assert y.tolist() == [[[-3], [1], [4]]]
    assert cr.average_pool(x, 3).dtype == np.float32


def test_a_partial_window_hangs_over_the_edge():
    x = np.arange(1.0, 6.0).reshape(1, 5, 1)
    assert cr.max_pool(x, 2).tolist() == [[[2.0], [4.0]]]
    assert cr.max_pool(x, 2, partial=True).tolist() == [[[2.0], [4.0], [5.0]]]
    assert cr.average_pool(x, 2, partial=True).tolist() == [[[1.5], [3.5], [5.0]]]


def test_zeros_of_the_padding_count_where_asked():
    x = np.ones((1, 2, 1))
    options = {"size": 2, "stride": 2, "padding": 1}
    assert cr.average_pool(x, **options).tolist() == [[[1.0], [1.0]]]
    half = cr.average_pool(x, **options, counts_padding=True)
    assert half.tolist() == [[[0.5], [0.5]]]


# ----------------------------------------------------------------- adaptive pooling


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_adaptive_pooling_covers_the_image_with_the_regions_of_its_grid(seed, rank):
    rng = np.random.default_rng([seed, rank])
    sizes, wanted = rng.integers(1, 9 - rank, (2, rank)).tolist()
    if seed % 3 == 0:
        sizes = [h * 2 for h in wanted]  # by one window
    images = rng.integers(-3, 4, size=(2, *sizes, 3)).astype(float)
    places = [
        [
            list(range(math.floor(i * h / new), math.ceil((i + 1) * h / new)))
            for i in range(new)
        ]
        for h, new in zip(sizes, wanted, strict=True)
    ]
    x = cr.Tensor(images, requires_grad=True)
    check(cr.adaptive_max_pool(x, wanted), x, *largest(images, places))
    y = cr.adaptive_average_pool(x, wanted)
    check(y, x, *averaged(images, places, [(0, 0)] * rank, False))


def test_one_number_is_the_size_of_every_axis():
    x = np.ones((2, 5, 7, 3))
    assert cr.adaptive_average_pool(x, 2).shape == (2, 2, 2, 3)
    assert cr.adaptive_max_pool(x, (1, 4)).shape == (2, 1, 4, 3)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: cr.adaptive_average_pool(x, (2, 3)),
        lambda x: cr.adaptive_average_pool(x, (5, 2)),
        lambda x: cr.adaptive_max_pool(x, (2, 3)),
        lambda x: cr.adaptive_max_pool(x, (5, 2)),
    ],
)
def test_native_adaptive_pooling_agrees_for_any_batch(f, agreement):
    rng = np.random.default_rng(0)
    compiled = agreement.check(f, [rng.normal(size=(2, 4, 6, 3))])
    agreement.check_again(compiled, f, [rng.normal(size=(5, 4, 6, 3))])


# --------------------------------------------------------------------- what is refused

IMAGES = cr.Tensor(np.zeros((2, 5, 6, 4), np.float32))


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_a_window_larger_than_the_image_is_refused_with_the_arithmetic(name):
    with pytest.raises(ShapeError) as error:
        getattr(cr, name)(IMAGES, 8, padding=1)
    assert str(error.value) == (
        f"{name}: the window is larger than the image\n"
        "  got:      h = 5, padding 1 + 1, window 8, dilation 1\n"
        "  expected: 5 + 1 + 1 ≥ 1·(8 - 1) + 1 = 8; the output size is "
        "(5 + 1 + 1 - 8) // 8 + 1\n"
        "  try:      use larger images, fewer poolings or strides before this layer, a "
        "smaller window, or padding='same'"
    )


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (
            lambda: cr.max_pool(IMAGES, 2, padding=2),
            "max_pool: a window would see padding alone\n"
            "  got:      padding ((2, 2), (2, 2)), window (2, 2)\n"
            "  expected: from 0 to half a window on each side",
        ),
        (
            lambda: cr.average_pool(IMAGES, 3, padding=[(-1, 0), (0, 0)]),
            "average_pool: a window would see padding alone\n"
            "  got:      padding ((-1, 0), (0, 0)), window (3, 3)\n"
            "  expected: from 0 to half a window on each side",
        ),
        (
            lambda: cr.max_pool(IMAGES, (2, 0)),
            "max_pool: size does not fit\n"
            "  got:      size=(2, 0)\n"
            "  expected: a whole number from 1 on, or 2 of them",
        ),
        (
            lambda: cr.adaptive_max_pool(IMAGES, 0),
            "adaptive_max_pool: sizes does not fit\n"
            "  got:      sizes=0\n"
            "  expected: a whole number from 1 on, or 2 of them",
        ),
    ],
)
def test_options_that_are_none_are_refused(run, text):
    with pytest.raises(OptionError) as error:
        run()
    assert str(error.value) == text


@pytest.mark.parametrize(
    "run",
    [
        lambda x: cr.max_pool(x, 2),
        lambda x: cr.average_pool(x, 2),
        lambda x: cr.adaptive_max_pool(x, 2),
        lambda x: cr.adaptive_average_pool(x, 2),
    ],
)
def test_what_is_no_image_is_refused(run):
    with pytest.raises(ShapeError, match="not an image\n  got:      float32\\[2, 5\\]"):
        run(IMAGES[:, :, 0, 0])


@pytest.mark.parametrize("pool", [cr.adaptive_max_pool, cr.adaptive_average_pool])
def test_an_image_without_pixels_has_no_grid(pool):
    with pytest.raises(ShapeError, match="an image without pixels"):
        pool(np.zeros((2, 0, 3, 1)), 2)
