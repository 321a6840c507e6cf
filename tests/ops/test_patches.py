"""Windows as channels, channels as pixels, and channels that inhibit each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.errors import OptionError, ShapeError

SEEDS = range(30)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_convolution_is_patches_times_filters(seed, rank):
    rng = np.random.default_rng([seed, rank])
    taps, stride, dilation = rng.integers(1, 4, (3, rank)).tolist()
    sizes = [d * (k - 1) + 2 + int(rng.integers(4))
             for k, d in zip(taps, dilation, strict=True)]  # fmt: skip
    padding = [(int(lo), int(hi)) for lo, hi in rng.integers(-1, 3, (rank, 2))]
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    if any(h + lo + hi < d * (k - 1) + 1 for h, k, d, (lo, hi) in
           zip(sizes, taps, dilation, padding, strict=True)):  # fmt: skip
        options["padding"] = "same"
    x = cr.Tensor(rng.normal(size=(2, *sizes, 3)), requires_grad=True)
    w = rng.normal(size=(*taps, 3, 4))
    y = cr.conv(x, w, **options)
    z = cr.patches(x, taps, **options) @ w.reshape(math.prod(taps) * 3, 4)
    np.testing.assert_allclose(z.data, y.data, rtol=1e-11, atol=1e-12)
    dy = rng.normal(size=y.shape)
    (by_conv,), (by_patches,) = (gradients(t, [x], [dy]) for t in (y, z))
    np.testing.assert_allclose(by_patches.data, by_conv.data, rtol=1e-11, atol=1e-12)


def test_patches_of_windows_side_by_side_are_blocks_of_pixels():
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3))
    blocks = cr.patches(x, (3, 2), stride=(3, 2))
    np.testing.assert_array_equal(cr.pixel_unshuffle(x, (3, 2)).data, blocks.data)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_shuffled_pixels_return_to_their_places(factor, rank):
    shape = (2, *(2, 3, 4)[:rank], 5 * factor**rank)
    x = np.random.default_rng(0).normal(size=shape)
    y = cr.pixel_shuffle(x, factor)
    assert y.shape == (2, *(factor * h for h in shape[1:-1]), 5)
    np.testing.assert_array_equal(cr.pixel_unshuffle(y, factor).data, x)


def test_pixel_shuffle_is_equation_4_of_its_paper():
    r, channels = 3, 2
    x = np.random.default_rng(0).normal(size=(1, 2, 4, r * r * channels))
    y = cr.pixel_shuffle(x, r).data[0]
    for row, column, c in np.ndindex(y.shape):
        source = channels * r * (row % r) + channels * (column % r) + c
        assert y[row, column, c] == x[0, row // r, column // r, source]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_neighbouring_channels_inhibit_an_activation(size):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    alpha, beta, k = 0.7, 0.6, 1.5
    expected = np.empty_like(x)
    for c in range(6):
        around = range(max(c - size // 2, 0), min(c + (size - 1) // 2, 5) + 1)
        total = sum(x[..., j] ** 2 for j in around)
        expected[..., c] = x[..., c] / (k + alpha / size * total) ** beta
    y = cr.local_response_norm(x, size, alpha=alpha, beta=beta, k=k)
    np.testing.assert_allclose(y.data, expected, rtol=1e-13)


def test_the_derivatives_of_local_response_normalisation_are_right():
    x = np.random.default_rng(0).normal(size=(2, 5))
    cr.check_gradients(lambda t: cr.local_response_norm(t, 3, alpha=0.5), x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: cr.patches(x, (2, 3), stride=(2, 1), padding=1),
        lambda x: cr.pixel_shuffle(x, 2),
        lambda x: cr.pixel_unshuffle(x, (2, 3)),
        lambda x: cr.local_response_norm(x, 5, alpha=0.1),
    ],
)
def test_native_code_agrees_for_any_batch(f, agreement):
    rng = np.random.default_rng(0)
    compiled = agreement.check(f, [rng.normal(size=(2, 4, 6, 8))])
    agreement.check_again(compiled, f, [rng.normal(size=(5, 4, 6, 8))])


@pytest.mark.parametrize(
    ("run", "kind", "text"),
    [
        (
            lambda x: cr.patches(x, 7),
            ShapeError,
            "patches: the window is larger than the image\n"
            "  got:      h = 5, padding 0 + 0, window 7, dilation 1\n"
            "  expected: 5 + 0 + 0 ≥ 1·(7 - 1) + 1 = 7; the output size is "
            "(5 + 0 + 0 - 7) // 1 + 1\n"
            "  try:      use larger images, fewer poolings or strides before this "
            "layer, a smaller window, or padding='same'",
        ),
        (
            lambda x: cr.pixel_shuffle(x, 2),
            ShapeError,
            "pixel_shuffle: the channels do not divide into blocks of pixels\n"
            "  got:      3 channels, factor 2\n"
            "  expected: a multiple of 4 channels",
        ),
        (
            lambda x: cr.pixel_unshuffle(x, 2),
            ShapeError,
            "pixel_unshuffle: the image does not divide into blocks of pixels\n"
            "  got:      float32[2, 5, 6, 3], factor 2\n"
            "  expected: sizes that are multiples of (2, 2)\n"
            "  try:      crop or pad the images",
        ),
        (
            lambda x: cr.local_response_norm(x, 0),
            OptionError,
            "local_response_norm: no neighbours\n"
            "  got:      size=0\n"
            "  expected: 1 or more",
        ),
        (
            lambda x: cr.local_response_norm(x[0, 0, 0, 0]),
            ShapeError,
            "local_response_norm: no channels\n"
            "  got:      float32[]\n"
            "  expected: (..., channels)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run, kind, text):
    with pytest.raises(kind) as error:
        run(cr.Tensor(np.zeros((2, 5, 6, 3), np.float32)))
    assert str(error.value) == text
