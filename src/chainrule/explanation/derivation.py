"""Why a derivative has the value it has: paths, factors, products, and their sum.

∂y/∂x is the sum, over all paths from y back to x, of the product of the local
derivatives along the path. A factor is one gate; where the user named intermediate
values, it is all that lies between two names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.core import scalar
from chainrule.core.backward import topological_order
from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.scalar import Expr
from chainrule.core.trace import tracing
from chainrule.errors import GradientError, ShapeError
from chainrule.explanation.notation import latex_name, number, pretty_name
from chainrule.explanation.simplification import simplify
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["Explanation", "Factor", "Path", "Step", "explain"]

_SATURATED = 0.01  # of a sigmoid's or tanh's largest slope


@dataclass(frozen=True)
class Factor:
    """∂of/∂by between two neighbours on a path: its formula, its value, its gate."""

    of: str
    by: str
    formula: str
    value: float
    gate: str
    note: str = ""
    """What is remarkable: a zero, a dead ReLU, a saturated gate."""

    def __str__(self) -> str:
        return f"∂{pretty_name(self.of)}/∂{pretty_name(self.by)}"

    def latex(self) -> str:
        of, by = latex_name(self.of), latex_name(self.by)
        return rf"\frac{{\partial {of}}}{{\partial {by}}}"


@dataclass(frozen=True)
class Path:
    """One way from the value back to what it is differentiated by, nearest first."""

    factors: tuple[Factor, ...]

    @property
    def value(self) -> float:
        """The product of the factors."""
        product = 1.0
        for factor in self.factors:
            product *= factor.value
        return product

    def product(self) -> str:
        """The factors' symbols, their numbers, the product: ``a · b = 2 · 3 = 6``."""
        symbols = " · ".join(map(str, self.factors))
        numbers = " · ".join(number(f.value) for f in self.factors)
        if len(self.factors) == 1:
            return f"{symbols} = {number(self.value)}"
        return f"{symbols} = {numbers} = {number(self.value)}"


@dataclass(frozen=True)
class Step:
    """One value of the forward pass: ``f = w·x = 15``."""

    name: str
    formula: str
    value: float

    def __str__(self) -> str:
        return f"{pretty_name(self.name)} = {self.formula} = {number(self.value)}"


@dataclass(frozen=True)
class Explanation:
    """∂of/∂wrt written out. Printing it gives text, ``latex()`` a formula.

    ``forward`` holds the values on the way, in the order in which they were computed.
    ``paths`` may be only the first of many; ``num_paths`` counts all.
    """

    of: str
    wrt: str
    forward: tuple[Step, ...]
    paths: tuple[Path, ...]
    num_paths: int
    value: float

    @property
    def symbol(self) -> str:
        return f"∂{pretty_name(self.of)}/∂{pretty_name(self.wrt)}"

    def __str__(self) -> str:
        if not self.num_paths:
            return f"{self.symbol} = 0: {self.of} does not depend on {self.wrt}"
        if self.num_paths == 1:
            return "\n".join(
                [f"{self.symbol} = {self.paths[0].product()}", *self._notes()]
            )
        lines = [f"{self.symbol} = the sum over {self.num_paths} paths"]
        for i, path in enumerate(self.paths, start=1):
            lines.append(f"  path {i}: {path.product()}")
        if self.num_paths > len(self.paths):
            lines.append(f"  … and {self.num_paths - len(self.paths)} more paths")
            lines.append(f"  sum of all: {number(self.value)}")
        else:
            terms = " + ".join(number(p.value) for p in self.paths)
            lines.append(f"  sum: {terms} = {number(self.value)}")
        return "\n".join([*lines, *self._notes()])

    def _notes(self) -> Iterator[str]:
        """The forward pass, then every factor once and what its gate does."""
        yield "forward"
        yield from (f"  {step}" for step in self.forward)
        yield "backward"
        seen: dict[tuple[str, str], Factor] = {}
        for path in self.paths:
            for factor in path.factors:
                seen.setdefault((factor.of, factor.by), factor)
        width = max(len(str(f)) for f in seen.values())
        for factor in seen.values():
            formula = f"{factor} = {factor.formula}"
            value = (
                "" if factor.formula == number(factor.value) else number(factor.value)
            )
            line = f"  {formula:<{width + 2}}" + (f" = {value}" if value else "")
            remarks = [r for r in (factor.gate, factor.note) if r]
            yield line + (f"   [{'; '.join(remarks)}]" if remarks else "")

    def latex(self) -> str:
        """The sum of products as LaTeX, without dollar signs."""
        of, wrt = latex_name(self.of), latex_name(self.wrt)
        left = rf"\frac{{\partial {of}}}{{\partial {wrt}}}"
        products = [r" \cdot ".join(f.latex() for f in p.factors) for p in self.paths]
        numbers = [
            r" \cdot ".join(number(f.value) for f in p.factors) for p in self.paths
        ]
        more = r" + \dots" if self.num_paths > len(self.paths) else ""
        parts = [left, " + ".join(products) + more, " + ".join(numbers) + more]
        return " = ".join([*(p for p in parts if p), number(self.value)])


def explain(y: Tensor, wrt: Tensor, *, max_paths: int = 8) -> Explanation:
    """Write out ∂y/∂wrt: every path, each factor's formula and number, product and sum.

    Name intermediate values (``f.name = "f"``) to have one factor for each name;
    without names every gate is one. The graph must consist of single numbers.

    Args:
        y: the value that is differentiated.
        wrt: a tensor that y was computed from, a leaf or not.
        max_paths: how many paths to write out; all are counted and summed.

    Raises:
        ShapeError: if a value on the way has more than one element.
        GradientError: if y was computed without recording.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Tensor(3.0, requires_grad=True, name="w")
        >>> f = w * 5
        >>> f.name = "f"
        >>> L = f * f
        >>> L.name = "L"
        >>> print(explain(L, wrt=w))
        ∂L/∂w = ∂f/∂w · ∂L/∂f = 5 · 30 = 150
        forward
          f = w·5 = 15
          L = f·f = 225
        backward
          ∂f/∂w = 5   [multiply switches]
          ∂L/∂f = 2·f = 30   [multiply switches]

    Source: stanford and toronto, the two-weight example; intellivision, gate patterns.
    """
    if y.op is None and y is not wrt:
        raise GradientError(
            "explain: nothing was recorded of how this value was made",
            got=f"{y.spec} without a history",
            expected="the result of ops on tensors with requires_grad=True",
        )
    story = _Story(y, wrt)
    found = story.paths(max_paths)
    return Explanation(
        of=story.names[id(y)],
        wrt=story.names[id(wrt)],
        forward=tuple(story.forward()),
        paths=tuple(found),
        num_paths=story.counts[id(y)],
        value=story.totals[id(y)],
    )


class _Story:
    """The part of a graph between a value and what it is differentiated by."""

    def __init__(self, y: Tensor, wrt: Tensor) -> None:
        self.y, self.wrt = y, wrt
        order = topological_order([y])
        depends = {id(wrt)}
        for t in order:
            if t is not wrt and any(id(i) in depends for i in t.inputs):
                depends.add(id(t))
        self.between = [t for t in order if id(t) in depends]
        for t in self.between:
            _check_is_scalar(t)
        inner = [t for t in self.between if t is not y and t is not wrt]
        named = [t for t in inner if t.name]
        stations = named or inner
        self.stations = {
            id(t): t for t in [wrt, *stations, y] if id(t) in depends or t is y
        }
        self.names = self._name(order if id(wrt) in map(id, order) else [*order, wrt])
        # From the far end: how many paths lead to wrt, and what they sum to.
        self.counts: dict[int, int] = defaultdict(int, {id(wrt): 1})
        self.totals: dict[int, float] = defaultdict(float, {id(wrt): 1.0})
        self.steps: dict[int, list[tuple[Tensor, Factor]]] = {}
        for t in self.between:
            if id(t) in self.stations and t is not wrt:
                self.steps[id(t)] = self._factors(t)
                for nearer, factor in self.steps[id(t)]:
                    self.counts[id(t)] += self.counts[id(nearer)]
                    self.totals[id(t)] += factor.value * self.totals[id(nearer)]

    def _name(self, order: list[Tensor]) -> dict[int, str]:
        """A name for every station and every leaf that has one, none twice."""
        names: dict[int, str] = {}
        taken: set[str] = set()
        fresh = 0
        for t in order:
            wanted = t.name
            if id(t) in self.stations and not wanted:
                if t is self.y:
                    wanted = "y"
                elif t is self.wrt:
                    wanted = "x"
                else:
                    fresh += 1
                    wanted = f"v{fresh}"
            if wanted:
                unique, copy = wanted, 1
                while unique in taken:
                    copy += 1
                    unique = f"{wanted}'{copy}"
                taken.add(unique)
                names[id(t)] = unique
        return names

    def forward(self) -> Iterator[Step]:
        """The stations' values, each in terms of those before it."""
        for t in self.between:
            if id(t) in self.stations and t.op is not None:
                name = self.names.pop(id(t))  # not in terms of itself
                formula = scalar.formula(self._expression(t, {}))
                self.names[id(t)] = name
                yield Step(name, formula, float(t.item()))

    def paths(self, limit: int) -> list[Path]:
        """The first paths, each from wrt up to y as the lectures write products."""
        found: list[Path] = []
        stack: list[tuple[Tensor, tuple[Factor, ...]]] = [(self.y, ())]
        while stack and len(found) < limit:
            t, factors = stack.pop()
            if t is self.wrt:
                found.append(Path(factors))
                continue
            for nearer, factor in reversed(self.steps.get(id(t), [])):
                if self.counts[id(nearer)]:
                    stack.append((nearer, (factor, *factors)))
        return found

    def _factors(self, station: Tensor) -> list[tuple[Tensor, Factor]]:
        """∂station/∂s for the nearest stations s below, summed over what is between."""
        one = scalar.constant(1.0)
        slopes: dict[int, Expr] = {id(station): one}
        values: dict[int, float] = {id(station): 1.0}
        gates: dict[int, set[int]] = defaultdict(set)
        reached: list[Tensor] = []
        for t in reversed(self.between):
            if id(t) not in slopes:
                continue
            if id(t) in self.stations and t is not station:
                reached.append(t)
                continue
            for nearer, value, slope in self._local(t):
                key = id(nearer)
                product = slopes[id(t)] * slope
                slopes[key] = slopes[key] + product if key in slopes else product
                values[key] = values.get(key, 0.0) + values[id(t)] * value
                gates[key] |= gates[id(t)] | {id(t)}
        return [
            (
                s,
                self._factor(
                    station, s, slopes[id(s)], values[id(s)], len(gates[id(s)])
                ),
            )
            for s in reversed(reached)
        ]

    def _factor(
        self, station: Tensor, by: Tensor, slope: Expr, value: float, num_gates: int
    ) -> Factor:
        gate, note = "", ""
        if num_gates == 1 and station.op is not None:
            verb = station.op.pattern.partition(":")[0]
            gate = f"{station.op.name} {verb}"
            note = _remark(station.op.name, value)
        elif value == 0:
            note = "a zero ends every path through here"
        return Factor(
            of=self.names[id(station)],
            by=self.names[id(by)],
            formula=scalar.formula(simplify(slope)),
            value=value,
            gate=gate,
            note=note,
        )

    def _local(self, t: Tensor) -> Iterator[tuple[Tensor, float, Expr]]:
        """(input, ∂t/∂input as a number and as an expression) of inputs that count."""
        if t.op is None:
            return
        ids = {id(x) for x in self.between}
        with tracing():
            dy = as_tensor(1.0, t.dtype)
            rules = t.op.gradient(dy, t, *t.inputs)
            for x, rule in zip(t.inputs, rules, strict=True):
                if rule is None or id(x) not in ids:
                    continue
                slope: Tensor = rule() if callable(rule) else rule
                known = {id(dy): scalar.constant(1.0)}
                yield x, float(slope.item()), self._expression(slope, known)

    def _expression(self, t: Tensor, known: dict[int, Expr]) -> Expr:
        """A tensor in terms of named values and numbers."""
        order = topological_order([t])
        read: dict[int, Expr] = dict(known)
        for node in order:
            key = id(node)
            if key in read:
                continue
            if key in self.names:
                read[key] = scalar.symbol(pretty_name(self.names[key]))
            elif node.op is None:
                read[key] = scalar.constant(node.item())
            elif isinstance(node.op, ElementwiseOp):
                read[key] = node.op.scalar(*(read[id(i)] for i in node.inputs))
            else:
                # Of a single number all that moves or sums elements leaves it as it is.
                read[key] = read[id(node.inputs[0])]
        return read[id(t)]


def _remark(op: str, value: float) -> str:
    if value == 0:
        return "a dead unit" if op == "relu" else "a zero ends every path through here"
    if op == "sigmoid" and abs(value) < _SATURATED * 0.25:
        return "saturated: almost no gradient passes"
    if op == "tanh" and abs(value) < _SATURATED:
        return "saturated: almost no gradient passes"
    return ""


def _check_is_scalar(t: Tensor) -> None:
    if t.size != 1:
        raise ShapeError(
            "explain: a value on the way has more than one element",
            got=f"{t.name or (t.op.name if t.op else 'a tensor')}: {t.spec}",
            expected="single numbers, shape ()",
            hint="explain one entry: build the graph from x[i, j]",
        )
