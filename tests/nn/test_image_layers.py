"""Layers of images: what each adds to the op that it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.errors import OptionError, ShapeError

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 5, 6, 3))


def numerical(f: Any, array: Any, step: float = 1e-6) -> Any:
    """Central differences of a scalar function by each element, in place."""
    slopes = np.empty(array.shape)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = f()
        array[place] = value - step
        below = f()
        array[place] = value
        slopes[place] = (above - below) / (2 * step)
    return slopes


# ------------------------------------------------------------------------ convolution


def test_a_convolution_has_filters_kh_kw_in_out_and_a_bias_of_zeros() -> None:
    layer = nn.Conv(6, 8, (3, 5), groups=2)
    assert layer.weight.shape == (3, 5, 3, 8)
    assert layer.bias.tolist() == [0.0] * 8
    assert layer.weight.is_penalized
    assert not layer.bias.is_penalized
    assert nn.Conv(6, 8, 3, bias=False).num_parameters() == 3 * 3 * 6 * 8


def test_a_dense_layer_is_a_convolution_with_filters_of_the_images_size() -> None:
    dense, conv = nn.Dense(5 * 6 * 3, 7), nn.Conv(3, 7, (5, 6))
    conv.astype("float64")
    cr.assign(conv.weight, dense.weight.data.reshape(5, 6, 3, 7).astype("float64"))
    y = conv(IMAGES)
    assert y.shape == (4, 1, 1, 7)
    np.testing.assert_allclose(
        y.data.reshape(4, 7), dense.astype("float64")(IMAGES.reshape(4, -1)).data
    )


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Conv(64, 32, 3), 9 * 64),
        (nn.Conv(64, 64, 3, groups=64), 9),
        (nn.Conv(64, 128, 5, stride=2, groups=4), 25 * 16),
        # Each output pixel is painted by a quarter of a filter's taps.
        (nn.ConvTranspose(64, 32, 4, stride=2), 4 * 64),
        (nn.ConvTranspose(64, 32, 3), 9 * 64),
    ],
)
def test_filters_start_by_what_an_output_sees(layer: Any, fan_in: int) -> None:
    weight = layer.initialize(0).weight.data
    assert weight.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.1)


def test_signals_keep_their_size_through_he_started_convolutions() -> None:
    x = cr.Tensor(RNG.normal(size=(2, 16, 16, 32)).astype(np.float32))
    for layer in (nn.Conv(32, 64, 3), nn.ConvTranspose(32, 64, 4, stride=2)):
        y = layer.initialize(0)(x).data[:, 3:-3, 3:-3]
        assert y.var() == pytest.approx(2 * x.data.var(), rel=0.15)


def test_transposed_convolution_is_the_convolutions_gradient() -> None:
    conv, back = nn.Conv(3, 4, 3, stride=2, bias=False), nn.ConvTranspose(
        4, 3, 3, stride=2, bias=False, output_padding=(0, 1)
    )  # fmt: skip
    cr.assign(back.weight, conv.weight)
    x = cr.Tensor(IMAGES.astype(np.float32), requires_grad=True)
    y = conv(x)
    dy = cr.Tensor(RNG.normal(size=y.shape).astype(np.float32))
    (dx,) = gradients((y * dy).sum(), [x])
    np.testing.assert_allclose(back(dy).data, dx.data, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: nn.Conv(0, 1, 3), "in_channels is not a size"),
        (lambda: nn.Conv(1, 1, 3, padding="full"), "conv: padding does not fit"),
        (lambda: nn.Conv(1, 1, 3, stride=0), "conv: stride does not fit"),
        (lambda: nn.Conv(1, 1, (3, 3, 3, 3)), "so many axes"),
        (lambda: nn.Conv(4, 6, 3, groups=4), "do not divide into groups"),
        (lambda: nn.ConvTranspose(1, 1, 3, output_padding=-1), "output_padding"),
        (lambda: nn.MaxPool(0)(IMAGES), "max_pool: size does not fit"),
        (lambda: nn.SpatialPyramidPool(()), "no levels"),
        (lambda: nn.SpatialPyramidPool(kind="median"), "unknown kind of pooling"),
        (lambda: nn.Upsample(2, "bilinaer")(IMAGES), "unknown mode"),
        (lambda: nn.BatchNorm(3, momentum=2), "momentum out of range"),
        (lambda: nn.BatchNorm(3, eps=0), "eps out of range"),
        (lambda: nn.GroupNorm(3, 8), "do not divide into groups"),
        (lambda: nn.SpatialDropout(1.0), "rate out of range"),
    ],
)
def test_options_that_make_no_layer_are_refused(make: Any, what: str) -> None:
    with pytest.raises(OptionError, match=what):
        make()


def test_an_image_smaller_than_the_filters_gets_the_arithmetic() -> None:
    net = nn.Sequential(features=nn.Sequential(nn.MaxPool(2), nn.Conv(3, 4, 5)))
    with pytest.raises(ShapeError) as caught:
        net(IMAGES)
    assert str(caught.value) == (
        "conv: the window is larger than the image (layer features.1)\n"
        "  got:      h = 2, padding 0 + 0, window 5, dilation 1\n"
        "  expected: 2 + 0 + 0 ≥ 1·(5 - 1) + 1 = 5; the output size is "
        "(2 + 0 + 0 - 5) // 1 + 1\n"
        "  try:      use larger images, fewer poolings or strides before this layer, "
        "a smaller window, or padding='same'"
    )


def test_layers_print_as_the_calls_that_make_them() -> None:
    assert [repr(layer) for layer in (
        nn.Conv(3, 8, 5, stride=2, padding="same"),
        nn.Conv(3, 8, (1, 3)),
        nn.ConvTranspose(8, 3, 4, stride=2, output_padding=1),
        nn.MaxPool(3, stride=2),
        nn.AveragePool((1, 2)),
        nn.BatchNorm(8, momentum=0.5),
        nn.GroupNorm(2, 8),
        nn.LayerNorm(8),
        nn.Upsample(2, "bilinear"),
        nn.Crop(24),
        nn.SpatialPyramidPool(),
    )] == [
        "Conv(3, 8, 5, stride=2, padding='same')",
        "Conv(3, 8, (1, 3))",
        "ConvTranspose(8, 3, 4, stride=2, output_padding=1)",
        "MaxPool(3, stride=2)",
        "AveragePool((1, 2))",
        "BatchNorm(8, momentum=0.5)",
        "GroupNorm(2, 8)",
        "LayerNorm(8)",
        "Upsample(2, mode='bilinear')",
        "Crop(24)",
        "SpatialPyramidPool((1, 2, 4), 'max')",
    ]  # fmt: skip


# -------------------------------------------------------------------------- pyramids


@pytest.mark.parametrize("kind", ["max", "average"])
def test_a_pyramid_is_its_grids_side_by_side_for_any_size(kind: str) -> None:
    layer = nn.SpatialPyramidPool((1, 2), kind)
    for h, w in ((5, 6), (2, 2), (9, 4)):
        x = RNG.normal(size=(2, h, w, 3))
        y = layer(x).data
        assert y.shape == (2, 3 + 4 * 3)
        whole = x.max(axis=(1, 2)) if kind == "max" else x.mean(axis=(1, 2))
        np.testing.assert_allclose(y[:, :3], whole)


def test_cropping_takes_the_middle_or_from_an_offset_or_by_another_image() -> None:
    np.testing.assert_array_equal(nn.Crop(3)(IMAGES).data, IMAGES[:, 1:4, 1:4])
    np.testing.assert_array_equal(
        nn.Crop((2, 3), offset=(3, 0))(IMAGES).data, IMAGES[:, 3:5, :3]
    )
    like = np.zeros((1, 1, 2, 9))
    np.testing.assert_array_equal(nn.Crop()(IMAGES, like).data, IMAGES[:, 2:3, 2:4])
    for layer in (nn.Crop(6), nn.Crop(3, offset=3), nn.Crop()):
        with pytest.raises(ShapeError, match="crop"):
            layer(IMAGES)


# --------------------------------------------------------------------- normalisation


def test_batch_norm_centres_and_scales_channels_over_the_minibatch() -> None:
    layer = nn.BatchNorm(3).astype("float64")
    y = layer(5 * IMAGES + 2).data
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, rtol=1e-5)
    cr.assign(layer.scale, [1.0, 2.0, 3.0])
    cr.assign(layer.offset, [0.0, 0.0, 7.0])
    z = layer(5 * IMAGES + 2).data
    np.testing.assert_allclose(z, y * [1, 2, 3] + [0, 0, 7])


def test_running_statistics_follow_mean_and_unbiased_variance() -> None:
    layer = nn.BatchNorm(3, momentum=0.3).astype("float64")
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(2, 3, size=(4, 5, 6, 3))
        layer(x)
        mean = 0.7 * mean + 0.3 * x.mean(axis=(0, 1, 2))
        variance = 0.7 * variance + 0.3 * x.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(layer.mean.data, mean)
    np.testing.assert_allclose(layer.variance.data, variance)
    y = layer.eval()(IMAGES).data
    np.testing.assert_allclose(y, (IMAGES - mean) / np.sqrt(variance + 1e-5))
    np.testing.assert_array_equal(layer.mean.data, layer.state()["mean"])
    assert set(layer.state()) == {"scale", "offset", "mean", "variance"}


def test_batch_norms_gradient_in_training_agrees_with_differences() -> None:
    layer = nn.BatchNorm(3).astype("float64")
    rng = np.random.default_rng(1)
    cr.assign(layer.scale, rng.normal(size=3))
    x = cr.Tensor(rng.normal(size=(3, 2, 2, 3)), requires_grad=True)
    weights = rng.normal(size=x.shape)
    found = gradients((layer(x) * weights).sum(), [x, *layer.parameters()])
    for leaf, slope in zip([x, *layer.parameters()], found, strict=True):
        expected = numerical(lambda: float((layer(x).data * weights).sum()), leaf.data)
        np.testing.assert_allclose(slope.data, expected, rtol=1e-6, atol=1e-7)


def test_a_minibatch_of_one_number_moves_no_variance_and_breaks_nothing() -> None:
    layer = nn.BatchNorm(2)
    assert layer([[3.0, -1.0]]).tolist() == [[0.0, 0.0]]
    assert layer.variance.tolist() == [1.0, 1.0]
    assert np.isfinite(layer.mean.data).all()


def test_freezing_batch_norm_freezes_its_statistics() -> None:
    x = IMAGES.astype(np.float32)
    for layer in (
        nn.BatchNorm(3, frozen=True),
        nn.BatchNorm(3, frozen=True, affine=False),
        nn.BatchNorm(3).freeze(),
    ):
        y = layer(x).data
        np.testing.assert_array_equal(layer.mean.data, np.zeros(3))
        np.testing.assert_array_equal(y, layer.eval()(x).data)
    layer = nn.BatchNorm(3).freeze().unfreeze()
    layer(x)
    assert layer.mean.data.any()
    half = nn.BatchNorm(3).freeze("offset")
    half(x)
    assert half.mean.data.any(), "only what is wholly frozen keeps its statistics"


def test_group_norm_is_layer_norm_for_one_group_and_instance_norm_for_all() -> None:
    x = IMAGES[..., [0, 1, 2, 0]] + RNG.normal(size=(4, 5, 6, 4))
    one, each = nn.GroupNorm(1, 4), nn.GroupNorm(4, 4)
    np.testing.assert_allclose(
        one.astype("float64")(x).data,
        nn.LayerNorm((5, 6, 4)).astype("float64")(x).data,
    )
    np.testing.assert_allclose(
        each.astype("float64")(x).data,
        nn.MeanVarianceNorm(eps=1e-5)(x).data,
    )
    pairs = nn.GroupNorm(2, 4).astype("float64")(x).data
    for part in (pairs[..., :2], pairs[..., 2:]):
        np.testing.assert_allclose(part.mean(axis=(1, 2, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(part.var(axis=(1, 2, 3)), 1, rtol=1e-4)


def test_mean_variance_norm_has_caffes_options() -> None:
    y = nn.MeanVarianceNorm(across_channels=True)(IMAGES).data
    np.testing.assert_allclose(y.std(axis=(1, 2, 3)), 1, rtol=1e-6)
    y = nn.MeanVarianceNorm(variance=False)(IMAGES).data
    mean = IMAGES.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(y, IMAGES - mean, atol=1e-12)


def test_local_response_norm_has_alexnets_numbers() -> None:
    x = RNG.normal(size=(2, 3, 3, 7))
    squares = np.pad(x**2, ((0, 0),) * 3 + ((2, 2),))
    total = sum(squares[..., i : i + 7] for i in range(5))
    np.testing.assert_allclose(
        nn.LocalResponseNorm()(x).data, x / (2 + 1e-4 * total) ** 0.75
    )


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm(4), nn.LayerNorm(4), nn.LayerNorm((6, 4)), nn.GroupNorm(2, 4)],
)
def test_other_features_than_a_norm_was_made_for_are_refused(layer: Any) -> None:
    with pytest.raises(ShapeError, match="other features than the layer normalises"):
        layer(IMAGES)


def test_spatial_dropout_drops_whole_channels_and_keeps_the_mean() -> None:
    layer = nn.SpatialDropout(0.25).initialize(0)
    y = layer(np.ones((40, 3, 3, 50), np.float32)).data
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {0.0, np.float32(4 / 3)}
    assert y.mean() == pytest.approx(1.0, abs=0.03)
    assert layer.step.item() == 1
