"""Compiled functions: what ``chainrule.compile`` returns."""

from __future__ import annotations

import functools
import importlib.util
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, cast

import numpy as np

from chainrule.compiler.pipeline import PASSES, Build, build
from chainrule.core.capture import capture
from chainrule.core.graph import Tensor, Variable, as_tensor, mode, note_written
from chainrule.errors import CaptureError, IndexingError, OptionError, ShapeError

__all__ = ["CompiledFunction", "compile", "execution"]

P = ParamSpec("P")
R = TypeVar("R")
Array = np.ndarray[Any, Any]

_MOST_RECENT = 64
_CALL_S = 0.05
"""How long one native call of many steps should last: Ctrl-C waits for its end."""


@functools.cache
def _has_llvm() -> bool:
    return importlib.util.find_spec("llvmlite") is not None


def execution() -> str:
    """How compiled functions run: "native", or "numpy" with the reason in brackets.

    ``CHAINRULE_EXECUTION=numpy`` asks for NumPy; without llvmlite there is no other.

    Raises OptionError if the variable is neither "native" nor "numpy".
    """
    wanted = os.environ.get("CHAINRULE_EXECUTION", "")
    if wanted not in ("", "native", "numpy"):
        wanted = wanted.strip().lower()
    if wanted not in ("", "native", "numpy"):
        raise OptionError.unknown("CHAINRULE_EXECUTION", wanted, ["native", "numpy"])
    if wanted == "numpy":
        return "numpy (CHAINRULE_EXECUTION)"
    return "native" if _has_llvm() else "numpy (llvmlite is not installed)"


def compile(f: Callable[P, R]) -> CompiledFunction[P, R]:
    """Make a function of tensors run as native code, with the same results.

    The function runs once on tensors without values, and everything that it does to
    tensors is written down: ops, ``backward()``, an optimizer's step, dropout, what it
    assigns to variables. That graph is compiled, and later calls run it. A call with
    other dtypes or shapes is captured anew; another batch size, the leading axis that
    arguments share, is not. Other effects of Python (prints, lists that grow, numbers
    that change) happen once, at capture: pass as an argument what is to vary.

    Results have no history: call ``backward()`` inside. Where an argument requires a
    gradient, or inside another captured function, the function itself is called.

    Raises:
        CaptureError: from a call, if the function reads values (``if``, ``float()``,
            ``print``), writes ``.data``, or keeps tensors.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter([[1.0], [2.0]])
        >>> @cr.compile
        ... def step(x, y):
        ...     loss = ((x @ w - y) ** 2).mean()
        ...     loss.backward()
        ...     cr.assign(w, w - 0.1 * w.grad)
        ...     w.grad = None
        ...     return loss
        >>> x, y = cr.Tensor([[1.0, 1.0], [0.0, 1.0]]), cr.Tensor([[1.0], [1.0]])
        >>> [round(step(x, y).item(), 4) for _ in range(3)]
        [2.5, 1.37, 0.7537]
    """
    return CompiledFunction(f)


class CompiledFunction(Generic[P, R]):
    """A function that is captured and compiled when it meets new arguments."""

    def __init__(self, f: Callable[P, R]) -> None:
        self.function = f
        self._builds: dict[Any, list[Build]] = {}
        self._recent: dict[Any, tuple[Build, int | None]] = {}
        self._latest: Build | None = None
        self._lock = threading.Lock()
        self._running = threading.Lock()
        functools.update_wrapper(self, f)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._is_native(args, kwargs):
            return self.function(*args, **kwargs)
        found, arrays, n = self._find(args, kwargs)
        values = found.machine.run(arrays, n or 0)
        return cast(R, self._finish(found, values, n, ()))

    def scan(self, steps: Any, /, *fixed: Any) -> Any:
        """Call the function once for each step, all of them in native code.

        Args:
            steps: the first argument of each call, along the leading axis; a tuple of
                arrays for several arguments.
            fixed: the arguments that follow, the same at each step.

        Returns what the calls would return, stacked along a new leading axis.

        Raises ShapeError if there is no leading axis, or lengths differ.

        Example:
            >>> import chainrule as cr
            >>> total = cr.Buffer(0.0)
            >>> @cr.compile
            ... def add(x):
            ...     cr.assign(total, total + x)
            ...     return total * 2
            >>> add.scan([1.0, 2.0, 3.0]).tolist(), total.item()
            ([2.0, 6.0, 12.0], 6.0)
        """
        each = [as_tensor(s) for s in (steps if isinstance(steps, tuple) else (steps,))]
        lengths = {t.shape[0] if t.ndim else None for t in each}
        if len(lengths) != 1 or None in lengths:
            raise ShapeError(
                "scan: the steps have no common leading axis",
                got=", ".join(str(t.spec) for t in each),
                expected="arrays with one entry for each step",
            )
        (count,) = lengths
        first = [_entry(t, 0) if count else _entry(t, None) for t in each]
        if not self._is_native((*first, *fixed), {}):
            results = [
                self.function(*(_entry(t, i) for t in each), *fixed)  # type: ignore
                for i in range(cast(int, count))
            ]
            return _stacked(results)
        found, arrays, n = self._find((*first, *fixed), {})
        arrays[: len(each)] = [np.ascontiguousarray(t._array) for t in each]
        blocks: list[list[Array]] = []
        stacked = range(len(each))
        done, size = 0, 1
        while done < cast(int, count) or not blocks:
            size = min(size, cast(int, count) - done)
            part = [a[done : done + size] for a in arrays[: len(each)]]
            began = time.perf_counter()
            blocks.append(
                found.machine.run([*part, *arrays[len(each) :]], n or 0, size, stacked)
            )
            took_s = max(time.perf_counter() - began, 1e-6)
            done += size
            self._check(found)
            size = max(1, min(4 * size, int(size * _CALL_S / took_s)))
        values = [
            np.concatenate(parts) if len(parts) > 1 else parts[0]
            for parts in zip(*blocks, strict=True)
        ]
        return self._finish(found, values, n, (count,))

    def report(self) -> Any:
        """How the latest call was compiled: passes, kernels, memory, times.

        Raises CaptureError if nothing was compiled yet.
        """
        return self._compiled().report()

    def text(self, name: str) -> str:
        """What a pass made of the function, as text: see ``PASSES`` for the names.

        Raises OptionError for another name, CaptureError before the first call.
        """
        if name not in PASSES:
            raise OptionError.unknown("compiler pass", name, PASSES)
        return self._compiled().text(name)

    # How a call finds its code.

    def _compiled(self) -> Build:
        if self._latest is None:
            raise CaptureError(
                f"{getattr(self.function, '__name__', 'function')}: not compiled yet",
                got="no call that ran as native code",
                expected=f"a call before; execution here is {execution()}",
            )
        return self._latest

    def _is_native(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether a call runs compiled code, rather than the function itself."""
        if mode.capturing is not None or mode.tracing or execution() != "native":
            return False
        if not mode.recording:
            return True
        return not (_requires_gradient(args) or _requires_gradient(kwargs.values()))

    def _find(
        self, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Build, list[Array], int | None]:
        """The code for these arguments, their arrays, and the batch size."""
        arrays: list[Array] = []
        recent = None
        if not kwargs and all(type(a) is np.ndarray for a in args):
            # The same arguments as before, but for their numbers: nothing to look up.
            recent = (mode.recording, *[(a.dtype, a.shape) for a in args])
            found, n = self._recent.get(recent, (None, None))
            if found is not None and found.graph.is_current():
                return found, list(args), n
        key = (mode.recording, _key(args, arrays), _key(kwargs, arrays))
        n = next((a.shape[0] for a in arrays if a.ndim), None)
        found = self._known(key, n)
        if found is None:
            with self._lock:
                # Another thread may have compiled it meanwhile, and two programs that
                # write the same variables would not wait for each other.
                found = self._known(key, n)
                if found is None:
                    found = self._for_batch(key, n)
                    found = found or build(capture(self.function, args, kwargs))
                    found.machine.lock = self._running
                    # What was captured when a module trained may be of use again.
                    self._builds.setdefault(key, []).append(found)
                    self._latest = found
        is_same = recent and all(map(operator.is_, args, arrays))
        if is_same:
            if len(self._recent) >= _MOST_RECENT:
                self._recent.clear()
            self._recent[recent] = found, n
        return found, arrays, n

    def _known(self, key: Any, n: int | None) -> Build | None:
        """Code that is right for this call, if there is any."""
        for found in self._builds.get(key, ()):
            if found.admits(n) and found.graph.is_current():
                return found
        return None

    def _for_batch(self, key: Any, n: int | None) -> Build | None:
        """New code for this call, from what was captured before."""
        current = (b for b in self._builds.get(key, ()) if b.graph.is_current())
        return next(filter(None, (b.for_batch(n) for b in current)), None)

    def _finish(
        self, found: Build, values: list[Array], n: int | None, lead: Any
    ) -> Any:
        """Results and effects, from the arrays that the code has filled."""
        self._check(found)
        graph = found.graph
        if graph.is_plain and not lead:
            (shape,) = found.output_shapes(n)
            return as_tensor(values[0].reshape(shape))
        note_written(variable for variable, _ in graph.assignments)
        count = len(graph.outputs)
        shapes = found.output_shapes(n)
        tensors = [
            as_tensor(value.reshape((*lead, *shape)))
            for value, shape in zip(values, shapes, strict=False)
        ]
        for t in graph.cleared:
            t.grad = None
        if not lead or lead[0]:
            kept = zip(graph.gradients, values[count:], shapes[count:], strict=False)
            for (t, _), value, shape in kept:
                t.grad = as_tensor((value[-1] if lead else value).reshape(shape))
        return graph.rebuild(tensors, n)

    def _check(self, found: Build) -> None:
        if found.machine.has_fault:
            raise IndexingError(
                f"{getattr(self.function, '__name__', 'function')}: an index is out of "
                "range",
                got="an integer argument outside the axis that it indexes",
                expected="indices from -size to size - 1; the variables may be "
                "changed by this call",
                hint="call the function without compile() to see where",
            )


def _entry(t: Tensor, i: int | None) -> Tensor:
    """One step's argument; without any step, something of its shape."""
    if i is None:
        return as_tensor(np.zeros(t.shape[1:], t.dtype))
    return as_tensor(np.asarray(t._array[i]))


def _requires_gradient(values: Iterable[Any]) -> bool:
    """Whether any argument does, inside of tuples, lists and dicts as well."""
    for value in values:
        if isinstance(value, Tensor):
            if value.requires_grad and not isinstance(value, Variable):
                return True
        elif isinstance(value, dict):
            if _requires_gradient(value.values()):
                return True
        elif isinstance(value, (tuple, list)) and _requires_gradient(value):
            return True
    return False


def _key(value: Any, arrays: list[Array]) -> Any:
    """What two calls must share to run the same code, apart from the batch size.

    The batch size is the leading size of the first array that has axes.
    """
    if isinstance(value, Tensor):
        if isinstance(value, Variable):
            return ("variable", id(value))
        value = value._array
    if isinstance(value, np.ndarray):
        array = as_tensor(value)._array
        shape = array.shape
        if not shape:
            arrays.append(array)
            return array.dtype.char
        n = next((a.shape[0] for a in arrays if a.ndim), shape[0])
        arrays.append(array)
        return (array.dtype.char, shape[0] == n or shape[0], shape[1:])
    if isinstance(value, dict):
        return tuple((k, _key(v, arrays)) for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return (type(value), *[_key(v, arrays) for v in value])
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return (type(value), value)


def _stacked(results: Sequence[Any]) -> Any:
    """Equal structures of tensors as one structure of stacked tensors."""
    if not results:
        return None
    first = results[0]
    if isinstance(first, Tensor):
        return as_tensor(np.stack([r._array for r in results]))
    if isinstance(first, dict):
        return {k: _stacked([r[k] for r in results]) for k in first}
    if isinstance(first, (tuple, list)):
        parts = [_stacked([r[i] for r in results]) for i in range(len(first))]
        return type(first)(parts)
    return first
