"""What backpropagation by the δ equations comes to, in words, formulas and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import OptionError, counted
from chainrule.explanation.equations.arrays import array_text, raised
from chainrule.explanation.equations.batch_loss import BatchLoss
from chainrule.explanation.equations.demon import Demon, DemonTable
from chainrule.explanation.equations.dense_network import DenseNetwork
from chainrule.explanation.notation import number

__all__ = ["Backpropagation", "LayerErrors"]

Array = np.ndarray[Any, Any]


class LayerErrors(NamedTuple):
    """The numbers of one layer l from 2 to L; a column for each example."""

    number: int
    path: str
    activation: str
    z: Array
    a: Array
    slope: Array | None
    """f′(z); None where f couples the units, as softmax does."""
    delta: Array
    """∂J/∂z of each example's own loss."""
    dw: Array
    """∂J/∂W of the weights that lead here, from layer l - 1: (units, inputs)."""
    db: Array


@dataclass(frozen=True)
class Backpropagation:
    """What ``backpropagation`` worked out; prints the equations and their numbers.

    Layers are counted from 1, which is the input; W^l leads from layer l to l + 1, and
    is (units × inputs), the transpose of our own ``Dense.weight``.
    """

    network: DenseNetwork = field(repr=False)
    loss: str
    value: float
    """J of the whole batch."""
    reduction: str
    """How J is made of the examples' losses: "mean", "sum", or "joint"."""
    a: Array
    """a of layer 1, the input."""
    da: Array
    """∂J/∂a of the last layer, of each example's own loss."""
    layers: tuple[LayerErrors, ...]
    """From layer 2 to layer L."""
    difference_by_loop: float
    """The largest, between a loop over examples and all at once, relative."""
    difference_to_automatic: float
    """The largest, between the equations and automatic differentiation, relative."""
    is_residual: bool
    """Whether ∂J/∂a is a - y, as in the lecture."""
    batch_loss: BatchLoss = field(repr=False)

    @property
    def num_examples(self) -> int:
        return self.a.shape[1]

    @property
    def share(self) -> float:
        """1/n where J is a mean: what sums over examples are multiplied by."""
        return 1 / self.num_examples if self.reduction == "mean" else 1.0

    def layer(self, number: int) -> LayerErrors:
        """Layer l, from 2 to L; raises OptionError for another."""
        for found in self.layers:
            if found.number == number:
                return found
        raise OptionError(
            "backpropagation: no such layer",
            got=number,
            expected=f"2 to {len(self.layers) + 1}; layer 1 is the input",
        )

    # In words and numbers.

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", *self._equations(), "", *self._numbers()])

    def _head(self) -> list[str]:
        sizes = self.network.sizes
        how = {
            "mean": "the mean over the examples",
            "sum": "the sum over the examples",
            "joint": "of all examples jointly",
        }[self.reduction]
        return [
            f"L = {len(sizes)} layers of {', '.join(map(str, sizes))} units: "
            f"{self.network.num_parameters:,} parameters",
            f"{counted(self.num_examples, 'example')}, each a column; "
            f"J = {self.loss} = {number(self.value)}, {how}",
            "W is (units × inputs) as in the lecture, the transpose of the layer's own "
            "weight",
        ]

    @property
    def _output_error(self) -> str:
        last = raised(len(self.layers) + 1)
        return f"(a{last} - y)" if self.is_residual else f"∂J/∂a{last}"

    def _equations(self) -> list[str]:
        share = "1/n · " if self.reduction == "mean" and self.num_examples > 1 else ""
        lines = ["forward"]
        for layer in self.layers:
            here, before = raised(layer.number), raised(layer.number - 1)
            lines.append(
                f"  z{here} = W{before} a{before} + b{before},  "
                f"a{here} = {layer.activation}(z{here})   W{before} is "
                f"{'×'.join(map(str, layer.dw.shape))}"
            )
        lines.append("backward")
        for layer in reversed(self.layers):
            here, behind = raised(layer.number), raised(layer.number + 1)
            if layer is self.layers[-1]:
                made = (
                    f"{self._output_error} ⊙ f′(z{here})"
                    if layer.slope is not None
                    else f"(∂a{here}/∂z{here})ᵀ {self._output_error}"
                )
            else:
                made = f"(W{here}ᵀ δ{behind}) ⊙ f′(z{here})"
            lines.append(f"  δ{here} = {made}")
        for layer in reversed(self.layers):
            here, before = raised(layer.number), raised(layer.number - 1)
            total = "Σ " if self.num_examples > 1 else ""
            lines.append(
                f"  ∂J/∂W{before} = {share}δ{here} a{before}ᵀ,  "
                f"∂J/∂b{before} = {share}{total}δ{here}"
            )
        if self.num_examples > 1:
            lines.append("  (the product δ aᵀ sums over the examples, as Σ does)")
        lines.append("another loss changes the δ of the last layer, and nothing else")
        return lines

    def _numbers(self) -> list[str]:
        lines = array_text("a¹", self.a)
        for layer in self.layers:
            here = raised(layer.number)
            lines += array_text(f"z{here}", layer.z) + array_text(f"a{here}", layer.a)
        for layer in reversed(self.layers):
            here, before = raised(layer.number), raised(layer.number - 1)
            if layer.slope is not None:
                lines += array_text(f"f′(z{here})", layer.slope)
            lines += array_text(f"δ{here}", layer.delta)
            lines += array_text(f"∂J/∂W{before}", layer.dw)
            lines += array_text(f"∂J/∂b{before}", layer.db)
        return [
            *lines,
            "",
            "a loop over the examples and all at once differ by "
            f"{self.difference_by_loop:.0e}",
            "the equations and automatic differentiation differ by "
            f"{self.difference_to_automatic:.0e} (relative to the largest gradient)",
        ]

    def latex(self) -> str:
        """The equations as LaTeX, without dollar signs."""
        last = len(self.layers) + 1
        top = (
            rf"\left(a^{{({last})}} - y\right)"
            if self.is_residual
            else rf"\frac{{\partial J}}{{\partial a^{{({last})}}}}"
        )
        share = r"\frac{1}{n} " if self.share != 1 else ""
        total = r"\sum_k " if self.num_examples > 1 else ""
        lines = []
        for layer in reversed(self.layers):
            n, b = layer.number, layer.number - 1
            if n < last:
                made = (
                    rf"\left(W^{{({n})}}\right)^T \delta^{{({n + 1})}} "
                    rf"\odot f'(z^{{({n})}})"
                )
            elif layer.slope is None:
                jacobian = rf"\frac{{\partial a^{{({n})}}}}{{\partial z^{{({n})}}}}"
                made = rf"\left({jacobian}\right)^T {top}"
            else:
                made = rf"{top} \odot f'(z^{{({n})}})"
            lines.append(rf"\delta^{{({n})}} &= {made}")
            lines.append(
                rf"\frac{{\partial J}}{{\partial W^{{({b})}}}} &= "
                rf"{share}\delta^{{({n})}} \left(a^{{({b})}}\right)^T"
            )
            lines.append(
                rf"\frac{{\partial J}}{{\partial b^{{({b})}}}} &= "
                rf"{share}{total}\delta^{{({n})}}"
            )
        return (
            r"\begin{aligned}" + "\n" + " \\\\\n".join(lines) + "\n" + r"\end{aligned}"
        )

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"

    # The demon.

    def demon(
        self,
        layer: int | None = None,
        unit: int | None = None,
        *,
        example: int = 0,
        changes: Sequence[float] = (0.1, 0.01, 0.001),
    ) -> DemonTable:
        """Let a demon add Δz to a unit's weighted input, and measure the loss.

        Args:
            layer: from 2 to L; every layer unless given.
            unit: counted from 0; the one with the largest |δ| unless given.
            example: whose loss is measured.
            changes: Δz.

        Raises OptionError for a layer, unit or example that is not there.
        """
        if not 0 <= example < self.num_examples:
            raise OptionError(
                "demon: no such example",
                got=example,
                expected=f"0 to {self.num_examples - 1}",
            )
        chosen = self.layers if layer is None else (self.layer(layer),)
        rows = []
        for found in chosen:
            deltas = found.delta[:, example]
            j = int(np.abs(deltas).argmax()) if unit is None else unit
            if not 0 <= j < len(deltas):
                raise OptionError(
                    f"demon: layer {found.number} has no unit {j}",
                    got=j,
                    expected=f"0 to {len(deltas) - 1}",
                )
            for change in changes:
                moved = np.zeros_like(found.z)
                moved[j, example] = change
                outputs = self.network.forward(self.a, (found.number, moved))[-1]
                change_of_loss = self._own(outputs, example) - self._own(
                    self.layers[-1].a, example
                )
                delta = float(deltas[j])
                rows.append(Demon(found.number, j, delta, change, change_of_loss))
        return DemonTable(tuple(rows))

    def _own(self, outputs: Array, example: int) -> float:
        """What δ is a slope of: the example's own loss, or that of all jointly."""
        if self.reduction == "joint":
            return self.batch_loss.whole(outputs)
        return float(self.batch_loss.own(outputs)[example])
