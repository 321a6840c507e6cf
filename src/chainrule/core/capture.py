"""Running a function once without values, which gives the graph of all that it does.

While a function is captured, tensors hold nodes in the place of arrays, and every op
becomes a node instead of a computation: forward, ``backward()``, an optimizer's step,
dropout. What the function assigns to variables, and the gradients that it leaves, are
results of the graph beside the values that it returns. Python itself runs once.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np

from chainrule.core.graph import (
    FUNCTIONS,
    Op,
    Tensor,
    Variable,
    as_tensor,
    mode,
    record,
)
from chainrule.core.size import Batch, Guard, Number, Shape, Size, at
from chainrule.core.spec import FLOAT32, INT64, Spec, as_dtype
from chainrule.core.tensor import next_order
from chainrule.core.trace import input_names, unique_names
from chainrule.errors import CaptureError, ShapeError

__all__ = ["Capture", "CapturedGraph", "Node", "capture", "op_at", "undo_unless"]


class Node:
    """A value of a captured graph; while it is captured, in the place of an array."""

    __slots__ = (
        "inputs",
        "kind",
        "line",
        "name",
        "number",
        "op",
        "order",
        "requires_grad",
        "spec",
        "tensor",
    )

    kind: str
    """"input", "variable", "constant", "number" or "op"."""
    spec: Spec
    """Its shape may hold Sizes."""
    op: Op | None
    inputs: tuple[Node, ...]
    tensor: Tensor | None
    """What a variable or a constant stands for: its values at each run count."""
    number: Number | None
    """What a number is, once the batch size is known."""
    name: str
    line: str
    """Where the user's code made it: "train.py:12"."""
    order: int
    requires_grad: bool
    """Of a leaf, at capture."""

    def __init__(
        self,
        kind: str,
        spec: Spec,
        *,
        op: Op | None = None,
        inputs: tuple[Node, ...] = (),
        tensor: Tensor | None = None,
        number: Number | None = None,
        name: str = "",
        requires_grad: bool = False,
    ) -> None:
        self.kind = kind
        self.spec = Spec(Shape(spec.shape), spec.dtype)
        self.op = op
        self.inputs = inputs
        self.tensor = tensor
        self.number = number
        self.name = name
        self.line = ""
        self.order = 0
        self.requires_grad = requires_grad

    @property
    def formula(self) -> str:
        """How it is made, with its operands' names; for a leaf, its kind."""
        if self.op is None:
            return self.kind
        return self.op.formula(*(n.literal or n.name for n in self.inputs))

    @property
    def literal(self) -> str:
        """How formulas write a number out; nothing for what has a name instead."""
        if self.number is not None:
            expression = self.number.expression
            return f"({expression})" if expression.args else str(expression)
        if self.kind == "constant" and self.tensor is not None and self.size == 1:
            return f"{self.tensor._array.item():g}"
        return ""

    def __repr__(self) -> str:
        return f"{self.name or self.kind}: {_written(self.spec)}"

    # What is asked of an array.

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    @property
    def size(self) -> int:
        return self.spec.size

    def copy(self) -> Node:
        """Itself: nothing can be written into it."""
        return self

    def astype(self, dtype: np.dtype[Any]) -> Node:
        """The node of the values in another dtype."""
        t = as_tensor(np.empty(0))
        t._array = self  # type: ignore[assignment]  # a node in an array's place
        return FUNCTIONS["astype"](t, dtype)._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise CaptureError: somebody wants values."""
        made = f", made at {self.line}" if self.line else ""
        got = f"{self.kind if self.op is None else self.op.name} {self.spec}{made}"
        if mode.capturing is None:
            raise CaptureError(
                "capture: a tensor was kept from a function that was captured",
                got=f"{got}, which never had values",
                expected="tensors that the function returned",
                hint="return it from the function instead of storing it",
            )
        raise _refused("capture: a value is read that is not there yet", got)


def _refused(what: str, got: str) -> CaptureError:
    return CaptureError(
        what,
        got=f"{got}\n{_user_source()}",
        expected="a function that computes without looking: it runs once, without "
        "values, and is then compiled",
        hint="return the tensor and read it outside; choose with where(), not if",
    )


def _written(spec: Spec) -> str:
    """A spec with the batch size as a letter: float32[n, 784]."""
    axes = (str(n.expression) if isinstance(n, Number) else str(n) for n in spec.shape)
    return f"{spec.dtype.name}[{', '.join(axes)}]"


# ------------------------------------------------------------------ the user's line

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_PASSED_THROUGH = (contextlib.__file__, functools.__file__)


def _user_frame() -> FrameType | None:
    """The innermost frame that is not chainrule's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_PACKAGE) and name not in _PASSED_THROUGH:
            return frame
        frame = frame.f_back
    return None


def _user_line() -> str:
    frame = _user_frame()
    if frame is None:
        return ""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _user_source() -> str:
    """The user's file, line and text, for an error."""
    frame = _user_frame()
    if frame is None:
        return "read inside chainrule"
    name, number = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(name, number, frame.f_globals).strip()
    return f"at {name}:{number}" + (f": {text}" if text else "")


# ----------------------------------------------------------------------- the capture


class Capture:
    """What is written down while one function runs without values."""

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.modules: dict[int, tuple[Any, bool]] = {}
        self._made: list[tuple[Node, Tensor | None]] = []
        """All nodes in order, with a tensor that may be given a name later."""
        self._leaves: dict[int, Node] = {}
        self._versions: dict[int, tuple[Variable, Node]] = {}
        """The latest values of the variables that were assigned to."""
        self._orders: dict[int, tuple[Variable, int]] = {}
        self._gradients: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._without_gradient: dict[int, Tensor] = {}

    # What tensors and ops ask for.

    def apply(self, op: Op, inputs: tuple[Tensor, ...]) -> Tensor:
        """One op written down, as ``apply`` would have run it."""
        wanted = op.dtypes(*[t._array.dtype for t in inputs])
        cast = FUNCTIONS["astype"]
        inputs = tuple([cast(t, d) for t, d in zip(inputs, wanted, strict=True)])
        nodes = tuple([self.node(t) for t in inputs])
        spec = op.spec(*[n.spec for n in nodes])
        node = Node("op", spec, op=op, inputs=nodes)
        y = record(op, inputs, node)
        self._enter(node, y)
        return y

    def node(self, t: Tensor) -> Node:
        """What a tensor's value is at this point of the function."""
        held: Any = t._array
        if type(held) is Node:
            if held.order >= len(self._made) or self._made[held.order][0] is not held:
                _refuse_foreign(held)
            return held
        if id(t) in self._versions:
            return self._versions[id(t)][1]
        return self._leaf(t)

    def _leaf(self, t: Tensor) -> Node:
        """What a tensor from outside holds when the function begins."""
        if id(t) not in self._leaves:
            kind = "variable" if isinstance(t, Variable) else "constant"
            needs, name = t.requires_grad, t.name or ""
            leaf = Node(kind, t.spec, tensor=t, name=name, requires_grad=needs)
            self._leaves[id(t)] = self._enter(leaf, None)
        return self._leaves[id(t)]

    def _enter(self, node: Node, t: Tensor | None) -> Node:
        node.order = len(self._made)
        node.line = _user_line()
        self._made.append((node, t))
        return node

    def _holding(self, node: Node) -> Tensor:
        """A tensor of a node, without history."""
        t = as_tensor(np.empty(0))
        t._array = node  # type: ignore[assignment]  # a node in an array's place
        return t

    def number(self, value: Number, dtype: Any) -> Tensor:
        """A Python number that depends on the batch size, as a tensor."""
        usual = INT64 if isinstance(value.value, int) else FLOAT32
        spec = Spec((), usual if dtype is None else as_dtype(dtype))
        return self._holding(self._enter(Node("number", spec, number=value), None))

    def detached(self, t: Tensor) -> Tensor:
        """A tensor's present value, cut off from its history."""
        is_here = self.is_readable(t)
        return as_tensor(t._array) if is_here else self._holding(self.node(t))

    def is_readable(self, t: Tensor) -> bool:
        """Whether a tensor's values are known now, and the same at every run."""
        return not isinstance(t, Variable) and type(t._array) is np.ndarray

    def check_readable(self, t: Tensor) -> None:
        """Raise CaptureError for a tensor whose values differ from run to run."""
        if not self.is_readable(t):
            self.node(t).refuse()

    def refuse_writing(self, t: Tensor) -> NoReturn:
        raise CaptureError(
            "capture: .data of a tensor is replaced",
            got=f"{t.name or 'a tensor'}, {t.spec}\n{_user_source()}",
            expected="a function whose only effect on tensors is assign()",
            hint="assign(variable, value)",
        )

    def assign(self, variable: Variable, value: Any) -> None:
        """From here on the variable has another value, and so after each run."""
        if isinstance(value, Number):
            value = self.number(value, variable.dtype)
        t = value if isinstance(value, Tensor) else as_tensor(np.asarray(value))
        variable.check_replaceable(t.spec)
        node = self.node(FUNCTIONS["astype"](t, variable.dtype))
        self._versions[id(variable)] = (variable, node)
        self._orders.setdefault(id(variable), (variable, variable.order))
        variable.order = next_order()

    def undo_unless(self, condition: Tensor) -> None:
        """Where the condition is false, variables are as the function found them."""
        for variable, _ in [*self._versions.values()]:
            before = self._holding(self._leaf(variable))
            now = self._holding(self.node(variable))
            self.assign(variable, FUNCTIONS["where"](condition, now, before))

    def gradient_of(self, t: Tensor) -> Tensor | None:
        """What ``t.grad`` is at this point of the function."""
        if id(t) in self._gradients:
            return self._gradients[id(t)][1]
        if t._grad is not None:
            raise CaptureError(
                f"capture: {t.name or 'a parameter'} has a gradient from before",
                got=f"{t.spec} with .grad set\n{_user_source()}",
                expected="gradients that the captured function computes itself",
                hint="call zero_grad() first",
            )
        self._without_gradient[id(t)] = t
        return None

    def set_gradient(self, t: Tensor, dx: Tensor | None) -> None:
        self._gradients[id(t)] = (t, dx)

    def note_training(self, module: Any, training: bool) -> None:
        """Remember that the function depends on whether a module trains."""
        self.modules.setdefault(id(module), (module, training))

    # The graph.

    def argument(self, name: str, given: Any) -> Tensor:
        """The tensor that the function receives for one of its array arguments."""
        outside = as_tensor(given)
        shape: tuple[Any, ...] = outside.shape
        if shape and self.batch is None:
            self.batch = Batch(shape[0])
        if shape and self.batch is not None and shape[0] == self.batch.value:
            shape = (Size(self.batch), *shape[1:])
        needs = outside.requires_grad
        spec = Spec(shape, outside.dtype)
        inside = self._holding(
            self._enter(Node("input", spec, name=name, requires_grad=needs), None)
        )
        inside.requires_grad = needs
        inside.name = outside.name or name
        inside._grad = outside._grad
        return inside

    @contextmanager
    def running(self) -> Iterator[None]:
        """The block in which the function runs; afterwards nothing is as if it had."""
        mode.capturing = self
        try:
            yield
        finally:
            mode.capturing = None
            for variable, order in self._orders.values():
                variable.order = order

    def close(self) -> None:
        """From here on sizes are compared as symbols."""
        if self.batch is not None:
            self.batch.is_open = False

    def graph(self, inputs: list[Tensor], result: Any) -> CapturedGraph:
        """Everything that was written down and is needed."""
        outputs: list[Node] = []

        def placed(value: Any) -> Any:
            if isinstance(value, Tensor) and not self.is_readable(value):
                if isinstance(value, Variable):
                    return value
                outputs.append(self.node(value))
                return _Place(len(outputs) - 1)
            return value

        structure = _mapped(result, placed)
        own = {id(t): self.node(t) for t in inputs}
        gradients: list[tuple[Tensor, Node]] = []
        input_gradients: list[tuple[Node, Node]] = []
        cleared: list[Tensor] = []
        for t, dx in self._gradients.values():
            if id(t) in own:
                if dx is not None:
                    input_gradients.append((own[id(t)], self.node(dx)))
            elif type(t._array) is np.ndarray:
                if dx is None:
                    cleared.append(t)
                else:
                    gradients.append((t, self.node(dx)))
        assignments = [
            (v, node)
            for v, node in self._versions.values()
            if node is not self._leaves.get(id(v))
        ]
        results = [*outputs]
        results += [node for _, node in assignments]
        results += [node for _, node in gradients]
        results += [node for _, node in input_gradients]
        nodes = _needed(results)
        self._name(sorted({*nodes, *own.values()}, key=lambda node: node.order))
        fresh = [
            t for t in self._without_gradient.values() if type(t._array) is np.ndarray
        ]
        return CapturedGraph(
            nodes=nodes,
            inputs=list(own.values()),
            leaves=[n for n in nodes if n.kind in ("variable", "constant")],
            outputs=outputs,
            structure=structure,
            assignments=assignments,
            gradients=gradients,
            input_gradients=input_gradients,
            cleared=cleared,
            without_gradient=fresh,
            modules=list(self.modules.values()),
            batch=None if self.batch is None else self.batch.value,
            guards=[] if self.batch is None else [*self.batch.guards.values()],
        )

    def _name(self, nodes: list[Node]) -> None:
        """The names that tensors were given, or numbers."""
        given = {id(node): t.name for node, t in self._made if t is not None and t.name}
        own = {id(n): given.get(id(n)) or n.name for n in nodes}
        own = {key: name for key, name in own.items() if name}
        for node, name in zip(nodes, unique_names(nodes, own), strict=True):
            node.name = name


def _refuse_foreign(node: Node) -> NoReturn:
    raise CaptureError(
        "capture: a tensor of another captured function is used",
        got=f"{node.spec}, made at {node.line or 'its arguments'}\n{_user_source()}",
        expected="the function's own arguments and results, and tensors with values",
        hint="return tensors from a captured function instead of storing them",
    )


def _needed(results: Sequence[Node]) -> list[Node]:
    """The results and all that they are made from, in the order of their making."""
    seen: dict[int, Node] = {}
    stack = list(results)
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            stack += node.inputs
    return sorted(seen.values(), key=lambda node: node.order)


# ------------------------------------------------------------------------- its result


@dataclass(frozen=True)
class _Place:
    """Where an output stands in what the function returns."""

    position: int


@dataclass(eq=False)
class CapturedGraph:
    """All that a function does to tensors, as a graph that can be run again."""

    nodes: list[Node]
    """What the results need, operands before users, in the order of their making."""
    inputs: list[Node]
    """One for each array among the arguments, in order, also if nothing reads it."""
    leaves: list[Node]
    """The variables and constants that are read; ``tensor`` says which they are."""
    outputs: list[Node]
    """The tensors inside what the function returned; ``rebuild`` puts them back."""
    structure: Any
    assignments: list[tuple[Variable, Node]]
    """The value of each variable that was assigned to, at the end."""
    gradients: list[tuple[Tensor, Node]]
    """What ``grad`` of each leaf is at the end, where the function has set it."""
    input_gradients: list[tuple[Node, Node]]
    """The same of arguments that require a gradient: (input, gradient)."""
    cleared: list[Tensor]
    """Tensors whose ``grad`` the function sets to None in the end."""
    without_gradient: list[Tensor]
    """Tensors that had no ``grad`` when the function asked: nor may they at a run."""
    modules: list[tuple[Any, bool]]
    """Modules whose ``training`` was asked for, and what it was."""
    batch: int | None
    """The leading size at capture; None where no argument has an axis."""
    guards: list[Guard] = field(default_factory=list)

    def admits(self, n: int | None) -> bool:
        """Whether the graph is that of another batch size too."""
        if n is None or self.batch is None:
            return n == self.batch
        return n == self.batch or all(guard.holds(n) for guard in self.guards)

    def batch_of(self, arrays: Sequence[Any]) -> int | None:
        """The batch size of arrays that fit the inputs.

        Raises ShapeError if they do not.
        """
        n = None
        for node, array in zip(self.inputs, arrays, strict=True):
            found = array.shape
            if n is None and found and node.shape and isinstance(node.shape[0], Size):
                n = found[0]
            if at(tuple(node.shape), n or 0) != found:
                raise ShapeError(
                    f"{node.name}: another shape than the captured function's",
                    got=Spec.of(array),
                    expected=_written(node.spec) + (f" with n = {n}" if n else ""),
                )
        return n

    def is_current(self) -> bool:
        """Whether what the capture took for granted still holds.

        Modules train or not as then, leaves have the same spec and require a gradient
        as then, and no gradient is there that was not.
        """
        # Plain loops: every call of a compiled function comes by here.
        for module, training in self.modules:
            if module.training != training:
                return False
        for tensor in self.without_gradient:
            if tensor._grad is not None:
                return False
        for tensor, requires_grad, dtype, shape in self._expected:
            array = tensor._array
            if (
                tensor.requires_grad != requires_grad
                or array.dtype != dtype
                or array.shape != shape
            ):
                return False
        return True

    @functools.cached_property
    def _expected(self) -> list[tuple[Tensor, bool, Any, tuple[int, ...]]]:
        """Leaves with what was true of them; plain, as every call compares it."""
        return [
            (n.tensor, n.requires_grad, n.dtype, tuple(n.shape))
            for n in self.leaves
            if n.tensor is not None
        ]

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether one tensor is all that a call returns or leaves behind."""
        effects = self.assignments or self.gradients or self.cleared
        return isinstance(self.structure, _Place) and not effects

    def rebuild(self, values: Sequence[Any], n: int | None = None) -> Any:
        """What the function returns: ``values`` in the places of the outputs."""

        def filled(part: Any) -> Any:
            if isinstance(part, _Place):
                return values[part.position]
            return part if n is None else at(part, n)

        return _mapped(self.structure, filled)

    def __str__(self) -> str:
        lines = [
            f"{node.name} = {node.formula}: {_written(node.spec)}"
            for node in self.nodes
            if not node.literal
        ]
        names = {id(leaf.tensor): leaf.name for leaf in self.leaves}
        lines += [
            f"{names.get(id(v), v.name or 'a variable')} <- {node.name}"
            for v, node in self.assignments
        ]
        returned = ", ".join(node.name for node in self.outputs)
        lines += [f"return {returned}"] if returned else []
        lines += [f"where {', '.join(map(str, self.guards))}"] if self.guards else []
        return "\n".join(lines)


def capture(
    f: Callable[..., Any],
    arguments: Sequence[Any] = (),
    keywords: Mapping[str, Any] | None = None,
) -> CapturedGraph:
    """Run ``f`` once on tensors without values; the graph of what it does to tensors.

    Tensors and arrays among the arguments, also inside tuples, lists and dicts, are
    the graph's inputs; other arguments, and Variables, are passed as they are. Inputs
    with the leading size of the first of them have the batch size there, as a symbol.
    Other tensors that ``f`` reads are leaves, whose values count at each run.

    Raises:
        CaptureError: if ``f`` looks at values, writes ``.data``, adds to a gradient
            from before, or while another capture is under way.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter([[1.0], [2.0]], name="w")
        >>> def step(x):
        ...     loss = (x @ w).mean()
        ...     loss.backward()
        ...     cr.assign(w, w - 0.1 * w.grad)
        ...     w.grad = None
        ...     return loss
        >>> print(capture(step, (cr.Tensor([[1.0, 2.0], [3.0, 4.0]]),)))
        x = input: float32[n, 2]
        w = variable: float32[2, 1]
        v1 = x @ w: float32[n, 1]
        v2 = mean(v1): float32[]
        v3 = 1 / n: float32[]
        v4 = broadcast_to(v3): float32[n, 1]
        v5 = xᵀ @ v4: float32[2, 1]
        v6 = 0.1·v5: float32[2, 1]
        v7 = w - v6: float32[2, 1]
        w <- v7
        return v2
        where n ≠ 1
    """
    if mode.capturing is not None:
        raise CaptureError(
            "capture: another function is being captured",
            got=f"{getattr(f, '__name__', f)} inside it",
            expected="a plain call: the outer graph then has all of it",
        )
    names = [*input_names(f, len(arguments)), *(keywords or {})]
    values = [*arguments, *(keywords or {}).values()]
    under_way = Capture()
    inputs: list[Tensor] = []

    def received(name: str, value: Any) -> Any:
        if isinstance(value, Variable) or not isinstance(value, (Tensor, np.ndarray)):
            return value
        inputs.append(under_way.argument(name, value))
        return inputs[-1]

    try:
        with under_way.running():
            inside = [
                _mapped(value, functools.partial(received, name))
                for name, value in zip(names, values, strict=True)
            ]
            named = dict(zip(keywords or {}, inside[len(arguments) :], strict=True))
            result = f(*inside[: len(arguments)], **named)
            graph = under_way.graph(inputs, result)
    finally:
        under_way.close()
    return graph


def undo_unless(condition: Tensor) -> None:
    """In a function that is captured: take back all assignments so far, if not so.

    Variables that were assigned to hold what they held when the function began, unless
    the condition, a 0-d bool, is true: what ``if not condition: return`` at the
    function's start would do, if the condition were known there.

    Raises CaptureError outside of a capture, where ``if`` can decide.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter(1.0, name="w")
        >>> def step(x):
        ...     cr.assign(w, w / x)
        ...     undo_unless(w < float("inf"))
        >>> print(capture(step, (cr.Tensor(0.5),)))
        x = input: float32[]
        w = variable: float32[]
        v1 = w / x: float32[]
        v2 = v1 < inf: bool[]
        v3 = (v2 ? v1 : w): float32[]
        w <- v3
    """
    if mode.capturing is None:
        raise CaptureError(
            "undo_unless: no function is being captured",
            got="a plain call",
            expected="a captured function, in which nobody can look at the condition",
            hint="use if",
        )
    mode.capturing.undo_unless(condition)


def op_at(op: Op, n: int) -> Op:
    """The op with its settings for a batch size, fit to ``compute``."""
    if not is_dataclass(op):
        return op
    settings = tuple(getattr(op, f.name) for f in fields(op))
    known = at(settings, n)
    return op if known == settings else type(op).make(*known)


def _mapped(value: Any, replace: Callable[[Any], Any]) -> Any:
    """What stands at the ends of nested tuples, lists and dicts replaced."""
    if isinstance(value, dict):
        return {key: _mapped(part, replace) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(_mapped(part, replace) for part in value)
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(part, replace) for part in value)
    return replace(value)
