"""Colour filters as a layer: what they measure, and that they can be learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import Keys
from chainrule.data.corruptions import Mosaic
from chainrule.errors import OptionError, ShapeError


def pictures(n: int = 2, h: int = 9, w: int = 7) -> Any:
    return np.random.default_rng(0).uniform(0, 1, (n, h, w, 3)).astype(np.float32)


@pytest.mark.parametrize("pattern", ["rggb", "gbrg"])
def test_bayers_filters_measure_what_a_mosaic_keeps(pattern: str) -> None:
    x = pictures()
    planes = nn.ColorFilterArray.bayer(pattern)(x).numpy()
    seen, lost = Mosaic(pattern)(x, Keys(0, 0, np.arange(2)))
    np.testing.assert_array_equal(planes.sum(axis=-1), seen.sum(axis=-1))
    # Each plane holds one cell of the pattern, so one colour, and nothing else.
    for cell, (i, j) in enumerate(np.ndindex(2, 2)):
        color = "rgb".index(pattern[cell])
        np.testing.assert_array_equal(
            planes[:, i::2, j::2, cell], x[:, i::2, j::2, color]
        )
        assert np.count_nonzero(planes[..., cell]) == x[:, i::2, j::2, 0].size
    assert lost.sum() == 2 * np.count_nonzero(planes)


def test_learned_filters_let_through_no_more_light_than_there_is() -> None:
    layer = nn.ColorFilterArray(3).initialize(1)
    filters = layer.filters().numpy()
    assert filters.shape == (3, 3, 3)
    assert (filters > 0).all()
    np.testing.assert_allclose(filters.sum(axis=-1), 1, rtol=1e-6)
    x = pictures(1, 6, 9)
    expected = np.sum(x * np.tile(filters, (2, 3, 1)), axis=-1)
    np.testing.assert_allclose(layer(x).numpy().sum(axis=-1), expected, rtol=1e-5)


def test_filters_start_as_mostly_the_colors_that_are_asked_for() -> None:
    layer = nn.ColorFilterArray(2, colors="wrgb", start="rggb").initialize(1)
    weights = layer.weight.numpy().reshape(4, 4)
    assert ["wrgb"[i] for i in weights.argmax(axis=1)] == ["r", "g", "g", "b"]
    shares = layer.filters().numpy().reshape(4, 3)
    assert shares.argmax(axis=1).tolist() == [0, 1, 1, 2]


def test_noise_is_that_of_photons_and_of_reading() -> None:
    grey = np.full((1, 20, 21, 3), 0.5, np.float32)
    noise = np.random.default_rng(0).standard_normal((1, 20, 21, 1), np.float32)
    white = [[[1, 1, 1], [0, 0, 0]], [[0, 1, 0], [1, 0, 1]]]
    layer = nn.ColorFilterArray.of(white, shot=0.01, read=0.02)
    found = layer(grey, noise).numpy() - layer(grey).numpy()
    for cell, (i, j) in enumerate(np.ndindex(2, 2)):
        light = 0.5 * sum(white[i][j])
        expected = noise[0, i::2, j::2, 0] * np.sqrt(0.01 * light + 0.02**2)
        np.testing.assert_allclose(found[0, i::2, j::2, cell], expected, atol=1e-5)


def test_mixtures_become_pure_colors_in_training_alone() -> None:
    layer = nn.ColorFilterArray(2, colors="rgbw", sharpening=0.5).initialize(0)
    before = layer.filters().numpy()
    layer.eval()(pictures())
    np.testing.assert_array_equal(layer.filters().numpy(), before)
    for _ in range(60):
        layer.train()(pictures())
    pure = layer.filters().numpy()
    np.testing.assert_allclose(pure, pure.round(), atol=1e-3)
    assert layer.steps.item() == 60


def test_filters_learn_to_see_the_color_that_is_asked_for() -> None:
    # The red of every pixel can be told from its measurement only through a red filter.
    layer = nn.ColorFilterArray(2).initialize(0)
    chosen = optim.optimizer("adam", layer.named_parameters(), lr=0.1)

    @cr.compile
    def step(x: Any) -> Any:
        error = (layer(x).sum(axis=-1) - x[..., 0]) ** 2
        loss = error.mean()
        loss.backward()
        chosen.step()
        chosen.zero_grad()
        return loss

    first, *_, last = [float(step(cr.Tensor(pictures())).data) for _ in range(150)]
    assert step.report().through_compute == []
    assert last < first / 50
    assert (layer.filters().numpy()[..., 0] > 0.9).all()


def test_tiles_see_the_pattern_where_the_whole_picture_has_it() -> None:
    network = nn.Sequential(nn.ColorFilterArray(4), nn.Conv(16, 3, 5, padding=2))
    field = nn.receptive_field(network, (32, 32, 3))
    assert field.is_local
    assert field.multiple == (4, 4)


def test_filters_that_are_none_are_refused() -> None:
    for colors in ("", "rgx", "rgg"):
        with pytest.raises(OptionError, match="colors are not a choice of filters"):
            nn.ColorFilterArray(colors=colors)
    for start in ["rgb", "rggw"]:
        with pytest.raises(OptionError, match="start is not a pattern of its filters"):
            nn.ColorFilterArray(2, start=start)
    with pytest.raises(OptionError, match="period is not a size"):
        nn.ColorFilterArray(0)
    with pytest.raises(OptionError, match="sharpening out of range"):
        nn.ColorFilterArray(sharpening=-1.0)
    with pytest.raises(OptionError, match="do not form a square") as caught:
        nn.ColorFilterArray.of(np.eye(3))
    assert caught.value.got == "3 filters"
    with pytest.raises(OptionError, match="unknown filter 'x'"):
        nn.ColorFilterArray.bayer("rgxb")
    with pytest.raises(ShapeError, match="one number of noise for each pixel"):
        nn.ColorFilterArray()(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8, 3)))
    with pytest.raises(ShapeError, match="need pictures in colour"):
        nn.ColorFilterArray()(np.zeros((1, 8, 8, 1)))
