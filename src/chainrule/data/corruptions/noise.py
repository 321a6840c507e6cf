"""Noise: values that are off, each by its own random amount."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.corruptions.corruption import Corruption, Damaged, check_range
from chainrule.data.transforms import Keys

__all__ = ["GaussianNoise", "ImpulseNoise", "PoissonNoise"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """y = x + n with normal numbers n of standard deviation σ, in levels of 0 to 255.

    Neither rounded nor clipped, so that the noise has the distribution that is stated.

    Example:
        >>> keys = Keys(seed=0, epoch=0, indices=np.arange(2))
        >>> noisy = GaussianNoise(25)(np.full((2, 99, 99, 1), 128, np.float32), keys)
        >>> round(float(noisy.pictures.std()))
        25
    """

    name = "noise"
    kind = "gaussian"
    equation = "y = x + n, n ~ N(0, σ²)"
    baselines = ("non_local_means", "wiener")

    sigma: float = 25.0

    def __post_init__(self) -> None:
        check_range(self, "sigma", 0)

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        noise = keys.normal("gaussian", pictures.shape[1:])
        noise *= np.float32(self.sigma)
        noise += pictures
        return Damaged(noise)


@dataclass(frozen=True)
class PoissonNoise(Corruption):
    """y = (255/p)·k with k ~ Poisson(p·x/255): light counted, p photons for white.

    The fewer photons, the more noise: its standard deviation is √(255·x/p).
    """

    name = "noise"
    kind = "poisson"
    equation = "y = (255/p)·k, k ~ Poisson(p·x/255)"
    baselines = ("non_local_means",)

    peak: float = 30.0
    """The number of photons that white makes of itself."""

    def __post_init__(self) -> None:
        check_range(self, "peak", 0, 1e9, is_open=True)

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        counts = np.empty(pictures.shape, np.float32)
        # What earlier noise has put below 0 is no light.
        expected = np.maximum(pictures, 0) * np.float32(self.peak / 255)
        for i, rng in enumerate(keys.generators("poisson")):
            counts[i] = rng.poisson(expected[i])
        counts *= np.float32(255 / self.peak)
        return Damaged(counts)


@dataclass(frozen=True)
class ImpulseNoise(Corruption):
    """Salt and pepper: with this probability a value becomes 0 or 255, either as often.

    Which values are wrong is not told.
    """

    name = "noise"
    kind = "impulse"
    equation = "y = 0 or 255 with probability s, else x"
    baselines = ("median", "non_local_means")

    share: float = 0.1

    def __post_init__(self) -> None:
        check_range(self, "share", 0, 1)

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        found = pictures.copy()
        for i, rng in enumerate(keys.generators("impulse")):
            drawn = rng.random(found.shape[1:], np.float32)
            found[i][drawn < self.share] = 255
            found[i][drawn < self.share / 2] = 0
        return Damaged(found)
