"""Convolution beside its definition, written as loops over places and taps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.errors import OptionError, ShapeError

SEEDS = range(60)
NATIVE_SEEDS = range(16)


@dataclass(frozen=True)
class Geometry:
    """Operands of a convolution, and its options as a caller may write them."""

    x: np.ndarray
    w: np.ndarray
    options: dict[str, Any]
    padding: tuple[tuple[int, int], ...]
    """What the option ``padding`` comes to."""


def one_or_each(rng: np.random.Generator, rank: int, below: int) -> Any:
    """One number from 1 on, or one for each axis."""
    if rng.random() < 0.5:
        return int(rng.integers(1, below))
    return tuple(rng.integers(1, below, rank).tolist())


def each(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def draw(seed: int, rank: int) -> Geometry:
    rng = np.random.default_rng([seed, rank])
    taps = rng.integers(1, 4, rank).tolist()
    options: dict[str, Any] = {
        "stride": one_or_each(rng, rank, 4),
        "dilation": one_or_each(rng, rank, 4),
        "groups": int(rng.integers(1, 4)),
    }
    stride, gaps = each(options["stride"], rank), each(options["dilation"], rank)
    reach = [d * (k - 1) + 1 for d, k in zip(gaps, taps, strict=True)]
    sizes = [r + int(rng.integers(0, 5)) for r in reach]
    kind = rng.choice(["valid", "same", "one", "each", "pairs", "crop"])
    padding = tuple((0, 0) for _ in sizes)
    if kind == "same":
        options["padding"] = "same"
        missing = [
            max((-(-h // s) - 1) * s + r - h, 0)
            for h, s, r in zip(sizes, stride, reach, strict=True)
        ]
        padding = tuple((m // 2, m - m // 2) for m in missing)
    elif kind == "one":
        options["padding"] = int(rng.integers(0, 3))
        padding = tuple((options["padding"],) * 2 for _ in sizes)
    elif kind == "each":
        options["padding"] = rng.integers(0, 3, rank).tolist()
        padding = tuple((p, p) for p in options["padding"])
    elif kind in ("pairs", "crop"):
        low = -1 if kind == "crop" else 0
        pairs = rng.integers(low, 3, (rank, 2)).tolist()
        padding = tuple((lo, hi) for lo, hi in pairs)
        options["padding"] = padding
        sizes = [h + 2 for h in sizes]
    groups = options["groups"]
    per_group, filters = rng.integers(1, 4, 2).tolist()
    n = int(rng.integers(1, 4))
    x = rng.normal(size=(n, *sizes, per_group * groups))
    w = rng.normal(size=(*taps, per_group, filters * groups))
    return Geometry(x, w, options, padding)


def moves(given: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and dilation along each axis."""
    rank = len(given.padding)
    return each(given.options["stride"], rank), each(given.options["dilation"], rank)


def num_places(given: Geometry) -> tuple[int, ...]:
    """Counted: the places where the last tap is not behind the padding."""
    sizes, taps = given.x.shape[1:-1], given.w.shape[:-2]
    axes = zip(sizes, taps, *moves(given), given.padding, strict=True)
    return tuple(
        sum(s * p - lo + d * (k - 1) < h + hi for p in range(50))
        for h, k, s, d, (lo, hi) in axes
    )


def meetings(given: Geometry, places: Any, sizes: Any, padding: Any) -> Any:
    """(place, tap, pixel) wherever a tap lies on an image of these sizes."""
    stride, gaps = moves(given)
    for place in itertools.product(*map(range, places)):
        for tap in itertools.product(*map(range, given.w.shape[:-2])):
            pixel = tuple(
                s * p + d * i - lo
                for s, p, d, i, (lo, _) in zip(
                    stride, place, gaps, tap, padding, strict=True
                )
            )
            if all(0 <= a < h for a, h in zip(pixel, sizes, strict=True)):
                yield place, tap, pixel


def by_group(given: Geometry) -> Any:
    """The channels of x and the filters that belong together."""
    groups = given.options["groups"]
    per_group = given.w.shape[-2]
    filters = given.w.shape[-1] // groups
    for g in range(groups):
        yield (
            slice(g * per_group, (g + 1) * per_group),
            slice(g * filters, (g + 1) * filters),
        )


def convolved(given: Geometry) -> np.ndarray:
    x, w = given.x, given.w
    places = num_places(given)
    y = np.zeros((x.shape[0], *places, w.shape[-1]))
    for place, tap, pixel in meetings(given, places, x.shape[1:-1], given.padding):
        for c, o in by_group(given):
            seen = x[(slice(None), *pixel, c)]
            y[(slice(None), *place, o)] += seen @ w[tap][:, o]
    return y


def painted(given: Geometry, y: np.ndarray, sizes: Any, padding: Any) -> np.ndarray:
    w = given.w
    x = np.zeros((y.shape[0], *sizes, w.shape[-2] * given.options["groups"]))
    for place, tap, pixel in meetings(given, y.shape[1:-1], sizes, padding):
        for c, o in by_group(given):
            brush = w[tap][:, o].T
            x[(slice(None), *pixel, c)] += y[(slice(None), *place, o)] @ brush
    return x


def filter_slopes(given: Geometry, dy: np.ndarray) -> np.ndarray:
    x, dw = given.x, np.zeros_like(given.w)
    for place, tap, pixel in meetings(
        given, dy.shape[1:-1], x.shape[1:-1], given.padding
    ):
        for c, o in by_group(given):
            seen = x[(slice(None), *pixel, c)]
            dw[tap][:, o] += seen.T @ dy[(slice(None), *place, o)]
    return dw


def assert_close(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def tensors(*arrays: np.ndarray) -> list[cr.Tensor]:
    return [cr.Tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_convolution_and_its_slopes_are_what_the_loops_say(seed, rank):
    given = draw(seed, rank)
    x, w = tensors(given.x, given.w)
    y = cr.conv(x, w, **given.options)
    assert_close(y.data, convolved(given))
    dy = np.random.default_rng(seed).normal(size=y.shape)
    dx, dw = gradients(y, [x, w], [dy])
    assert_close(dx.data, painted(given, dy, given.x.shape[1:-1], given.padding))
    assert_close(dw.data, filter_slopes(given, dy))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_transposed_convolution_paints_filters_where_the_loops_do(seed, rank):
    given = draw(seed, rank)
    rng = np.random.default_rng(seed)
    stride, gaps = moves(given)
    more = [int(rng.integers(0, max(pair))) for pair in zip(stride, gaps, strict=True)]
    small = tuple(rng.integers(1, 5, rank).tolist())
    reach = [d * (k - 1) + 1 for d, k in zip(gaps, given.w.shape, strict=False)]
    if given.options.get("padding") == "same":
        missing = [max(r - s, 0) for r, s in zip(reach, stride, strict=True)]
        padding = [(m // 2, m - m // 2) for m in missing]
        large = [h * s + m for h, s, m in zip(small, stride, more, strict=True)]
    else:
        padding = list(given.padding)
        large = [
            (h - 1) * s + r - lo - hi + m
            for h, s, r, (lo, hi), m in zip(
                small, stride, reach, padding, more, strict=True
            )
        ]
    z = rng.normal(size=(2, *small, given.w.shape[-1]))
    if min(large) < 1:
        with pytest.raises(ShapeError, match="nothing is left of the image"):
            cr.conv_transpose(z, given.w, output_padding=more, **given.options)
        return
    x, w = tensors(z, given.w)
    y = cr.conv_transpose(x, w, output_padding=more, **given.options)
    assert_close(y.data, painted(given, z, large, padding))
    # It is linear in either operand: Σ dy·y = Σ dx·x = Σ dw·w.
    dy = rng.normal(size=y.shape)
    for leaf, slope in zip([x, w], gradients(y, [x, w], [dy]), strict=True):
        total = (slope.data * leaf.data).sum()
        assert total == pytest.approx((dy * y.data).sum(), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", NATIVE_SEEDS)
def test_native_convolution_agrees_for_any_geometry(seed, dtype, agreement):
    given = draw(seed, rank=1 if seed % 4 == 0 else 2)
    agreement.check(
        lambda x, w: cr.conv(x, w, **given.options), [given.x, given.w], dtype
    )


@pytest.mark.parametrize("seed", NATIVE_SEEDS)
def test_native_transposed_convolution_agrees_for_any_geometry(seed, agreement):
    given = draw(seed, rank=1 if seed % 4 == 0 else 2)
    sizes = (5, 6)[: len(given.padding)]
    z = np.random.default_rng(seed).normal(size=(2, *sizes, given.w.shape[-1]))
    agreement.check(
        lambda x, w: cr.conv_transpose(x, w, **given.options), [z, given.w], "float32"
    )


# ------------------------------------------------------------------ what is derived


def test_a_filter_is_not_flipped():
    x = np.arange(5.0).reshape(1, 5, 1)
    w = cr.Tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
    assert cr.conv(x, w).reshape(3).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
def test_same_padding_gives_the_size_over_the_stride_rounded_up(size, taps, stride):
    x, w = np.zeros((1, size, size, 1)), np.zeros((taps, taps, 1, 1))
    y = cr.conv(x, w, stride=stride, padding="same")
    assert y.shape[1:3] == (-(-size // stride),) * 2
    back = cr.conv_transpose(y, w, stride=stride, padding="same")
    assert back.shape[1:3] == (stride * y.shape[1],) * 2


def test_transposed_convolution_restores_the_size_with_output_padding():
    w = np.zeros((4, 4, 1, 1))
    for size in (7, 8):
        small = cr.conv(np.zeros((1, size, size, 1)), w[:3, :3], stride=2, padding=1)
        assert small.shape == (1, 4, 4, 1)
        back = cr.conv_transpose(
            small, w[:3, :3], stride=2, padding=1, output_padding=size - 7
        )
        assert back.shape == (1, size, size, 1)


def test_the_patches_of_a_large_image_are_laid_out_in_parts(monkeypatch):
    given = draw(3, rank=2)
    whole = cr.conv(given.x, given.w, **given.options)
    monkeypatch.setattr("chainrule.ops.convolution._BLOCK_BYTES", 1)
    x, w = tensors(given.x, given.w)
    y = cr.conv(x, w, **given.options)
    np.testing.assert_allclose(y.data, whole.data, rtol=1e-13)
    dy = np.random.default_rng(0).normal(size=y.shape)
    (dw,) = gradients(y, [w], [dy])
    assert_close(dw.data, filter_slopes(given, dy))


def test_operands_of_two_dtypes_meet_in_the_wider():
    x, w = np.ones((1, 3, 3, 1), np.int64), np.ones((2, 2, 1, 1), np.float32)
    assert cr.conv(x, w).dtype == np.float32
    assert cr.conv(x.astype("float32"), w.astype("float64")).dtype == np.float64
    counts = cr.conv(x, np.ones((2, 2, 1, 1), np.int64))
    assert counts.dtype == np.int64
    assert counts.tolist() == [[[[4], [4]], [[4], [4]]]]


# --------------------------------------------------------------------- what is refused


IMAGES = cr.Tensor(np.zeros((2, 5, 6, 4), np.float32))


def filters(*sizes: int) -> cr.Tensor:
    return cr.Tensor(np.zeros(sizes, np.float32))


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (
            lambda: cr.conv(IMAGES, filters(3, 7, 4, 1), padding=(1, 0), dilation=2),
            "conv: the window is larger than the image\n"
            "  got:      w = 6, padding 0 + 0, window 7, dilation 2\n"
            "  expected: 6 + 0 + 0 ≥ 2·(7 - 1) + 1 = 13; the output size is "
            "(6 + 0 + 0 - 13) // 1 + 1\n"
            "  try:      use larger images, fewer poolings or strides before this "
            "layer, a smaller window, or padding='same'",
        ),
        (
            lambda: cr.conv(IMAGES, filters(3, 3, 3, 8)),
            "conv: filters for other channels\n"
            "  got:      images of 4 channels, filters for 3\n"
            "  expected: 4 = 1·(channels of a filter)\n"
            "  try:      make in_channels 4",
        ),
        (
            lambda: cr.conv(IMAGES, filters(3, 3, 4, 8), groups=2),
            "conv: filters for other channels\n"
            "  got:      images of 4 channels, filters for 4 in each of 2 groups\n"
            "  expected: 4 = 2·(channels of a filter)\n"
            "  try:      make in_channels 4",
        ),
        (
            lambda: cr.conv(IMAGES, filters(3, 3, 2, 5), groups=2),
            "conv: the filters do not divide into groups\n"
            "  got:      5 filters, 2 groups\n"
            "  expected: a multiple of the number of groups",
        ),
        (
            lambda: cr.conv(IMAGES[0], filters(3, 3, 4, 1)),
            "conv: images and filters need as many axes\n"
            "  got:      float32[5, 6, 4] and float32[3, 3, 4, 1]\n"
            "  expected: images (n, h, w, channels), filters (kh, kw, channels, "
            "filters)\n"
            "  try:      one example: x[None]; grey images: x[..., None]",
        ),
        (
            lambda: cr.conv_transpose(IMAGES, filters(3, 3, 2, 3)),
            "conv_transpose: filters for other channels\n"
            "  got:      images of 4 channels, filters for 3\n"
            "  expected: filters (*size, channels of the result, 4)\n"
            "  try:      make in_channels 4",
        ),
        (
            lambda: cr.conv_transpose(IMAGES, filters(1, 1, 2, 4), padding=3),
            "conv_transpose: nothing is left of the image\n"
            "  got:      float32[2, 5, 6, 4], window 1×1, padding 3\n"
            "  expected: (size - 1)·stride + reach - before - behind ≥ 1\n"
            "  try:      use less padding",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_arithmetic(run, text):
    with pytest.raises(ShapeError) as error:
        run()
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"stride": 0},
            "conv: stride does not fit\n"
            "  got:      stride=0\n"
            "  expected: a whole number from 1 on, or 2 of them",
        ),
        (
            {"stride": 1.5},
            "conv: stride does not fit\n"
            "  got:      stride=1.5\n"
            "  expected: a whole number from 1 on, or 2 of them",
        ),
        (
            {"dilation": (1, 2, 3)},
            "conv: dilation does not fit\n"
            "  got:      dilation=(1, 2, 3)\n"
            "  expected: a whole number from 1 on, or 2 of them",
        ),
        (
            {"padding": "full"},
            "conv: padding does not fit\n"
            "  got:      padding='full'\n"
            "  expected: 'valid', 'same', a number, 2 numbers, or 2 (before, behind) "
            "pairs",
        ),
        (
            {"padding": [(1, 1)]},
            "conv: padding does not fit\n"
            "  got:      padding=[(1, 1)]\n"
            "  expected: 'valid', 'same', a number, 2 numbers, or 2 (before, behind) "
            "pairs",
        ),
        (
            {"groups": 0},
            "conv: groups is not a number of groups\n"
            "  got:      0\n"
            "  expected: a whole number, 1 or more",
        ),
    ],
)
def test_options_that_are_none_are_refused(options, text):
    with pytest.raises(OptionError) as error:
        cr.conv(IMAGES, filters(3, 3, 4, 8), **options)
    assert str(error.value) == text


def test_output_padding_reaches_the_stride_at_most():
    for more in (2, -1, (1, 1, 1), 1.5, "1"):
        with pytest.raises(OptionError, match="output_padding does not fit"):
            cr.conv_transpose(
                IMAGES, filters(3, 3, 2, 4), stride=2, output_padding=more
            )
