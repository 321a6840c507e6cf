"""Biharmonic inpainting: scikit-image's where that one works, and where it does not."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from chainrule.restoration.biharmonic import fill_biharmonic


@pytest.fixture
def planes():
    """Three smooth planes of 30×40."""
    rng = np.random.default_rng(0)
    return 100 + 300 * ndimage.gaussian_filter(rng.normal(size=(3, 30, 40)), (0, 4, 4))


def holes(kind):
    mask = np.zeros((30, 40), bool)
    if kind == "pixels":
        mask[2:-2, 2:-2] = np.random.default_rng(1).random((26, 36)) < 0.5
    elif kind == "two boxes":
        mask[5:12, 6:15] = mask[20:26, 12:33] = True
    else:
        mask[:9, 10:18] = True
    return mask


@pytest.mark.parametrize("kind", ["pixels", "two boxes", "at the border"])
def test_it_agrees_with_scikit_image(planes, kind):
    mask = holes(kind)
    damaged = np.where(mask, 0, planes)
    found = fill_biharmonic(damaged, mask)
    channels_last = np.moveaxis(damaged, 0, -1)
    expected = inpaint_biharmonic(channels_last, mask, channel_axis=-1)
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, 0), atol=1e-6)
    np.testing.assert_array_equal(found[:, ~mask], planes[:, ~mask])


def test_what_bends_nowhere_is_found_exactly():
    rows, columns = np.mgrid[:30, :40]
    plane = (2.0 * rows - 3.0 * columns)[None]
    mask = holes("two boxes")
    np.testing.assert_allclose(
        fill_biharmonic(np.where(mask, 0, plane), mask), plane, atol=1e-8
    )


def test_masks_of_everything_and_of_nothing_leave_all_as_it_is(planes):
    for mask in (np.zeros((30, 40), bool), np.ones((30, 40), bool)):
        np.testing.assert_array_equal(fill_biharmonic(planes, mask), planes)


def test_holes_of_any_shape_at_the_border_are_filled(planes):
    # Strokes across corners, at which scikit-image 0.26 breaks off.
    rng = np.random.default_rng(2)
    for _ in range(20):
        mask = ndimage.binary_dilation(rng.random((30, 40)) < 0.01, iterations=3)
        found = fill_biharmonic(np.where(mask, 0, planes), mask)
        error = np.abs(found - planes)[:, mask]
        assert error.mean() < np.abs(planes - planes.mean())[:, mask].mean()
