"""Classical methods: each undoes what it is for, and libraries agree."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from skimage import data as photographs
from skimage.restoration import inpaint_biharmonic

from chainrule.data import Keys
from chainrule.data.corruptions import CORRUPTIONS, Damaged, parse_corruptions
from chainrule.errors import MissingDependencyError, OptionError
from chainrule.restoration import BASELINES, applicable, psnr, restore_with, tune
from chainrule.restoration.baselines import estimated_noise

KEYS = Keys(0, 0, np.arange(1))


@cache
def photo() -> Any:
    picture = photographs.chelsea()[None, 40:136, 90:218].astype(np.float32)
    picture.flags.writeable = False
    return picture


def damaged(*texts: str) -> tuple[Damaged, Any]:
    chain = parse_corruptions(texts)
    return chain(photo(), KEYS), chain


# Each with by how many decibels it at least makes the damaged picture better.
USES = [
    ("mean_fill", ("mask:box:20",), 3),
    ("biharmonic", ("mask:box:20",), 12),
    ("biharmonic", ("mask:pixels:0.5",), 20),
    ("non_local_means", ("noise:gaussian:25",), 7),
    ("non_local_means", ("noise:poisson:30",), 6),
    ("median", ("noise:impulse:0.1",), 12),
    ("wiener", ("noise:gaussian:25",), 6),
    ("wiener", ("blur:gaussian:1.5", "noise:gaussian:2"), 1),
    ("wiener", ("blur:motion:9:30", "noise:gaussian:2"), 1),
    ("richardson_lucy", ("blur:gaussian:1.5", "noise:gaussian:2"), 1),
    ("richardson_lucy", ("blur:defocus:3", "noise:gaussian:2"), 1),
    ("bilinear", ("mosaic:bayer",), 20),
    ("malvar", ("mosaic:bayer:gbrg",), 24),
    ("bicubic", ("downsample:2",), 0),
    ("highlight_expansion", ("exposure:3",), 15),
    ("color_correlation", ("exposure:3",), 15),
    ("camera_pipeline", ("raw:1600",), 15),
]


@pytest.mark.parametrize(("name", "texts", "least"), USES, ids=str)
def test_each_method_undoes_what_it_is_for(
    name: str, texts: tuple[str, ...], least: float
) -> None:
    given, chain = damaged(*texts)
    before = given.pictures.copy()
    parameters = tune(name, [given], [photo()], chain) if name in TUNED else {}
    restored = restore_with(name, given, chain, **parameters)
    assert (restored.shape, restored.dtype) == (photo().shape, np.float32)
    assert 0 <= restored.min() <= restored.max() <= 255
    np.testing.assert_array_equal(given.pictures, before)
    assert psnr(photo(), restored) >= psnr(photo(), given.pictures) + least


TUNED = {"wiener", "richardson_lucy", "highlight_expansion", "camera_pipeline"}


def test_every_method_is_used() -> None:
    assert {name for name, _, _ in USES} == set(BASELINES)


def test_corruptions_name_methods_that_exist() -> None:
    for kinds in CORRUPTIONS.values():
        for cls in kinds.values():
            assert set(cls.baselines) <= set(BASELINES)
    chain = parse_corruptions(["blur:gaussian:1.5", "noise:gaussian:2"])
    assert applicable(chain)[:2] == ("wiener", "richardson_lucy")
    assert "non_local_means" in applicable(chain)


def test_biharmonic_is_scikit_images_for_every_picture_and_mask() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (5, 12, 10, 2)).astype(np.float32)
    lost = np.zeros((5, 12, 10, 1), bool)
    lost[:3, 4:8, 3:7] = True  # three pictures share a mask, one has its own,
    lost[3] = rng.random((12, 10, 1)) < 0.4
    given = Damaged(np.where(lost, 0, pictures), lost)  # and one has lost nothing
    restored = restore_with("biharmonic", given, parse_corruptions(["mask:box:4"]))
    for picture, mask, found in zip(given.pictures, lost, restored, strict=True):
        wide = picture.astype(np.float64)
        expected = inpaint_biharmonic(wide, mask[..., 0], channel_axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_a_blur_and_its_border_are_undone_where_there_is_no_noise() -> None:
    given, chain = damaged("blur:gaussian:1")
    restored = restore_with("wiener", given, chain, balance=1.0)
    assert psnr(photo(), restored) > psnr(photo(), given.pictures) + 10
    rim = np.ones(photo().shape, bool)
    rim[:, 4:-4, 4:-4] = False
    assert psnr(photo(), restored, where=rim) > psnr(photo(), restored) - 3


@pytest.mark.parametrize("sigma", [2.0, 10.0, 25.0])
def test_noise_that_is_not_told_is_estimated(sigma: float) -> None:
    given, _ = damaged(f"noise:gaussian:{sigma}")
    found = estimated_noise(given.pictures[0])
    assert found == pytest.approx(sigma, abs=0.1 * sigma + 2)


def test_the_noise_that_is_told_is_what_methods_work_with() -> None:
    given, chain = damaged("noise:gaussian:25")
    weaker = parse_corruptions(["noise:gaussian:5"])
    for name in ("non_local_means", "wiener"):
        right, wrong = (psnr(photo(), restore_with(name, given, c))
                        for c in (chain, weaker))  # fmt: skip
        assert right > wrong + 3


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("richardson_lucy", ("blur:gaussian:1.5", "noise:gaussian:2")),
        ("color_correlation", ("exposure:3",)),
    ],
)
def test_tuning_finds_the_best_of_the_grid(name: str, texts: tuple[str, ...]) -> None:
    given, chain = damaged(*texts)
    parameters = tune(name, [given], [photo()], chain)
    (option, values) = next(iter(BASELINES[name].grid(chain).items()))

    def score(value: Any) -> float:
        chosen = {**parameters, option: value}
        return psnr(photo(), restore_with(name, given, chain, **chosen))

    assert parameters[option] == max(values, key=score)


def test_colors_that_go_together_tell_of_those_that_are_clipped() -> None:
    rng = np.random.default_rng(0)
    common = rng.uniform(60, 250, (1, 40, 40, 1))
    truth = (common * [1, 0.6, 0.4]).astype(np.float32)
    chain = parse_corruptions(["exposure:2"])
    given = chain(truth, KEYS)
    learned = tune("color_correlation", [given], [truth], chain)
    restored = restore_with("color_correlation", given, chain, **learned)
    assert given.pictures[..., 0].max() == 255
    assert psnr(truth, restored) > 50  # red was lost, and green and blue tell it
    plain = restore_with("highlight_expansion", given, chain, strength=0.0)
    assert psnr(truth, plain) < 30


def test_methods_that_do_not_apply_say_so() -> None:
    noisy, noise = damaged("noise:gaussian:25")
    for name in ("mean_fill", "biharmonic", "bilinear", "malvar"):
        with pytest.raises(OptionError, match=f"{name}: nothing is lost"):
            restore_with(name, noisy, noise)
    with pytest.raises(OptionError, match="no blur to undo"):
        restore_with("richardson_lucy", noisy, noise)
    with pytest.raises(OptionError, match="undoes exposure alone") as caught:
        restore_with("color_correlation", noisy, noise)
    assert caught.value.got == "noise:gaussian:25"
    with pytest.raises(OptionError, match="did you mean 'wiener'"):
        restore_with("weiner", noisy, noise)
    with pytest.raises(OptionError, match="did you mean 'wiener'"):
        tune("weiner", [noisy], [photo()], noise)


def test_without_scikit_image_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, chain = damaged("noise:gaussian:25")
    for module in [m for m in sys.modules if m.split(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match="needs scikit-image") as caught:
        restore_with("non_local_means", given, chain)
    assert caught.value.hint == "pip install 'chainrule[vision]'"
    restore_with("wiener", given, chain)  # which needs SciPy alone
