"""Ready models by name: what ``--model`` and the lectures ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.errors import OptionError
from chainrule.nn.zoo.alexnet import alexnet, alexnet_two_groups
from chainrule.nn.zoo.dense import image_mlp, linear, mlp
from chainrule.nn.zoo.dncnn import dncnn
from chainrule.nn.zoo.encoder_decoder import encoder_decoder
from chainrule.nn.zoo.lenet import lenet5
from chainrule.nn.zoo.residual import resnet, resnet18, resnet20, resnet32
from chainrule.nn.zoo.sliding import fully_convolutional
from chainrule.nn.zoo.small import cnn
from chainrule.nn.zoo.unet import unet, unet_classifier
from chainrule.nn.zoo.vgg import vgg, vgg16
from chainrule.nn.zoo.wired import random_wired

__all__ = [
    "IMAGE_MODELS",
    "MODELS",
    "alexnet",
    "alexnet_two_groups",
    "cnn",
    "dncnn",
    "encoder_decoder",
    "fully_convolutional",
    "image_mlp",
    "image_model_builder",
    "lenet5",
    "linear",
    "mlp",
    "model_builder",
    "random_wired",
    "resnet",
    "resnet18",
    "resnet20",
    "resnet32",
    "unet",
    "unet_classifier",
    "vgg",
    "vgg16",
]

MODELS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
    "lenet5": lenet5,
    "vgg": vgg,
    "alexnet": alexnet,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "random_wired": random_wired,
    "unet": unet_classifier,
}
"""Models that put out a row of numbers for each example."""

IMAGE_MODELS: dict[str, Callable[..., Any]] = {
    "mlp": image_mlp,
    "encoder_decoder": encoder_decoder,
    "unet": unet,
    "dncnn": dncnn,
}
"""Models that put out numbers for each pixel: (n, h, w, c) -> (n, h, w, outputs)."""


def model_builder(name: str) -> Callable[..., Any]:
    """The function that builds the model of a name.

    Raises:
        OptionError: for an unknown name, with the nearest one offered.
    """
    return _named(name, MODELS)


def image_model_builder(name: str) -> Callable[..., Any]:
    """The function that builds the model of a name from pictures to pictures.

    Raises:
        OptionError: for an unknown name, with the nearest one offered.
    """
    return _named(name, IMAGE_MODELS)


def _named(name: str, models: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in models:
        raise OptionError.unknown("model", name, models)
    return models[name]
