"""Where in a picture a convolutional network finds what decides."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.backward import gradients, topological_order
from chainrule.core.graph import Tensor, no_grad
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.features.attribution import Attribution, target_name
from chainrule.explanation.features.layers import (
    Output,
    as_example,
    chosen_output,
    layer_at,
    layer_outputs,
)
from chainrule.nn.module import Module
from chainrule.ops.convolution import Convolve
from chainrule.ops.resizing import resize

__all__ = ["class_activation_map"]

Array = np.ndarray[Any, Any]


def class_activation_map(
    model: Module, picture: Any, *, output: Output = None, layer: str | None = None
) -> Attribution:
    """Where a layer's images speak for an output (Grad-CAM, and CAM where it is that).

    map[i, j] = Σ over channels c of a[i, j, c] · mean over places of ∂y/∂a[..., c],
    drawn as large as the picture. Where nothing but a mean over places and a weighted
    sum follow the layer, this is the class activation map, and its sum over the places
    is the output without its bias; ``note`` says so.

    Args:
        model: from a picture to a row of numbers or a picture.
        picture: (h, w, c).
        output: which number; None for the largest.
        layer: the path of a layer that puts out images; None for the last one.

    Raises:
        IndexingError: for an output that is not there.
        OptionError: for a path without a layer, or, where none is given, a network
            without convolutions or one that puts out images.
        ShapeError: for a layer that puts out rows of numbers.

    Example:
        >>> from chainrule import nn
        >>> net = nn.cnn((8, 8, 1), 3).initialize(0)
        >>> found = class_activation_map(net, np.eye(8)[..., None], output=2)
        >>> found.method, found.values.shape
        ('class activation map of last.activation', (8, 8))

    Source: Zhou et al., "Learning deep features for discriminative localization", 2016,
    section 2; Selvaraju et al., "Grad-CAM", 2017, section 3, whose last step, to leave
    out what is below 0, is left to the reader of the colours.
    """
    x = as_example("class activation map", model, picture)
    index, found = chosen_output("class activation map", model, x, output)
    y, layers = layer_outputs(model, Tensor(x, requires_grad=True))
    path = _last_images(y, layers) if layer is None else layer
    layer_at(model, path)
    if path not in layers or layers[path].ndim != 4:
        shape = layers[path].shape[1:] if path in layers else "nothing"
        raise ShapeError(
            f"class activation map: layer {path} puts out no images",
            got=f"{shape} for each example",
            expected="(h, w, channels)",
        )
    score = y[(0, *index)]
    slope = gradients(score, [layers[path]])[0].data[0].astype(np.float64)
    images = layers[path].data[0].astype(np.float64)
    small = images @ slope.mean(axis=(0, 1))
    with no_grad():
        height, width = x.shape[1:3]
        large = resize(small[None, ..., None], (height, width), "bilinear")
    is_cam = bool(np.ptp(slope, axis=(0, 1)).max() <= 1e-6 * np.abs(slope).max())
    kind = "class activation map" if is_cam else "Grad-CAM"
    note = f"of {small.shape[0]}×{small.shape[1]} places"
    if is_cam:
        rest = float(score.data) - small.sum()
        note += f", whose sum is the output but for a bias of {rest:.3g}"
    return Attribution(
        method=f"{kind} of {path}",
        example=np.asarray(picture),
        values=large.data[0, ..., 0],
        target=target_name(index),
        score=float(found[index]),
        note=note,
    )


def _last_images(output: Tensor, layers: dict[str, Tensor]) -> str:
    """The last layer with convolved images of several places; the innermost of them."""
    if output.ndim == 4:
        raise OptionError(
            "class activation map: the network puts out images itself",
            got=f"an output of shape {output.shape[1:]}",
            expected="layer=, the path of a layer inside",
        )
    for y in reversed(layers.values()):
        if y.ndim == 4 and y.shape[1] * y.shape[2] > 1 and _is_convolved(y):
            return next(path for path, same in layers.items() if same is y)
    raise OptionError(
        "class activation map: no layer puts out images that were convolved",
        got=", ".join(f"{p} {y.shape[1:]}" for p, y in layers.items()),
        expected="a network with a convolutional layer",
        hint="saliency and integrated_gradients take any network",
    )


def _is_convolved(y: Tensor) -> bool:
    return any(isinstance(t.op, Convolve) for t in topological_order([y]))
