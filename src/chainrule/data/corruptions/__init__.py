"""Corruptions: known, seeded ways to damage pictures, each with its inverse problem.

A network that restores is trained on pairs of a picture and what a corruption made of
it. ``parse_corruptions`` makes one from texts; the classes take the same values.
"""

from chainrule.data.corruptions.blur import (
    Blur,
    DefocusBlur,
    GaussianBlur,
    KernelBlur,
    MotionBlur,
)
from chainrule.data.corruptions.camera import Exposure, Mosaic, Raw
from chainrule.data.corruptions.corruption import Chain, Corruption, Damaged
from chainrule.data.corruptions.masks import (
    Box,
    Boxes,
    Half,
    Mask,
    Pixels,
    Strokes,
    Text,
)
from chainrule.data.corruptions.noise import GaussianNoise, ImpulseNoise, PoissonNoise
from chainrule.data.corruptions.parsing import (
    CORRUPTIONS,
    parse_corruption,
    parse_corruptions,
)
from chainrule.data.corruptions.sampling import Downsample, Jpeg

__all__ = [
    "CORRUPTIONS",
    "Blur",
    "Box",
    "Boxes",
    "Chain",
    "Corruption",
    "Damaged",
    "DefocusBlur",
    "Downsample",
    "Exposure",
    "GaussianBlur",
    "GaussianNoise",
    "Half",
    "ImpulseNoise",
    "Jpeg",
    "KernelBlur",
    "Mask",
    "Mosaic",
    "MotionBlur",
    "Pixels",
    "PoissonNoise",
    "Raw",
    "Strokes",
    "Text",
    "parse_corruption",
    "parse_corruptions",
]
