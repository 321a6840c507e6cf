"""Classical demosaicking: where it is exact, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data as photographs

from chainrule.data import Keys
from chainrule.data.corruptions import Mosaic
from chainrule.errors import ShapeError
from chainrule.restoration import psnr
from chainrule.restoration.demosaicking import bilinear, malvar

PATTERNS = ("rggb", "grbg", "gbrg", "bggr")
every_pattern = pytest.mark.parametrize("pattern", PATTERNS)


def mosaic(pictures: Any, pattern: str) -> Any:
    return Mosaic(pattern)(pictures, Keys(0, 0, np.arange(len(pictures))))


def photo() -> Any:
    return photographs.chelsea()[None, 60:180, 100:261].astype(np.float32)


@every_pattern
@pytest.mark.parametrize("method", [bilinear, malvar])
def test_planes_that_rise_evenly_come_back_exactly(method: Any, pattern: str) -> None:
    y, x = np.mgrid[:12, :15].astype(np.float32)
    planes = [3 * y + x + 20, 90 - 2 * y + 4 * x, 5 * y + 7]
    picture = np.stack(planes, axis=-1)[None]
    restored = method(*mosaic(picture, pattern))
    assert restored.dtype == np.float32
    # Near the border a neighbour is missing or mirrored.
    inner = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(restored[inner], picture[inner], atol=1e-4)


@every_pattern
@pytest.mark.parametrize("method", [bilinear, malvar])
def test_what_was_measured_stays(method: Any, pattern: str) -> None:
    damaged = mosaic(photo(), pattern)
    restored = method(*damaged)
    np.testing.assert_array_equal(restored[~damaged.lost], photo()[~damaged.lost])


@every_pattern
def test_malvars_correction_is_worth_decibels(pattern: str) -> None:
    damaged = mosaic(photo(), pattern)
    gain = psnr(photo(), malvar(*damaged)) - psnr(photo(), bilinear(*damaged))
    assert gain > 3.5


def test_malvars_rule_for_green_is_its_papers() -> None:
    # Green at red: the four greens' mean, and a quarter of red's second differences:
    # ĝ = mean(g) + α/4·(4r - Σ r two pixels away) with α = 1/2.
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (1, 9, 9, 3)).astype(np.float32)
    r, g, _ = np.moveaxis(picture[0], -1, 0)
    green = malvar(*mosaic(picture, "rggb"))[0, 4, 4, 1]
    greens = (g[3, 4] + g[5, 4] + g[4, 3] + g[4, 5]) / 4
    bend = 4 * r[4, 4] - r[2, 4] - r[6, 4] - r[4, 2] - r[4, 6]
    assert green == pytest.approx(greens + bend / 8, rel=1e-5)


def test_bilinear_takes_any_pattern_without_gaps() -> None:
    filters = np.arange(60).reshape(6, 10) % 3  # stripes of three filters
    lost = (filters[..., None] != np.arange(3))[None]
    flat = np.broadcast_to(np.float32([30, 60, 90]), (1, 6, 10, 3))
    np.testing.assert_allclose(bilinear(np.where(lost, 0, flat), lost), flat, rtol=1e-6)


def test_malvar_refuses_what_is_no_bayer_pattern() -> None:
    picture, lost = mosaic(photo(), "rggb")
    stripes = (np.arange(161) % 3)[None, None, :, None] != np.arange(3)
    for wrong in (
        np.zeros_like(lost),
        np.broadcast_to(stripes, lost.shape),
        np.concatenate([lost[:, 1:], lost[:, :1]], axis=1)[:, :, ::-1][:, :, :1],
    ):
        with pytest.raises(ShapeError, match="malvar: the mosaic is not that of a Ba"):
            malvar(picture[:, :, : wrong.shape[2]], wrong)
