"""What the size of a step and the rule of a step do, in a valley with steep walls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn
from chainrule.core.graph import Parameter, Tensor
from chainrule.errors import OptionError
from chainrule.explanation.behaviour.descent import Descent, descend
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["StepSizes", "UpdateRules", "Valley", "step_sizes", "update_rules"]

Array = np.ndarray[Any, Any]

_LOOKS = (
    (GRADIENT, "-", "o"),
    (VALUE, "--", "s"),
    (INK, "-.", "^"),
    (GRADIENT, ":", "v"),
)


class Valley(nn.Module):
    """½(x² + κ·y²): flat along x, with walls κ times as steep along y.

    Along each axis gradient descent multiplies the distance by 1 - lr·curvature at each
    step, so 2/κ is the largest step that the walls allow.

    Args:
        kappa: how much steeper the walls are.
        start: where (x, y) begins.

    Example:
        >>> Valley(kappa=25.0, start=(10.0, 1.0))().item()
        62.5
    """

    def __init__(
        self, kappa: float = 25.0, start: tuple[float, float] = (10.0, 1.0)
    ) -> None:
        if not kappa > 0:
            raise OptionError("valley: no walls", got=kappa, expected="kappa above 0")
        self.w = Parameter(np.array(start, float))
        self.kappa = float(kappa)

    def forward(self) -> Tensor:
        return 0.5 * (self.w * self.w * np.array([1.0, self.kappa])).sum()

    def regime(self, lr: float, num_steps: int) -> str:
        """What a step size does here, in one of the lecture's four ways.

        By what is left of the distance along both axes after so many steps: one that
        grows diverges; walls that are still there jump from side to side; a bottom that
        is still far off is approached too slowly.
        """
        along, across = abs(1 - lr) ** num_steps, abs(1 - lr * self.kappa) ** num_steps
        if max(along, across) > 1:
            return "diverges"
        if across > 0.1 and lr * self.kappa > 1:
            return "high"
        return "good" if along < 0.5 else "too low"


@dataclass(frozen=True)
class StepSizes(Picture):
    """Gradient descent in a valley with several step sizes.

    Attributes:
        kappa: of the valley.
        rates: the step sizes.
        regimes: what each does: "too low", "good", "high" or "diverges".
        descents: the losses and the ways, one for each rate.
    """

    kappa: float
    rates: tuple[float, ...]
    regimes: tuple[str, ...]
    descents: tuple[Descent, ...]

    def __str__(self) -> str:
        words = {
            "too low": "too low: it creeps along the valley",
            "good": "good: it comes down quickly",
            "high": "high: it jumps from wall to wall and stays up",
            "diverges": "too high: each jump is longer than the one before",
        }
        rows = [f"steps above 2/{self.kappa:g} = {2 / self.kappa:g} diverge"]
        rows += [
            f"step size {lr:g}: loss {d.losses[0]:.3g} -> {d.losses[-1]:.3g} "
            f"after {len(d.losses) - 1} steps; {words[regime]}"
            for lr, regime, d in zip(
                self.rates, self.regimes, self.descents, strict=True
            )
        ]
        return "\n".join(rows)

    def figure(self) -> Figure:
        num = len(self.rates)
        columns = -(-num // 2)
        figure, axes = chart(2, 2 + columns, size=(2.2, 1.9))
        grid = axes[0, 0].get_gridspec()
        for unused in axes[:, :2].flat:
            unused.remove()
        losses = figure.add_subplot(grid[:, :2])
        losses.spines[["top", "right"]].set_visible(False)
        losses.grid(True, color=INK, alpha=0.12, lw=0.7)
        top = self.descents[0].losses[0]
        x, y = self.descents[0].path[0]
        rows = zip(_cycle(num), self.rates, self.regimes, self.descents, strict=True)
        for place, ((colour, line, _), lr, regime, descent) in zip(
            axes[:, 2:].flat, rows, strict=False
        ):
            name = f"{lr:g}: {regime}"
            losses.plot(descent.losses, line, color=colour, lw=2, label=name)
            _contours(place, self.kappa, (-0.35 * x, 1.15 * x), (-2.2 * y, 2.2 * y))
            place.plot(*descent.path.T, ".-", ms=3, lw=0.9, color=colour)
            place.plot(*descent.path[0], "o", ms=6, mfc="white", mec=colour)
            place.set_title(name, size=9)
            place.tick_params(labelsize=8)
            place.set_xlabel("")
            place.set_ylabel("")
        for unused in list(axes[:, 2:].flat)[num:]:
            unused.set_visible(False)
        losses.set_ylim(0, 1.25 * top)
        losses.set_xlabel("step")
        losses.set_ylabel("loss")
        losses.legend(fontsize=9, framealpha=0.9, title="step size", title_fontsize=9)
        return figure


def step_sizes(
    rates: Sequence[float] = (0.002, 0.07, 0.0799, 0.082),
    *,
    kappa: float = 25.0,
    num_steps: int = 50,
) -> StepSizes:
    """The effect of the step size, in the lecture's four regimes.

    Args:
        rates: step sizes of gradient descent.
        kappa: how much steeper than its bottom the valley's walls are.
        num_steps: of each descent.

    Raises:
        OptionError: without rates, with a negative one, or without steps.

    Example:
        >>> step_sizes().regimes
        ('too low', 'good', 'high', 'diverges')

    Source: intellivision, "The effects of step size (or learning rate)".
    """
    if not rates or num_steps < 1:
        raise OptionError(
            "step_sizes: nothing to compare",
            got=f"{len(rates)} step sizes, {num_steps} steps",
            expected="one or more of each",
        )
    found = []
    for lr in rates:
        valley = Valley(kappa)
        found.append(descend(valley, valley, num_steps, lr=lr, keep_path=True))
    regimes = tuple(Valley(kappa).regime(lr, num_steps) for lr in rates)
    return StepSizes(kappa, tuple(rates), regimes, tuple(found))


@dataclass(frozen=True)
class UpdateRules(Picture):
    """The same valley, descended by different update rules.

    Attributes:
        kappa: of the valley.
        goal: the loss at which it counts as descended.
        rates: by rule, the learning rate.
        descents: by rule, the losses and the ways.
    """

    kappa: float
    goal: float
    rates: Mapping[str, float]
    descents: Mapping[str, Descent]

    def __str__(self) -> str:
        rows = [f"steps until the loss is below {self.goal:g}"]
        for name, d in self.descents.items():
            steps = d.steps_to(self.goal)
            count = f"{steps:>5}" if steps is not None else f"> {len(d.losses) - 1}"
            rows.append(f"{count:>5}  {name}, lr {self.rates[name]:g}")
        return "\n".join(rows)

    def figure(self) -> Figure:
        columns = 4
        rows = -(-len(self.descents) // columns)
        figure, axes = chart(rows, columns, size=(2.25, 2.15))
        x, y = next(iter(self.descents.values())).path[0]
        for place, (name, d) in zip(axes.flat, self.descents.items(), strict=False):
            reach = (-1.15 * abs(x), 1.15 * abs(x)), (-1.5 * abs(y), 1.5 * abs(y))
            _contours(place, self.kappa, *reach)
            place.plot(*d.path.T, ".-", color=GRADIENT, lw=1, ms=3)
            place.plot(*d.path[0], "o", ms=7, mfc="white", mec=GRADIENT)
            place.plot(0, 0, "*", ms=11, mfc=VALUE, mec="white")
            steps = d.steps_to(self.goal)
            count = f"{steps}" if steps is not None else f"> {len(d.losses) - 1}"
            place.set_title(f"{name}: {count} steps", size=9)
            place.tick_params(labelsize=8)
            place.set_xlabel("")
            place.set_ylabel("")
        for unused in axes.flat[len(self.descents) :]:
            unused.set_visible(False)
        return figure


_RATES = {
    "sgd": 0.0392,
    "momentum": 0.02,
    "nesterov": 0.01,
    "adagrad": 1.0,
    "rmsprop": 0.1,
    "adam": 0.5,
    "adamw": 0.5,
}


def update_rules(
    rates: Mapping[str, float] | None = None,
    *,
    kappa: float = 50.0,
    goal: float = 0.01,
    num_steps: int = 400,
) -> UpdateRules:
    """The effect of the update formula: each rule's way through the same valley.

    Args:
        rates: by rule, its learning rate; all rules with rates that suit the valley
            unless given. Plain descent has the best rate that the walls allow.
        kappa: how much steeper than its bottom the walls are.
        goal: the loss at which the valley counts as descended.
        num_steps: of each descent, at most.

    Raises:
        OptionError: for an unknown rule, or none.

    Source: intellivision, "The effects of different update form formulas"; yonsei,
    gradient descent, momentum, Adagrad, RMSProp, Adam.
    """
    chosen = dict(_RATES if rates is None else rates)
    if not chosen:
        raise OptionError("update_rules: no rule", got="none", expected="one or more")
    found = {}
    for name, lr in chosen.items():
        valley = Valley(kappa, start=(-8.0, 2.0))
        found[name] = descend(valley, valley, num_steps, name, lr=lr, keep_path=True)
    return UpdateRules(kappa, goal, chosen, found)


def _cycle(num: int) -> list[tuple[str, str, str]]:
    return [_LOOKS[k % len(_LOOKS)] for k in range(num)]


def _contours(
    axes: Axes, kappa: float, x: tuple[float, float], y: tuple[float, float]
) -> None:
    """Lines of equal loss of the valley."""
    across, up = np.linspace(*x, 120), np.linspace(*y, 120)
    loss = 0.5 * (across[None, :] ** 2 + kappa * up[:, None] ** 2)
    levels = loss.max() * np.array([0.002, 0.02, 0.08, 0.2, 0.4, 0.7])
    axes.contour(across, up, loss, levels=levels, colors=["#9aa0a8"], linewidths=0.8)
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.grid(False)
