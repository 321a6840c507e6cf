"""A gate of one's own: forward and backward in a class, a full citizen of the graph."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from typing import Any, Self

import numpy as np

from chainrule.core.graph import (
    FUNCTIONS,
    Array,
    Op,
    Parameter,
    Tensor,
    as_tensor,
    constant,
    mode,
    no_grad,
    record,
)
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
        with no_grad():
            gate, result = self._run(tensors)
        return record(gate, tensors, result)

    def spec(self, *inputs: Spec) -> Spec:
        """Shape and dtype of the value, found by running ``forward`` on ones."""
        return Spec.of(self.compute(*(np.ones(s.shape, s.dtype) for s in inputs)))

    def compute(self, *arrays: Any) -> Any:
        with no_grad():
            return self._run(tuple(map(as_tensor, arrays)))[1]

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        gate = self
        if mode.recording:
            # What a recorded forward keeps is itself a function of the inputs.
            gate, _ = self._run(inputs)
            self._check_differentiable(gate)
        elif self._result is not y.data:  # a replay: what is kept is of another run
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
        gate._result = tensor.data
        return gate, tensor.data

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


def _stretches(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Whether broadcasting turns ``shape`` into ``into``."""
    aligned = into[len(into) - len(shape) :]
    return len(shape) <= len(into) and all(
        n in (1, m) for n, m in zip(shape, aligned, strict=True)
    )
