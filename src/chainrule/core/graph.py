"""The computational graph: tensors joined by ops.

A tensor made by an op remembers the op and its inputs, so the newest tensor *is* the
graph that made it. Nothing points forward, hence a graph lives as long as its outputs.
Ops and tensors have files of their own; whoever builds graphs has all of it from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ContextDecorator
from typing import Any

import numpy as np

from chainrule.core.mode import mode
from chainrule.core.op import FUNCTIONS, OPS, Op, function, register
from chainrule.core.tensor import (
    Buffer,
    Parameter,
    Tensor,
    Variable,
    as_tensor,
    assign,
    constant,
    known_values,
    next_order,
    note_written,
    operands,
)
from chainrule.errors import GradientError

__all__ = [
    "FUNCTIONS",
    "OPS",
    "Buffer",
    "Op",
    "Parameter",
    "Tensor",
    "Variable",
    "apply",
    "as_tensor",
    "assign",
    "check_not_overwritten",
    "constant",
    "enable_grad",
    "function",
    "known_values",
    "mode",
    "no_grad",
    "note_written",
    "operands",
    "record",
    "register",
]

Array = np.ndarray[Any, Any]


# glibc gives freed memory back to the system, and each step would get it anew page by
# page, unless it has seen a large block come and go. This one is never touched.
np.empty(31 << 20, np.uint8)
_new = object.__new__

_MAX_PLANS = 4096  # shapes seen by one op; beyond it, start afresh rather than grow


def apply(op: Op, *inputs: Tensor) -> Tensor:
    """Run one op on tensors and record it where a gradient may be wanted.

    Raises what the op's ``spec`` raises, the first time that it meets such operands.
    """
    if mode.capturing is not None:
        return mode.capturing.apply(op, inputs)
    # Everything comes through here: one and two operands are written out for speed.
    arrays: Sequence[Array]
    key: Any
    if len(inputs) == 1:
        a = inputs[0]._array
        arrays = (a,)
        key = (a.shape, a.dtype)
    elif len(inputs) == 2:
        x, y = inputs
        a, b = arrays = (x._array, y._array)
        key = (a.shape, a.dtype, b.shape, b.dtype)
    else:
        arrays = []
        parts: list[Any] = []
        for t in inputs:
            a = t._array
            arrays.append(a)
            parts += (a.shape, a.dtype)
        key = tuple(parts)
    try:
        casts = op.plans[key]
    except KeyError:
        casts = op.plan(*arrays)
        if len(op.plans) >= _MAX_PLANS:
            op.plans.clear()
        op.plans[key] = casts
    if casts is not None:
        inputs = tuple(
            t if dtype is None else FUNCTIONS["astype"](t, dtype)
            for t, dtype in zip(inputs, casts, strict=True)
        )
        arrays = [t._array for t in inputs]
    return record(op, inputs, op.compute(*arrays))


def record(op: Op, inputs: tuple[Tensor, ...], result: Any) -> Tensor:
    """The tensor of a result, remembering how it was made if a gradient may flow."""
    y: Tensor = _new(Tensor)
    # NumPy returns scalars, not arrays, from arithmetic on 0-d arrays.
    y._array = result if type(result) is np.ndarray else _held(result)
    y._grad = None
    y.name = None
    y.op = None
    y.inputs = ()
    y.order = 0
    y.requires_grad = False
    if mode.recording:
        for t in inputs:
            if t.requires_grad:
                y.requires_grad = y._array.dtype.kind == "f"
                break
        if y.requires_grad or mode.tracing:
            y.op = op
            y.inputs = inputs
            y.order = next_order()
    return y


def _held(result: Any) -> Any:
    """A number as an array; a node, which stands for one, as it is."""
    return np.asarray(result) if mode.capturing is None else result


class _Recording(ContextDecorator):
    """A block in which ops are recorded, or not; every backward pass is one."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def _recreate_cm(self) -> _Recording:
        return _Recording(self._value)  # decorated functions may call themselves

    def __enter__(self) -> None:
        self._before = mode.recording
        mode.recording = self._value

    def __exit__(self, *error: object) -> None:
        mode.recording = self._before


def no_grad() -> Any:
    """Run without recording: no memory for a backward pass, no gradients.

    Works as a context manager and as a decorator.

    Example:
        >>> import chainrule as cr
        >>> x = cr.Tensor([1.0], requires_grad=True)
        >>> with cr.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """
    return _Recording(False)


def enable_grad() -> Any:
    """Record again inside a ``no_grad`` block."""
    return _Recording(True)


def check_not_overwritten(used: Tensor, by: Tensor) -> None:
    """Raise GradientError if a value was replaced after ``by`` was computed from it."""
    if used.order > by.order:
        raise GradientError(
            f"backward: {used.name or 'a variable'} was overwritten after it was used",
            got=f"{used.spec} written after {by.op.name if by.op else 'its use'}",
            expected="the values that the forward pass saw",
            hint="call backward() before the update, or run the forward pass again",
        )
