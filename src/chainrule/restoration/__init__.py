"""Restoring pictures: how well it went, and the classical methods to compare with."""

from chainrule.restoration.baselines import (
    BASELINES,
    Baseline,
    applicable,
    restore_with,
    tune,
)
from chainrule.restoration.quality import psnr, psnr_of, ssim
from chainrule.restoration.tiles import restore_in_tiles

__all__ = [
    "BASELINES",
    "Baseline",
    "applicable",
    "psnr",
    "psnr_of",
    "restore_in_tiles",
    "restore_with",
    "ssim",
    "tune",
]
