"""One contract that every layer keeps."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.optim import optimizer

STEP = 1e-6


@dataclass(frozen=True)
class Row:
    """A layer, the shape of one example, and what the contract must know of it."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (4,)
    draw: Callable[..., Any] = field(default=lambda rng, shape: rng.normal(size=shape))
    has_gradient: bool = True
    mixes_examples: bool = False
    """Whether an output row may come from another input row."""


def integers(below: int) -> Callable[..., Any]:
    return lambda rng, shape: rng.integers(0, below, size=shape)


class Noisy(nn.Module):
    """ColorFilterArray with noise that follows from the picture, as its one input."""

    def __init__(self) -> None:
        self.filters = nn.ColorFilterArray(2, shot=0.1, read=0.2)

    def forward(self, x: Any) -> Any:
        return self.filters(x * x, x.sum(axis=-1, keepdims=True))


class Chosen(nn.Module):
    """BatchReindex with its second input fixed, so that it takes one like the rest."""

    def __init__(self) -> None:
        self.reindex = nn.BatchReindex()

    def forward(self, x: Any) -> Any:
        return self.reindex(x, np.zeros(x.shape[0], np.int64))


IMAGE = (5, 6, 4)
COLOR = (5, 4, 3)

ROWS = {
    "AdaptiveAveragePool": Row(lambda: nn.AdaptiveAveragePool((2, 3)), IMAGE),
    "AdaptiveMaxPool": Row(lambda: nn.AdaptiveMaxPool((2, 4)), IMAGE),
    "AveragePool": Row(lambda: nn.AveragePool(2), IMAGE),
    "AveragePool with padding": Row(
        lambda: nn.AveragePool(3, stride=2, padding=1), IMAGE
    ),
    "BatchNorm": Row(lambda: nn.BatchNorm(4, momentum=0.3), IMAGE),
    "BatchNorm of vectors": Row(lambda: nn.BatchNorm(4, affine=False)),
    "BatchNorm frozen": Row(lambda: nn.BatchNorm(4, frozen=True), IMAGE),
    "BatchReindex": Row(Chosen, mixes_examples=True),
    "Bias": Row(lambda: nn.Bias(4)),
    "ColorFilterArray": Row(lambda: nn.ColorFilterArray(2), COLOR),
    "ColorFilterArray becoming pure": Row(
        lambda: nn.ColorFilterArray(3, colors="rgbw", sharpening=0.7), COLOR
    ),
    "ColorFilterArray with noise": Row(Noisy, COLOR),
    "ColorFilterArray fixed": Row(nn.ColorFilterArray.bayer, COLOR),
    "Conv": Row(lambda: nn.Conv(4, 3, 3), IMAGE),
    "Conv along one axis": Row(lambda: nn.Conv(2, 3, (3,), stride=2), (7, 2)),
    "Conv of each channel": Row(
        lambda: nn.Conv(4, 8, (2, 3), groups=4, padding="same", bias=False), IMAGE
    ),
    "Conv strided": Row(
        lambda: nn.Conv(4, 2, 3, stride=2, padding=1, groups=2, dilation=2), IMAGE
    ),
    "ConvTranspose": Row(
        lambda: nn.ConvTranspose(4, 3, 4, stride=2, padding=1), (3, 2, 4)
    ),
    "ConvTranspose in groups": Row(
        lambda: nn.ConvTranspose(4, 2, 3, stride=2, output_padding=1, groups=2),
        (3, 2, 4),
    ),
    "Crop": Row(lambda: nn.Crop((3, 2)), IMAGE),
    "Dense": Row(lambda: nn.Dense(4, 3)),
    "Dense without bias": Row(lambda: nn.Dense(4, 3, bias=False), shape=(2, 4)),
    "Dropout": Row(lambda: nn.Dropout(0.5)),
    "ELU": Row(nn.ELU),
    "Embedding": Row(lambda: nn.Embedding(5, 3), draw=integers(5)),
    "Flatten": Row(nn.Flatten, shape=(2, 3, 1)),
    "Function": Row(lambda: nn.Function(cr.abs)),
    "GELU": Row(nn.GELU),
    "GELU by sigmoid": Row(lambda: nn.GELU("sigmoid")),
    "GELU by tanh": Row(lambda: nn.GELU("tanh")),
    "GlobalAveragePool": Row(nn.GlobalAveragePool, IMAGE),
    "GroupNorm": Row(lambda: nn.GroupNorm(2, 4), IMAGE),
    "Identity": Row(nn.Identity),
    "LayerNorm": Row(lambda: nn.LayerNorm(4)),
    "LayerNorm of images": Row(lambda: nn.LayerNorm((5, 6, 4)), IMAGE),
    "LeakyReLU": Row(nn.LeakyReLU),
    "LocalResponseNorm": Row(lambda: nn.LocalResponseNorm(3, alpha=0.5), IMAGE),
    "LogSoftmax": Row(nn.LogSoftmax),
    "MaxPool": Row(lambda: nn.MaxPool(2), IMAGE),
    "MaxPool overlapping": Row(lambda: nn.MaxPool(3, stride=2, padding=1), IMAGE),
    "Maxout": Row(lambda: nn.Maxout(4, 2, pieces=3)),
    "MeanVarianceNorm": Row(nn.MeanVarianceNorm, IMAGE),
    "PReLU": Row(nn.PReLU),
    "PReLU by feature": Row(lambda: nn.PReLU(4)),
    "Patches": Row(lambda: nn.Patches(2, stride=2), IMAGE),
    "ReLU": Row(nn.ReLU),
    "Rescale": Row(nn.Rescale),
    "Rescale with offset": Row(lambda: nn.Rescale(2 / 255, -1.0)),
    "Reshape": Row(lambda: nn.Reshape(2, -1)),
    "Residual": Row(lambda: nn.Residual(nn.Dense(4, 4))),
    "Residual with shortcut": Row(
        lambda: nn.Residual(nn.Dense(4, 2), shortcut=nn.Dense(4, 2, bias=False))
    ),
    "Scale": Row(lambda: nn.Scale(4)),
    "Sequential": Row(lambda: nn.Sequential(nn.Dense(4, 3), nn.Tanh(), nn.Dense(3, 2))),
    "Sequential by name": Row(lambda: nn.Sequential(first=nn.Dense(4, 3))),
    "SiLU": Row(nn.SiLU),
    "Sigmoid": Row(nn.Sigmoid),
    "Softmax": Row(nn.Softmax),
    "Softplus": Row(nn.Softplus),
    "SpatialDropout": Row(lambda: nn.SpatialDropout(0.5), IMAGE),
    "SpatialPyramidPool": Row(lambda: nn.SpatialPyramidPool((1, 2)), IMAGE),
    "Standardize": Row(lambda: nn.Standardize([1.0, 2.0, 3.0, 4.0], 2.0)),
    "Tanh": Row(nn.Tanh),
    "Threshold": Row(nn.Threshold, has_gradient=False),
    "Upsample": Row(nn.Upsample, IMAGE),
    "Upsample blending": Row(lambda: nn.Upsample((2, 3), "bilinear"), IMAGE),
    "linear": Row(lambda: nn.linear((2, 2), 3), shape=(2, 2)),
    "mlp": Row(lambda: nn.mlp((2, 2), (3,), 2, dropout=0.25), shape=(2, 2)),
}

every_layer = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def example(row: Row, n: int = 3, seed: int = 0) -> Any:
    return row.draw(np.random.default_rng(seed), (n, *row.shape))


def built(row: Row, dtype: str = "float64", seed: int = 0) -> nn.Module:
    """The layer with every parameter moved off its special first values."""
    layer = row.make().initialize(seed).astype(dtype).eval()
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters():
        cr.assign(parameter, parameter.data + rng.normal(size=parameter.shape))
    return layer


def test_every_layer_is_in_the_table() -> None:
    layers = {
        name
        for name, value in vars(nn).items()
        if isinstance(value, type) and issubclass(value, nn.Module)
    }
    assert layers - {"Module"} <= {name.split()[0] for name in ROWS}


@every_layer
def test_gradients_agree_with_differences(row: Row) -> None:
    if not row.has_gradient:
        pytest.skip("a step has no gradient")
    layer, array = built(row), example(row)
    is_float = array.dtype.kind == "f"
    x = cr.Tensor(array, requires_grad=is_float)
    leaves = [*([x] if is_float else []), *layer.parameters()]
    weights = np.random.default_rng(1).normal(size=layer(x).shape)

    def objective() -> float:
        return float((layer(x).data * weights).sum())

    found = gradients((layer(x) * weights).sum(), leaves)
    for leaf, gradient in zip(leaves, found, strict=True):
        expected = np.empty(leaf.shape)
        for place in np.ndindex(leaf.shape):
            value = leaf.data[place]
            leaf.data[place] = value + STEP
            above = objective()
            leaf.data[place] = value - STEP
            below = objective()
            leaf.data[place] = value
            expected[place] = (above - below) / (2 * STEP)
        np.testing.assert_allclose(gradient.data, expected, rtol=1e-6, atol=1e-7)


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_kept(row: Row, dtype: str) -> None:
    layer, array = built(row, dtype), example(row)
    if array.dtype.kind == "f":
        array = array.astype(dtype)
    assert layer(array).dtype == dtype
    layer.train()
    assert layer(array).dtype == dtype


@every_layer
@pytest.mark.parametrize("n", [1, 3, 17])
def test_examples_of_a_batch_do_not_meet(row: Row, n: int) -> None:
    layer, array = built(row), example(row, n)
    together = layer(array).data
    assert len(together) == n
    if not row.mixes_examples:
        alone = np.concatenate([layer(array[i : i + 1]).data for i in range(n)])
        np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)


@every_layer
def test_the_state_makes_another_layer_the_same(row: Row) -> None:
    layer, other, array = built(row), built(row, seed=1), example(row)
    state = layer.state()
    other.load_state(state)
    np.testing.assert_array_equal(other(array).data, layer(array).data)
    for path, value in other.state().items():
        np.testing.assert_array_equal(value, state[path])


@every_layer
def test_the_summary_tells_the_shape_that_forward_gives(row: Row) -> None:
    layer, array = built(row), example(row)
    dtype = "int64" if array.dtype.kind == "i" else "float64"
    text = layer.summary(row.shape, dtype=dtype)
    shape = ", ".join(["n", *map(str, layer(array).shape[1:])])
    if not isinstance(layer, nn.Residual):  # its rows are those of its parts
        assert re.findall(r"\((n(?:, \d+)*)\)", text)[-1] == shape
    assert f"{layer.num_parameters():,} parameters" in text


@every_layer
def test_training_and_evaluation_are_told_to_all_inside(row: Row) -> None:
    layer = row.make()
    assert all(m.training for _, m in layer.named_modules())
    assert layer.eval() is layer
    assert not any(m.training for _, m in layer.named_modules())
    array = example(row)
    np.testing.assert_array_equal(layer(array).data, layer(array).data)
    assert layer.train().training


@every_layer
def test_first_values_follow_from_the_seed_alone(row: Row) -> None:
    first, again, other = (row.make().initialize(s).state() for s in (3, 3, 4))
    for path, value in first.items():
        np.testing.assert_array_equal(value, again[path])
        assert np.isfinite(value).all()
        if len(np.unique(value)) > 1 and path not in {"mean", "std", "fixed"}:
            assert (value != other[path]).any()


@every_layer
def test_layers_survive_pickle_and_deepcopy(row: Row) -> None:
    layer, array = built(row), example(row)
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        np.testing.assert_array_equal(twin(array).data, layer(array).data)
        assert [p for p, _ in twin.named_parameters()] == list(
            dict(layer.named_parameters())
        )
        assert not {*map(id, twin.parameters())} & {*map(id, layer.parameters())}
        twin.initialize(0)


def trained(row: Row, dtype: str, sizes: list[int], compiles: bool) -> Any:
    """Losses of some steps, then the state that they lead to."""
    layer = row.make().initialize(0).astype(dtype)
    chosen = optimizer("momentum", layer.named_parameters(), lr=0.05)

    def step(x: Any) -> Any:
        y = layer(x)
        loss = ((y - 0.3) ** 2).mean()
        if loss.requires_grad:
            loss.backward()
        chosen.step()
        chosen.zero_grad()
        return loss, y

    run = cr.compile(step) if compiles else step
    found = []
    for seed, n in enumerate(sizes):
        array = example(row, n, seed)
        array = array.astype(dtype) if array.dtype.kind == "f" else array
        found += [np.array(t.data) for t in run(cr.Tensor(array))]
    if compiles:
        assert run.report().through_compute == []
    return found + [np.array(v) for v in [*layer.state().values(),
                                          *chosen.state().values()]]  # fmt: skip


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_native_training_agrees_in_values_and_state(
    row: Row, dtype: str, agreement: Any
) -> None:
    sizes = [5, 3, 17, 1, 5]
    eager, exact = (trained(row, d, sizes, False) for d in (dtype, "float64"))
    agreement.close(trained(row, dtype, sizes, True), eager, exact)


@every_layer
def test_every_layer_is_documented(row: Row) -> None:
    documentation = vars(type(row.make())).get("__doc__") or ""
    first_line, *_ = documentation.split("\n\n")
    assert first_line.strip().endswith(".")
