"""The gradient check: derivatives against differences, and the op at fault named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.autodiff.probes import Array, Comparison, Settings, Value, compare_slopes
from chainrule.core.backward import gradients
from chainrule.core.graph import FUNCTIONS, Tensor, Variable, as_tensor, no_grad
from chainrule.core.rng import generator
from chainrule.core.spec import FLOAT64, is_float
from chainrule.core.trace import Graph, Node, input_names, tracing
from chainrule.errors import DtypeError, GradientError, NonFiniteError

__all__ = ["GradientReport", "check_gradients"]


@dataclass
class Fault:
    """An op whose own gradient disagrees with differences of its own value."""

    node: str
    op: str
    formula: str
    operand: Comparison
    layer: str = ""
    """The path of the layer that ran it, where a model was checked."""

    def __str__(self) -> str:
        worst = self.operand.worst
        where = f" in layer {self.layer}" if self.layer else ""
        return (
            f"{self.op}{where}: {self.node} = {self.formula}, by {self.operand.name}: "
            f"backward {worst.analytic:.6g}, differences {worst.numeric:.6g} "
            f"(relative error {worst.error:.1e})"
        )


@dataclass
class GradientReport:
    """What ``check_gradients`` found; prints as a table."""

    comparisons: list[Comparison]
    faults: list[Fault]
    tolerance: float
    is_only_at_kinks: bool = False
    """Whether the disagreement is gone a small step away, off the kinks."""

    @property
    def wrong(self) -> list[Comparison]:
        """The inputs and parameters whose gradients are wrong."""
        bad = [c for c in self.comparisons if c.max_error > self.tolerance]
        return [] if self.is_only_at_kinks else bad

    @property
    def passed(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        rows = [("gradient of", "spec", "probes", "kinks", "max error", "")]
        for c in self.comparisons:
            is_bad = c.max_error > self.tolerance
            verdict = "ok" if not is_bad else "wrong" if self.wrong else "kink"
            rows.append(
                (
                    c.name,
                    str(c.spec),
                    str(len(c.probes)),
                    str(c.num_kinks),
                    f"{c.max_error:.1e}",
                    verdict,
                )
            )
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(n) for text, n in zip(row, wide, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *(f"at fault: {f}" for f in self.faults)])


class _Widened:
    """Variables in float64 for a while, reset for every run, in the end as before."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Variable, Array, int, str | None]] = {}

    def add(self, variable: Variable, name: str | None = None) -> None:
        if id(variable) in self._kept:
            return
        array = variable.data
        self._kept[id(variable)] = (variable, array, variable.order, variable.name)
        variable.name = name or variable.name
        variable._array = np.array(
            array, FLOAT64 if is_float(array.dtype) else None, order="C"
        )

    def reset(self) -> None:
        """Undo what a run assigned, but not what a probe moved: parameters stay."""
        for variable, array, order, _ in self._kept.values():
            if not variable.requires_grad:
                np.copyto(variable.data, array)
            variable.order = order

    def restore(self) -> None:
        for variable, array, order, name in self._kept.values():
            variable._array, variable.order, variable.name = array, order, name

    @property
    def parameters(self) -> list[Variable]:
        return [v for v, *_ in self._kept.values() if v.requires_grad]


def check_gradients(
    f: Callable[..., Any],
    *inputs: Any,
    loss: Callable[..., Tensor] | None = None,
    num_entries: int = 20,
    num_directions: int = 3,
    tolerance: float = 1e-5,
    seed: int = 0,
    raise_error: bool = True,
) -> GradientReport:
    """Compare every gradient of a function or a model with central differences.

    Each float input, and each parameter that ``f`` reads, is moved along some of its
    entries and along random directions. Everything runs in float64: parameters are
    widened for the time of the check and then put back, a model's buffers are reset for
    every run. An output that is no scalar is weighted with fixed random numbers. If a
    gradient is wrong, each op of the graph is checked on its own, at the values it had,
    and the one at fault is named with its formula. Where a function has a kink (ReLU at
    0), any slope between the left and the right one is accepted.

    Args:
        f: a function of tensors, or a model with ``named_parameters()``.
        inputs: its arguments; integers are passed on as they are.
        loss: if given, what is checked is loss(f(*inputs[:-1]), inputs[-1]).
        num_entries: how many entries of each tensor to move, all if it has no more.
        num_directions: how many random directions.
        tolerance: the largest relative error accepted; where ``f`` computes in float32,
            at least what rounding allows there.
        seed: of the choice of entries and directions.
        raise_error: whether a wrong gradient raises; else look at ``passed``.

    Raises:
        GradientError: if a gradient is wrong, or ``f`` is not a function of its inputs.
        NonFiniteError: if the value is NaN or infinite.

    Example:
        >>> import chainrule as cr
        >>> x, w = cr.Tensor([[1.0, 2.0]]), cr.Tensor([[0.1], [0.2]])
        >>> check_gradients(lambda x, w: cr.tanh(x @ w), x, w).passed
        True

    Source: intellivision, "this is called a gradient check".
    """
    names = input_names(f, len(inputs))
    leaves = [_widened_input(v, name) for v, name in zip(inputs, names, strict=True)]
    variables = _Widened()

    def run() -> Tensor:
        variables.reset()
        y = f(*leaves) if loss is None else loss(f(*leaves[:-1]), leaves[-1])
        if not isinstance(y, Tensor):
            raise DtypeError(
                "check_gradients: the function did not return a tensor",
                got=type(y).__name__,
                expected="a Tensor",
            )
        return y

    walk = getattr(f, "named_modules", None)
    paths = {id(m): path for path, m in walk()} if walk else {}
    try:
        for kind in ("named_parameters", "named_buffers"):
            listed = getattr(f, kind, None)
            for name, variable in listed() if listed else ():
                variables.add(variable, name)
        with tracing():
            for node in _graph(run()).nodes:
                if isinstance(node.tensor, Variable):
                    variables.add(node.tensor)
        report = _report(
            run,
            [*(x for x in leaves if x.requires_grad), *variables.parameters],
            Settings(
                num_entries,
                num_directions,
                tolerance,
                float(np.finfo(FLOAT64).eps),
                generator(seed, "check_gradients"),
            ),
            paths,
        )
    finally:
        variables.restore()
    if raise_error and not report.passed:
        raise _error(report)
    return report


def _widened_input(value: Any, name: str) -> Tensor:
    given = as_tensor(value)
    if not is_float(given.dtype):
        return given
    array = np.array(given.data, FLOAT64, order="C")
    return Tensor(array, requires_grad=True, name=name)


def _graph(y: Tensor) -> Graph:
    if not y.requires_grad:
        raise GradientError(
            "check_gradients: the value depends on nothing that has a gradient",
            got=y.spec,
            expected="a function of at least one float input or parameter",
        )
    return Graph.of(y)


def _report(
    run: Callable[[], Tensor],
    leaves: list[Tensor],
    settings: Settings,
    paths: Mapping[int, str],
) -> GradientReport:
    with tracing():
        y = run()
        graph = _graph(y)
    if not np.isfinite(y.data).all():
        raise NonFiniteError(
            "check_gradients: the value is not finite",
            got=f"NaN or infinity in {y.spec}",
            expected="finite numbers at the point where gradients are checked",
        )
    epsilon = max(
        float(np.finfo(n.spec.dtype).eps) for n in graph.nodes if n.tensor.requires_grad
    )
    # The error of a difference is of the order ε^(2/3); leave it a margin.
    tolerance = max(settings.tolerance, 300 * epsilon ** (2 / 3))
    settings = dataclasses.replace(settings, epsilon=epsilon, tolerance=tolerance)
    weights = settings.rng.standard_normal(y.shape) if y.size > 1 else np.ones(y.shape)

    def value() -> tuple[float, float]:
        with no_grad():
            return _weighted(run().data, weights)

    first, second = value()[0], value()[0]
    if first != second:
        raise GradientError(
            "check_gradients: the function gives another value each time",
            got=f"{first:.10g}, then {second:.10g}",
            expected="equal values for equal inputs",
            hint="model.eval(), or fix the seed of what it draws",
        )
    found = gradients(y, leaves, [weights])
    report = GradientReport(_compare_all(leaves, found, value, settings), [], tolerance)
    if report.wrong:
        has_kinks = _locate(graph, report, settings, paths)
        if has_kinks and not report.faults:
            report.is_only_at_kinks = _is_right_nearby(
                run, leaves, value, weights, settings
            )
    return report


def _compare_all(
    leaves: list[Tensor], found: list[Tensor], value: Value, settings: Settings
) -> list[Comparison]:
    return [
        compare_slopes(x.name or f"parameter {i}", value, x.data, dx.data, settings)
        for i, (x, dx) in enumerate(zip(leaves, found, strict=True))
    ]


def _is_right_nearby(
    run: Callable[[], Tensor],
    leaves: list[Tensor],
    value: Value,
    weights: Array,
    settings: Settings,
) -> bool:
    """Whether the check passes where no input sits exactly at a kink.

    Kinks of opposite signs can hide from a difference; a random step leaves them all.
    """
    for x in leaves:
        x.data[...] += 1e-3 * settings.rng.standard_normal(x.shape)
    found = gradients(run(), leaves, [weights])
    compared = _compare_all(leaves, found, value, settings)
    return all(c.max_error <= settings.tolerance for c in compared)


def _weighted(array: Any, weights: Array) -> tuple[float, float]:
    terms = np.asarray(array, FLOAT64) * weights
    return float(terms.sum()), float(np.abs(terms).sum())


_MAX_FAULTS = 5


def _locate(
    graph: Graph,
    report: GradientReport,
    settings: Settings,
    paths: Mapping[int, str],
) -> bool:
    """Check each op of the graph on its own, at the values it had.

    ``paths`` are those of a model's layers, by their id. Returns whether some op sits
    at a kink.
    """
    few = dataclasses.replace(settings, num_entries=5)
    has_kinks = False
    for node in graph.nodes:
        if node.op is None or not node.tensor.requires_grad:
            continue
        for operand in _check_node(node, few):
            has_kinks |= operand.num_kinks > 0
            if operand.max_error > settings.tolerance:
                within = [paths.get(id(call.part), "") for call in node.within]
                layer = within[-1] if within else ""
                fault = Fault(node.name, node.op.name, node.formula, operand, layer)
                report.faults.append(fault)
        if len(report.faults) >= _MAX_FAULTS:
            break
    return has_kinks


def _check_node(node: Node, settings: Settings) -> list[Comparison]:
    op, tensors = node.op, [n.tensor for n in node.inputs]
    assert op is not None
    arrays = [np.array(t.data, order="C") for t in tensors]
    weights = settings.rng.standard_normal(node.spec.shape)

    def value() -> tuple[float, float]:
        return _weighted(op.compute(*arrays), weights)

    found = []
    with no_grad():
        dy = as_tensor(weights, node.spec.dtype)
        local = op.gradient(dy, node.tensor, *tensors)
        for n, array, given in zip(node.inputs, arrays, local, strict=True):
            if not n.tensor.requires_grad:
                continue
            dx = given() if callable(given) else given
            if dx is None:
                dx = np.zeros_like(array)
            else:
                dx = FUNCTIONS["sum_to"](dx, array.shape).data
            found.append(compare_slopes(n.name, value, array, dx, settings))
    return found


def _error(report: GradientReport) -> GradientError:
    expected = f"a relative error of at most {report.tolerance:.0e}"
    if report.faults:
        names = ", ".join(dict.fromkeys(f.op for f in report.faults))
        return GradientError(
            f"check_gradients: wrong gradient in {names}",
            got="\n".join(map(str, report.faults)),
            expected=expected,
            hint="correct the op's gradient rule (a gate's backward)",
        )
    rows = []
    for c in report.wrong:
        worst = c.worst
        rows.append(
            f"by {c.name}: backward {worst.analytic:.6g}, differences "
            f"{worst.numeric:.6g} (relative error {worst.error:.1e})"
        )
    return GradientError(
        "check_gradients: wrong gradient, though every op in the graph is right",
        got="\n".join(rows),
        expected=expected,
        hint="part of the function leaves the graph: look for .data, numpy(), detach() "
        "or no_grad()",
    )
