"""What an operation states, and the tables in which all of them stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np

from chainrule.core.mode import mode
from chainrule.core.size import Number
from chainrule.core.spec import Spec

if TYPE_CHECKING:
    from chainrule.core.tensor import Tensor

__all__ = ["FUNCTIONS", "OPS", "Op", "function", "register"]

Array = np.ndarray[Any, Any]

OPS: dict[str, type[Op]] = {}
"""Every op class by its name."""

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Every public function of tensors by its name; Tensor's methods look here."""


class Op(ABC):
    """What every operation states: its settings are fields, its rules are methods.

    Ops with settings are frozen dataclasses, hence hashable and comparable; ``make``
    gives one shared object for equal settings, and so for an op without any.
    ``spec`` gives the result's shape and dtype before any arithmetic, ``compute`` its
    value in NumPy, ``gradient`` the chain rule in terms of other ops.
    """

    name: ClassVar[str]
    pattern: ClassVar[str] = ""
    """How the gate treats the gradient: distributes, switches, routes ..."""

    plans: dict[Any, tuple[np.dtype[Any] | None, ...] | None]

    @classmethod
    def make(cls, *settings: Any) -> Self:
        """The op with these settings; equal settings share one object and its plans."""
        if mode.capturing is not None and _has_symbol(settings):
            return _made(cls, *settings)  # not kept: a size equals the plain number
        return _make(cls, *settings)

    def prepare(self) -> None:
        """What is worked out once for the shared object, when ``make`` builds it."""
        object.__setattr__(self, "plans", {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        """The dtypes in which the op takes its inputs; others are cast."""
        return inputs

    @abstractmethod
    def spec(self, *inputs: Spec) -> Spec:
        """Shape and dtype of the result; raises ShapeError or DtypeError."""

    @abstractmethod
    def compute(self, *arrays: Any) -> Any:
        """The result in NumPy: the meaning that every other execution is tested by."""

    @abstractmethod
    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        """∂L/∂input for each input, from dy = ∂L/∂y, written in ops."""

    def formula(self, *names: str) -> str:
        """The op as text, with its operands' names."""
        return f"{self.name}({', '.join(names)})"

    def latex(self, *names: str) -> str:
        """The op in LaTeX, with its operands' names in LaTeX."""
        name = self.name.replace("_", r"\_")
        return rf"\mathrm{{{name}}}\left({', '.join(names)}\right)"

    def plan(self, *arrays: Any) -> tuple[np.dtype[Any] | None, ...] | None:
        """Check one combination of shapes and dtypes; the casts it needs, if any."""
        for a in arrays:
            if type(a) is not np.ndarray:
                a.refuse()
        wanted = self.dtypes(*(a.dtype for a in arrays))
        self.spec(*(Spec(a.shape, d) for a, d in zip(arrays, wanted, strict=True)))
        casts = tuple(
            None if a.dtype == d else d for a, d in zip(arrays, wanted, strict=True)
        )
        return casts if any(c is not None for c in casts) else None


def _made(cls: type[Op], *settings: Any) -> Any:
    op = cls(*settings)
    op.prepare()
    return op


_make = lru_cache(maxsize=4096, typed=True)(_made)


def _has_symbol(settings: tuple[Any, ...]) -> bool:
    """Whether a setting depends on the batch size."""
    return any(
        isinstance(s, Number) or (isinstance(s, tuple) and _has_symbol(s))
        for s in settings
    )


OpClass = TypeVar("OpClass", bound=type[Op])


@dataclass_transform(frozen_default=True)
def register(cls: OpClass) -> OpClass:
    """Enter an op class into the table; its name must be free."""
    if cls.name in OPS:
        raise ValueError(f"two ops are named {cls.name!r}")
    OPS[cls.name] = cls
    return cls


Function = TypeVar("Function", bound=Callable[..., Any])


def function(public: Function) -> Function:
    """Enter a public function of tensors into the table, under its own name."""
    FUNCTIONS[public.__name__] = public
    return public
