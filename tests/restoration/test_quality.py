"""PSNR and SSIM against scikit-image, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.restoration import psnr, psnr_of, ssim


def pair(*shape: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.uniform(-20, 20, shape), axis=1) + 128
    return truth, truth + rng.normal(0, 25, shape)


def test_psnr_is_scikit_images_of_all_pictures_as_one() -> None:
    truth, restored = pair(3, 20, 30, 3)
    expected = peak_signal_noise_ratio(truth, restored, data_range=255)
    assert psnr(truth, restored) == pytest.approx(expected, rel=1e-12)
    assert psnr(truth / 255, restored / 255, peak=1.0) == pytest.approx(expected)


def test_pictures_of_several_sizes_are_pooled_by_their_pixels() -> None:
    small, large = pair(4, 5, 1), pair(40, 50, 1)
    found = psnr([small[0], large[0]], [small[1], large[1]])
    errors = [np.ravel((a - b) ** 2) for a, b in (small, large)]
    assert found == pytest.approx(psnr_of(np.concatenate(errors).mean()))
    assert found != pytest.approx((psnr(*small) + psnr(*large)) / 2)


def test_psnr_in_a_hole_counts_all_channels_there_and_nothing_else() -> None:
    truth, restored = pair(2, 16, 16, 3)
    hole = np.zeros((2, 16, 16, 1), bool)
    hole[:, 4:8, 5:9] = True
    part = psnr(truth[:, 4:8, 5:9], restored[:, 4:8, 5:9])
    assert psnr(truth, restored, where=hole) == pytest.approx(part)
    assert psnr(truth, restored, where=hole.repeat(3, -1)) == pytest.approx(part)


def test_bytes_are_compared_without_wrapping_around() -> None:
    dark, bright = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, "u1")
    assert psnr(dark, bright) == psnr(bright, dark) == 0.0
    assert psnr(dark, dark) == math.inf


@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (1, 11, 40, 3), (2, 32, 17, 3)])
def test_ssim_is_scikit_images(shape: tuple[int, ...]) -> None:
    truth, restored = pair(*shape)
    each = [
        structural_similarity(
            x, y, data_range=255, channel_axis=-1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for x, y in zip(truth, restored, strict=True)
    ]  # fmt: skip
    assert ssim(truth, restored) == pytest.approx(np.mean(each), rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (3, 8, 8, 1), (1, 1, 9, 2)])
def test_the_loss_is_one_minus_the_metric(shape: tuple[int, ...]) -> None:
    truth, restored = pair(*shape)
    assert nn.ssim(restored, truth).item() == pytest.approx(1 - ssim(truth, restored))
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    truth, _ = pair(2, 16, 16, 3)
    for metric in (psnr, ssim):
        with pytest.raises(ShapeError, match="differ in shape") as caught:
            metric(truth, truth[:, :15])
        assert caught.value.got == "(16, 16, 3) and (15, 16, 3)"
        with pytest.raises(ShapeError, match="numbers of pictures differ"):
            metric(truth, truth[:1])
        with pytest.raises(ShapeError, match="no pi"):
            metric(truth[:0], truth[:0])
        with pytest.raises(OptionError, match="peak out of range"):
            metric(truth, truth, peak=0)
    with pytest.raises(ShapeError, match="no pixels"):
        psnr(truth, truth, where=np.zeros((2, 16, 16, 1), bool))
    with pytest.raises(ShapeError, match="is no picture"):
        ssim(truth[..., 0], truth[..., 0])
