"""Modules: objects that hold parameters and know how to run forward.

A module is an ordinary Python object. What it holds is found by walking its attributes,
so nothing has to be registered and ``super().__init__()`` need not be called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np

from chainrule.core.graph import (
    Buffer,
    Parameter,
    Tensor,
    Variable,
    as_tensor,
    assign,
    mode,
)
from chainrule.core.mode import Call
from chainrule.core.paths import matches
from chainrule.core.rng import generator
from chainrule.core.spec import Spec, as_dtype, is_float
from chainrule.core.tensor import next_order
from chainrule.errors import (
    ChainruleError,
    CheckpointError,
    DtypeError,
    OptionError,
    nearest,
)
from chainrule.nn.init import DrawnBuffer, DrawnParameter
from chainrule.nn.observing import observers

__all__ = ["Module"]

Array = np.ndarray[Any, Any]
Part = TypeVar("Part", bound="Module | Variable")

_NUM_NAMED = 6  # entries that an error lists before it counts the rest


class Module:
    """A part of a model: parameters, state and other modules, and ``forward``.

    Subclasses set attributes and define ``forward``; parameters, buffers and modules
    may stand in lists, tuples and dicts. A path such as ``"body.0.weight"`` is the way
    through the attributes.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> class Line(nn.Module):
        ...     def __init__(self):
        ...         self.slope = cr.Parameter(2.0)
        ...         self.offset = cr.Parameter(1.0)
        ...     def forward(self, x):
        ...         return self.slope * x + self.offset
        >>> Line()(cr.Tensor([0.0, 3.0])).tolist()
        [1.0, 7.0]
        >>> [path for path, _ in Line().named_parameters()]
        ['slope', 'offset']
    """

    @property
    def training(self) -> bool:
        """Whether dropout and its like are active; ``train()``, ``eval()`` set it."""
        training: bool = vars(self).get("training", True)
        if mode.capturing is not None:
            mode.capturing.note_training(self, training)
        return training

    @training.setter
    def training(self, training: bool) -> None:
        vars(self)["training"] = training

    def forward(self, *inputs: Any) -> Tensor:
        """The output for these inputs; every module defines its own."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any) -> Tensor:
        """Run ``forward``; arrays and lists become tensors first.

        Raises:
            ChainruleError: whatever went wrong inside, with the layer's path added.
        """
        calls = mode.calls
        begin = 0 if calls is None else next_order()
        try:
            y = self.forward(*map(as_tensor, inputs))
            if not isinstance(y, Tensor):
                raise DtypeError(
                    f"{type(self).__name__}: forward must return a tensor",
                    got=type(y).__name__,
                    expected="Tensor",
                    hint="end forward with a return statement",
                )
        except ChainruleError as error:
            self._locate(error)
            raise
        if calls is not None:
            calls.append(Call(self, begin, next_order()))
        for observer in observers.active:
            observer(self, y)
        return y

    def _locate(self, error: ChainruleError) -> None:
        """Add to an error from inside this module the path to where it arose.

        Enclosing modules see the error in turn, the outermost last, and each replaces
        the path by its own, longer one.
        """
        where, what = vars(error).setdefault("_raised_in", (self, error.what))
        for path, module in self.named_modules():
            if module is where and path:
                error.what = f"{what} (layer {path})"

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name != "training" and isinstance(value, (int, float, str))
        )
        return f"{type(self).__name__}({settings})"

    def _repr_html_(self) -> str:
        from chainrule.nn.summary import as_html  # the table builds on modules

        return as_html(self)

    # What it holds.

    def _named(self, kind: type[Part]) -> Iterator[tuple[str, Part]]:
        paths: set[str] = set()
        for path, part in _walk("", self, set()):
            if path in paths:
                raise OptionError(
                    f"two parts of the model have the path {path!r}",
                    got=f"{type(part).__name__} and another",
                    expected="names that differ, without dots in them",
                )
            paths.add(path)
            if isinstance(part, kind):
                yield path, part

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module, whose path is "", and of all inside it."""
        return self._named(Module)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) in order of definition; a shared one once.

        Raises:
            OptionError: for a parameter where no walk would find it: in a set, say.
        """
        return self._named(Parameter)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(path, buffer) in order of definition; a shared one once."""
        return self._named(Buffer)

    def parameters(self) -> list[Parameter]:
        """All parameters, in order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def num_parameters(self, trainable_only: bool = False) -> int:
        """How many numbers the parameters hold; without frozen ones if asked."""
        return sum(
            p.size for p in self.parameters() if p.requires_grad or not trainable_only
        )

    # What can be set.

    def train(self, training: bool = True) -> Self:
        """Switch dropout and its like on, in this module and all inside it."""
        for _, module in self.named_modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """Switch dropout and its like off: for validation, tests and prediction."""
        return self.train(False)

    def initialize(self, seed: int = 0) -> Self:
        """Start afresh: refill every parameter, buffer and random stream by its rule.

        The values depend on the seed and the path of each, never on the order of calls.
        A plain Parameter or Buffer, whose values were given by hand, keeps them.
        """
        for path, variable in self._named(Variable):
            if isinstance(variable, (DrawnParameter, DrawnBuffer)):
                assign(variable, variable.draw(generator(seed, f"initial {path}")))
                variable.grad = None
        return self

    def freeze(self, path: str = "") -> Self:
        """Keep the parameters at or below a path as they are: no gradients for them.

        ``*`` in the path matches any text: ``freeze("*.bias")``.

        Raises:
            OptionError: if there is no such path, with the nearest one offered.
        """
        return self._set_trainable(path, False)

    def unfreeze(self, path: str = "") -> Self:
        """Let the parameters at or below a path be trained again."""
        return self._set_trainable(path, True)

    def _set_trainable(self, path: str, trainable: bool) -> Self:
        inside = [
            parameter
            for name, parameter in self.named_parameters()
            if not path or matches(path, name)
        ]
        if not inside:
            names = [name for name, _ in self.named_modules() if name]
            names += [name for name, _ in self.named_parameters()]
            near = nearest(path, names)
            raise OptionError(
                f"no parameters at {path!r}",
                got=repr(path),
                expected="the path of a layer or parameter: " + _shortened(names),
                hint=f"did you mean {near!r}?" if near else None,
            )
        for parameter in inside:
            parameter.requires_grad = trainable
            if not trainable:
                parameter.grad = None
        return self

    def astype(self, dtype: Any) -> Self:
        """Hold float parameters and buffers in another float dtype; drops gradients.

        Call it before an optimizer is made: its state keeps the earlier dtype.

        Raises:
            DtypeError: for anything but float32 and float64.
        """
        wanted = as_dtype(dtype)
        if not is_float(wanted):
            raise DtypeError(
                "astype: a model computes in floats",
                got=wanted,
                expected="float32 or float64",
            )
        for _, variable in self._named(Variable):
            if is_float(variable.dtype):
                # The variable stays the same object: others may refer to it.
                variable._array = variable._array.astype(wanted)
                variable.grad = None
                assign(variable, variable)  # an earlier forward pass is now out of date
        return self

    # State.

    def state(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by path."""
        return {path: variable.numpy() for path, variable in self._named(Variable)}

    def load_state(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Take over values that ``state()`` gave; everything or, on an error, nothing.

        Args:
            state: arrays by path; floats of the other width are converted.
            strict: whether entries may be neither missing nor unexpected.

        Raises:
            CheckpointError: naming the entries that are missing, unexpected, or of
                another shape or kind.
        """
        own = dict(self._named(Variable))
        arrays = {path: np.asarray(value) for path, value in state.items()}
        problems = {"other shape or kind": _misfits(own, arrays)}
        if strict:
            missing = [path for path in own if path not in arrays]
            unexpected = [path for path in arrays if path not in own]
            problems["missing"] = missing
            problems["unexpected"] = [_with_nearest(p, missing) for p in unexpected]
        found = [f"{k}: {_shortened(paths)}" for k, paths in problems.items() if paths]
        if found:
            raise CheckpointError(
                "these weights do not fit the model",
                got="\n".join(found),
                expected=f"the {len(own)} entries of {type(self).__name__}",
                hint="build the model with the settings that it was saved with",
            )
        for path, variable in own.items():
            if path in arrays:
                assign(variable, arrays[path])

    def summary(
        self,
        input_shape: Sequence[int],
        *,
        dtype: Any = "float32",
        max_rows: int | None = None,
    ) -> str:
        """A table of the layers with output shapes and numbers of parameters.

        Args:
            input_shape: the shape of one example, without the batch axis.
            dtype: of the example.
            max_rows: where there are more layers, blocks of them are told as one, as
                far as that helps.

        Example:
            >>> from chainrule import nn
            >>> print(nn.mlp(784, (30, 30), 10).summary((784,)))
            path         layer                                    output    parameters
            flatten      Flatten()                                (n, 784)           0
            hidden1      Dense(in_features=784, out_features=30)  (n, 30)       23,550
            activation1  ReLU()                                   (n, 30)            0
            hidden2      Dense(in_features=30, out_features=30)   (n, 30)          930
            activation2  ReLU()                                   (n, 30)            0
            output       Dense(in_features=30, out_features=10)   (n, 10)          310
            <BLANKLINE>
            24,790 parameters (24,790 trainable), 99,160 bytes
        """
        from chainrule.nn.summary import summarize  # the table builds on modules

        return summarize(self, tuple(input_shape), dtype, max_rows)


def check_sizes(layer: str, **sizes: int) -> None:
    """Raise OptionError unless every size is a whole number from 1 on."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise OptionError(
                f"{layer}: {name} is not a size",
                got=repr(size),
                expected="a whole number, 1 or more",
            )


def described(layer: Module, *names: str, **defaults: Any) -> str:
    """A layer as the call that makes it: Conv(3, 32, 3, stride=2).

    Args:
        names: settings that are shown by their values.
        defaults: settings that are shown by name, unless they have these values.
    """
    own = vars(layer)
    values = [repr(_one_if_equal(own[name])) for name in names]
    values += [
        f"{name}={_one_if_equal(own[name])!r}"
        for name, default in defaults.items()
        if own[name] != default
    ]
    return f"{type(layer).__name__}({', '.join(values)})"


def _one_if_equal(value: Any) -> Any:
    """A pair of equal sizes as one number, as most people write it."""
    is_pair = isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]
    return value[0] if is_pair else value


# -------------------------------------------------------------------------- walks

_PLAIN = (str, int, float, type(None), Tensor)


def _walk(path: str, value: object, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """(path, part) of every module and variable at or below a value, each once."""
    children: Iterable[tuple[object, object]]
    if isinstance(value, Module):
        children = vars(value).items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    elif isinstance(value, dict):
        children = value.items()
    elif isinstance(value, Variable):
        children = ()
    else:
        _refuse_hidden(path, value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (Module, Variable)):
        yield path, value
    for name, child in children:
        yield from _walk(f"{path}.{name}" if path else str(name), child, seen)


def _refuse_hidden(path: str, value: object) -> None:
    """Raise OptionError if a value that no walk enters holds a part of the model."""
    if isinstance(value, _PLAIN):
        return
    inside: Iterable[object]
    if isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, (Set, ValuesView, deque)):
        inside = value
    elif isinstance(value, np.ndarray):
        inside = value.flat if value.dtype == object else ()
    else:
        inside = getattr(value, "__dict__", {}).values()
    for part in inside:
        if isinstance(part, (Module, Variable)):
            raise OptionError(
                f"a {type(part).__name__} is hidden in {path}",
                got=f"{path} is a {type(value).__name__}",
                expected="modules, parameters and buffers as attributes, or in lists, "
                "tuples and dicts",
                hint="without this error it would be neither trained nor saved",
            )


def _misfits(own: Mapping[str, Variable], arrays: Mapping[str, Array]) -> list[str]:
    """Entries whose shape differs, or whose kind of number does."""
    return [
        f"{path} {Spec.of(array)} for {own[path].spec}"
        for path, array in arrays.items()
        if path in own
        and (
            array.shape != own[path].shape
            or not np.can_cast(array.dtype, own[path].dtype, "same_kind")
        )
    ]


def _with_nearest(path: str, choices: Sequence[str]) -> str:
    near = nearest(path, choices)
    return f"{path} (did you mean {near}?)" if near else path


def _shortened(names: Sequence[str]) -> str:
    """Names in a row, the first few of them."""
    rest = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {rest} more" if rest > 0 else "")
