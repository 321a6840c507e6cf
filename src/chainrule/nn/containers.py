"""Layers made of layers: one after another, around a shortcut, or any function."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chainrule.core.graph import Tensor
from chainrule.errors import OptionError, ShapeError
from chainrule.nn.module import Module

__all__ = ["Function", "Residual", "Sequential"]


class Sequential(Module):
    """Layers run one after another: y = last(... second(first(x))).

    Layers given in a row are named "0", "1" ..., layers given as keywords by those;
    each is an attribute of that name, so paths read ``"hidden.weight"``. Assigning to
    the attribute replaces the layer.

    Raises:
        OptionError: for something that is no layer, or a name that modules use.

    Example:
        >>> from chainrule import nn
        >>> net = Sequential(hidden=nn.Dense(3, 4), relu=nn.ReLU(), out=nn.Dense(4, 1))
        >>> [path for path, _ in net.named_parameters()]
        ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
        >>> net.hidden is net[0]
        True
    """

    def __init__(self, *layers: Module, **named_layers: Module) -> None:
        members = {str(i): layer for i, layer in enumerate(layers)} | named_layers
        for name, layer in members.items():
            if not isinstance(layer, Module):
                raise OptionError(
                    f"sequential: {name} is not a layer",
                    got=type(layer).__name__,
                    expected="a Module",
                    hint="wrap a function of tensors in nn.Function",
                )
            if hasattr(type(self), name) or name == "names":
                raise OptionError(
                    f"sequential: a layer cannot be named {name!r}",
                    got=f"{name}={type(layer).__name__}",
                    expected="a name that no module uses itself",
                )
        self.names = tuple(members)
        vars(self).update(members)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Module]:
        return (self[name] for name in self.names)

    def __getitem__(self, key: int | str) -> Module:
        """A layer by its position or its name; raises OptionError if there is none."""
        if isinstance(key, str):
            if key not in self.names:
                raise OptionError.unknown("layer", key, self.names)
            layer: Module = vars(self)[key]
            return layer
        if not -len(self) <= key < len(self):
            raise OptionError(
                f"sequential: no layer {key}",
                got=key,
                expected=f"{-len(self)} to {len(self) - 1}",
            )
        return self[self.names[key]]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class Residual(Module):
    """A body and a way around it: y = body(x) + shortcut(x).

    Args:
        body: what is learned on top of the shortcut.
        shortcut: x itself unless given; a Dense, say, where the body changes sizes.

    Raises:
        ShapeError: when run, if body and shortcut put out different shapes.

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016,
    equations 1 and 2.
    """

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        learned = self.body(x)
        direct = x if self.shortcut is None else self.shortcut(x)
        if learned.shape != direct.shape:
            raise ShapeError(
                "residual: body and shortcut differ in shape",
                got=f"{learned.spec} and {direct.spec}",
                expected="equal shapes",
                hint="give a shortcut that changes the shape as the body does",
            )
        return learned + direct


class Function(Module):
    """Any function of tensors as a layer, without parameters.

    Example:
        >>> import chainrule as cr
        >>> Function(cr.abs)([-1.0, 2.0]).tolist()
        [1.0, 2.0]
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"Function({getattr(self.function, '__name__', self.function)})"

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)
