"""A derivative written out: paths, factors, products, and their sum.

∂y/∂x is the sum, over all paths from x up to y, of the product of the local derivatives
along the path. Of single numbers, each path is written to its end. Where arrays lie on
the way, paths are far too many: each term is then one step up, times the gradient that
arrives there, and the largest of these gradients is explained in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from chainrule.explanation.notation import latex_name, number, pretty_name
from chainrule.explanation.page import fragment, save_page

__all__ = ["Explanation", "Factor", "Path", "Step"]


@dataclass(frozen=True)
class Factor:
    """∂of/∂by between two neighbours on a path: its formula, its value, its gate.

    Without a formula it is no local derivative, but the gradient that arrives from
    further up.
    """

    of: str
    by: str
    formula: str
    value: float
    gate: str
    note: str = ""
    """What is remarkable: a zero, a dead ReLU, a saturated gate."""
    latex_formula: str = ""
    is_direct: bool = False
    """Whether ``by`` reaches ``of`` also through others, which do not count here."""

    def __str__(self) -> str:
        symbol = f"∂{pretty_name(self.of)}/∂{pretty_name(self.by)}"
        return f"{symbol} (direct)" if self.is_direct else symbol

    def latex(self) -> str:
        """The factor's symbol as LaTeX."""
        of, by = latex_name(self.of), latex_name(self.by)
        symbol = rf"\frac{{\partial {of}}}{{\partial {by}}}"
        if self.is_direct:
            return rf"\left.{symbol}\right|_{{\mathrm{{direct}}}}"
        return symbol


@dataclass(frozen=True)
class Path:
    """One way from what it is differentiated by up to the value, nearest first."""

    factors: tuple[Factor, ...]

    @property
    def value(self) -> float:
        """The product of the factors."""
        product = 1.0
        for factor in self.factors:
            product *= factor.value
        return product

    @property
    def is_complete(self) -> bool:
        """Whether each factor is a local derivative, all the way up."""
        return all(factor.formula for factor in self.factors)

    def product(self, digits: int = 6) -> str:
        """The factors' symbols, their numbers, the product: ``a · b = 2 · 3 = 6``."""
        if not self.factors:
            return number(self.value)
        symbols = " · ".join(map(str, self.factors))
        numbers = " · ".join(number(f.value, digits) for f in self.factors)
        if len(self.factors) == 1:
            return f"{symbols} = {number(self.value, digits)}"
        return f"{symbols} = {numbers} = {number(self.value, digits)}"


@dataclass(frozen=True)
class Step:
    """One value of the forward pass: ``f = w·x = 15``."""

    name: str
    formula: str
    value: float
    latex_formula: str = ""

    def __str__(self) -> str:
        return self.line()

    def line(self, digits: int = 6) -> str:
        """Name, formula and value."""
        shown = number(self.value, digits)
        return f"{pretty_name(self.name)} = {self.formula} = {shown}"


@dataclass(frozen=True)
class Explanation:
    """∂of/∂wrt written out. Printing it gives text, ``latex()`` a formula.

    ``forward`` holds the values on the way, in the order in which they were computed.
    ``paths`` may be only some of many: ``num_paths`` counts all, ``rest`` is the sum of
    those left out. ``deeper`` explains the gradient further up that the largest path
    ends with. ``reason`` says why there is no path, ``hints`` how to see more.
    """

    of: str
    wrt: str
    forward: tuple[Step, ...]
    paths: tuple[Path, ...]
    num_paths: int
    value: float
    rest: float = 0.0
    reason: str = ""
    hints: tuple[str, ...] = ()
    deeper: Explanation | None = None
    digits: int = 6

    @property
    def symbol(self) -> str:
        return f"∂{pretty_name(self.of)}/∂{pretty_name(self.wrt)}"

    @property
    def blocks(self) -> list[Explanation]:
        """This derivative, then the gradients further up that are explained too."""
        found = [self]
        while found[-1].deeper is not None:
            found.append(found[-1].deeper)
        return found

    @property
    def steps(self) -> list[Step]:
        """The forward pass of all blocks, each value once."""
        return list({s.name: s for b in self.blocks for s in b.forward}.values())

    @property
    def factors(self) -> list[Factor]:
        """The local derivatives of all blocks, each once."""
        seen: dict[tuple[str, str], Factor] = {}
        for block in self.blocks:
            for path in block.paths:
                for factor in path.factors:
                    if factor.formula:
                        seen.setdefault((factor.of, factor.by), factor)
        return list(seen.values())

    def with_digits(self, digits: int) -> Explanation:
        """The same, to be printed with another number of digits."""
        deeper = self.deeper and self.deeper.with_digits(digits)
        return replace(self, digits=digits, deeper=deeper)

    def __str__(self) -> str:
        lines = [line for block in self.blocks for line in block.equation()]
        if self.steps:
            lines += ["forward", *(f"  {s.line(self.digits)}" for s in self.steps)]
        if self.factors:
            lines += ["backward", *self.factor_lines()]
        lines += self.hints
        return "\n".join(lines)

    def equation(self) -> Iterator[str]:
        """The derivative as a product, or line by line as a sum of products."""
        value = number(self.value, self.digits)
        if self.reason:
            yield f"{self.symbol} = {value}: {self.reason}"
        elif self.num_paths == 1:
            product = self.paths[0].product(self.digits)
            yield (
                product
                if product.startswith(f"{self.symbol} =")
                else (f"{self.symbol} = {product}")
            )
        else:
            word = "path" if all(p.is_complete for p in self.paths) else "term"
            count = f"{self.num_paths} {word}s"
            yield f"{self.symbol} = the sum over {count}: a branch adds up"
            for i, path in enumerate(self.paths, start=1):
                yield f"  {word} {i}: {path.product(self.digits)}"
            terms = [number(p.value, self.digits) for p in self.paths]
            left_out = self.num_paths - len(self.paths)
            if left_out:
                rest = number(self.rest, self.digits)
                some = f"{left_out} more {word}s" if left_out > 1 else f"1 more {word}"
                yield f"  … and {some}, together {rest}"
                terms.append(rest)
            yield f"  sum: {' + '.join(terms)} = {value}"

    def factor_lines(self) -> Iterator[str]:
        """Every local derivative with its formula, and what its gate does."""
        width = max(len(str(f)) for f in self.factors)
        for factor in self.factors:
            value = number(factor.value, self.digits)
            is_plain = factor.formula == number(factor.value)
            formula = f"{factor} = {value if is_plain else factor.formula}"
            line = f"  {formula:<{width + 2}}" + ("" if is_plain else f" = {value}")
            remarks = [r for r in (factor.gate, factor.note) if r]
            yield line + (f"   [{'; '.join(remarks)}]" if remarks else "")

    def latex(self, *, full: bool = False) -> str:
        """The sum of products as LaTeX, without dollar signs.

        A line for each gradient that is explained; ``full`` adds lines for the forward
        pass and for each factor's formula.
        """
        lines = [block._latex_equation() for block in self.blocks]
        if full:
            for step in self.steps:
                value = number(step.value, self.digits)
                middle = f"{step.latex_formula} = " if step.latex_formula else ""
                lines.append(f"{latex_name(step.name)} = {middle}{value}")
            for factor in self.factors:
                value = number(factor.value, self.digits)
                formula = factor.latex_formula
                middle = f"{formula} = " if formula not in ("", value) else ""
                lines.append(f"{factor.latex()} = {middle}{value}")
        return "\n".join(lines)

    def _latex_equation(self) -> str:
        of, wrt = latex_name(self.of), latex_name(self.wrt)
        left = rf"\frac{{\partial {of}}}{{\partial {wrt}}}"
        products = [r" \cdot ".join(f.latex() for f in p.factors) for p in self.paths]
        numbers = [
            r" \cdot ".join(number(f.value, self.digits) for f in p.factors)
            for p in self.paths
        ]
        if self.num_paths > len(self.paths):
            products.append(r"\dots")
            numbers.append(number(self.rest, self.digits))
        value = number(self.value, self.digits)
        parts = [left, " + ".join(products), " + ".join(numbers), value]
        # A single factor is the derivative itself, and need not be said twice.
        return " = ".join(dict.fromkeys(p for p in parts if p))

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON; paths with their products."""
        found = asdict(self)
        for mine, block in zip(_nested(found), self.blocks, strict=True):
            for path, original in zip(mine["paths"], block.paths, strict=True):
                path["value"] = original.value
        return {**found, "text": str(self)}

    def _repr_latex_(self) -> str:
        return "\n\n".join(rf"$\displaystyle {eq}$" for eq in self.latex().split("\n"))

    def _repr_html_(self) -> str:
        return fragment(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a page that stands alone; what is left out opens by a click.

        Raises:
            OptionError: for a name that does not end in .html.
            FileError: where it cannot be written.
        """
        save_page(path, f"{self.symbol} explained", self._repr_html_())


def _nested(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    inner: dict[str, Any] | None = found
    while inner is not None:
        yield inner
        inner = inner["deeper"]
