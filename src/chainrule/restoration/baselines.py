"""Classical methods that undo corruptions: what a network has to be better than.

Each is told what there is to know: where values are lost, the standard deviation of the
noise, the kernel of the blur. What nobody knows are its parameters; ``tune`` finds the
best of a few on pictures whose truth is known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, signal

from chainrule.data.corruptions.camera import Exposure, Raw
from chainrule.data.corruptions.corruption import Chain, Corruption, Damaged
from chainrule.errors import MissingDependencyError, OptionError
from chainrule.restoration import demosaicking
from chainrule.restoration.biharmonic import fill_biharmonic
from chainrule.restoration.quality import PEAK, psnr

__all__ = ["BASELINES", "Baseline", "applicable", "restore_with", "tune"]

Array = np.ndarray[Any, Any]
Grid = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Baseline:
    """A classical method, its name in tables, and the parameters worth trying.

    Args:
        restore: (damaged, corruption, **parameters) -> pictures in levels.
        title: its name in words.
        grid: the values of each parameter among which ``tune`` chooses, where pictures
            are corrupted so.
        learn: parameters that follow from pictures whose truth is known.
    """

    restore: Callable[..., Array]
    title: str
    grid: Callable[[Corruption], Grid] = lambda corruption: {}
    learn: Callable[[Sequence[Array]], dict[str, Any]] | None = None


def restore_with(
    name: str, damaged: Damaged, corruption: Corruption, **parameters: Any
) -> Array:
    """Damaged pictures restored by a classical method, in levels from 0 to 255.

    Args:
        name: one of ``BASELINES``.
        damaged: what the corruption gave.
        corruption: which it was, or a chain of several.
        parameters: of the method, as ``tune`` finds them; without, usual ones.

    Shapes: (n, h, w, c) -> (n, h, w, c), float32.

    Raises:
        OptionError: for an unknown name, and a method that does not apply.
        MissingDependencyError: where it needs scikit-image (extra ``vision``).

    Example:
        >>> picture = np.full((1, 4, 4, 1), 100, np.float32)
        >>> hole = np.zeros((1, 4, 4, 1), bool)
        >>> hole[:, 1:3, 1:3] = True
        >>> damaged = Damaged(np.where(hole, 0, picture), hole)
        >>> restore_with("mean_fill", damaged, Chain(())).mean()
        np.float32(100.0)
    """
    if name not in BASELINES:
        raise OptionError.unknown("classical method", name, BASELINES)
    restored = BASELINES[name].restore(damaged, corruption, **parameters)
    return np.clip(restored, 0, PEAK).astype(np.float32, copy=False)


def applicable(corruption: Corruption) -> tuple[str, ...]:
    """The names of the methods that can undo a corruption, or a chain's parts."""
    found = dict.fromkeys(b for step in _steps(corruption) for b in step.baselines)
    return tuple(found)


def tune(
    name: str,
    damaged: Sequence[Damaged],
    truth: Sequence[Array],
    corruption: Corruption,
) -> dict[str, Any]:
    """A method's parameters of the highest PSNR, pooled over pictures of known truth.

    Args:
        damaged, truth: batches of pictures; their sizes may differ.

    Raises:
        OptionError, MissingDependencyError: as ``restore_with``.
    """
    if name not in BASELINES:
        raise OptionError.unknown("classical method", name, BASELINES)
    baseline = BASELINES[name]
    learned = baseline.learn(truth) if baseline.learn else {}
    grid = baseline.grid(corruption)
    best: tuple[float, dict[str, Any]] | None = None
    for values in itertools.product(*grid.values()):
        parameters = {**dict(zip(grid, values, strict=True)), **learned}
        restored = [restore_with(name, d, corruption, **parameters) for d in damaged]
        found = psnr(truth, restored)
        if best is None or found > best[0]:
            best = found, parameters
    assert best is not None  # an empty grid has one, empty, combination
    return best[1]


# ------------------------------------------------------------------- what is known


def _steps(corruption: Corruption) -> tuple[Corruption, ...]:
    return corruption.steps if isinstance(corruption, Chain) else (corruption,)


def _known_noise(corruption: Corruption) -> float | None:
    """σ of the normal noise that a corruption states, in levels."""
    stated = [getattr(step, "sigma", None) for step in _steps(corruption)
              if step.name == "noise"]  # fmt: skip
    variances = [s**2 for s in stated if s is not None]
    return float(np.sqrt(sum(variances))) if variances else None


def _known_kernel(corruption: Corruption) -> Array | None:
    """The blur that a corruption states, several blurs joined into one."""
    joined: Array | None = None
    for step in _steps(corruption):
        kernel = getattr(step, "kernel", None)
        if kernel is not None:
            joined = kernel if joined is None else signal.convolve2d(joined, kernel)
    return joined


def _only(kind: type[Any], corruption: Corruption, method: str) -> Any:
    """The one step of a chain that a method is for."""
    found = [step for step in _steps(corruption) if isinstance(step, kind)]
    if len(found) != 1:
        raise OptionError(
            f"{method}: it undoes {kind.name} alone",
            got=str(corruption),
            expected=f"one corruption of the kind {kind.name}",
        )
    return found[0]


def _lost(damaged: Damaged, method: str) -> Array:
    """Where values are lost, for each channel: bool (n, h, w, c)."""
    if damaged.lost is None:
        raise OptionError(
            f"{method}: nothing is lost that it could fill in",
            got="pictures without a mask",
            expected="pictures of which it is known where values are lost",
            hint="masks and mosaics say so; for noise there is non_local_means",
        )
    return np.broadcast_to(damaged.lost, damaged.pictures.shape)


def estimated_noise(picture: Array) -> float:
    """σ of the noise of a picture (h, w, c), from how its pixels leave planes.

    Source: Immerkær, "Fast noise variance estimation", 1996, equation 3.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)[:, :, None]
    bent = ndimage.correlate(np.asarray(picture, np.float32), mask)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(bent).mean()) if bent.size else 0.0


def _skimage_restoration() -> Any:
    try:
        from skimage import restoration  # an optional extra, and half a second
    except ImportError:
        raise MissingDependencyError(
            "this classical method needs scikit-image",
            got="no module named skimage",
            expected="scikit-image 0.22 or later",
            hint="pip install 'chainrule[vision]'",
        ) from None
    return restoration


# -------------------------------------------------------------------------- holes


def _mean_fill(damaged: Damaged, corruption: Corruption) -> Array:
    lost = _lost(damaged, "mean_fill")
    known = np.where(lost, 0, damaged.pictures)
    count = (~lost).sum(axis=(1, 2), keepdims=True)
    mean = known.sum(axis=(1, 2), keepdims=True) / np.maximum(count, 1)
    return np.where(lost, mean, damaged.pictures)


def _biharmonic(damaged: Damaged, corruption: Corruption) -> Array:
    """Holes as the stiffest sheet through their surroundings; see ``biharmonic``."""
    lost = _lost(damaged, "biharmonic")
    restored = damaged.pictures.astype(np.float64)
    # One mask is one system of equations: the planes that share it are solved at once.
    planes = np.moveaxis(restored, 3, 1).reshape(-1, *restored.shape[1:3])
    masks = np.moveaxis(lost, 3, 1).reshape(planes.shape).copy()
    groups: dict[bytes, list[int]] = {}
    for place, mask in enumerate(masks):
        groups.setdefault(np.packbits(mask).tobytes(), []).append(place)
    for places in groups.values():
        planes[places] = fill_biharmonic(planes[places], masks[places[0]])
    n, h, w, c = restored.shape
    return np.moveaxis(planes.reshape(n, c, h, w), 1, 3)


def _bilinear(damaged: Damaged, corruption: Corruption) -> Array:
    return demosaicking.bilinear(damaged.pictures, _lost(damaged, "bilinear"))


def _malvar(damaged: Damaged, corruption: Corruption) -> Array:
    return demosaicking.malvar(damaged.pictures, _lost(damaged, "malvar"))


# ------------------------------------------------------------------ noise and blur


def _non_local_means(
    damaged: Damaged,
    corruption: Corruption,
    *,
    strength: float = 0.7,
    patch_size: int = 5,
    patch_distance: int = 6,
    fast: bool = True,
) -> Array:
    """Means over patches that look alike; ``strength`` is h of the method, in σ.

    Source: scikit-image's, after Buades, Coll & Morel, "A non-local algorithm for image
    denoising", 2005; ``fast`` weighs a patch's pixels equally (Darbon et al., 2008).
    """
    sigma = _known_noise(corruption)
    return np.stack(
        [
            _smoothed(
                picture,
                estimated_noise(picture) if sigma is None else sigma,
                strength,
                patch_size,
                patch_distance,
                fast,
            )
            for picture in damaged.pictures
        ]
    )


def _smoothed(
    picture: Array,
    sigma: float,
    strength: float,
    patch_size: int = 5,
    patch_distance: int = 6,
    fast: bool = True,
) -> Array:
    """Non-local means of one picture (h, w, c) with noise σ."""
    if sigma <= 0 or strength <= 0:
        return picture
    denoise = _skimage_restoration().denoise_nl_means
    smooth = denoise(
        picture.astype(np.float32),
        patch_size=patch_size,
        patch_distance=patch_distance,
        h=strength * sigma,
        sigma=sigma,
        fast_mode=fast,
        preserve_range=True,
        channel_axis=-1,
    )
    return np.asarray(smooth).reshape(picture.shape)  # one channel comes back as none


def _median(damaged: Damaged, corruption: Corruption, *, size: int = 3) -> Array:
    return np.asarray(ndimage.median_filter(damaged.pictures, (1, size, size, 1)))


def _wiener(
    damaged: Damaged,
    corruption: Corruption,
    *,
    balance: float = 30.0,
    size: int = 5,
) -> Array:
    """Wiener's filter: after a blur in the spectrum, otherwise in windows.

    After a blur k with noise σ: x̂ = F⁻¹[k̂* ŷ / (|k̂|² + λ|Δ̂|²)] with the Laplacian Δ and
    λ = balance·(σ/255)². Without one, x̂ = μ + max(0, v - σ²) / max(v, σ²)·(y - μ) with
    mean μ and variance v of a window of ``size`` pixels.

    Source: with blur scikit-image's, after Hunt, 1971; in windows Lee, "Digital image
    enhancement and noise filtering by use of local statistics", 1980.
    """
    kernel, sigma = _known_kernel(corruption), _known_noise(corruption)
    if kernel is None:
        return np.stack([_locally_smoothed(p, sigma, size) for p in damaged.pictures])
    sharpen = _skimage_restoration().wiener
    least = 0.1  # no noise at all would divide by 0 where the blur lets nothing through

    def one(plane: Array) -> Array:
        noise = estimated_noise(plane[..., None]) if sigma is None else sigma
        weight = balance * (max(noise, least) / PEAK) ** 2
        return np.asarray(sharpen(plane, kernel, weight, clip=False))

    return _for_planes(one, damaged.pictures, 4 * max(kernel.shape))


def _locally_smoothed(picture: Array, sigma: float | None, size: int) -> Array:
    window = (size, size, 1)
    variance = (estimated_noise(picture) if sigma is None else sigma) ** 2
    mean = ndimage.uniform_filter(picture, window)
    spread = ndimage.uniform_filter(picture * picture, window) - mean * mean
    kept = np.maximum(spread - variance, 0) / np.maximum(spread, max(variance, 1e-6))
    return np.asarray(mean + kept * (picture - mean))


def _richardson_lucy(
    damaged: Damaged, corruption: Corruption, *, iterations: int = 15
) -> Array:
    """Deblurring by multiplication: x ← x · kᵀ∗(y / k∗x), some times.

    Source: scikit-image's, after Richardson, 1972, and Lucy, 1974.
    """
    kernel = _known_kernel(corruption)
    if kernel is None:
        raise OptionError(
            "richardson_lucy: no blur to undo",
            got=str(corruption),
            expected="a corruption with a kernel, such as blur:gaussian:1.5",
        )
    sharpen = _skimage_restoration().richardson_lucy

    def one(plane: Array) -> Array:
        light = np.maximum(plane, 0) / PEAK
        sharp = sharpen(
            light, kernel, num_iter=iterations, clip=False, filter_epsilon=1e-6
        )
        return np.asarray(sharp) * PEAK

    return _for_planes(one, damaged.pictures, 4 * max(kernel.shape))


def _for_planes(f: Callable[[Array], Array], pictures: Array, margin: int) -> Array:
    """f of every channel of every picture, which is mirrored around it meanwhile."""
    n, h, w, c = pictures.shape
    down, across = min(margin, h), min(margin, w)
    edges = ((down, down), (across, across))
    restored = np.empty((n, h, w, c), np.float32)
    for i, j in np.ndindex(n, c):
        wide = f(np.pad(pictures[i, :, :, j], edges, mode="symmetric"))
        restored[i, :, :, j] = wide[down : down + h, across : across + w]
    return restored


def _as_it_is(damaged: Damaged, corruption: Corruption) -> Array:
    """Pictures of fewer pixels come back enlarged by bicubic interpolation already."""
    return damaged.pictures


# ------------------------------------------------------------------------- cameras


def _highlight_expansion(
    damaged: Damaged,
    corruption: Corruption,
    *,
    strength: float = 0.3,
    radius: float = 5.0,
) -> Array:
    """Clipped areas made brighter, most in their middle: x̂ = y/g + strength·(1-c)·G∗m.

    m is 1 where a channel is clipped, G a Gaussian of that radius, c the level at which
    clipping happens.

    Source: the smooth brightness enhancement of Rempel et al., "Ldr2Hdr: on-the-fly
    reverse tone mapping of legacy video and photographs", 2007, section 4.2.
    """
    exposure = _only(Exposure, corruption, "highlight_expansion")
    base, clipped = (
        exposure.undone(damaged.pictures),
        exposure.is_clipped(damaged.pictures),
    )
    room = PEAK - _clip_level(exposure)
    glow = ndimage.gaussian_filter(
        clipped.astype(np.float32), (0, radius, radius, 0), mode="nearest"
    )
    return np.where(clipped, base + strength * room * glow, base)


def _color_correlation(
    damaged: Damaged,
    corruption: Corruption,
    *,
    strength: float = 0.3,
    mean: Array | None = None,
    covariance: Array | None = None,
) -> Array:
    """Clipped colours of a pixel by those that are not: E[x_S | x_U] of a normal law.

    Where all are clipped, nothing is known but that they are bright: there it is a
    share ``strength`` of the range above.

    Args:
        mean, covariance: of the colours, which ``tune`` learns; without, they are those
            of the picture's own pixels that are not clipped.

    Source: Zhang & Brainard, "Estimation of saturated pixel values in digital color
    imaging", 2004, equations 4 to 6.
    """
    exposure = _only(Exposure, corruption, "color_correlation")
    level = _clip_level(exposure)
    restored = exposure.undone(damaged.pictures)
    clipped = exposure.is_clipped(damaged.pictures)
    for x, is_lost in zip(restored, clipped, strict=True):
        whole = x[~is_lost.any(axis=-1)]
        if mean is None or covariance is None:
            if len(whole) < 2:
                continue
            own = whole.mean(axis=0), np.atleast_2d(np.cov(whole.T))
        else:
            own = mean, covariance
        _conditional_means(x, is_lost, *own, level)
    everything = clipped.all(axis=-1, keepdims=True)
    return np.where(everything, level + strength * (PEAK - level), restored)


def _conditional_means(
    x: Array, is_lost: Array, mean: Array, covariance: Array, level: float
) -> None:
    """Put E[x_S | x_U], at least the level, where channels S but not U are lost."""
    channels = x.shape[-1]
    for lost in itertools.product((False, True), repeat=channels):
        s, u = np.flatnonzero(lost), np.flatnonzero(~np.array(lost))
        if not len(s) or not len(u):
            continue
        here = (is_lost == lost).all(axis=-1)
        # A little of the identity: channels that are equal have no inverse.
        known = covariance[np.ix_(u, u)] + 1e-3 * np.eye(len(u))
        slope = np.linalg.solve(known, covariance[np.ix_(u, s)])
        pixels = x[here]
        pixels[:, s] = np.maximum(mean[s] + (pixels[:, u] - mean[u]) @ slope, level)
        x[here] = pixels


def _color_statistics(truth: Sequence[Array]) -> dict[str, Any]:
    colors = np.concatenate([t.reshape(-1, t.shape[-1]) for t in truth])
    return {"mean": colors.mean(axis=0), "covariance": np.atleast_2d(np.cov(colors.T))}


def _clip_level(exposure: Exposure) -> float:
    """The true level from which on an exposure clips."""
    return float(exposure.undone(np.full((1, 1, 1, 1), PEAK, np.float32))[0, 0, 0, 0])


def _camera_pipeline(
    damaged: Damaged,
    corruption: Corruption,
    *,
    before: float = 0.6,
    after: float = 2.0,
) -> Array:
    """Raw data as cameras develop them: denoised, demosaicked, balanced, denoised.

    The noise is made even (Anscombe's transform), then non-local means smooth the four
    planes of the mosaic together; Malvar's demosaicking; balance, colours and tone
    curve; non-local means again, of what got through.

    Args:
        before: h of the first smoothing, in σ.
        after: h of the second, in levels; also its σ.

    Source: Anscombe's transform for photons and reading: Starck, Murtagh & Bijaoui,
    "Image processing and data analysis", 1998, section 2.3; its plain inverse.
    """
    raw = _only(Raw, corruption, "camera_pipeline")
    lost = _lost(damaged, "camera_pipeline")
    measured = np.where(lost, 0, damaged.pictures).sum(axis=-1) / PEAK
    clean = np.stack([_denoised_mosaic(plane, raw.iso, before) for plane in measured])
    colors = demosaicking.malvar(np.where(lost, 0, PEAK * clean[..., None]), lost)
    pictures = raw.developed(colors)
    return np.stack([_smoothed(p, after, 1.0) for p in pictures])


def _denoised_mosaic(plane: Array, iso: float, strength: float) -> Array:
    """One mosaic (h, w) of signals from 0 to 1, with less noise."""
    shot = read = iso * 1e-6
    if not shot:
        return plane
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="symmetric")
    offset = 3 / 8 * shot**2 + read**2
    stable = 2 / shot * np.sqrt(np.maximum(shot * even + offset, 0))  # of σ = 1
    cells = [stable[i::2, j::2] for i, j in np.ndindex(2, 2)]
    smooth = _smoothed(np.stack(cells, axis=-1), 1.0, strength)
    for place, (i, j) in enumerate(np.ndindex(2, 2)):
        stable[i::2, j::2] = smooth[..., place]
    return np.asarray(((stable * shot / 2) ** 2 - offset) / shot)[:height, :width]


# ------------------------------------------------------------------------- by name


def _wiener_grid(corruption: Corruption) -> Grid:
    if _known_kernel(corruption) is None:
        return {"size": (3, 5, 7, 9)}
    return {"balance": (1.0, 3.0, 10.0, 20.0, 40.0, 70.0, 100.0, 200.0, 400.0, 1000.0)}


def _grid(**values: tuple[Any, ...]) -> Callable[[Corruption], Grid]:
    """The same values whatever the corruption is."""
    return lambda corruption: values


BASELINES: dict[str, Baseline] = {
    "mean_fill": Baseline(_mean_fill, "mean of the rest"),
    "biharmonic": Baseline(_biharmonic, "biharmonic inpainting"),
    "non_local_means": Baseline(
        _non_local_means,
        "non-local means",
        _grid(
            strength=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
            patch_size=(5, 7),
            fast=(True, False),
        ),
    ),
    "median": Baseline(_median, "median", _grid(size=(3, 5, 7))),
    "wiener": Baseline(_wiener, "Wiener", _wiener_grid),
    "richardson_lucy": Baseline(
        _richardson_lucy,
        "Richardson-Lucy",
        _grid(iterations=(3, 5, 8, 10, 12, 15, 20, 30, 40, 60, 80, 100)),
    ),
    "bilinear": Baseline(_bilinear, "bilinear demosaicking"),
    "malvar": Baseline(_malvar, "Malvar demosaicking"),
    "bicubic": Baseline(_as_it_is, "bicubic enlargement"),
    "highlight_expansion": Baseline(
        _highlight_expansion,
        "highlight expansion",
        _grid(
            strength=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
            radius=(0.0, 2.0, 5.0, 10.0, 20.0, 40.0),
        ),
    ),
    "color_correlation": Baseline(
        _color_correlation,
        "correlation of colours",
        _grid(strength=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
        learn=_color_statistics,
    ),
    "camera_pipeline": Baseline(
        _camera_pipeline,
        "camera pipeline",
        _grid(
            before=(0.0, 0.4, 0.6, 0.8, 1.0, 1.2),
            after=(0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 25.0, 30.0),
        ),
    ),
}
"""Classical methods by the names that corruptions list as their ``baselines``."""
