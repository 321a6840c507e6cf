"""One gradient against differences: along entries, along directions, and at kinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.spec import Spec

__all__ = ["Comparison", "Probe", "Settings", "compare_slopes"]

Array = np.ndarray[Any, Any]
Value = Callable[[], tuple[float, float]]
"""A number, and Σ|terms| of the sum that made it, to which its rounding is relative."""


class Probe(NamedTuple):
    """One derivative that backward gave, against differences."""

    analytic: float
    numeric: float
    error: float
    """|analytic - numeric|, relative to the larger, noise allowed for."""
    is_kink: bool
    """Left and right slopes differ, and backward's is as good as any."""


@dataclass
class Comparison:
    """All probes of one input, parameter or operand."""

    name: str
    spec: Spec
    probes: list[Probe] = field(default_factory=list)

    @property
    def num_kinks(self) -> int:
        return sum(p.is_kink for p in self.probes)

    @property
    def worst(self) -> Probe:
        """The probe of the largest error; kinks have none."""
        return max(self.probes, key=lambda p: 0.0 if p.is_kink else p.error)

    @property
    def max_error(self) -> float:
        return max((p.error for p in self.probes if not p.is_kink), default=0.0)


@dataclass(frozen=True)
class Settings:
    """How a gradient is probed."""

    num_entries: int
    num_directions: int
    tolerance: float
    epsilon: float
    """Rounding unit of the coarsest dtype in the graph."""
    rng: np.random.Generator

    @property
    def h(self) -> float:
        """Where the errors of rounding, ε/h, and of the formula, h², are alike."""
        return float(self.epsilon ** (1 / 3))


def compare_slopes(
    name: str, value: Value, array: Array, gradient: Array, settings: Settings
) -> Comparison:
    """Move ``array`` in place along entries and random directions; it is put back."""
    comparison = Comparison(name, Spec.of(array))
    start, slopes = array.copy(), np.asarray(gradient, np.float64)
    center = value()
    for d, is_entry in _directions(slopes, settings):

        def moved(step: float, d: Array = d) -> tuple[float, float]:
            array[...] = start + step * d
            return value()

        scale = max(1.0, float((np.abs(start) * np.abs(d)).sum()))
        analytic = float((slopes * d).sum())
        comparison.probes.append(
            _probe(moved, center, analytic, scale, is_entry, settings)
        )
    array[...] = start
    return comparison


def _directions(slopes: Array, settings: Settings) -> Iterator[tuple[Array, bool]]:
    """Steps of length 1: along single entries (True), then along random directions."""
    for i in _entries(slopes, settings):
        entry = np.zeros(slopes.shape)
        entry.flat[i] = 1
        yield entry, True
    for _ in range(settings.num_directions if slopes.size > 1 else 0):
        anywhere = settings.rng.standard_normal(slopes.shape)
        yield anywhere / np.sqrt(np.vdot(anywhere, anywhere)), False


def _entries(slopes: Array, settings: Settings) -> Array:
    """Entries drawn at random, half of them where backward's slope is not 0.

    Behind ReLU and pooling most slopes are 0, and 0 times a mistake is 0.
    """
    count = min(settings.num_entries, slopes.size)
    alive = np.flatnonzero(slopes)
    first = settings.rng.choice(alive, min(alive.size, (count + 1) // 2), replace=False)
    others = np.setdiff1d(np.arange(slopes.size), first)
    return np.append(first, settings.rng.choice(others, count - first.size, False))


_SHRINK = [8**k for k in range(7)]


def _probe(
    moved: Callable[[float], tuple[float, float]],
    center_and_size: tuple[float, float],
    analytic: float,
    scale: float,
    is_entry: bool,
    settings: Settings,
) -> Probe:
    """Compare one slope; with ever smaller steps where the function is not smooth.

    Along an entry, backward's slope at a kink must lie between the left and the right
    one. A direction may cross many kinks, which cancel in part: it decides nothing.
    """
    tolerance = settings.tolerance
    center, size = center_and_size
    jumps: list[float] = []
    gaps: list[float] = []
    best = Probe(analytic, np.nan, np.inf, False)
    for shrink in _SHRINK:
        h = settings.h * scale / shrink
        (right, size_right), (left, size_left) = moved(h), moved(-h)
        numeric = (right - left) / (2 * h)
        if not np.isfinite(numeric):
            continue  # a step beyond the function's domain
        noise = 10 * settings.epsilon * max(size, size_right, size_left) / h
        largest = max(abs(analytic), abs(numeric), noise / tolerance)
        error = abs(analytic - numeric) / largest if largest else 0.0
        if error < best.error:
            best = Probe(analytic, numeric, error, False)
        if error <= tolerance:
            break
        before, after = (center - left) / h, (right - center) / h
        jumps.append(abs(after - before))
        slack = tolerance * max(abs(before), abs(after)) + noise
        is_smooth = jumps[-1] <= 1e-3 * max(abs(before), abs(after)) + slack
        gaps.append(abs(analytic - numeric))
        is_stuck = len(gaps) > 1 and gaps[-1] > max(gaps[-2] / 2, jumps[-1] + slack)
        if is_smooth and is_stuck:
            break  # wrong: kinks within a step would count for less in a shorter one
        low, high = min(before, after) - slack, max(before, after) + slack
        is_kink = len(jumps) > 1 and jumps[-1] > jumps[0] / 2
        if is_kink and (low <= analytic <= high or not is_entry):
            return Probe(analytic, numeric, error, True)
    return best
