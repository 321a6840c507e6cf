"""Derivatives of functions of tensors, by walks over the graph that one run records.

All of them nest: grad(grad(f)), jacobian(grad(f)), or a backward() through any of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.autodiff.structure import flatten
from chainrule.core.backward import gradients, topological_order
from chainrule.core.graph import (
    FUNCTIONS,
    OPS,
    Tensor,
    apply,
    as_tensor,
    enable_grad,
    mode,
)
from chainrule.core.spec import is_float
from chainrule.errors import DtypeError, GradientError, OptionError, ShapeError

__all__ = [
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "value_and_grad",
    "vjp",
]

Function = Callable[..., Any]
Pullback = Callable[[Any], tuple[Any, ...]]


class _Run(NamedTuple):
    """One recorded run of a function."""

    value: Any
    outputs: list[Tensor]
    inputs: list[list[Tensor]]
    """For each chosen argument, the tensors in it that are differentiated."""
    rebuild: list[Callable[[Sequence[Any]], Any]]
    is_watched: bool
    """Whether somebody may differentiate the result further."""


def _own(name: str, value: Any) -> Tensor:
    """A tensor of this value that only the present derivative looks at.

    It stays connected to the value it was made of, so derivatives nest; and it is a
    new one, so that f(x, x) and a closure over x keep their two roles apart.
    """
    x = as_tensor(value)
    if not is_float(x.dtype):
        raise DtypeError(
            f"{name}: only floats have derivatives",
            got=x.spec,
            expected="float32 or float64",
            hint="pass 3.0 instead of 3, or close over what is not differentiated",
        )
    if mode.recording and (x.requires_grad or mode.tracing):
        alias = apply(OPS["reshape"].make(x.shape), x)
    else:
        alias = x.detach()
    alias.requires_grad = True
    return alias


def _run(
    name: str,
    f: Function,
    inputs: Sequence[Any],
    chosen: Sequence[int],
    options: dict[str, Any] | None = None,
) -> _Run:
    is_recorded = mode.recording
    arguments = list(inputs)
    ours, rebuilds = [], []
    for i in chosen:
        if not -len(inputs) <= i < len(inputs):
            raise OptionError(
                f"{name}: there is no argument {i}",
                got=f"{len(inputs)} arguments",
                expected="an index among them",
                hint="pass what is differentiated by position, not by name",
            )
        ends, rebuild = flatten(inputs[i])
        aliases = [_own(name, v) for v in ends]
        arguments[i] = rebuild(aliases)
        ours.append(aliases)
        rebuilds.append(rebuild)
    with enable_grad():
        value = f(*arguments, **(options or {}))
    outputs, _ = flatten(value)
    for y in outputs:
        if not isinstance(y, Tensor):
            raise DtypeError(
                f"{name}: the function did not return a tensor",
                got=type(y).__name__,
                expected="a Tensor",
                hint="compute with tensors and chainrule's functions all the way",
            )
    is_watched = is_recorded and (mode.tracing or _depends_on_others(outputs, ours))
    return _Run(value, outputs, ours, rebuilds, is_watched)


def _depends_on_others(outputs: list[Tensor], ours: list[list[Tensor]]) -> bool:
    """Whether the outputs were made from a tensor, not ours, that has a gradient."""
    own = {id(t) for aliases in ours for t in aliases}
    return any(
        t.op is None and t.requires_grad and id(t) not in own
        for t in topological_order(outputs)
    )


def _outcome(run: _Run) -> Any:
    """The function's value, recorded only where that is of use to somebody."""
    if run.is_watched:
        return run.value
    _, rebuild = flatten(run.value)
    return rebuild([y.detach() for y in run.outputs])


def _pull(run: _Run, dys: Sequence[Any]) -> tuple[Any, ...]:
    """The gradients of the chosen arguments, each in its argument's structure."""
    aliases = [t for group in run.inputs for t in group]
    seeded = any(isinstance(dy, Tensor) and dy.requires_grad for dy in dys)
    create_graph = run.is_watched or (mode.recording and seeded)
    found = iter(gradients(run.outputs, aliases, dys, create_graph=create_graph))
    return tuple(
        rebuild([next(found) for _ in group])
        for group, rebuild in zip(run.inputs, run.rebuild, strict=True)
    )


def value_and_grad(
    f: Function, argument: int | tuple[int, ...] = 0
) -> Callable[..., tuple[Any, Any]]:
    """The function that returns f's value and its gradient together.

    Args:
        f: returns one number, a Tensor with a single element.
        argument: which positional argument to differentiate by; a tuple of them gives
            a tuple of gradients. An argument may be a tuple, list or dict of tensors;
            its gradient has the same structure.

    Raises:
        GradientError: if the function's value has more than one element.
        DtypeError: if the argument holds integers.

    Example:
        >>> import chainrule as cr
        >>> y, dy = value_and_grad(lambda x: x * x)(3.0)
        >>> y.item(), dy.item()
        (9.0, 6.0)
    """
    chosen = (argument,) if isinstance(argument, int) else tuple(argument)

    @functools.wraps(f)
    def derivative(*inputs: Any, **options: Any) -> tuple[Any, Any]:
        run = _run("grad", f, inputs, chosen, options)
        if len(run.outputs) != 1 or run.outputs[0].size != 1:
            raise GradientError(
                "grad: the function does not return one number",
                got=", ".join(str(y.spec) for y in run.outputs),
                expected="a Tensor with a single element",
                hint="reduce with sum() or mean(), or use jacobian or vjp",
            )
        found = _pull(run, [None])
        return _outcome(run), found[0] if isinstance(argument, int) else found

    return derivative


def grad(f: Function, argument: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that returns f's gradient; arguments as in ``value_and_grad``.

    Example:
        >>> import chainrule as cr
        >>> f = lambda x: x ** 3
        >>> grad(f)(2.0).item(), grad(grad(f))(2.0).item()
        (12.0, 12.0)
    """
    both = value_and_grad(f, argument)

    @functools.wraps(f)
    def derivative(*inputs: Any, **options: Any) -> Any:
        return both(*inputs, **options)[1]

    return derivative


def vjp(f: Function, *inputs: Any) -> tuple[Any, Pullback]:
    """f's value, and the function that takes ∂L/∂y back to ∂L/∂input.

    The pullback multiplies from the left by the Jacobian, dyᵀ·∂y/∂x, without forming
    it. It may be called many times and returns a tuple, one entry for each input.

    Example:
        >>> import chainrule as cr
        >>> y, pullback = vjp(lambda x: x * x, cr.Tensor([1.0, 2.0]))
        >>> pullback(cr.Tensor([1.0, 10.0]))
        (Tensor([ 2., 40.], dtype=float32),)
    """
    run = _run("vjp", f, inputs, range(len(inputs)))

    def pullback(dy: Any) -> tuple[Any, ...]:
        return _pull(run, _matched("vjp: dy", dy, run.outputs))

    return _outcome(run), pullback


def _matched(what: str, given: Any, like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the shapes and dtypes of others; raises ShapeError."""
    tensors = [as_tensor(v) for v in flatten(given)[0]]
    if [t.shape for t in tensors] != [t.shape for t in like]:
        raise ShapeError(
            f"{what} has another shape than what it belongs to",
            got=", ".join(str(t.spec) for t in tensors),
            expected=", ".join(str(t.spec) for t in like),
        )
    return [t.astype(x.dtype) for t, x in zip(tensors, like, strict=True)]


def _pushforward(run: _Run) -> Callable[[list[Tensor]], list[Tensor]]:
    """The function that takes dx forward to ∂y/∂x·dx, by two walks in reverse.

    The pullback is linear in u, so ⟨pullback(u), dx⟩ = ⟨u, ∂y/∂x·dx⟩, and the gradient
    by u is the product wanted. It needs no forward rule for any op, at the cost of a
    second walk.
    """
    aliases = [t for group in run.inputs for t in group]
    zeros = FUNCTIONS["zeros_like"]
    seeds = [Tensor(zeros(y), requires_grad=True) for y in run.outputs]
    back = gradients(run.outputs, aliases, seeds, create_graph=True)

    def push(dxs: list[Tensor]) -> list[Tensor]:
        seeded = any(t.requires_grad for t in dxs)
        create_graph = run.is_watched or (mode.recording and seeded)
        return gradients(back, seeds, dxs, create_graph=create_graph)

    return push


def jvp(f: Function, inputs: Any, tangents: Any) -> tuple[Any, Any]:
    """f's value, and ∂y/∂x·dx: how y moves as the inputs move along the tangents.

    Args:
        f: a function of tensors.
        inputs: a tuple of its arguments; a single one may stand alone.
        tangents: dx, of the same structure and shapes.

    Example:
        >>> y, dy = jvp(lambda x: x * x, 3.0, 1.0)
        >>> dy.item()
        6.0

    Source: the double reverse walk is J. Townsend's, "A new trick for calculating
    Jacobian vector products", 2017.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    run = _run("jvp", f, arguments, range(len(arguments)))
    aliases = [t for group in run.inputs for t in group]
    dxs = _matched("jvp: the tangent", tangents, aliases)
    dys = _pushforward(run)(dxs)
    _, rebuild = flatten(run.value)
    return _outcome(run), rebuild(dys)


def hvp(f: Function, x: Any, v: Any) -> Any:
    """∂²f/∂x²·v without forming the Hessian: the pullback of v through grad(f).

    ``x`` may be a structure of tensors, and ``v`` then has the same.

    Example:
        >>> hvp(lambda x: x ** 3, 1.0, 10.0).item()
        60.0
    """
    return vjp(grad(f), x)[1](v)[0]


def jacobian(f: Function, x: Any, layout: str = "output_input") -> Tensor:
    """All first derivatives of a tensor by a tensor.

    J[i, j] = ∂y_i/∂x_j, in the shape (*y.shape, *x.shape), as in PyTorch and JAX;
    layout="input_output" is the lectures' transpose, (*x.shape, *y.shape). One reverse
    walk for each element of y, or one forward product for each of x, whichever are
    fewer.

    Raises OptionError for another layout.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> jacobian(lambda g: w @ g, cr.Tensor([0.0, 0.0])).shape
        (3, 2)

    Source: toronto and stanford write Jacobians as input × output.
    """
    if layout not in ("output_input", "input_output"):
        raise OptionError.unknown(
            "Jacobian layout", layout, ["output_input", "input_output"]
        )
    run = _run("jacobian", f, (as_tensor(x),), [0])
    if len(run.outputs) != 1:
        raise GradientError(
            "jacobian: the function returns several tensors",
            got=", ".join(str(y.spec) for y in run.outputs),
            expected="one tensor",
        )
    (y,), (alias,) = run.outputs, run.inputs[0]
    columns = _columns(run, y, alias) if alias.size < y.size else None
    if columns is not None:
        matrix = FUNCTIONS["transpose"](columns)
    else:
        rows = [_pull(run, [e])[0].reshape(-1) for e in _unit_tensors(y)]
        matrix = _stacked(rows, alias)
    if layout == "input_output":
        return FUNCTIONS["transpose"](matrix).reshape((*alias.shape, *y.shape))
    return matrix.reshape((*y.shape, *alias.shape))


def _columns(run: _Run, y: Tensor, x: Tensor) -> Tensor | None:
    """The Jacobian's columns as rows; None where an op cannot be walked twice."""
    try:
        push = _pushforward(run)
    except GradientError:
        return None
    return _stacked([push([e])[0].reshape(-1) for e in _unit_tensors(x)], y)


def _stacked(rows: list[Tensor], like: Tensor) -> Tensor:
    if not rows:
        return as_tensor(np.zeros((0, like.size), like.dtype))
    return FUNCTIONS["stack"](rows)


def _unit_tensors(like: Tensor) -> list[Tensor]:
    """For each element, the tensor that is 1 there and 0 elsewhere."""
    units = []
    for i in range(like.size):
        e = np.zeros(like.shape, like.dtype)
        e.flat[i] = 1
        units.append(as_tensor(e))
    return units


def hessian(f: Function, x: Any) -> Tensor:
    """All second derivatives of a number by a tensor: (*x.shape, *x.shape).

    Example:
        >>> import chainrule as cr
        >>> hessian(lambda x: x[0] * x[1], cr.Tensor([2.0, 3.0]))
        Tensor([[0., 1.],
                [1., 0.]], dtype=float32)
    """
    return jacobian(grad(f), x)
