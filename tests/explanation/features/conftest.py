"""Networks that the tests of learned features look into; nobody changes them."""

from types import SimpleNamespace

import numpy as np
import pytest

import chainrule as cr

SIDE = 4
"""Of the patch that decides in ``planted``."""


@pytest.fixture(scope="session")
def digits():
    """A small convolutional net for the built-in digits, and their test pictures."""
    splits = cr.data.load(seed=0)
    model = cr.fit(splits.train, model="cnn", epochs=4, seed=0)
    return SimpleNamespace(
        model=model.model,
        test=splits.test,
        pictures=splits.test.read(np.arange(len(splits.test))),
    )


def noise_with_patches(count, seed):
    """Noise in which a patch of stripes says the class: standing or lying ones."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 120, size=(count, 16, 16, 1)).astype(np.uint8)
    labels = rng.integers(0, 2, count)
    corners = rng.integers(0, 16 - SIDE + 1, size=(count, 2))
    stripes = np.tile(np.array([255, 0, 255, 0], np.uint8), (SIDE, 1))
    for picture, label, (i, j) in zip(pictures, labels, corners, strict=True):
        picture[i : i + SIDE, j : j + SIDE, 0] = stripes if label else stripes.T
    return pictures, labels, corners


@pytest.fixture(scope="session")
def planted():
    """A net that looks for a planted patch, and twelve pictures with its corners."""
    pictures, labels, _ = noise_with_patches(1500, seed=0)
    model = cr.fit(pictures, labels, model="cnn", epochs=8, seed=0, batch_size=64)
    pictures, labels, corners = noise_with_patches(12, seed=1)
    assert cr.evaluate(model, pictures, labels)["accuracy"] == 1.0
    return SimpleNamespace(
        model=model.model, pictures=pictures, labels=labels.tolist(), corners=corners
    )
