"""Layers that centre activations and bring them to one scale, by statistics of theirs.

All subtract a mean and divide by a deviation; they differ in what the mean is over: one
channel of a whole minibatch (BatchNorm), one example's channels at a place (LayerNorm),
some of its channels everywhere (GroupNorm), one of them (MeanVarianceNorm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule import ops
from chainrule.core.graph import Tensor, assign, no_grad
from chainrule.errors import OptionError, ShapeError
from chainrule.nn.init import DrawnBuffer, DrawnParameter
from chainrule.nn.module import Module, check_sizes, described
from chainrule.ops.window import as_images

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "LayerNorm",
    "LocalResponseNorm",
    "MeanVarianceNorm",
]


class BatchNorm(Module):
    """Every channel at mean 0 and deviation 1 over the minibatch, then scaled anew.

    y = (x - mean) / √(variance + eps) · scale + offset. In training, mean and variance
    are those of the minibatch, over all axes but the last; running ones move towards
    them: mean ← (1 - momentum)·mean + momentum·(the minibatch's). In evaluation, the
    running ones are used, so that examples do not depend on each other.

    Freezing scale and offset, as ``freeze`` does, freezes the statistics too: the layer
    then does in training what it does in evaluation.

    Args:
        features: the size of the last axis.
        momentum: how fast the running statistics follow.
        eps: keeps a channel that never changes from being divided by 0.
        affine: whether to learn scale and offset, which start at 1 and 0.
        frozen: keep the running statistics in training too, whatever is learned.

    Shapes: (n, ..., features) -> (n, ..., features); all numbers are (features).

    Raises:
        OptionError: for a momentum outside [0, 1] and an eps that is not positive.
        ShapeError: when run on another number of features.

    Example:
        >>> import chainrule as cr
        >>> layer = BatchNorm(1)
        >>> layer(cr.Tensor([[1.0], [3.0]])).numpy().round(2).tolist()
        [[-1.0], [1.0]]
        >>> layer.mean.item(), layer.variance.item()  # 0.1·2 and 0.9·1 + 0.1·2
        (0.20000000298023224, 1.100000023841858)

    Source: Ioffe & Szegedy, "Batch normalization", 2015, algorithms 1 and 2. As there,
    the variance that normalises is divided by the number of elements, and the running
    one by one less.
    """

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        frozen: bool = False,
    ) -> None:
        check_sizes("batch_norm", features=features)
        if not 0 <= momentum <= 1:
            raise OptionError(
                "batch_norm: momentum out of range",
                got=momentum,
                expected="0 ≤ momentum ≤ 1",
            )
        self.features = features
        self.momentum = float(momentum)
        self.eps = _positive("batch_norm", eps)
        self.frozen = frozen
        self.scale, self.offset = _learned((features,), affine)
        self.mean = DrawnBuffer((features,), "zeros")
        self.variance = DrawnBuffer((features,), "ones")

    def __repr__(self) -> str:
        return described(self, "features", momentum=0.1, eps=1e-5, frozen=False)

    @property
    def is_frozen(self) -> bool:
        """Whether the running statistics stay as they are, in training too."""
        learned = [p for p in (self.scale, self.offset) if p is not None]
        return self.frozen or (
            bool(learned) and not any(p.requires_grad for p in learned)
        )

    def forward(self, x: Tensor) -> Tensor:
        if not x.ndim or x.shape[-1] != self.features:
            raise _other_features("batch_norm", x, f"(n, ..., {self.features})")
        if not self.training or self.is_frozen:
            return self._scaled(x - self.mean, self.variance)
        axes = tuple(range(x.ndim - 1))
        mean = ops.mean(x, axis=axes)
        deviation = x - mean
        variance = ops.mean(deviation * deviation, axis=axes)
        with no_grad():
            count = math.prod(x.shape[:-1])
            # A single element tells nothing of how much elements vary.
            unbiased = variance * (count / (count - 1)) if count > 1 else self.variance
            self._follow(mean, unbiased)
        return self._scaled(deviation, variance)

    def _scaled(self, deviation: Tensor, variance: Tensor) -> Tensor:
        root = ops.sqrt(variance + self.eps)
        if self.scale is None or self.offset is None:
            return deviation / root
        return deviation * (self.scale / root) + self.offset

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        for running, now in ((self.mean, mean), (self.variance, variance)):
            assign(running, running + self.momentum * (now - running))


class LayerNorm(Module):
    """Every example at mean 0 and deviation 1 over its last axes, then scaled anew.

    y = (x - mean) / √(variance + eps) · scale + offset, with mean and variance of one
    example's features, at each place of an image its own.

    Args:
        features: the size of the last axis, or those of the last axes.
        eps: keeps an example of equal features from being divided by 0.
        affine: whether to learn scale and offset, which start at 1 and 0.

    Shapes: (..., *features) -> (..., *features).

    Raises:
        OptionError: for an eps that is not positive.
        ShapeError: when run on other features.

    Source: Ba, Kiros & Hinton, "Layer normalization", 2016, equation 4.
    """

    def __init__(
        self,
        features: int | Sequence[int],
        *,
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        sizes = tuple(features) if isinstance(features, Sequence) else (features,)
        check_sizes("layer_norm", **{f"features[{i}]": s for i, s in enumerate(sizes)})
        self.features = sizes
        self.eps = _positive("layer_norm", eps)
        self.scale, self.offset = _learned(sizes, affine)

    def __repr__(self) -> str:
        shown = self.features[0] if len(self.features) == 1 else self.features
        return f"LayerNorm({shown})"

    def forward(self, x: Tensor) -> Tensor:
        first = x.ndim - len(self.features)
        if first < 0 or tuple(x.shape[first:]) != self.features:
            sizes = ", ".join(map(str, self.features))
            raise _other_features("layer_norm", x, f"(..., {sizes})")
        y = _standardized(x, tuple(range(first, x.ndim)), self.eps)
        return _rescaled(y, self.scale, self.offset)


class GroupNorm(Module):
    """Groups of channels at mean 0 and deviation 1 in every example, then scaled anew.

    As LayerNorm over a whole image where there is one group, and instance normalisation
    where there are as many as channels. It does not look at other examples, so it does
    the same in training and evaluation, and for any size of minibatch.

    Args:
        groups: into how many groups the channels are split.
        features: the number of channels.
        eps: keeps a group of equal elements from being divided by 0.
        affine: whether to learn a scale and an offset for each channel.

    Shapes: (n, ..., features) -> (n, ..., features).

    Raises:
        OptionError: for channels that do not divide into groups.
        ShapeError: when run on another number of channels.

    Source: Wu & He, "Group normalization", 2018, equations 1 to 3 and 7.
    """

    def __init__(
        self, groups: int, features: int, *, eps: float = 1e-5, affine: bool = True
    ) -> None:
        check_sizes("group_norm", groups=groups, features=features)
        if features % groups:
            raise OptionError(
                "group_norm: the channels do not divide into groups",
                got=f"{features} channels, {groups} groups",
                expected="a multiple of the number of groups",
            )
        self.groups = groups
        self.features = features
        self.eps = _positive("group_norm", eps)
        self.scale, self.offset = _learned((features,), affine)

    def __repr__(self) -> str:
        return described(self, "groups", "features", eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise _other_features("group_norm", x, f"(n, ..., {self.features})")
        each = self.features // self.groups
        grouped = ops.reshape(x, (*x.shape[:-1], self.groups, each))
        axes = (*range(1, x.ndim - 1), x.ndim)
        y = ops.reshape(_standardized(grouped, axes, self.eps), x.shape)
        return _rescaled(y, self.scale, self.offset)


class MeanVarianceNorm(Module):
    """Every picture at mean 0 and deviation 1, each channel for itself (Caffe's MVN).

    Args:
        across_channels: take mean and deviation over the channels too.
        variance: whether to divide; otherwise only the mean is subtracted.
        eps: added to the variance, so that an empty picture is not divided by 0.

    Shapes: (n, ..., c) -> (n, ..., c).

    Raises:
        ShapeError: when run on what is no image.
    """

    def __init__(
        self,
        *,
        across_channels: bool = False,
        variance: bool = True,
        eps: float = 1e-9,
    ) -> None:
        self.across_channels = across_channels
        self.variance = variance
        self.eps = _positive("mean_variance_norm", eps)

    def __repr__(self) -> str:
        return described(self, across_channels=False, variance=True, eps=1e-9)

    def forward(self, x: Tensor) -> Tensor:
        images = as_images("mean_variance_norm", x)
        last = images.ndim if self.across_channels else images.ndim - 1
        axes = tuple(range(1, last))
        if not self.variance:
            return images - ops.mean(images, axis=axes, keepdims=True)
        return _standardized(images, axes, self.eps)


class LocalResponseNorm(Module):
    """Activations that are weak beside those of neighbouring channels made weaker.

    y[c] = x[c] / (k + alpha / size · Σ x[j]²)^beta over the ``size`` channels j around
    c.

    Args:
        size: the number of channels that inhibit each other.
        alpha, beta, k: the formula's numbers; with size 5 they are AlexNet's.

    Shapes: (..., c) -> (..., c).

    Raises:
        OptionError: when run, for a size below 1.

    Source: Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep
    convolutional neural networks", 2012, section 3.3; its alpha is alpha / size here.
    """

    def __init__(
        self, size: int = 5, *, alpha: float = 5e-4, beta: float = 0.75, k: float = 2.0
    ) -> None:
        self.size = size
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.k = float(k)

    def forward(self, x: Tensor) -> Tensor:
        return ops.local_response_norm(
            x, self.size, alpha=self.alpha, beta=self.beta, k=self.k
        )


def _standardized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / √(variance + eps) with both over some axes."""
    deviation = x - ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(deviation * deviation, axis=axes, keepdims=True)
    return deviation / ops.sqrt(variance + eps)


def _rescaled(
    y: Tensor, scale: DrawnParameter | None, offset: DrawnParameter | None
) -> Tensor:
    return y if scale is None or offset is None else y * scale + offset


def _learned(
    shape: tuple[int, ...], affine: bool
) -> tuple[DrawnParameter | None, DrawnParameter | None]:
    """Scale and offset, if they are wanted."""
    if not affine:
        return None, None
    return (
        DrawnParameter(shape, "ones", is_penalized=False),
        DrawnParameter(shape, "zeros", is_penalized=False),
    )


def _positive(layer: str, eps: float) -> float:
    if not eps > 0:
        raise OptionError(f"{layer}: eps out of range", got=eps, expected="eps > 0")
    return float(eps)


def _other_features(layer: str, x: Tensor, expected: str) -> ShapeError:
    return ShapeError(
        f"{layer}: input of other features than the layer normalises",
        got=x.spec,
        expected=expected,
        hint="make features the size of the last axis",
    )
