"""Tensors, which remember how they were made, and variables, which can be written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.mode import mode
from chainrule.core.op import FUNCTIONS, Op
from chainrule.core.size import Number
from chainrule.core.spec import BOOL, FLOAT32, INT64, Spec, as_dtype, is_float
from chainrule.errors import DtypeError, ShapeError

__all__ = [
    "Buffer",
    "Parameter",
    "Tensor",
    "Variable",
    "as_tensor",
    "assign",
    "constant",
    "known_values",
    "next_order",
    "note_written",
    "operands",
]

Array = np.ndarray[Any, Any]

next_order: Callable[[], int] = itertools.count(1).__next__
"""Numbers everything that is recorded or written; safe among threads."""

_new = object.__new__


class Tensor:
    """An array with the history needed to differentiate it.

    Python floats become float32, integers int64; NumPy arrays keep their dtype. The
    data are copied. In an operation with a tensor, Python and NumPy scalars take the
    tensor's dtype.

    Args:
        data: a number, nested lists, a NumPy array or a Tensor.
        dtype: float32, float64, an integer type or bool; None keeps what data say.
        requires_grad: whether ``backward()`` fills ``grad``; floats only.
        name: how prints, errors and explanations call it.

    Raises:
        DtypeError: for complex, object or half-precision data.
        ShapeError: for nested lists of unequal lengths.

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4.], dtype=float32)
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_grad",
        "inputs",
        "name",
        "op",
        "order",
        "requires_grad",
    )
    # NumPy must leave array * tensor to us.
    __array_ufunc__ = None

    _array: Array
    """The values; while a function is captured, the node that stands for them."""
    _grad: Tensor | None
    op: Op | None
    """The op that made it; None for leaves."""
    inputs: tuple[Tensor, ...]
    order: int
    """When it was made (or, for a Variable, last written), in recorded ops."""

    def __init__(
        self,
        data: Any,
        dtype: Any = None,
        *,
        requires_grad: bool = False,
        name: str | None = None,
    ) -> None:
        self._array = _own_copy(_as_array(data, dtype))
        if requires_grad and not is_float(self._array.dtype):
            raise DtypeError(
                "tensor: only floats have gradients",
                got=Spec.of(self._array),
                expected="float32 or float64 with requires_grad=True",
                hint="x.astype('float32')",
            )
        self.requires_grad = requires_grad
        self._grad = None
        self.op = None
        self.inputs = ()
        self.order = 0
        self.name = name

    # What it is.

    @property
    def data(self) -> Array:
        """The values, as the NumPy array itself: writing there is not recorded.

        Raises CaptureError where there are none: while a function is captured.
        """
        if mode.capturing is not None or type(self._array) is not np.ndarray:
            self._check_readable()
        return self._array

    @data.setter
    def data(self, value: Any) -> None:
        if mode.capturing is not None:
            mode.capturing.refuse_writing(self)
        array = value._array if isinstance(value, Tensor) else np.asarray(value)
        self.check_replaceable(Spec.of(array))
        # Into the existing storage: others may hold this very array.
        np.copyto(self._array, array, casting="same_kind")
        self.order = next_order()

    def check_replaceable(self, new: Spec) -> None:
        """Raise ShapeError or DtypeError unless new values of this spec fit."""
        if new.shape != self._array.shape:
            raise ShapeError(
                f"{self.name or 'tensor'}: new values have another shape",
                got=new,
                expected=self.spec,
            )
        if not np.can_cast(new.dtype, self._array.dtype, "same_kind"):
            raise DtypeError(
                f"{self.name or 'tensor'}: new values are of another kind",
                got=new,
                expected=self.spec,
                hint="convert first, for example array.astype('float32')",
            )

    def _check_readable(self) -> None:
        """Raise CaptureError if the values are those of a later run."""
        held: Any = self._array
        if mode.capturing is not None:
            mode.capturing.check_readable(self)
        elif type(held) is not np.ndarray:
            held.refuse()

    @property
    def grad(self) -> Tensor | None:
        """∂L/∂this, summed over the backward passes since it was last set to None."""
        if mode.capturing is not None:
            return mode.capturing.gradient_of(self)
        return self._grad

    @grad.setter
    def grad(self, dx: Tensor | None) -> None:
        if mode.capturing is not None:
            mode.capturing.set_gradient(self, dx)
        else:
            self._grad = dx

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def spec(self) -> Spec:
        return Spec(self._array.shape, self._array.dtype)

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return self.transpose()

    def numpy(self) -> Array:
        """A copy of the values as a NumPy array."""
        return self.data.copy()

    def item(self) -> float | int | bool:
        """The one value as a Python number; raises ShapeError if there are more."""
        array = self.data
        if array.size != 1:
            raise ShapeError(
                "item: more than one value",
                got=self.spec,
                expected="a tensor of one element",
                hint="tolist(), or reduce with sum() or mean() first",
            )
        value: float | int | bool = array.item()
        return value

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.data.tolist()

    def detach(self) -> Tensor:
        """The same values, cut off from the graph."""
        if mode.capturing is not None:
            return mode.capturing.detached(self)
        return as_tensor(self._array)

    def backward(self, dy: Any = None, *, create_graph: bool = False) -> None:
        """Add ∂self/∂leaf to ``grad`` of every leaf that requires it.

        Args:
            dy: ∂L/∂self, of the same shape; 1 for a scalar.
            create_graph: record the backward pass, to differentiate it again.

        Raises:
            GradientError: if nothing here requires a gradient, if dy is missing for a
                non-scalar, or if a variable was overwritten since it was used.
        """
        FUNCTIONS["backward"](self, dy, create_graph=create_graph)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False and dtype is not None and self._array.dtype != dtype:
            raise ValueError("a change of dtype needs a copy")
        return np.array(self.data, dtype=dtype, copy=True if copy is None else copy)

    def __str__(self) -> str:
        self._check_readable()
        return repr(self)

    def __repr__(self) -> str:
        if type(self._array) is not np.ndarray:  # debuggers ask for this
            return f"{type(self).__name__}({self._array!r})"
        values = np.array2string(
            self._array, separator=", ", prefix="Tensor(", threshold=64, precision=6
        )
        extras = [f"dtype={self.dtype.name}"]
        if self.size > 64:
            extras.append(f"shape={self.shape}")
        if self.requires_grad:
            extras.append("requires_grad=True")
        if self.name:
            extras.append(f"name={self.name!r}")
        return f"{type(self).__name__}({values}, {', '.join(extras)})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError(
                "len: a scalar has no length", got=self.spec, expected="axes"
            )
        return self._array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim and isinstance(self.shape[0], Number):
            self._array.refuse()  # how many there are is not known yet
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iu":
            raise DtypeError("index: not an integer", got=self.spec, expected="int64[]")
        return int(self.item())

    # Equality is elementwise, identity is what graphs are made of.
    __hash__ = object.__hash__

    # What can be done with it: every name is looked up among the public functions.

    def __add__(self, other: Any) -> Tensor:
        return FUNCTIONS["add"](self, other)

    def __radd__(self, other: Any) -> Tensor:
        return FUNCTIONS["add"](other, self)

    def __sub__(self, other: Any) -> Tensor:
        return FUNCTIONS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return FUNCTIONS["subtract"](other, self)

    def __mul__(self, other: Any) -> Tensor:
        return FUNCTIONS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return FUNCTIONS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return FUNCTIONS["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return FUNCTIONS["divide"](other, self)

    def __pow__(self, other: Any) -> Tensor:
        return FUNCTIONS["power"](self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return FUNCTIONS["power"](other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return FUNCTIONS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return FUNCTIONS["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return FUNCTIONS["negative"](self)

    def __and__(self, other: Any) -> Tensor:
        return FUNCTIONS["logical_and"](self, other)

    def __rand__(self, other: Any) -> Tensor:
        return FUNCTIONS["logical_and"](other, self)

    def __or__(self, other: Any) -> Tensor:
        return FUNCTIONS["logical_or"](self, other)

    def __ror__(self, other: Any) -> Tensor:
        return FUNCTIONS["logical_or"](other, self)

    def __invert__(self) -> Tensor:
        return FUNCTIONS["logical_not"](self)

    def __abs__(self) -> Tensor:
        return FUNCTIONS["abs"](self)

    def __eq__(self, other: object) -> Tensor:
        if other is None or isinstance(other, str):
            return NotImplemented  # so that Python says no, as for any other object
        return FUNCTIONS["equal"](self, other)

    def __ne__(self, other: object) -> Tensor:
        if other is None or isinstance(other, str):
            return NotImplemented
        return FUNCTIONS["not_equal"](self, other)

    def __lt__(self, other: Any) -> Tensor:
        return FUNCTIONS["less"](self, other)

    def __le__(self, other: Any) -> Tensor:
        return FUNCTIONS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Tensor:
        return FUNCTIONS["greater"](self, other)

    def __ge__(self, other: Any) -> Tensor:
        return FUNCTIONS["greater_equal"](self, other)

    def __getitem__(self, key: Any) -> Tensor:
        return FUNCTIONS["index"](self, key)

    def sum(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["sum"](self, axis, keepdims=keepdims)

    def mean(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["mean"](self, axis, keepdims=keepdims)

    def max(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["max"](self, axis, keepdims=keepdims)

    def min(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        return FUNCTIONS["min"](self, axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        return FUNCTIONS["argmax"](self, axis)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one size may be -1."""
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Axes in the order given; without any, all reversed."""
        order = axes[0] if len(axes) == 1 else axes or None
        return FUNCTIONS["transpose"](self, order)

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; gradients flow between floats."""
        return FUNCTIONS["astype"](self, dtype)


Axes = int | Sequence[int] | None


_STORABLE = frozenset(np.dtype(c) for c in "?bBhHiIlLqQfd")


def _as_array(data: Any, dtype: Any = None) -> Array:
    if isinstance(data, Tensor):
        if mode.capturing is not None and isinstance(data, Variable):
            data = mode.capturing.detached(data)
        data = data._array
        if type(data) is not np.ndarray:
            return data if dtype is None else data.astype(as_dtype(dtype))
    if isinstance(data, Number) and mode.capturing is not None:
        return mode.capturing.number(data, dtype)._array
    if dtype is None and type(data) is np.ndarray and data.dtype in _STORABLE:
        return data
    is_array = isinstance(data, (np.ndarray, np.generic))
    try:
        array = np.asarray(data)
    except ValueError:
        raise ShapeError(
            "tensor: nested lists of unequal lengths",
            got="rows that do not line up",
            expected="lists that form a rectangle",
        ) from None
    if array.dtype.kind in "cOSUMmV":
        as_dtype(array.dtype)  # raises: words and objects are not cast either
    if dtype is None and not is_array and array.dtype.kind == "f":
        dtype = FLOAT32
    return array.astype(as_dtype(array.dtype if dtype is None else dtype), copy=False)


_LINE_BYTES = 64
_MANY_BYTES = 4096


def _own_copy(array: Array) -> Array:
    """A copy of the values; where there are many, from the start of a cache line on.

    A vector that native code reads there never spans two lines, which takes twice as
    long; NumPy's own arrays begin 16 bytes behind the start of one.
    """
    if type(array) is not np.ndarray or array.nbytes < _MANY_BYTES:
        return array.copy()
    raw = np.empty(array.nbytes + _LINE_BYTES, np.uint8)
    begin = -raw.__array_interface__["data"][0] % _LINE_BYTES
    own = raw[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    own[...] = array
    return own


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """A tensor of the data, sharing memory with a NumPy array where it can."""
    if isinstance(data, Tensor) and dtype is None:
        return data
    t: Tensor = _new(Tensor)
    t._array = _as_array(data, dtype)
    t.requires_grad = False
    t._grad = t.op = t.name = None
    t.inputs = ()
    t.order = 0
    return t


@lru_cache(maxsize=1024, typed=True)
def _constant(value: float, dtype: np.dtype[Any], is_negative_zero: bool) -> Tensor:
    try:
        array = np.asarray(value, dtype)
    except OverflowError:  # an integer that the tensor's own type cannot hold
        if dtype == INT64:
            raise DtypeError(
                "tensor: the number does not fit 64 bits",
                got=value,
                expected="an integer from -2⁶³ to 2⁶³ - 1",
                hint="write it as a float",
            ) from None
        return _constant(value, INT64, is_negative_zero)
    t = as_tensor(array)
    t._array.flags.writeable = False  # shared by every use of this number
    return t


def constant(
    value: float | int | bool | np.generic | Number, like: np.dtype[Any]
) -> Tensor:
    """A Python or NumPy scalar in the dtype of the tensor that it meets.

    A fraction that meets integers makes float32.
    """
    plain = value.value if isinstance(value, Number) else value
    if like.kind != "f" and isinstance(plain, (float, np.floating)):
        like = FLOAT32
    elif like == BOOL and not isinstance(value, (bool, np.bool_)):
        like = INT64
    if isinstance(value, Number):
        # Of a finished capture: the plain number that it was.
        if mode.capturing is None:
            return constant(value.pinned(), like)
        return mode.capturing.number(value, like)
    # -0.0 and 0.0 are equal keys but different numbers.
    return _constant(value, like, value == 0 and math.copysign(1, value) < 0)


_SCALARS = (int, float, np.integer, np.floating, np.bool_, Number)


def operands(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two operands as tensors; a scalar takes the dtype of the other one."""
    if isinstance(x, Tensor):
        if isinstance(y, Tensor):
            return x, y
        if isinstance(y, _SCALARS):
            return x, constant(y, x._array.dtype)
        return x, as_tensor(y)
    if isinstance(y, Tensor) and isinstance(x, _SCALARS):
        return constant(x, y._array.dtype), y
    return as_tensor(x), as_tensor(y)


def known_values(t: Tensor) -> Array | None:
    """The values, to check them; None where a capture will give them only later."""
    if mode.capturing is not None and not mode.capturing.is_readable(t):
        return None
    return t.data


# ---------------------------------------------------------------------- variables


class Variable(Tensor):
    """A tensor whose values ``assign`` may replace: all state is made of these."""

    __slots__ = ()


class Parameter(Variable):
    """State that training changes: it requires a gradient.

    Example:
        >>> w = Parameter([[0.5], [-1.0]], name="w")
        >>> w.requires_grad
        True
    """

    __slots__ = ("is_penalized",)

    is_penalized: bool
    """Whether weight penalties count it; biases and norms' scales say False."""

    def __init__(
        self,
        data: Any,
        dtype: Any = None,
        *,
        name: str | None = None,
        is_penalized: bool = True,
    ) -> None:
        super().__init__(data, dtype, requires_grad=True, name=name)
        self.is_penalized = is_penalized


class Buffer(Variable):
    """State that training does not differentiate: counters, running means."""

    __slots__ = ()


def assign(variable: Variable, value: Any) -> None:
    """Replace a variable's values: the one effect that programs may have.

    Raises ShapeError if the shape differs, DtypeError if the values are of another kind
    or it is no Variable.
    """
    if not isinstance(variable, Variable):
        raise DtypeError(
            "assign: only variables can be replaced",
            got=type(variable).__name__,
            expected="a Parameter or a Buffer",
            hint="make it one, for example Buffer(x)",
        )
    if mode.capturing is not None:
        mode.capturing.assign(variable, value)
    else:
        variable.data = value


def note_written(variables: Iterable[Variable]) -> None:
    """Say that variables' arrays were written to, as ``assign`` does by itself.

    A backward pass that needs the values from before is then refused.
    """
    now = next_order()
    for variable in variables:
        variable.order = now
