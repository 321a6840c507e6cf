"""Graphs that one can hold: a function run once, then run again and differentiated.

A tensor is already the graph that made it. A Graph lists that history in topological
order, gives every node a name, and keeps the value and the gradient of each.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chainrule.core.backward import gradients, topological_order
from chainrule.core.graph import (
    Op,
    Tensor,
    Variable,
    as_tensor,
    enable_grad,
    mode,
    record,
)
from chainrule.core.mode import Call
from chainrule.core.showing import SHOWN
from chainrule.core.spec import Spec, is_float
from chainrule.errors import (
    DtypeError,
    GradientError,
    IndexingError,
    OptionError,
    ShapeError,
)

__all__ = ["Graph", "Node", "input_names", "tracing", "unique_names"]

_MAX_ROWS = 60  # of a printed graph; a deep one shows its two ends


@contextmanager
def tracing() -> Iterator[list[Call]]:
    """Keep every op that runs, also those that no gradient flows through.

    Gives the list of the parts of models that run in the block, as they end.
    """
    before = mode.tracing, mode.calls
    mode.tracing, mode.calls = True, []
    try:
        with enable_grad():
            yield mode.calls
    finally:
        mode.tracing, mode.calls = before


def input_names(f: Callable[..., Any], count: int) -> list[str]:
    """What ``f`` calls its positional arguments; x1, x2, ... where it does not say."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some builtins do not tell
        parameters = []
    named = [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return [named[i] if i < len(named) else f"x{i + 1}" for i in range(count)]


@dataclass(eq=False, slots=True)
class Node:
    """One node of a Graph: an input, a variable, a constant, or the result of an op."""

    name: str
    kind: str
    """"input", "variable", "constant" or "op"."""
    op: Op | None
    inputs: tuple[Node, ...]
    tensor: Tensor = field(repr=False)
    """The value of the latest run, with its history."""
    gradient: Tensor | None = field(default=None, repr=False)
    """∂L/∂this after ``backward``; None before, and where no gradient flows."""
    within: tuple[Call, ...] = field(default=(), repr=False)
    """The parts of models that were running when it was made, the outermost first."""

    @property
    def value(self) -> Tensor:
        """The value of the latest run."""
        return as_tensor(self.tensor.data)

    @property
    def spec(self) -> Spec:
        return self.tensor.spec

    @property
    def formula(self) -> str:
        """How the node is made, with its operands' names; for a leaf, its kind."""
        if self.op is None:
            return self.kind
        return self.op.formula(*(n._operand for n in self.inputs))

    @property
    def _operand(self) -> str:
        """How formulas call it: a constant number is written out."""
        is_number = self.kind == "constant" and self.tensor.size == 1
        return f"{self.tensor.item():g}" if is_number else self.name

    def __repr__(self) -> str:
        return f"Node({self.name} = {self.formula}: {self.spec})"


class Graph:
    """The lectures' ComputationalGraph: every node of a function, forward and backward.

    ``f`` runs once on the given inputs, and each op that it executes becomes a node.
    ``forward`` runs the same ops on other values of the same shapes, ``backward`` gives
    every node its gradient. Parameters and buffers that ``f`` reads are leaves, whose
    current values count at each run. What ``f`` computes outside the graph is frozen at
    the first run: a branch of Python, NumPy, ``detach()`` and ``no_grad()``.

    Args:
        f: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments, by position or by name: numbers, arrays or tensors.

    Raises:
        DtypeError: if ``f`` returns something else.

    Example:
        >>> def f(x, y, z):
        ...     q = x + y
        ...     q.name = "q"
        ...     return q * z
        >>> graph = Graph(f, x=-2.0, y=5.0, z=-4.0)
        >>> {name: g.item() for name, g in graph.backward().items()}
        {'x': -4.0, 'y': -4.0, 'z': 3.0}
        >>> print(graph)
        node  formula  value  gradient
        x     input       -2        -4
        y     input        5        -4
        z     input       -4         3
        q     x + y        3        -4
        f     q·z        -12         1
        >>> graph.forward(z=10.0).item()
        30.0

    Source: intellivision, "Graph (or Net) object"; aarhus, automatic differentiation.
    """

    nodes: list[Node]
    """Every node, inputs before users: the inputs, other leaves, then the ops."""
    inputs: list[Node]
    """What ``forward`` accepts new values for."""
    outputs: list[Node]

    def __init__(self, f: Callable[..., Any], /, *inputs: Any, **named: Any) -> None:
        names = [*input_names(f, len(inputs)), *named]
        leaves = [
            Tensor(v, requires_grad=is_float(as_tensor(v).dtype), name=name)
            for name, v in zip(names, (*inputs, *named.values()), strict=True)
        ]
        positional = leaves[: len(inputs)]
        with tracing() as calls:
            keywords = dict(zip(named, leaves[len(inputs) :], strict=True))
            result = f(*positional, **keywords)
        self._is_tuple = isinstance(result, (tuple, list))
        outputs = list(result) if self._is_tuple else [result]
        for y in outputs:
            if not isinstance(y, Tensor):
                raise DtypeError(
                    "graph: the function did not return a tensor",
                    got=type(y).__name__,
                    expected="a Tensor, or a tuple of them",
                )
        title = getattr(f, "__name__", "")
        name = title if title.isidentifier() and not self._is_tuple else None
        self._build(outputs, leaves, name, calls)

    @classmethod
    def of(cls, *outputs: Tensor) -> Graph:
        """The graph that made these tensors, from what they remember.

        Its inputs are the leaves that require a gradient or have a name, except
        variables.

        Raises GradientError if nothing was recorded.
        """
        if not any(y.op for y in outputs):
            raise GradientError(
                "graph: nothing was recorded",
                got=", ".join(str(y.spec) for y in outputs) or "no tensor",
                expected="a result of tensors made with requires_grad=True",
                hint="Graph(f, *inputs) records every op of a function",
            )
        graph = cls.__new__(cls)
        graph._is_tuple = len(outputs) > 1
        leaves = _leaves(topological_order(outputs))
        leaves = [t for t in leaves if not isinstance(t, Variable)]
        inputs = [t for t in leaves if t.requires_grad or t.name]
        graph._build(outputs, inputs, None, mode.calls or [])
        return graph

    def _build(
        self,
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor],
        title: str | None,
        calls: Sequence[Call],
    ) -> None:
        given = {id(t) for t in inputs}
        order = topological_order(outputs)
        others = [t for t in _leaves(order) if id(t) not in given]
        tensors = [*inputs, *others, *(t for t in order if t.op is not None)]
        own = _paths(calls) | {id(t): t.name for t in tensors if t.name}
        if title and outputs[0].op:
            own.setdefault(id(outputs[0]), title)
        found: dict[int, Node] = {}
        for t, name in zip(tensors, unique_names(tensors, own), strict=True):
            kind = "op" if t.op else "input" if id(t) in given else "constant"
            if isinstance(t, Variable):
                kind = "variable"
            operands = tuple(found[id(i)] for i in t.inputs)
            found[id(t)] = Node(name, kind, t.op, operands, t)
        self.nodes = list(found.values())
        for node, within in zip(self.nodes, _running(self.nodes, calls), strict=True):
            node.within = within
        self.inputs = [found[id(t)] for t in inputs]
        self.outputs = [found[id(y)] for y in outputs]
        self._by_name = {n.name: n for n in self.nodes}
        # By identity, for the tensors of the first run that a caller may still hold.
        self._by_tensor = {id(n.tensor): (weakref.ref(n.tensor), n) for n in self.nodes}

    def node(self, which: Node | Tensor | str) -> Node:
        """A node by its name, or by a tensor of the run that made the graph.

        Raises OptionError for a name or a tensor that is not in the graph.
        """
        if isinstance(which, Node):
            return which
        if isinstance(which, str):
            if which not in self._by_name:
                raise OptionError.unknown("node", which, self._by_name)
            return self._by_name[which]
        reference, node = self._by_tensor.get(id(which), (None, None))
        if node is None or reference is None or reference() is not which:
            raise OptionError(
                "graph: this tensor is not one of its nodes",
                got=which.spec,
                expected="a tensor of the run that made the graph",
            )
        return node

    def value(self, which: Node | Tensor | str) -> Tensor:
        """The value of a node in the latest run."""
        return self.node(which).value

    def gradient(self, which: Node | Tensor | str) -> Tensor:
        """∂L/∂node from the latest ``backward``; zeros if the outputs ignore the node.

        Raises GradientError for constants and integers, and before ``backward``.
        """
        node = self.node(which)
        if node.gradient is None:
            has_one = node.tensor.requires_grad
            raise GradientError(
                f"graph: {node.name} has no gradient",
                got=f"{node.formula}: {node.spec}",
                expected="backward() after the latest forward()"
                if has_one
                else "a node that depends on an input or a parameter",
            )
        return node.gradient

    def forward(self, *values: Any, **named: Any) -> Any:
        """Run the same ops again, with new values for some inputs.

        Returns the output, or a tuple of them. Gradients are forgotten.

        Raises:
            OptionError: for a name that is no input.
            ShapeError: for a value of another shape than the first run's.
        """
        fresh = {id(n): n.tensor for n in self.nodes if n.op is None}
        fresh |= self._new_inputs(values, named)
        with tracing():
            for node in self.nodes:
                if node.op is None:
                    continue
                operands = tuple([fresh[id(i)] for i in node.inputs])
                try:
                    result = node.op.compute(*[t.data for t in operands])
                except IndexError as error:
                    raise IndexingError(
                        f"graph: {node.name} reads outside its operand",
                        got=error,
                        expected="indices inside the axis, as in the first run",
                    ) from None
                fresh[id(node)] = record(node.op, operands, result)
        for node in self.nodes:
            node.tensor = fresh[id(node)]
            node.gradient = None
        results = tuple(n.value for n in self.outputs)
        return results if self._is_tuple else results[0]

    def _new_inputs(
        self, values: Sequence[Any], named: dict[str, Any]
    ) -> dict[int, Tensor]:
        accepted = {n.name: n for n in self.inputs}
        if len(values) > len(accepted):
            raise OptionError(
                "graph: more values than inputs",
                got=len(values),
                expected=", ".join(accepted) or "no inputs",
            )
        fresh = {}
        pairs = itertools.chain(zip(accepted, values, strict=False), named.items())
        for name, value in pairs:
            if name not in accepted:
                raise OptionError.unknown("graph input", name, accepted)
            node = accepted[name]
            data = as_tensor(value).data
            if data.shape != node.spec.shape:
                raise ShapeError(
                    f"graph: {name} has another shape than in the first run",
                    got=Spec.of(data),
                    expected=node.spec,
                    hint="make a new Graph for new shapes",
                )
            needs = node.tensor.requires_grad
            fresh[id(node)] = Tensor(
                value, node.spec.dtype, requires_grad=needs, name=name
            )
        return fresh

    def backward(self, dy: Any = None) -> dict[str, Tensor]:
        """Give every node its gradient; returns those of the inputs, by name.

        Args:
            dy: ∂L/∂output, 1 for a scalar; with several outputs, a tuple.

        Raises GradientError if no output depends on a float input or parameter, or if
        the output is no scalar and dy is missing.
        """
        outputs = [n.tensor for n in self.outputs]
        if not any(y.requires_grad for y in outputs):
            raise GradientError(
                "graph: nothing here requires a gradient",
                got=", ".join(map(str, (y.spec for y in outputs))),
                expected="an output that depends on a float input or a parameter",
            )
        if self._is_tuple:
            seeds = [None] * len(outputs) if dy is None else list(dy)
        else:
            seeds = [dy]
        if len(seeds) != len(outputs):
            raise GradientError(
                "graph: wrong number of output gradients",
                got=len(seeds),
                expected=len(outputs),
            )
        reached = [n for n in self.nodes if n.tensor.requires_grad]
        found = gradients(outputs, [n.tensor for n in reached], seeds)
        for node, dx in zip(reached, found, strict=True):
            node.gradient = dx
        return {n.name: n.gradient for n in self.inputs if n.gradient is not None}

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        inputs = ", ".join(n.name for n in self.inputs)
        outputs = ", ".join(n.name for n in self.outputs)
        return f"Graph({inputs} -> {outputs}: {len(self.nodes)} nodes)"

    def _repr_svg_(self) -> str | None:
        return SHOWN["svg of a graph"](self)

    def _repr_html_(self) -> str | None:
        return SHOWN["html of a graph"](self)

    def __str__(self) -> str:
        shown: list[Node | None] = [*self.nodes]
        if len(shown) > _MAX_ROWS:
            shown[_MAX_ROWS // 2 : -_MAX_ROWS // 2] = [None]
        rows = [("node", "formula", "value", "gradient")]
        for n in shown:
            if n is None:
                rows.append(("...", f"{len(self.nodes) - _MAX_ROWS} more", "", ""))
            else:
                rows.append((n.name, n.formula, _brief(n.tensor), _brief(n.gradient)))
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}"
            for a, b, c, d in rows
        )
        return "\n".join(line.rstrip() for line in lines)


def _brief(t: Tensor | None) -> str:
    """A number as itself, an array as its spec."""
    if t is None:
        return "-"
    return f"{t.item():.6g}" if t.size == 1 else str(t.spec)


def _paths(calls: Sequence[Call]) -> dict[int, str]:
    """What models call their parameters and buffers, by id; the outermost model's."""
    paths: dict[int, str] = {}
    last = 0
    for call in sorted(calls, key=lambda call: call.begin):
        if call.end > last:  # not inside the one before
            last = call.end
            parts = (*call.part.named_parameters(), *call.part.named_buffers())
            for path, variable in parts:
                paths.setdefault(id(variable), path)
    return paths


def _running(
    nodes: Sequence[Node], calls: Sequence[Call]
) -> Iterator[tuple[Call, ...]]:
    """For each node the calls during which it was made, the outermost first."""
    waiting = sorted(calls, key=lambda call: call.begin, reverse=True)
    running: list[Call] = []
    for node in nodes:
        if node.op is None:
            yield ()
            continue
        order = node.tensor.order
        while waiting and waiting[-1].begin < order:
            running.append(waiting.pop())
        running = [call for call in running if call.end > order]
        yield tuple(running)


def _leaves(order: Sequence[Tensor]) -> list[Tensor]:
    """What was not made by an op, in the order of first use."""
    found: dict[int, Tensor] = {}
    for t in order:
        for operand in t.inputs:
            if operand.op is None:
                found.setdefault(id(operand), operand)
    for t in order:
        if t.op is None:
            found.setdefault(id(t), t)
    return list(found.values())


def unique_names(tensors: Sequence[Any], own: dict[int, str]) -> Iterator[str]:
    """A name for each tensor: its own, else the next of v1, v2 ... or c1, c2 ...

    ``own`` holds those that have one, by id.
    """
    reserved = set(own.values())
    values = (f"v{i}" for i in itertools.count(1) if f"v{i}" not in reserved)
    constants = (f"c{i}" for i in itertools.count(1) if f"c{i}" not in reserved)
    taken: set[str] = set()
    repeats: dict[str, int] = {}
    for t in tensors:
        name = own.get(id(t)) or next(values if t.op else constants)
        unique = name
        while unique in taken:
            repeats[name] = repeats.get(name, 1) + 1
            unique = f"{name}_{repeats[name]}"
        taken.add(unique)
        yield unique
