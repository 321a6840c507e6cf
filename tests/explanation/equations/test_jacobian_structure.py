"""Jacobians told from products with them, against the matrices themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DtypeError, GradientError, NonFiniteError, ShapeError
from chainrule.explanation.equations import describe_jacobian
from chainrule.explanation.equations import jacobians as module

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3))
X = RNG.normal(size=(5, 3))


def standardized(x: Any) -> Any:
    centred = x - x.mean(axis=0)
    return centred / cr.sqrt((centred * centred).mean(axis=0))


CASES: list[tuple[str, Any, Any, str, bool]] = [
    ("relu", cr.relu, X, "diagonal", False),
    ("relu far from its kink", cr.relu, X * 0 + 5, "identity", False),
    ("product by elements", lambda x: x * W[:1], X, "diagonal", True),
    ("three times", lambda x: 3 * x - 1, X, "scalar multiple of the identity", True),
    ("reshape", lambda x: x.reshape((-1,)), X, "identity", True),
    ("transpose", cr.transpose, X, "permutation", True),
    ("flip", lambda x: cr.flip(x, 0), X, "permutation", True),
    ("floor", cr.floor, X, "zero", True),
    ("detached", lambda x: x.detach() * 2, X, "zero", True),
    ("W g", lambda g: cr.Tensor(W) @ g, X[0], "full", True),
    ("dense layer", lambda x: x @ W.T + 1, X, "block diagonal", True),
    ("softmax", cr.softmax, X, "block diagonal", False),
    ("max of rows", lambda x: cr.max(x, axis=1), X, "routing", False),
    ("index", lambda x: x[np.array([1, 1, 4])], X, "routing", True),
    ("batch norm", standardized, X, "sparse", False),
    ("norm", lambda x: cr.sqrt((x * x).sum()), X, "full", False),
    ("a number", lambda x: x**3, 2.0, "scalar multiple of the identity", False),
    ("sum", cr.sum, X, "full", True),
]


@pytest.mark.parametrize(
    ("f", "x", "kind", "is_constant"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
@pytest.mark.parametrize("is_formed", [True, False], ids=["formed", "not formed"])
def test_every_structure_is_recognised(
    f: Any,
    x: Any,
    kind: str,
    is_constant: bool,
    is_formed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_formed:  # as if it were large
        monkeypatch.setattr(module, "_MAX_FORMED", 0)
        monkeypatch.setattr(module, "jacobian", None)
    found = describe_jacobian(f, x)
    assert (found.kind, found.is_constant) == (kind, is_constant)
    assert (found.matrix is not None) == is_formed
    told = "checked on the matrix itself" if is_formed else "it was never formed"
    assert told in str(found)
    wanted = cr.jacobian(f, np.asarray(x)).data.reshape(found.shape)
    if kind != "zero":  # as many rows as there are, all looked at
        np.testing.assert_allclose(found.share, (wanted != 0).mean(), rtol=0.2)
    if found.diagonal is not None:
        np.testing.assert_allclose(np.diag(found.diagonal.reshape(-1)), wanted)
    if found.scale is not None:
        np.testing.assert_allclose(found.scale * np.eye(len(wanted)), wanted)


def test_relu_of_4096_units_is_64_mib_and_diagonal_and_never_formed() -> None:
    x = RNG.normal(size=4096).astype(np.float32)
    found = describe_jacobian(cr.relu, x)
    assert found.kind == "diagonal"
    assert found.diagonal is not None
    assert np.array_equal(found.diagonal, x > 0)
    assert found.size_bytes == 4096**2 * 4
    text = str(found)
    assert "4,096 × 4,096: 64 MiB (67.1 MB) in float32" in text
    assert "what it says fits into 16 KiB" in text
    assert found.matrix is None


def test_a_minibatch_of_100_would_take_671_gb() -> None:
    x = RNG.normal(size=(100, 4096)).astype(np.float32)
    found = describe_jacobian(cr.relu, x)
    assert found.kind == "diagonal"
    assert found.shape == (409_600, 409_600)
    assert "(671 GB) in float32" in str(found)
    assert found.num_products < 10


def test_both_conventions_are_named_and_shown() -> None:
    found = describe_jacobian(lambda g: cr.Tensor(W) @ g, X[0])
    text = str(found)
    assert found.size_bytes == W.nbytes
    assert "a matrix W (Wᵀ in the lectures' layout); the same everywhere" in text
    assert "output × input: (4) by (3)" in text
    assert "input × output, the lectures' layout, is its transpose: 3 × 4" in text
    assert found.matrix is not None
    np.testing.assert_allclose(found.matrix, W)
    np.testing.assert_allclose(
        found.matrix.T,
        cr.jacobian(lambda g: cr.Tensor(W) @ g, X[0], layout="input_output").data,
    )


def test_a_dense_layer_on_a_batch_has_one_block_for_each_example() -> None:
    found = describe_jacobian(lambda x: x @ W.T, X)
    assert (found.blocks, found.has_equal_blocks) == (5, True)
    assert "5 blocks of 4 × 3, all alike" in str(found)
    assert found.block is not None
    np.testing.assert_allclose(found.block, W)
    assert "each block = " in str(found)
    assert found.kept_bytes == W.nbytes
    assert not describe_jacobian(cr.softmax, X).has_equal_blocks


def test_one_example_that_looks_at_one_other_is_found_among_many() -> None:
    """Every pair of examples is in different halves once."""
    x = RNG.normal(size=(37, 40))
    assert describe_jacobian(lambda x: cr.tanh(x) @ np.ones((40, 40)), x).blocks == 37
    for seen, looking in ((29, 12), (12, 29)):

        def peek(x: Any, seen: int = seen, looking: int = looking) -> Any:
            return cr.tanh(x) + (x[seen].sum() * (np.arange(37) == looking))[:, None]

        assert describe_jacobian(peek, x).blocks == 1


def test_a_convolution_says_which_share_is_not_zero() -> None:
    x = RNG.normal(size=(1, 24, 24, 1))
    found = describe_jacobian(lambda t: cr.conv(t, np.ones((3, 3, 1, 2))), x)
    assert found.kind == "sparse"
    assert found.is_constant
    assert found.matrix is None
    assert found.share == pytest.approx(9 / 576)
    assert "about 1.56% of its entries are not 0" in str(found)


def test_float32_inside_is_no_other_structure() -> None:
    dense = nn.Dense(30, 20).initialize(0)
    found = describe_jacobian(lambda x: dense(x.astype("float32")), np.ones((50, 30)))
    assert (found.kind, found.is_constant) == ("block diagonal", True)
    assert found.has_equal_blocks


def test_an_op_that_cannot_be_walked_twice_is_described_all_the_same() -> None:
    class Cube(cr.Gate):
        def forward(self, x: Any) -> Any:
            self.x = x.data
            return x.data**3

        def backward(self, dy: Any) -> Any:
            return 3 * self.x**2 * dy.data

    assert describe_jacobian(Cube(), X).kind == "diagonal"


def test_latex_shows_small_matrices_and_names_large_ones() -> None:
    assert describe_jacobian(lambda x: 2 * x, np.ones(2)).latex() == (
        r"\frac{\partial y}{\partial x} = \begin{bmatrix} 2 & 0 \\ 0 & 2 \end{bmatrix}"
    )
    large = describe_jacobian(cr.tanh, np.ones(500) * np.arange(500)).latex()
    assert large == (
        r"\frac{\partial y}{\partial x} = \mathrm{diag}(d) "
        r"\in \mathbb{R}^{500 \times 500}"
    )


def test_what_has_no_jacobian_is_told() -> None:
    with pytest.raises(DtypeError, match="only floats have derivatives"):
        describe_jacobian(cr.relu, np.arange(3))
    with pytest.raises(GradientError, match="returns several tensors"):
        describe_jacobian(lambda x: (x, x), np.ones(3))
    with pytest.raises(ShapeError, match="nothing to differentiate"):
        describe_jacobian(cr.relu, np.ones(0))
    with pytest.raises(NonFiniteError, match="not finite here"):
        describe_jacobian(cr.sqrt, np.zeros(3))
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="disagree") as caught:
        describe_jacobian(lambda x: x * rng.normal(size=3), np.ones(3))
    assert "model.eval()" in str(caught.value)
