"""Derivatives found in several ways, as one table and one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule.autodiff.numerical import StepErrors
from chainrule.autodiff.symbolic import SymbolicGradient
from chainrule.errors import GradientError, counted
from chainrule.explanation.notation import number
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Derivatives", "Way"]

Array = np.ndarray[Any, Any]

_DISAGREEMENT = 0.01  # relative; no difference of a smooth function is as wrong
_NO_ERROR = 1e-17  # where an error of 0 is drawn, for which a log axis has no place
_MAX_SHOWN = 4  # of a gradient in the table, and of the formulas


class Way(NamedTuple):
    """One way to the derivative, and what it cost."""

    method: str
    gradient: Array | None
    """∂f/∂x for each number, in their order; None where the way cannot be gone."""
    error: float
    """The largest difference from the reference, relative to its largest number."""
    num_runs: int
    """How often the function was run."""
    time_s: float
    note: str = ""
    """Why the way cannot be gone."""


@dataclass(frozen=True)
class Derivatives(Picture):
    """What ``derivatives`` found: prints as a table, draws the error by the step.

    ``reference`` says what the errors are measured from: the symbolic derivative,
    evaluated with 30 digits, or, where there is none, the automatic one.
    """

    labels: tuple[str, ...]
    """What the numbers are called by which f was differentiated."""
    value: float
    ways: tuple[Way, ...]
    reference: str
    symbolic: SymbolicGradient | None
    entry: str
    """The number whose derivative is largest; its step is varied in ``curve``."""
    curve: StepErrors
    rounding: float
    """ε·|f| relative to the derivative: ``rounding``/h is what a step h loses."""

    def way(self, method: str) -> Way:
        """A way by its name: "automatic", "symbolic", "numerical (central)" ..."""
        return next(w for w in self.ways if w.method == method)

    @property
    def gradient(self) -> Array:
        """The automatic derivative."""
        found = self.way("automatic").gradient
        assert found is not None
        return found

    @property
    def formulas(self) -> list[str]:
        """∂f/∂x as SymPy writes it, for each number; empty where there is none."""
        return [str(d) for d in self.symbolic.derivatives] if self.symbolic else []

    def __str__(self) -> str:
        lines = [f"f = {number(self.value)}"]
        lines.append(f"{'method':<20} {'error':>8} {'runs':>6} {'time':>11}  gradient")
        for way in self.ways:
            if way.gradient is None:
                lines.append(f"{way.method:<20} left out: {way.note}")
                continue
            error = "-" if way.method == self.reference else f"{way.error:.1e}"
            numbers = ", ".join(map(number, way.gradient[:_MAX_SHOWN].tolist()))
            more = ", …" if len(way.gradient) > _MAX_SHOWN else ""
            lines.append(
                f"{way.method:<20} {error:>8} {way.num_runs:>6} "
                f"{way.time_s * 1e3:>8.2f} ms  {numbers}{more}"
            )
        formulas = self.formulas
        if self.symbolic is not None:
            lines += [
                f"∂f/∂{symbol} = {formula}"
                for symbol, formula in zip(
                    self.symbolic.symbols[:_MAX_SHOWN], formulas, strict=False
                )
            ]
        if len(formulas) > _MAX_SHOWN:
            lines.append(f"… and {counted(len(formulas) - _MAX_SHOWN, 'more formula')}")
        return "\n".join([*lines, self._curve_text()])

    @property
    def has_kink(self) -> bool:
        """Whether forward and central differences disagree: a corner, as of ReLU."""
        forward, central = (w.gradient for w in self.ways[:2])
        if forward is None or central is None:
            return False
        size = max(float(np.abs(central).max()), 1e-12)
        return bool(np.abs(forward - central).max() > 0.01 * size)

    def _curve_text(self) -> str:
        if not np.isfinite(self.curve.central).any():
            return f"at {self.entry} the derivative is not finite: no step is good"
        central = self.way("numerical (central)")
        if central.error > _DISAGREEMENT and not self.has_kink:
            return (
                "the ways disagree: part of the function leaves the graph (look for "
                ".data, numpy(), detach()), or a gradient rule is wrong"
            )
        if self.has_kink:
            return "forward and central differ: there is a kink, with two slopes"
        (h1, e1), (h2, e2) = self.curve.best("forward"), self.curve.best("central")
        return (
            f"by the step h, at {self.entry}: forward is best at h = {h1:.0e} "
            f"(error {e1:.0e}), central at {h2:.0e} ({e2:.0e})\n"
            "larger steps: the formula's error, ~h and ~h²; "
            "smaller ones: rounding, ~ε/h"
        )

    def latex(self) -> str:
        """∂f/∂x for each number as LaTeX, without dollar signs, line by line.

        Raises GradientError where there is no symbolic derivative.
        """
        if self.symbolic is None:
            raise GradientError(
                "derivatives: there are no formulas",
                got=self.way("symbolic").note,
                expected="a symbolic derivative",
            )
        from sympy import latex

        return " \\\\\n".join(
            rf"\frac{{\partial f}}{{\partial {latex(s)}}} = {latex(d)}"
            for s, d in zip(
                self.symbolic.symbols, self.symbolic.derivatives, strict=True
            )
        )

    def figure(self) -> Figure:
        figure, axes = chart(size=(6.4, 4.6))
        axis = axes[0, 0]
        figure.suptitle(f"∂f/∂{self.entry}: error of differences by their step")
        axis.set(xlabel="step h", ylabel="relative error", xscale="log", yscale="log")
        if not np.isfinite(self.curve.central).any():
            middle = {"ha": "center", "va": "center", "transform": axis.transAxes}
            axis.text(0.5, 0.5, "the derivative is not finite here", **middle)
            return figure
        steps = self.curve.steps
        for method, errors, colour, marker, power in (
            ("forward", self.curve.forward, VALUE, "o-", 1),
            ("central", self.curve.central, GRADIENT, "s--", 2),
        ):
            best, least = self.curve.best(method)
            label = f"{method}, best at h = {best:.0e}"
            shown = np.maximum(errors, _NO_ERROR)
            axis.plot(steps, shown, marker, color=colour, ms=3.5, lw=1.2, label=label)
            place = best, max(least, _NO_ERROR)
            axis.plot(*place, marker[0], color=colour, ms=11, mfc="none")
            if not self.has_kink:
                self._slope(axis, errors, power, colour)
        self._rounding(axis)
        lowest = min(self.curve.best(m)[1] for m in ("forward", "central"))
        axis.set_ylim(max(lowest, _NO_ERROR) / 30, 30)
        note = "a kink: forward and central differ" if self.has_kink else ""
        where = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        axis.legend(ncols=2, frameon=False, title=note or None, **where)
        return figure

    def _rounding(self, axis: Any) -> None:
        """What is lost where two numbers that are almost equal are subtracted."""
        steps = self.curve.steps
        lost = self.rounding / steps
        i = len(steps) // 8
        if lost[i] > _NO_ERROR:
            axis.plot(steps, lost, ":", color=INK, lw=1.2)
            axis.annotate(
                "rounding, ε/h", (steps[i], lost[i]), xytext=(10, 4),
                textcoords="offset points", color=INK,
            )  # fmt: skip

    def _slope(self, axis: Any, errors: Array, power: int, colour: str) -> None:
        """The line ~h or ~h² through the error at a large step, where there is one."""
        steps = self.curve.steps
        i = int(np.argmin(np.abs(steps - 1e-2)))
        anchor = errors[i]
        if not anchor > 30 * self.rounding / steps[i]:
            return  # a straight line has no such error
        far = steps[steps > self.curve.best("forward")[0]]
        guide = anchor * (far / steps[i]) ** power
        axis.plot(far, guide, color=colour, lw=0.8, alpha=0.5)
        axis.annotate(
            "~h" if power == 1 else "~h²", (steps[i], anchor), xytext=(-4, 8),
            textcoords="offset points", ha="right", color=colour,
        )  # fmt: skip
