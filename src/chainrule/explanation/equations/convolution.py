"""Convolution's way back as two convolutions: of X with ∂L/∂O, and of ∂L/∂O with F."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.autodiff import vjp
from chainrule.core.graph import as_tensor
from chainrule.core.spec import FLOAT64
from chainrule.errors import ShapeError
from chainrule.explanation.equations.arrays import array_text, is_small, matrix_latex
from chainrule.explanation.equations.convolution_sums import (
    in_groups,
    spread_out,
    to_filters,
    to_images,
)
from chainrule.explanation.notation import number
from chainrule.ops import conv
from chainrule.ops.window import Window, window

__all__ = ["ConvolutionIdentities", "convolution_identities"]

Array = np.ndarray[Any, Any]

_MAX_TERMS = 9


@dataclass(frozen=True)
class ConvolutionIdentities:
    """What ``convolution_identities`` found; prints the identities and their numbers.

    Shapes: images x and dx (n, *sizes, c), filters f and df (*taps, c, filters),
    outputs o and do (n, *places, filters).
    """

    window: Window
    groups: int
    x: Array
    f: Array
    o: Array
    do: Array
    """∂L/∂O."""
    padded: Array
    """X with its padding."""
    spread: Array
    """∂L/∂O with stride - 1 zeros between neighbours."""
    rotated: Array
    """F turned by 180°, from outputs to inputs."""
    df: Array
    """∂L/∂F by the first identity."""
    dx: Array
    """∂L/∂X by the second."""
    difference: float
    """The largest, of both, from automatic differentiation, relative."""

    @property
    def has_stride(self) -> bool:
        return any(s > 1 for s in self.window.stride)

    @property
    def has_padding(self) -> bool:
        return any(p != (0, 0) for p in self.window.padding)

    @property
    def has_dilation(self) -> bool:
        return any(d > 1 for d in self.window.dilation)

    @property
    def is_plane(self) -> bool:
        """Whether everything is one plane of numbers: one example, one channel."""
        shapes = (self.x.shape[0], self.x.shape[-1], self.f.shape[-1])
        return self.window.ndim == 2 and shapes == (1, 1, 1)

    def __str__(self) -> str:
        lines = [f"O = conv(X, F), window {self.window}" + self._groups()]
        image = "X padded" if self.has_padding else "X"
        spread = "∂L/∂O spread" if self.has_stride else "∂L/∂O"
        step = f", stride {_steps(self.window.dilation)}" if self.has_dilation else ""
        lines.append(f"∂L/∂F = conv({image}, {spread}{step})")
        gaps = f", dilation {_steps(self.window.dilation)}" if self.has_dilation else ""
        lines.append(f"∂L/∂X = full conv({spread}, F turned by 180°{gaps})")
        if self.has_stride:
            lines.append(
                "  spread: stride - 1 zeros between neighbours, where F did not stand"
            )
        if self.has_dilation:
            lines.append(
                "  the distance of the taps is the stride of the first, and the "
                "distance of the taps of the second"
            )
        if self.has_padding:
            lines.append("  of ∂L/∂X, what lies on the padding is cut off")
        if not self.is_plane:
            lines.append(
                "  sums run over examples for ∂L/∂F, over filters for ∂L/∂X, as over "
                "channels for O"
            )
        lines += ["", *self._numbers(), ""]
        lines.append(
            "both equal automatic differentiation: largest difference "
            f"{self.difference:.0e}"
        )
        return "\n".join(lines)

    def _groups(self) -> str:
        return f", {self.groups} groups of channels" if self.groups > 1 else ""

    def _numbers(self) -> list[str]:
        if not self.is_plane:
            named = {"X": self.x, "F": self.f, "O": self.o, "∂L/∂O": self.do}
            named |= {"∂L/∂F": self.df, "∂L/∂X": self.dx}
            return [line for name, a in named.items() for line in array_text(name, a)]
        lines = array_text("X", self.x[0, ..., 0])
        lines += array_text("F", self.f[..., 0, 0])
        lines += array_text("O", self.o[0, ..., 0])
        lines += array_text("∂L/∂O", self.do[0, ..., 0])
        if self.has_padding:
            lines += array_text("X padded", self.padded[0, ..., 0])
        if self.has_stride:
            lines += array_text("∂L/∂O spread", self.spread[0, ..., 0])
        lines += array_text("F turned", self.rotated[..., 0, 0])
        lines += array_text("∂L/∂F", self.df[..., 0, 0])
        lines += array_text("∂L/∂X", self.dx[0, ..., 0])
        return [*lines, *self._terms()]

    def _terms(self) -> list[str]:
        """The first numbers of both, written out."""
        seen = self.padded[0, ..., 0]
        slopes = self.do[0, ..., 0]
        if slopes.size > _MAX_TERMS:
            return []
        sy, sx = self.window.stride
        terms = [
            f"{number(float(seen[p * sy, q * sx]))}·{number(float(slopes[p, q]))}"
            for p, q in np.ndindex(*slopes.shape)
        ]
        total = number(float(self.df[0, 0, 0, 0]))
        return [f"∂L/∂F[0, 0] = {' + '.join(terms)} = {total}"]

    def latex(self) -> str:
        """Both identities as LaTeX, with the matrices where they are small."""
        do = r"\frac{\partial L}{\partial O}"
        spread = rf"\mathrm{{spread}}\left({do}\right)" if self.has_stride else do
        image = r"\mathrm{pad}(X)" if self.has_padding else "X"
        left = r"\frac{\partial L}{\partial F} &= "
        right = r"\frac{\partial L}{\partial X} &= "
        slide, full = "*", r"*_{\mathrm{full}}"
        if self.has_dilation:
            far = _steps(self.window.dilation)
            slide = rf"*_{{\mathrm{{stride}}\ {far}}}"
            full = rf"*_{{\mathrm{{full,\ dilation}}\ {far}}}"
        first = f"{left}{image} {slide} {spread}"
        second = rf"{right}{spread} {full} \mathrm{{rot}}_{{180^\circ}}(F)"
        if self.is_plane and is_small(self.x[0, ..., 0]):
            a, b = self.padded[0, ..., 0], self.spread[0, ..., 0]
            turned = self.rotated[..., 0, 0]
            first += f" = {matrix_latex(a)} {slide} {matrix_latex(b)}"
            first += f" = {matrix_latex(self.df[..., 0, 0])}"
            second += f" = {matrix_latex(b)} {full} "
            second += f"{matrix_latex(turned)} = {matrix_latex(self.dx[0, ..., 0])}"
        body = f"{first} \\\\\n{second}"
        return r"\begin{aligned}" + f"\n{body}\n" + r"\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"


def convolution_identities(
    x: Any,
    f: Any,
    do: Any = None,
    *,
    stride: Sequence[int] | int = 1,
    padding: Any = "valid",
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
) -> ConvolutionIdentities:
    """Show that both gradients of a convolution are convolutions, and equal automatic.

    With O = conv(X, F): ∂L/∂F = conv(X, ∂L/∂O), and ∂L/∂X is the full convolution of
    ∂L/∂O with F turned by 180°. With a stride, ∂L/∂O is spread first: zeros come
    between neighbours. A dilation is the stride of the first one and the dilation of
    the second; padding is put around X, and cut off from ∂L/∂X. Computed by sums over
    places that share nothing with the engine, and compared with its gradients.

    Args:
        x: images, channels last; a plane of numbers (h, w) is one of them.
        f: filters of as many axes; a plane (kh, kw) likewise.
        do: ∂L/∂O; 1 everywhere unless given, which makes L the sum of O.
        stride, padding, dilation, groups: as ``conv`` takes them.

    Raises:
        ShapeError: for shapes that do not fit.
        OptionError: for a window that is none.

    Example:
        >>> found = convolution_identities(
        ...     [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
        ...     [[1.0, 0.0], [0.0, -1.0]],
        ... )
        >>> found.df[..., 0, 0].tolist()
        [[12.0, 16.0], [24.0, 28.0]]
        >>> found.dx[0, ..., 0].tolist()
        [[1.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.0, -1.0, -1.0]]
        >>> found.difference
        0.0

    Source: aarhus, backpropagation through a convolutional layer; V. Dumoulin, F.
    Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    images, filters = _batched(x, f)
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups
    }  # fmt: skip
    o, pullback = vjp(lambda a, b: conv(a, b, **options), images, filters)
    slopes = np.ones(o.shape) if do is None else as_tensor(do, FLOAT64).data
    if slopes.ndim == 2 and o.shape == (1, *slopes.shape, 1):
        slopes = slopes[None, ..., None]
    if slopes.shape != o.shape:
        raise ShapeError(
            "convolution_identities: ∂L/∂O has another shape than O",
            got=tuple(slopes.shape),
            expected=tuple(o.shape),
        )
    view = window("conv", images.shape[1:-1], filters.shape[:-2], stride, padding,
                  dilation)  # fmt: skip
    padded, spread = view.padded(images), spread_out(slopes, view)
    rotated = np.flip(filters, tuple(range(view.ndim)))
    df = in_groups(to_filters, padded, spread, filters, view, groups)
    dx = in_groups(to_images, padded, spread, filters, view, groups)
    found = (view.unpadded(dx, images.shape[1:-1]), df)
    automatic = [t.data for t in pullback(slopes)]
    difference = max(
        float(np.abs(a - b).max()) / (float(np.abs(b).max()) or 1.0)
        for a, b in zip(found, automatic, strict=True)
    )
    return ConvolutionIdentities(
        view, groups, images, filters, o.data, slopes, padded, spread,
        np.swapaxes(rotated, -1, -2), df, found[0], difference,
    )  # fmt: skip


def _batched(x: Any, f: Any) -> tuple[Array, Array]:
    """Images and filters in float64, planes with the axes that they lack."""
    images, filters = (as_tensor(a, FLOAT64).data for a in (x, f))
    if images.ndim == 2 and filters.ndim == 2:
        return images[None, ..., None], filters[..., None, None]
    if images.ndim < 3 or filters.ndim != images.ndim:
        raise ShapeError(
            "convolution_identities: images and filters of other numbers of axes",
            got=f"{images.shape} and {filters.shape}",
            expected="(h, w) and (kh, kw), or (n, h, w, c) and (kh, kw, c, filters)",
        )
    return images, filters


def _steps(values: Sequence[int]) -> str:
    """One number where all axes have the same."""
    first, *others = itertools.groupby(values)
    return "×".join(map(str, values)) if others else str(first[0])
