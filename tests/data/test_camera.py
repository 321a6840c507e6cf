"""Cameras: what filters, exposure and a sensor leave of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data as photographs

from chainrule.data import Keys
from chainrule.data.corruptions import Exposure, Mosaic, Raw, parse_corruption
from chainrule.data.corruptions.camera import from_light, to_light
from chainrule.errors import OptionError, ShapeError

PATTERNS = ("rggb", "grbg", "gbrg", "bggr")


def keys(*indices: int) -> Keys:
    return Keys(0, 0, np.array(indices))


def photo() -> Any:
    return photographs.astronaut()[None, :90, 150:271].astype(np.float32)


def test_the_tone_curve_is_that_of_the_standard_and_its_inverse_undoes_it() -> None:
    levels = np.arange(256, dtype=np.float32)
    light = to_light(levels)
    # Both pieces at known places: 10/255/12.92, and ((128/255 + 0.055)/1.055)^2.4.
    np.testing.assert_allclose(light[[0, 10, 128, 255]], [0, 0.00303527, 0.21586, 1],
                               rtol=1e-5)  # fmt: skip
    assert (np.diff(light) > 0).all()
    np.testing.assert_allclose(from_light(light), levels, atol=1e-3)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_mosaic_keeps_the_color_of_each_pixels_filter(pattern: str) -> None:
    x = photo()
    y, lost = Mosaic(pattern)(x, keys(0))
    np.testing.assert_array_equal(y, np.where(lost, 0, x))
    for i, j in np.ndindex(4, 5):
        seen = "rgb".index(pattern[2 * (i % 2) + j % 2])
        assert (~lost[0, i, j]).tolist() == [c == seen for c in range(3)]


def test_exposure_keeps_what_it_does_not_clip() -> None:
    x, exposure = photo(), Exposure(3)
    y, lost = exposure(x, keys(0))
    clipped = to_light(x) * 3 >= 1
    assert lost is None
    assert 0.1 < clipped.mean() < 0.9
    assert (y[clipped] == 255).all()
    np.testing.assert_allclose(exposure.undone(y)[~clipped], x[~clipped], atol=1e-3)
    np.testing.assert_allclose(to_light(exposure.undone(y)[clipped]), 1 / 3, rtol=1e-5)
    # What reaches the last level is indistinguishable from what is clipped.
    assert (exposure.is_clipped(y) == (y >= 254.5)).all()


def test_raw_data_without_noise_is_the_picture_in_the_sensors_colors() -> None:
    x = photo()
    mosaics = [Raw(0, pattern)(x, keys(0)) for pattern in PATTERNS]
    # Every pixel is seen through every filter under one of the patterns.
    seen = sum(m.pictures for m in mosaics)
    times = sum(~m.lost for m in mosaics)
    assert set(np.unique(times)) == {1, 2}
    np.testing.assert_allclose(Raw(0).developed(seen / times), x, atol=0.05)


def test_white_has_more_green_than_red_and_blue_in_raw_data() -> None:
    white = np.full((1, 2, 2, 3), 255, np.float32)
    cell = Raw(0)(white, keys(0)).pictures[0].sum(axis=-1) / 255
    np.testing.assert_allclose(cell, [[1 / 2, 1], [1, 1 / 1.7]], rtol=1e-6)


@pytest.mark.parametrize("iso", [400, 6400])
@pytest.mark.parametrize("level", [40, 160])
def test_the_noise_of_raw_data_is_as_it_is_stated(iso: float, level: float) -> None:
    grey = np.full((1, 200, 200, 3), level, np.float32)
    raw = Raw(iso)
    clean = Raw(0)(grey, keys(0)).pictures.sum(axis=-1) / 255
    noise = raw(grey, keys(0)).pictures.sum(axis=-1) / 255 - clean
    for i, j in np.ndindex(2, 2):
        signal, found = clean[0, i, j], noise[0, i::2, j::2]
        variance = iso * 1e-6 * signal + (iso * 1e-6) ** 2
        assert found.var() == pytest.approx(variance, rel=0.06)
        assert abs(found.mean()) < 4 * np.sqrt(variance / found.size)
        np.testing.assert_allclose(raw.deviation(signal) ** 2, variance, rtol=1e-5)


def test_a_picture_is_damaged_alike_in_any_batch() -> None:
    x = np.concatenate([photo(), photo()[:, ::-1]])
    together = Raw(3200)(x, keys(7, 9)).pictures
    np.testing.assert_array_equal(Raw(3200)(x[1:], keys(9)).pictures, together[1:])
    assert (together[0] != Raw(3200)(x[:1], keys(8)).pictures[0]).any()


@pytest.mark.parametrize(
    ("text", "corruption"),
    [
        ("mosaic:bayer", Mosaic()),
        ("mosaic:bayer:gbrg", Mosaic("gbrg")),
        ("exposure:2.5", Exposure(2.5)),
        ("raw:800", Raw(800)),
        ("raw:bggr:800", Raw(800, "bggr")),
    ],
)
def test_texts_name_cameras_and_cameras_tell_their_texts(
    text: str, corruption: Any
) -> None:
    assert parse_corruption(text) == corruption
    assert str(corruption) == text


def test_what_no_camera_does_is_refused() -> None:
    for make in (Mosaic(), Raw()):
        with pytest.raises(ShapeError) as caught:
            make(np.zeros((1, 8, 8, 1), np.float32), keys(0))
        assert str(caught.value) == (
            f"{make.name}: colour filters need pictures in colour\n"
            "  got:      an array of shape (1, 8, 8, 1)\n"
            "  expected: (n, h, w, 3)\n"
            "  try:      grey pictures have no colours to lose"
        )
    for cls in (Mosaic, Raw):
        with pytest.raises(
            OptionError, match=r"unknown pattern of (mosaic|raw) 'rgbb'"
        ):
            cls(pattern="rgbb")
    with pytest.raises(OptionError, match=r"exposure.*gain out of range"):
        Exposure(0.5)
    for iso in (-1, np.nan, np.inf):
        with pytest.raises(OptionError, match=r"raw.*iso out of range"):
            Raw(iso)
