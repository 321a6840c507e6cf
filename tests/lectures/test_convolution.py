"""The lectures' rows about convolution: sizes, gradients as convolutions, full size."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.errors import ShapeError

Array = np.ndarray


def drawn(*sizes: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=sizes)


def slopes(x: Array, f: Array, do: Array, **options: object) -> tuple[Array, Array]:
    """∂L/∂X and ∂L/∂F, by the rules of the op."""
    images, filters = (cr.Tensor(a, requires_grad=True) for a in (x, f))
    o = cr.conv(images, filters, **options)
    dx, df = gradients(o, [images, filters], [do])
    return dx.data, df.data


# ------------------------------------------------- aarhus: backpropagation, by pixels


def test_the_output_of_a_2_by_2_filter_on_3_by_3_pixels_written_out() -> None:
    x, f = drawn(3, 3), drawn(2, 2, seed=1)
    o = cr.conv(x[None, ..., None], f[..., None, None]).data[0, ..., 0]
    for i, j in np.ndindex(2, 2):
        assert o[i, j] == pytest.approx(
            x[i, j] * f[0, 0]
            + x[i, j + 1] * f[0, 1]
            + x[i + 1, j] * f[1, 0]
            + x[i + 1, j + 1] * f[1, 1]
        )


def test_the_slopes_of_a_2_by_2_filter_on_3_by_3_pixels_written_out() -> None:
    x, f, do = drawn(3, 3), drawn(2, 2, seed=1), drawn(2, 2, seed=2)
    dx, df = slopes(x[None, ..., None], f[..., None, None], do[None, ..., None])
    dx, df = dx[0, ..., 0], df[..., 0, 0]
    # A weight has met four pixels.
    for i, j in np.ndindex(2, 2):
        assert df[i, j] == pytest.approx(
            x[i, j] * do[0, 0]
            + x[i, j + 1] * do[0, 1]
            + x[i + 1, j] * do[1, 0]
            + x[i + 1, j + 1] * do[1, 1]
        )
    # A corner has met one weight, an edge two, the pixel in the middle all four.
    assert dx[0, 0] == pytest.approx(f[0, 0] * do[0, 0])
    assert dx[0, 1] == pytest.approx(f[0, 1] * do[0, 0] + f[0, 0] * do[0, 1])
    assert dx[1, 1] == pytest.approx(
        f[1, 1] * do[0, 0]
        + f[1, 0] * do[0, 1]
        + f[0, 1] * do[1, 0]
        + f[0, 0] * do[1, 1]
    )
    assert dx[2, 2] == pytest.approx(f[1, 1] * do[1, 1])


# --------------------------------------------- aarhus: backpropagation, as convolution


@pytest.mark.parametrize("channels", [(1, 1), (3, 4)])
@pytest.mark.parametrize("n", [1, 2])
def test_dl_df_is_the_convolution_of_x_with_dl_do(
    n: int, channels: tuple[int, int]
) -> None:
    x, f = drawn(n, 6, 7, channels[0]), drawn(3, 2, *channels, seed=1)
    do = drawn(n, 4, 6, channels[1], seed=2)
    _, df = slopes(x, f, do)
    # Examples are summed over, as channels are; channels are kept, as examples are.
    as_images, as_filters = x.transpose(3, 1, 2, 0), do.transpose(1, 2, 0, 3)
    found = cr.conv(as_images, as_filters).data.transpose(1, 2, 0, 3)
    np.testing.assert_allclose(df, found, rtol=1e-12)


@pytest.mark.parametrize("channels", [(1, 1), (3, 4)])
@pytest.mark.parametrize("n", [1, 2])
def test_dl_dx_is_the_full_convolution_of_dl_do_with_the_rotated_filter(
    n: int, channels: tuple[int, int]
) -> None:
    x, f = drawn(n, 6, 7, channels[0]), drawn(3, 2, *channels, seed=1)
    do = drawn(n, 4, 6, channels[1], seed=2)
    dx, _ = slopes(x, f, do)
    rotated = np.rot90(f, 2).swapaxes(2, 3)  # from outputs to inputs
    # Full: every place where filter and image share a pixel.
    found = cr.conv(do, rotated, padding=((2, 2), (1, 1))).data
    np.testing.assert_allclose(dx, found, rtol=1e-12)


@pytest.mark.parametrize(("stride", "padding"), [(2, 0), (2, 1), (3, 1)])
def test_with_stride_and_padding_dl_do_is_spread_first(
    stride: int, padding: int
) -> None:
    """Zeros between the slopes of the outputs, and what the padding saw cut off."""
    x, f = drawn(2, 9, 9, 3), drawn(3, 3, 3, 4, seed=1)
    size = (9 + 2 * padding - 3) // stride + 1
    do = drawn(2, size, size, 4, seed=2)
    dx, df = slopes(x, f, do, stride=stride, padding=padding)
    padded = 9 + 2 * padding
    spread = np.zeros((2, padded - 2, padded - 2, 4))
    spread[:, : stride * size : stride, : stride * size : stride] = do
    rotated = np.rot90(f, 2).swapaxes(2, 3)
    full = cr.conv(spread, rotated, padding=2).data
    inside = slice(padding, padding + 9)
    np.testing.assert_allclose(dx, full[:, inside, inside], rtol=1e-12, atol=1e-14)
    wide = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    met = cr.conv(wide.transpose(3, 1, 2, 0), spread.transpose(1, 2, 0, 3)).data
    np.testing.assert_allclose(df, met.transpose(1, 2, 0, 3), rtol=1e-12, atol=1e-13)


def test_differences_agree_with_both_convolutions() -> None:
    x, f, do = drawn(1, 4, 5, 2), drawn(2, 2, 2, 3, seed=1), drawn(1, 3, 4, 3, seed=2)
    dx, df = slopes(x, f, do)
    by_x = cr.numerical_gradient(lambda t: cr.sum(cr.conv(t, f) * do), x)
    by_f = cr.numerical_gradient(lambda t: cr.sum(cr.conv(x, t) * do), f)
    np.testing.assert_allclose(dx, by_x.data, atol=1e-7)
    np.testing.assert_allclose(df, by_f.data, atol=1e-7)


# -------------------------------------------------------------- toronto: architecture


def test_a_dense_layer_is_a_convolution_with_filters_of_the_inputs_size() -> None:
    x = drawn(2, 5, 6, 3)
    dense = nn.Dense(5 * 6 * 3, 4).astype("float64")
    filters = cr.reshape(dense.weight, (5, 6, 3, 4))
    y = dense(cr.flatten(cr.Tensor(x)))
    z = cr.conv(x, filters) + dense.bias
    assert z.shape == (2, 1, 1, 4)
    np.testing.assert_allclose(z.data[:, 0, 0], y.data, rtol=1e-12)
    # On a larger image it is the dense layer at every place.
    large = drawn(1, 7, 9, 3, seed=1)
    sliding = cr.conv(large, filters) + dense.bias
    assert sliding.shape == (1, 3, 4, 4)
    for i, j in np.ndindex(3, 4):
        crop = large[:, i : i + 5, j : j + 6].reshape(1, -1)
        np.testing.assert_allclose(sliding.data[:, i, j], dense(crop).data, rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "taps", "stride", "padding", "expected"),
    [
        (32, 5, 1, 0, 28),  # LeNet-5's first layer
        (28, 2, 2, 0, 14),  # and its pooling
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),  # (taps - 1) / 2 keeps the size
        (32, 5, 1, 2, 32),
        (227, 11, 4, 0, 55),  # AlexNet's first layer
        (224, 11, 4, 2, 55),
        (55, 3, 2, 0, 27),  # its overlapping pooling
        (224, 7, 2, 3, 112),  # a residual net's first layer
    ],
)
def test_the_output_has_size_plus_padding_less_taps_over_stride_plus_1_places(
    size: int, taps: int, stride: int, padding: int, expected: int
) -> None:
    assert (size + 2 * padding - taps) // stride + 1 == expected
    x, w = np.zeros((1, size, 1)), np.zeros((taps, 1, 1))
    assert cr.conv(x, w, stride=stride, padding=padding).shape[1] == expected
    pooled = cr.max_pool(x, taps, stride=stride, padding=min(padding, taps // 2))
    assert pooled.shape[1] == expected


def test_a_filter_that_does_not_fit_is_an_error_that_shows_the_arithmetic() -> None:
    with pytest.raises(ShapeError) as error:
        cr.conv(np.zeros((1, 3, 3, 1)), np.zeros((5, 5, 1, 1)))
    assert "3 + 0 + 0 ≥ 1·(5 - 1) + 1 = 5" in str(error.value)
    assert "(3 + 0 + 0 - 5) // 1 + 1" in str(error.value)
