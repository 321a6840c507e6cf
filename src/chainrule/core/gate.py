"""A gate of one's own: forward and backward in a class, a full citizen of the graph."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import numpy as np

from chainrule.core.graph import (
    FUNCTIONS,
    Array,
    Op,
    Parameter,
    Tensor,
    apply,
    as_tensor,
    constant,
    mode,
    no_grad,
    record,
)
from chainrule.core.size import Batch, Size, at, at_capture
from chainrule.core.spec import FLOAT32, Spec, is_float
from chainrule.errors import GradientError, ShapeError

__all__ = ["Gate"]


class Gate(Op):
    """Base of gates that a user writes: ``forward`` the value, ``backward`` the rule.

    ``forward`` receives tensors and returns a tensor or an array; what ``backward``
    needs is kept on ``self``. ``backward`` receives dy = ∂L/∂y and returns ∂L/∂x for
    each input: None for one without a gradient, and no tuple for a single input. An
    operand that was broadcast may get its gradient in the output's shape; the engine
    sums it. Each call works on a copy of the gate, so one gate can be used many times.

    The value must depend on the inputs and the gate's settings alone, because graphs
    run ``forward`` again: to replay it, and to differentiate twice. For second
    derivatives keep tensors, not NumPy arrays, and write both methods in tensors.

    Raises:
        GradientError: from ``backward``, for a wrong number of gradients; for a second
            derivative of a gate written in NumPy; for a Parameter kept in the gate.
        ShapeError: for a gradient of the wrong shape, or a value that is no tensor.

    Example:
        >>> import chainrule as cr
        >>> class MultiplyGate(Gate):
        ...     def forward(self, x, y):
        ...         self.x, self.y = x, y
        ...         return x * y
        ...     def backward(self, dz):
        ...         return self.y * dz, self.x * dz
        >>> x = cr.Tensor(3.0, requires_grad=True)
        >>> y = cr.Tensor(-4.0, requires_grad=True)
        >>> MultiplyGate()(x, y).backward()
        >>> x.grad.item(), y.grad.item()
        (-4.0, 3.0)

    Source: intellivision, the modular forward/backward API; stanford, autograd's
    Function.
    """

    pattern = "written by hand: backward says what each input receives"

    _result: Array | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        gate = super().__new__(cls)
        gate.plans = {}  # here, since a user's __init__ need not call ours
        return gate

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    @abstractmethod
    def forward(self, *inputs: Any) -> Any:
        """The value, from tensors; keep on ``self`` what ``backward`` needs."""

    @abstractmethod
    def backward(self, dy: Any) -> Any:
        """∂L/∂x for each input of ``forward``, from dy = ∂L/∂y."""

    def __call__(self, *inputs: Any) -> Tensor:
        """The gate's value, remembering how it was made."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                raise GradientError(
                    f"{self.name}: the parameter {name} inside it would not be trained",
                    got=f"self.{name} = Parameter {value.spec}",
                    expected="parameters as inputs, which receive gradients",
                    hint=f"gate(x, {name}) with a further argument of forward",
                )
        like = next((t.dtype for t in inputs if isinstance(t, Tensor)), FLOAT32)
        tensors = tuple(
            constant(t, like) if isinstance(t, (int, float)) else as_tensor(t)
            for t in inputs
        )
        if mode.capturing is not None:
            return apply(self, *tensors)
        with no_grad():
            gate, result = self._run(tensors)
        return record(gate, tensors, result)

    def spec(self, *inputs: Spec) -> Spec:
        """Shape and dtype of the value, found by running ``forward`` on ones."""
        symbols: list[Any] = [n for s in inputs for n in s.shape if isinstance(n, Size)]
        with mode.paused():
            if symbols:
                at_size = partial(self._spec_at, inputs)
                return _spec_for_all(symbols[0].batch, at_size)
            return Spec.of(self.compute(*_ones(inputs)))

    def _spec_at(self, inputs: Iterable[Spec], n: int) -> Spec:
        return self.spec(*(Spec(at(tuple(s.shape), n), s.dtype) for s in inputs))

    def compute(self, *arrays: Any) -> Any:
        with no_grad():
            return self._run(tuple(map(as_tensor, arrays)))[1]

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        gate = self
        if mode.capturing is not None and not mode.recording:
            return self._captured_gradient(dy, *inputs)
        if mode.recording:
            # What a recorded forward keeps is itself a function of the inputs.
            gate, _ = self._run(inputs)
            self._check_differentiable(gate)
        elif self._result is not y._array:  # a replay: what is kept is of another run
            with no_grad():
                gate, _ = self._run(inputs)
        returned = gate.backward(dy)
        local = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
        if len(local) != len(inputs):
            raise GradientError(
                f"{self.name}.backward: wrong number of gradients",
                got=len(local),
                expected=f"{len(inputs)}, one for each input of forward: "
                + ", ".join(self._input_names(len(inputs))),
                hint="return None for an input that has no gradient",
            )
        names = self._input_names(len(inputs))
        return tuple(
            None if g is None else self._checked(name, g, x, y)
            for name, g, x in zip(names, local, inputs, strict=True)
        )

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Self, Array]:
        """A copy of the gate after ``forward``, and the value."""
        gate = copy.copy(self)
        value = gate.forward(*inputs)
        if isinstance(value, (tuple, list)) or value is None:
            raise ShapeError(
                f"{self.name}.forward: did not return one tensor",
                got=type(value).__name__,
                expected="a Tensor or an array",
                hint="write one gate for each output",
            )
        is_number = isinstance(value, (int, float)) and not isinstance(value, np.number)
        tensor = as_tensor(value, inputs[0].dtype if is_number and inputs else None)
        gate._result = tensor._array
        return gate, tensor._array

    def _captured_gradient(self, dy: Tensor, *inputs: Tensor) -> Any:
        """One op for each input that has a gradient; which have, a trial tells."""
        specs = [Spec(at_capture(t.shape), t.dtype) for t in inputs]
        with mode.paused(), no_grad():
            ones = tuple(map(as_tensor, _ones(specs)))
            gate, value = self._run(ones)
            trial = gate.gradient(
                as_tensor(np.ones_like(value)), as_tensor(value), *ones
            )
        return tuple(
            None if g is None else partial(apply, _GateGradient(self, i), dy, *inputs)
            for i, g in enumerate(trial)
        )

    def _check_differentiable(self, gate: Self) -> None:
        for name, kept in vars(gate).items():
            is_state = name != "_result" and kept is not vars(self).get(name)
            if (
                is_state
                and isinstance(kept, (np.ndarray, np.floating))
                and is_float(kept.dtype)
            ):
                raise self._not_twice(f"self.{name}, a NumPy array")

    def _not_twice(self, what: str) -> GradientError:
        return GradientError(
            f"{self.name}: cannot be differentiated twice",
            got=f"{what}, in which the inputs' history is lost",
            expected="tensors in forward, on self and in backward",
            hint="use operators and chainrule's functions in place of NumPy's",
        )

    def _checked(self, name: str, given: Any, x: Tensor, y: Tensor) -> Tensor:
        if mode.recording and isinstance(given, (np.ndarray, np.generic)):
            raise self._not_twice(f"∂L/∂{name}, a NumPy array")
        dx: Tensor = FUNCTIONS["astype"](given, x.dtype)
        was_broadcast = dx.shape == y.shape and _stretches(x.shape, y.shape)
        if dx.shape != x.shape and not was_broadcast:
            raise ShapeError(
                f"{self.name}.backward: the gradient of {name} has the wrong shape",
                got=dx.spec,
                expected=f"{x.spec}, the shape of {name}",
            )
        return dx

    def _input_names(self, count: int) -> list[str]:
        names = list(inspect.signature(self.forward).parameters)
        return names if len(names) == count else [f"input {i}" for i in range(count)]


class _GateGradient(Op):
    """What a gate's ``backward`` gives one input, as an op of a captured graph.

    It runs ``forward`` again, for what that keeps is of one run.
    """

    name = "gate_gradient"
    pattern = "what the gate says"

    def __init__(self, gate: Gate, position: int) -> None:
        self.gate = gate
        self.position = position

    def spec(self, *inputs: Spec) -> Spec:
        return inputs[1 + self.position]

    def compute(self, *arrays: Any) -> Any:
        dy, *tensors = map(as_tensor, arrays)
        x = tensors[self.position]
        with no_grad():
            gate, value = self.gate._run(tuple(tensors))
            dx = gate.gradient(dy, as_tensor(value), *tensors)[self.position]
            return FUNCTIONS["sum_to"](dx, x.shape)._array

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        raise AssertionError("a derivative to be differentiated runs backward itself")

    def formula(self, *names: str) -> str:
        given = ", ".join(names)
        return f"{self.gate.name}.backward({given})[{self.position}]"


def _ones(specs: Iterable[Spec]) -> list[Array]:
    return [np.ones(s.shape, s.dtype) for s in specs]


def _spec_for_all(batch: Batch, spec_at: Callable[[int], Spec]) -> Spec:
    """A spec that is known for single batch sizes, for all of them if it can be."""
    n = batch.value
    first = spec_at(n)
    try:
        others = {m: spec_at(m) for m in (n + 1, 2 * n + 1)}
    except Exception:  # the user's own code, which may fit this size alone
        others = {}
    if others and all(s.ndim == first.ndim for s in others.values()):
        slopes = [b - a for a, b in zip(first.shape, others[n + 1].shape, strict=True)]
        pairs = zip(first.shape, slopes, strict=True)
        shape = tuple(a * Size(batch) + (size - a * n) for size, a in pairs)
        if all(at(shape, m) == s.shape for m, s in others.items()):
            return Spec(shape, first.dtype)
    Size(batch).pinned()
    return first


def _stretches(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Whether broadcasting turns ``shape`` into ``into``."""
    aligned = into[len(into) - len(shape) :]
    return len(shape) <= len(into) and all(
        n in (1, m) for n, m in zip(shape, aligned, strict=True)
    )
