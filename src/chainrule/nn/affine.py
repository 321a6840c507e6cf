"""Layers whose parameters multiply and add: dense, maxout, embedding, scale, bias."""

from __future__ import annotations

import numpy as np

from chainrule import ops
from chainrule.core.graph import Tensor, known_values
from chainrule.errors import DtypeError, IndexingError, ShapeError
from chainrule.nn.init import DrawnParameter, Initializer, Normal
from chainrule.nn.module import Module, check_sizes

__all__ = ["Bias", "Dense", "Embedding", "Maxout", "Scale"]


def _check_features(layer: str, x: Tensor, features: int) -> None:
    """Raise ShapeError unless the last axis of x has the size that the layer takes."""
    found = x.shape[-1] if x.ndim else 1
    if found != features or not x.ndim:
        raise ShapeError(
            f"{layer}: input has {found} features, the layer takes {features}",
            got=x.spec,
            expected=f"(..., {features})",
            hint="put Flatten() before the layer"
            if x.ndim > 2
            else f"make in_features {found}",
        )


class Dense(Module):
    """Weighted sums of all inputs (inner product, fully connected): y = x @ w + b.

    Args:
        in_features, out_features: sizes of the last axis before and after.
        bias: whether to add b, which starts at 0.
        initializer: fills w; the default suits an unknown activation, ``he_normal``
            suits ReLU and its kin, and ``mlp`` picks by activation.

    Shapes: (..., in_features) -> (..., out_features); w is (in, out), b is (out).

    Raises:
        ShapeError: when run on another number of features.

    Example:
        >>> Dense(3, 2)([[1.0, 2.0, 3.0]]).shape
        (1, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        initializer: str | Initializer = "glorot_uniform",
    ) -> None:
        check_sizes("dense", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = DrawnParameter((in_features, out_features), initializer)
        self.bias = (
            DrawnParameter((out_features,), "zeros", is_penalized=False)
            if bias
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        _check_features("dense", x, self.in_features)
        y = ops.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


class Maxout(Module):
    """The largest of several weighted sums: y = max over pieces p of x @ w_p + b_p.

    Args:
        in_features, out_features: sizes of the last axis before and after.
        pieces: how many sums compete for each output.
        initializer: fills the weights.

    Shapes: (..., in_features) -> (..., out_features); w is (in, pieces·out).

    Source: Goodfellow, Warde-Farley, Mirza, Courville & Bengio, "Maxout networks",
    2013; aarhus and yonsei with two pieces.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int = 2,
        *,
        initializer: str | Initializer = "he_normal",
    ) -> None:
        check_sizes(
            "maxout", in_features=in_features, out_features=out_features, pieces=pieces
        )
        self.in_features = in_features
        self.out_features = out_features
        self.pieces = pieces
        width = pieces * out_features
        self.weight = DrawnParameter((in_features, width), initializer)
        self.bias = DrawnParameter((width,), "zeros", is_penalized=False)

    def forward(self, x: Tensor) -> Tensor:
        _check_features("maxout", x, self.in_features)
        sums = ops.matmul(x, self.weight) + self.bias
        pieces = ops.reshape(sums, (*x.shape[:-1], self.pieces, self.out_features))
        return ops.max(pieces, axis=-2)


class Embedding(Module):
    """A learned vector for each of a number of things: y = table[i].

    Args:
        num_embeddings: how many things there are.
        features: the length of their vectors.
        initializer: fills the table; normal with deviation 1 unless given.

    Shapes: integers of any shape (...) -> (..., features).

    Raises:
        DtypeError: when run on anything but integers.
        IndexingError: for an integer outside 0 … num_embeddings - 1.
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        initializer: str | Initializer = Normal(std=1.0),  # noqa: B008  it is frozen
    ) -> None:
        check_sizes("embedding", num_embeddings=num_embeddings, features=features)
        self.num_embeddings = num_embeddings
        self.features = features
        self.table = DrawnParameter((num_embeddings, features), initializer)

    def forward(self, indices: Tensor) -> Tensor:
        if indices.dtype.kind not in "iu":
            raise DtypeError(
                "embedding: positions in a table are integers",
                got=indices.spec,
                expected="int64",
                hint="x.astype('int64')",
            )
        positions = known_values(indices)
        if positions is not None and (
            np.any(positions < 0) or np.any(positions >= self.num_embeddings)
        ):
            raise IndexingError(
                "embedding: no such row in the table",
                got=f"positions from {positions.min()} to {positions.max()}",
                expected=f"0 to {self.num_embeddings - 1}",
            )
        return ops.take(self.table, indices)


class Scale(Module):
    """Every feature times a learned number of its own, which starts at 1.

    Shapes: (..., features) -> (..., features).
    """

    def __init__(self, features: int) -> None:
        check_sizes("scale", features=features)
        self.features = features
        self.factor = DrawnParameter((features,), "ones", is_penalized=False)

    def forward(self, x: Tensor) -> Tensor:
        _check_features("scale", x, self.features)
        return x * self.factor


class Bias(Module):
    """Every feature plus a learned number of its own, which starts at 0.

    Shapes: (..., features) -> (..., features).
    """

    def __init__(self, features: int) -> None:
        check_sizes("bias", features=features)
        self.features = features
        self.offset = DrawnParameter((features,), "zeros", is_penalized=False)

    def forward(self, x: Tensor) -> Tensor:
        _check_features("bias", x, self.features)
        return x + self.offset
