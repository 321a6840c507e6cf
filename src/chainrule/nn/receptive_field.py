"""How far a network looks: which input pixels an output pixel can depend on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from chainrule.core.capture import Node, capture
from chainrule.core.graph import no_grad
from chainrule.errors import CaptureError, ShapeError
from chainrule.nn.evaluating import evaluating
from chainrule.nn.looking import LooksAtAll, Walk
from chainrule.nn.module import Module

__all__ = ["ReceptiveField", "receptive_field"]


@dataclass(frozen=True)
class ReceptiveField:
    """What outputs look at, along each spatial axis; empty where there is an obstacle.

    Output p depends on input pixels stride·p - before to stride·p + after, at most, and
    on nothing else. Moving the input by ``multiple`` pixels moves the output by
    multiple / stride places and changes nothing else, but near the edges, where zeros
    or the picture's end are looked at.

    Attributes:
        before, after: input pixels, along each axis.
        stride: input pixels from one output to the next; 1 for a network whose output
            is as large as its input.
        multiple: by how many pixels the input can be moved.
        obstacle: why there is no such interval: what looks at the whole picture.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    stride: tuple[Fraction, ...] = ()
    multiple: tuple[int, ...] = ()
    obstacle: str = ""

    @property
    def is_local(self) -> bool:
        """Whether outputs look at their surroundings only."""
        return not self.obstacle

    @property
    def size(self) -> tuple[int, ...]:
        """Input pixels that an output may depend on, along each axis."""
        return tuple(a + b + 1 for a, b in zip(self.before, self.after, strict=True))

    def __str__(self) -> str:
        if self.obstacle:
            return f"the whole picture: {self.obstacle}"
        parts = ["×".join(map(str, self.size)), "pixels"]
        if any(s != 1 for s in self.stride):
            parts.append(f"every {'×'.join(map(str, self.stride))}")
        if any(m != 1 for m in self.multiple):
            parts.append(f"in a grid of {'×'.join(map(str, self.multiple))}")
        return " ".join(parts)


def receptive_field(model: Module, in_shape: Sequence[int]) -> ReceptiveField:
    """How far each output of a network looks around itself, in evaluation.

    Nothing is computed: the network is captured, at two sizes, and its graph is walked.
    The intervals are those that the ops can see, whatever the weights are; where
    upsampling makes them differ from one output to the next, the widest counts.

    Args:
        model: from images to images.
        in_shape: the shape of one example, without the batch axis.

    Raises:
        ShapeError: where the example does not fit a layer.

    Example:
        >>> from chainrule import nn
        >>> print(receptive_field(nn.dncnn((64, 64, 1), 1, depth=7), (64, 64, 1)))
        15×15 pixels
        >>> print(receptive_field(nn.unet((64, 64, 1), 1, depth=2), (64, 64, 1)))
        47×47 pixels in a grid of 4×4
        >>> receptive_field(nn.image_mlp((28, 28, 1), 1), (28, 28, 1)).is_local
        False

    Source: Araujo, Norris & Sim, "Computing receptive fields of convolutional neural
    networks", Distill, 2019, sections 2 to 4; intervals for every position of a period
    are ours, for transposed convolutions.
    """
    found = _walked(model, tuple(in_shape))
    if not found.is_local:
        return found
    *sizes, channels = in_shape
    larger = [h + m for h, m in zip(sizes, found.multiple, strict=True)]
    try:
        again = _walked(model, (*larger, channels))
    except ShapeError as error:
        return ReceptiveField(obstacle=f"pictures have one size, {error.what}")
    if again != found:
        return ReceptiveField(obstacle="what it does depends on the picture's size")
    return found


def _walked(model: Module, in_shape: tuple[int, ...]) -> ReceptiveField:
    try:
        with evaluating(model), no_grad():
            # Two examples, since an axis of size 1 could be any axis of size 1.
            graph = capture(model, (np.zeros((2, *in_shape), np.float32),))
    except CaptureError as error:  # a layer that looks at values
        return ReceptiveField(obstacle=error.what)
    walk = Walk(in_shape)
    try:
        for node in graph.nodes:
            walk.visit(node)
        return _field(walk, graph.outputs[0])
    except LooksAtAll as obstacle:
        return ReceptiveField(obstacle=str(obstacle))


def _field(walk: Walk, output: Node) -> ReceptiveField:
    seen = walk.seen.get(id(output))
    if seen is None:
        raise LooksAtAll("the output does not depend on the input")
    if seen.axes != tuple(range(1, len(walk.sizes) + 1)):
        raise LooksAtAll("the output is no image")
    befores, afters = [], []
    for view in seen.views:
        anchors = [view.stride * r for r in range(view.period)]
        befores.append(max(a - f for a, f in zip(anchors, view.first, strict=True)))
        afters.append(max(f - a for a, f in zip(anchors, view.last, strict=True)))
    return ReceptiveField(
        tuple(map(math.ceil, befores)),
        tuple(map(math.ceil, afters)),
        tuple(view.stride for view in seen.views),
        tuple(view.multiple for view in seen.views),
    )
