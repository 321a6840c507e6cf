"""The entries about images: convolution, pooling, resizing, normalisation.

PyTorch keeps channels on axis 1 and may leave the batch out; ours come last, after the
batch. Normalisation is written out as the layers of ``nn`` do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from counterparts import COUNTERPARTS, counterpart, cut, dropout, need

import chainrule as cr
from chainrule.core.backward import gradients

Tensor = cr.Tensor


def channels_last(x: Tensor, rank: int) -> Tensor:
    x = x if x.ndim == rank + 2 else x[None]
    return cr.transpose(x, (0, *range(2, rank + 2), 1))


def channels_first(y: Tensor, like: Tensor) -> Tensor:
    """As PyTorch has it, without a batch where ``like`` has none."""
    rank = y.ndim - 2
    y = cr.transpose(y, (0, rank + 1, *range(1, rank + 1)))
    return y if like.ndim == y.ndim else y[0]


def each(value: Any, rank: int) -> tuple[int, ...]:
    """One number for each spatial axis."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * rank if len(values) == 1 else values


def for_ranks(name: str, make: Callable[[int], Callable[..., Any]]) -> None:
    """Entries such as conv1d, conv2d and conv3d."""
    for rank in (1, 2, 3):
        COUNTERPARTS[name.format(rank)] = make(rank)


# --------------------------------------------------------------------- convolution


def convolution(rank: int, f: Callable[..., Tensor]) -> Callable[..., Any]:
    def adapter(x: Tensor, weight: Tensor, bias: Any = None, **options: Any) -> Tensor:
        # (out, in, *size) here, and (in, out, *size) for the transposed one.
        w = cr.transpose(weight, (*range(2, rank + 2), 1, 0))
        y = f(channels_last(x, rank), w, **options)
        return channels_first(y if bias is None else y + bias, x)

    return adapter


for_ranks("nn.functional.conv{}d", lambda rank: convolution(rank, cr.conv))
for_ranks("nn.functional.conv_transpose{}d",
          lambda rank: convolution(rank, cr.conv_transpose))  # fmt: skip


@counterpart("nn.functional.unfold")
def patches_of_images(
    x: Tensor, size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    images = channels_last(x, 2)
    p = cr.patches(images, size, stride=stride, padding=padding, dilation=dilation)
    n, h, w, _ = p.shape
    c = images.shape[-1]
    p = cr.reshape(p, (n, h * w, math.prod(each(size, 2)), c))
    y = cr.reshape(cr.transpose(p, (0, 3, 2, 1)), (n, p.shape[2] * c, h * w))
    return y if x.ndim == 4 else y[0]


@counterpart("unfold", "unfold_copy")
def windows_of_an_axis(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    if not x.ndim:
        return cr.reshape(x, size)
    a = dim % x.ndim
    starts = np.arange(0, x.shape[a] - size + 1, step)
    y = cr.take(x, starts[:, None] + np.arange(size), a)
    order = [i for i in range(y.ndim) if i != a + 1]
    return cr.transpose(y, (*order, a + 1))


# ------------------------------------------------------------------------- pooling


def seen(x: Tensor, size: Any, stride: Any, padding: Any, dilation: Any,
         places: tuple[int, ...], value: float) -> Tensor:  # fmt: skip
    """(n, *places, taps, c): what a window sees, the padding being ``value``."""
    rank = len(places)
    widths = [
        (lo, max((p - 1) * s + d * (k - 1) + 1 - h - lo, 0))
        for h, k, s, lo, d, p in zip(
            x.shape[1:-1], each(size, rank), each(stride, rank), each(padding, rank),
            each(dilation, rank), places, strict=True,
        )
    ]  # fmt: skip
    x_padded = cr.pad(x, [(0, 0), *widths, (0, 0)], value)
    p = cr.patches(x_padded, size, stride=stride, dilation=dilation)
    taps = math.prod(each(size, rank))
    return cr.reshape(p, (x.shape[0], *places, taps, x.shape[-1]))


def positions_of_maxima(x: Tensor, size: Any, stride: Any, padding: Any, dilation: Any,
                        places: tuple[int, ...]) -> Tensor:  # fmt: skip
    """Where in its image each maximum stands, the image's pixels counted in rows."""
    rank = len(places)
    views = seen(x, size, stride, padding, dilation, places, -math.inf)
    taps = np.unravel_index(cr.argmax(views, -2).data, each(size, rank))
    pixels = []
    for a, tap in enumerate(taps):
        place = np.arange(places[a]).reshape(-1, *(1 for _ in range(rank - a)))
        step, gap, lo = (each(v, rank)[a] for v in (stride, dilation, padding))
        pixels.append(place * step + tap * gap - lo)
    flat = np.zeros(taps[0].shape, np.int64)
    for pixel, h in zip(pixels, x.shape[1:-1], strict=True):
        flat = flat * h + pixel
    return cr.Tensor(flat)


def max_pooling(rank: int) -> Callable[..., Any]:
    def adapter(
        x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        images = channels_last(x, rank)
        stride = kernel_size if stride is None else stride
        y = cr.max_pool(
            images, kernel_size, stride=stride, padding=padding, dilation=dilation,
            partial=ceil_mode,
        )  # fmt: skip
        if not return_indices:
            return channels_first(y, x)
        where = positions_of_maxima(
            images, kernel_size, stride, padding, dilation, y.shape[1:-1]
        )
        return channels_first(y, x), channels_first(where, x)

    return adapter


for_ranks("nn.functional.max_pool{}d", max_pooling)


@counterpart("max_pool2d_with_indices_backward")
def max_pooling_backward(x: Tensor, **options: Any) -> Tensor:
    """What dy = 1 gives to x, itself to be differentiated."""
    y = max_pooling(2)(x, **{**options, "return_indices": False})
    (dx,) = gradients(y, [x], [np.ones(y.shape, y.dtype)], create_graph=True)
    return dx


def average_pooling(rank: int) -> Callable[..., Any]:
    def adapter(
        x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:  # fmt: skip
        images = channels_last(x, rank)
        stride = kernel_size if stride in (None, ()) else stride
        y = cr.average_pool(
            images, kernel_size, stride=stride, padding=padding, partial=ceil_mode,
            counts_padding=count_include_pad,
        )  # fmt: skip
        if divisor_override is not None:
            views = seen(images, kernel_size, stride, padding, 1, y.shape[1:-1], 0.0)
            y = cr.sum(views, -2) / divisor_override
        return channels_first(y, x)

    return adapter


for_ranks("nn.functional.avg_pool{}d", average_pooling)


def adaptive_pooling(rank: int, f: Callable[..., Tensor]) -> Callable[..., Any]:
    def adapter(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        wanted = each(output_size, rank)
        kept = zip(wanted, x.shape[-rank:], strict=True)
        sizes = [h if new is None else new for new, h in kept]
        images = channels_last(x, rank)
        y = channels_first(f(images, sizes), x)
        if not return_indices:
            return y
        return y, channels_first(positions_in_regions(images, sizes), x)

    return adapter


def positions_in_regions(x: Tensor, sizes: list[int]) -> Tensor:
    """Where in its image the maximum of each region stands, in rows of pixels."""
    flat = np.arange(math.prod(x.shape[1:-1])).reshape(x.shape[1:-1])
    y = np.zeros((x.shape[0], *sizes, x.shape[-1]), np.int64)
    for place in np.ndindex(*sizes):
        region = tuple(
            slice(p * h // new, -(-(p + 1) * h // new))
            for p, h, new in zip(place, x.shape[1:-1], sizes, strict=True)
        )
        within = x[(slice(None), *region)]
        within = cr.reshape(within, (x.shape[0], -1, x.shape[-1]))
        y[(slice(None), *place)] = flat[region].ravel()[cr.argmax(within, 1).data]
    return cr.Tensor(y)


for_ranks("nn.functional.adaptive_avg_pool{}d",
          lambda rank: adaptive_pooling(rank, cr.adaptive_average_pool))  # fmt: skip
for_ranks("nn.functional.adaptive_max_pool{}d",
          lambda rank: adaptive_pooling(rank, cr.adaptive_max_pool))  # fmt: skip


def max_unpooling(rank: int) -> Callable[..., Any]:
    def adapter(
        x: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None,
        padding: Any = 0, output_size: Any = None,
    ) -> Tensor:  # fmt: skip
        sizes = tuple(output_size[-rank:])
        planes, pixels = math.prod(x.shape[:-rank]), math.prod(sizes)
        flat = indices.data.reshape(planes, -1) + pixels * np.arange(planes)[:, None]

        # Of windows that share a maximum PyTorch keeps one number, and gives its
        # gradient to each of them.
        y = cr.scatter_add(cr.reshape(x, -1), flat.ravel(), planes * pixels)
        y = cr.reshape(y, (*x.shape[:-rank], *sizes))
        kept = np.zeros(y.size, x.dtype)
        kept[flat.ravel()] = x.data.ravel()
        return kept.reshape(y.shape) + (y - y.detach())

    return adapter


for_ranks("nn.functional.max_unpool{}d", max_unpooling)
for_ranks("nn.functional.max_unpool{}d.grad", max_unpooling)


# ------------------------------------------------------------------------ resizing


def interpolation(mode: str) -> Callable[..., Any]:
    def adapter(
        x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = mode,
        align_corners: Any = None, recompute_scale_factor: Any = None,
    ) -> Tensor:  # fmt: skip
        rank = x.ndim - 2
        sizes = x.shape[2:]
        if size is None:
            factors = each(scale_factor, rank)
            size = [int(h * f) for h, f in zip(sizes, factors, strict=True)]
            is_whole = size == [h * f for h, f in zip(sizes, factors, strict=True)]
            need(
                is_whole or recompute_scale_factor or align_corners or mode == "area",
                "a factor that is not the quotient of the sizes",
            )
        mode = "bilinear" if mode in ("linear", "trilinear") else mode
        y = cr.resize(channels_last(x, rank), size, mode,
                      align_corners=bool(align_corners))  # fmt: skip
        return channels_first(y, x)

    return adapter


COUNTERPARTS |= {
    f"nn.functional.interpolate.{mode}": interpolation(mode)
    for mode in ("nearest", "nearest-exact", "linear", "bilinear", "bicubic",
                 "trilinear", "area")
}  # fmt: skip
COUNTERPARTS["nn.functional.upsample_nearest"] = interpolation("nearest")


@counterpart("nn.functional.upsample_bilinear")
def upsample_bilinear(x: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    return interpolation("bilinear")(x, size, scale_factor, align_corners=True)


@counterpart("_upsample_bilinear2d_aa")
def resize_without_aliasing(
    x: Tensor, output_size: Any, align_corners: bool, scale_factors: Any = None,
    scales_h: Any = None, scales_w: Any = None,
) -> Tensor:  # fmt: skip
    need(not align_corners, "averages over pixels whose corners are aligned")
    given = (scale_factors, scales_h, scales_w)
    need(given == (None, None, None), "a factor that is not the quotient of the sizes")
    y = cr.resize(channels_last(x, 2), output_size, "bilinear", antialias=True)
    return channels_first(y, x)


@counterpart("nn.functional.pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    images, block = channels_last(x, 2), upscale_factor**2
    return channels_first(
        cr.pixel_shuffle(inner_axis_first(images, block), upscale_factor), x
    )


@counterpart("nn.functional.pixel_unshuffle")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    y = cr.pixel_unshuffle(channels_last(x, 2), downscale_factor)
    return channels_first(inner_axis_first(y, x.shape[-3]), x)


def inner_axis_first(x: Tensor, inner: int) -> Tensor:
    """Channels (a, inner) in the order (inner, a): PyTorch counts blocks of pixels
    inside a channel, we count channels inside a block."""
    outer = x.shape[-1] // inner if inner else 0
    split = cr.reshape(x, (*x.shape[:-1], outer, inner))
    return cr.reshape(cr.swap_axes(split, -1, -2), x.shape)


@counterpart("nn.functional.channel_shuffle")
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    images = channels_last(x, x.ndim - 2)
    return channels_first(inner_axis_first(images, x.shape[1] // groups), x)


@counterpart("nn.functional.pad.reflect", "nn.functional.pad.replicate",
             "nn.functional.pad.replicate_negative",
             "nn.functional.pad.circular")  # fmt: skip
def pad_from_the_image(x: Tensor, pad: Any, mode: str) -> Tensor:
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    border = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
    if mode == "circular":  # what a negative pad cuts off does not come round
        return cr.pad(cut(x, pairs), border, mode=mode)
    return cut(cr.pad(x, border, mode=mode), pairs)


# ------------------------------------------------------------------- normalisation


def normalized(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, ...]:
    """(x - mean) / √(var + eps), and the mean and the factor that were taken."""
    need(
        math.prod(x.shape[a] for a in axes) > 1,
        "one number normalised: a gradient of rounding errors",
    )
    mean = cr.mean(x, axes, keepdims=True)
    factor = 1 / cr.sqrt(cr.var(x, axes, keepdims=True) + eps)
    return (x - mean) * factor, mean, factor


def scaled(x: Tensor, weight: Any, bias: Any) -> Tensor:
    """By one weight and one bias for each channel, on axis 1."""
    rest = (1,) * (x.ndim - 2)
    x = x if weight is None else x * cr.reshape(weight, (-1, *rest))
    return x if bias is None else x + cr.reshape(bias, (-1, *rest))


def batch_statistics(x: Tensor, eps: float) -> tuple[Tensor, ...]:
    return normalized(x, (0, *range(2, x.ndim)), eps)


def by_running(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    rest = (1,) * (x.ndim - 2)
    mean, var = (cr.reshape(t, (-1, *rest)) for t in (mean, var))
    return (x - mean) / cr.sqrt(var + eps)


@counterpart("nn.functional.batch_norm")
def batch_norm(
    x: Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    need(x.ndim > 1, "a vector without channels")
    y = batch_statistics(x, eps)[0] if training else by_running(x, mean, var, eps)
    return scaled(y, weight, bias)


@counterpart("native_batch_norm", "_native_batch_norm_legit")
def native_batch_norm(x: Tensor, weight: Any, bias: Any, *rest: Any) -> Any:
    # Running statistics, or none, then: training, momentum, eps.
    *running, training, _, eps = rest
    if not training:
        nothing = cr.Tensor(np.zeros(0, x.dtype))
        return scaled(by_running(x, *running, eps), weight, bias), nothing, nothing
    y, mean, factor = batch_statistics(x, eps)
    statistics = (cr.reshape(t, -1).detach() for t in (mean, factor))
    return scaled(y, weight, bias), *statistics


@counterpart("_batch_norm_with_update")
def batch_norm_with_update(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Any:
    results = native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)
    return *results, cr.Tensor(np.zeros(0, np.uint8))


@counterpart("nn.functional.instance_norm")
def instance_norm(
    x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    y, *_ = normalized(x, tuple(range(2, x.ndim)), eps)
    return scaled(y, weight, bias)


@counterpart("nn.functional.group_norm")
def group_norm(
    x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    return native_group_norm(x, weight, bias, *x.shape[:2], 0, num_groups, eps)[0]


@counterpart("native_group_norm")
def native_group_norm(
    x: Tensor, weight: Any, bias: Any, n: int, channels: int, pixels: int, groups: int,
    eps: float,
) -> Any:  # fmt: skip
    split = cr.reshape(x, (n, groups, math.prod(x.shape[1:]) // groups))
    y, *statistics = normalized(split, (2,), eps)
    y = scaled(cr.reshape(y, x.shape), weight, bias)
    return y, *(cr.squeeze(t, 2) for t in statistics)


@counterpart("native_layer_norm")
def native_layer_norm(x: Tensor, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    y, *statistics = normalized(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)
    y = y if weight is None else y * weight
    # PyTorch passes over gradients of these two.
    return y if bias is None else y + bias, *(t.detach() for t in statistics)


@counterpart("nn.functional.rms_norm")
def rms_norm(x: Tensor, shape: Any, weight: Any = None, eps: Any = None) -> Tensor:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    eps = np.finfo(x.dtype).eps if eps is None else eps
    y = x / cr.sqrt(cr.mean(x * x, axes, keepdims=True) + float(eps))
    return y if weight is None else y * weight


@counterpart("nn.functional.local_response_norm")
def local_response_norm(x: Tensor, size: int, **options: Any) -> Tensor:
    images = channels_last(x, x.ndim - 2)
    return channels_first(cr.local_response_norm(images, size, **options), x)


COUNTERPARTS |= {
    "nn.functional.dropout3d": dropout,
    "nn.functional.feature_alpha_dropout.with_train": dropout,
    "nn.functional.feature_alpha_dropout.without_train": dropout,
}
