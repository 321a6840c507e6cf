"""The optimizer: an update rule, the parameters it changes and what it remembers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.graph import (
    Buffer,
    Parameter,
    Tensor,
    Variable,
    assign,
    mode,
    no_grad,
    note_written,
)
from chainrule.core.paths import matches
from chainrule.core.spec import FLOAT64, INT64, Spec, is_float
from chainrule.errors import CheckpointError, OptionError, ShapeError, nearest
from chainrule.optim.rules import RULES, SGD, Rule
from chainrule.optim.update import ONE_MORE, Program

__all__ = ["Group", "Optimizer", "matches", "optimizer"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Group:
    """Settings of their own for parameters in one part of the model.

    Args:
        pattern: a path, and with it all that lies under it; ``*`` matches any text.
        lr_scale: their learning rate is the optimizer's times this.
        weight_decay: instead of the rule's; None keeps that one.
    """

    pattern: str
    lr_scale: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr_scale) and self.lr_scale >= 0):
            raise OptionError(
                f"group {self.pattern!r}: lr_scale is out of range",
                got=self.lr_scale,
                expected="a finite number of at least 0",
            )


@lru_cache(maxsize=256)
def _program(rule: Rule) -> Program:
    """The rule made ready to run; equal rules share one."""
    return Program(rule.assignments(), ("dw",), rule.shared())


# State that only decays, as for a pixel that was lit once, ends among the denormal
# numbers, on which a processor is many times slower. Decay by 0.9 takes more steps than
# these from the border below to there.
_FLUSH_EVERY = 64
_TINY = 1e8  # times the smallest normal number


def _flush_tiny(state: Collection[Buffer]) -> None:
    """Make zeros of numbers too small to change any weight."""
    for buffer in state:
        values = buffer.data
        if is_float(values.dtype):
            values[np.abs(values) < _TINY * np.finfo(values.dtype).tiny] = 0
    note_written(state)


class _Slot(NamedTuple):
    """One parameter, how it is updated, and the variables that this writes, by name."""

    path: str
    parameter: Parameter
    program: Program
    lr_scale: float
    state: dict[str, Buffer]

    @property
    def variables(self) -> list[Variable]:
        """What the program assigns to, in its order."""
        return [*self.state.values(), self.parameter]


class Optimizer:
    """Moves parameters against their gradients by an update rule.

    Weight decay is left to parameters with ``is_penalized``. A parameter that needs no
    gradient, or has none, stays as it is and so does its state.

    Args:
        named_parameters: (path, parameter) pairs, as ``model.named_parameters()``.
        lr: the learning rate; None takes the rule's usual one.
        rule: what one step does to one weight.
        groups: settings of parts of the model; of several that match, the first counts.

    Raises:
        OptionError: for an lr that is negative or not finite, or a group without
            parameters.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter([1.0, -2.0])
        >>> descent = Optimizer([("w", w)], lr=0.25)
        >>> for _ in range(3):
        ...     (w * w).sum().backward()
        ...     descent.step()
        ...     descent.zero_grad()
        >>> w.tolist()
        [0.125, -0.25]
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Parameter]],
        *,
        lr: float | None = None,
        rule: Rule | None = None,
        groups: Sequence[Group] = (),
    ) -> None:
        self.rule = rule or SGD()
        self.groups = tuple(groups)
        self.lr = Buffer(0.0, FLOAT64, name="lr")
        """The learning rate, a 0-d float64: an input of each step, never a constant."""
        self.set_lr(self.rule.usual_lr if lr is None else lr)
        self.num_steps = Buffer(0, INT64, name="num_steps")
        self._slots = [self._slot(path, p) for path, p in named_parameters]
        paths = [slot.path for slot in self._slots]
        for group in self.groups:
            if not any(matches(group.pattern, path) for path in paths):
                near = nearest(group.pattern, paths)
                raise OptionError(
                    f"optimizer: group {group.pattern!r} has no parameters",
                    got=group.pattern,
                    expected="a path, or the first part of one, of a parameter",
                    hint=f"did you mean {near!r}?" if near else None,
                )

    def _slot(self, path: str, parameter: Parameter) -> _Slot:
        found = (g for g in self.groups if matches(g.pattern, path))
        group = next(found, Group(path))
        decay = group.weight_decay
        if not parameter.is_penalized:
            decay = 0.0
        rule = self.rule if decay is None else replace(self.rule, weight_decay=decay)
        zeros = np.zeros_like(parameter.data)
        state = {name: Buffer(zeros, name=f"{name}/{path}") for name in rule.state}
        return _Slot(path, parameter, _program(rule), group.lr_scale, state)

    def set_lr(self, value: float) -> None:
        """Take another learning rate; raises OptionError if negative or not finite."""
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(
                "optimizer: the learning rate is out of range",
                got=value,
                expected="a finite number of at least 0",
            )
        assign(self.lr, float(value))

    def step(self) -> None:
        """Change every parameter that has a gradient, by the rule.

        Raises ShapeError, with nothing changed, for a gradient that does not fit.
        """
        active = [
            (slot, dw)
            for slot in self._slots
            if (dw := slot.parameter.grad) is not None and slot.parameter.requires_grad
        ]
        for slot, dw in active:
            _check_gradient(slot, dw)
        with no_grad():
            ONE_MORE.run([self.num_steps])
            numbers: dict[Any, list[Any]] = {}
            for slot, dw in active:
                key = (slot.program, slot.lr_scale, dw.dtype)
                if key not in numbers:
                    lr = self.lr if slot.lr_scale == 1 else self.lr * slot.lr_scale
                    given = {"lr": lr, "t": self.num_steps}
                    numbers[key] = slot.program.numbers(given, dw.dtype)
                slot.program.run(slot.variables, [dw], numbers[key])
            if (
                not mode.effects_are_ops
                and int(self.num_steps.data) % _FLUSH_EVERY == 0
            ):
                for slot, _ in active:
                    _flush_tiny(slot.state.values())

    def zero_grad(self) -> None:
        """Forget all gradients, so that the next backward pass starts from nothing."""
        for slot in self._slots:
            slot.parameter.grad = None

    # What has to be kept to go on.

    def named_state(self) -> Iterator[tuple[str, Buffer]]:
        """(name, buffer) of all that later steps depend on, apart from the weights."""
        yield "num_steps", self.num_steps
        yield "lr", self.lr
        for slot in self._slots:
            for name, buffer in slot.state.items():
                yield f"{name}/{slot.path}", buffer

    def state(self) -> dict[str, Array]:
        """Copies of all state by name, for a checkpoint."""
        return {name: buffer.numpy() for name, buffer in self.named_state()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take up the state of a checkpoint.

        Raises CheckpointError, with nothing changed, if a name, shape or dtype differs.
        """
        load_buffers("optimizer", dict(self.named_state()), state)


def _check_gradient(slot: _Slot, dw: Tensor) -> None:
    w = slot.parameter
    if dw.shape != w.shape or dw.dtype != w.dtype:
        raise ShapeError(
            f"optimizer: the gradient of {slot.path} does not fit",
            got=dw.spec,
            expected=w.spec,
        )


def load_buffers(
    owner: str, buffers: Mapping[str, Buffer], state: Mapping[str, Array]
) -> None:
    """Copy arrays into the buffers of the same names: all of them, or none.

    Raises CheckpointError if a name, shape or dtype differs.
    """
    if odd := sorted(buffers.keys() ^ state.keys()):
        name = odd[0]
        raise CheckpointError(
            f"{owner}: the state is of another optimizer or model",
            got=f"no {name!r}" if name in buffers else f"{name!r}, unknown here",
            expected=f"{len(buffers)} entries: those of this {owner}",
            hint="go on with the settings of the run that wrote it",
        )
    for name, buffer in buffers.items():
        if Spec.of(state[name]) != buffer.spec:
            raise CheckpointError(
                f"{owner}: {name!r} does not fit",
                got=Spec.of(state[name]),
                expected=buffer.spec,
            )
    for name, buffer in buffers.items():
        assign(buffer, state[name])


def optimizer(
    name: str,
    named_parameters: Iterable[tuple[str, Parameter]],
    *,
    lr: float | None = None,
    groups: Sequence[Group] = (),
    **settings: float,
) -> Optimizer:
    """The optimizer with the update rule of that name.

    Names: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw. Further settings are
    the rule's own: ``momentum``, ``beta1``, ``weight_decay`` ...

    Raises OptionError for an unknown name or setting, or a value out of its range.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter([1.0])
        >>> optimizer("momentum", [("w", w)], lr=0.1, momentum=0.8).rule
        Momentum(weight_decay=0.0, momentum=0.8)
    """
    if name not in RULES:
        raise OptionError.unknown("optimizer", name, RULES)
    rule = RULES[name]
    known = [field.name for field in fields(rule)]
    for setting in settings:
        if setting not in known:
            raise OptionError.unknown(
                f"setting of {name}", setting, [*known, "lr", "groups"]
            )
    return Optimizer(named_parameters, lr=lr, rule=rule(**settings), groups=groups)
