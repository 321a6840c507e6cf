"""What networks look at, against where the gradients of their outputs are."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, ops
from chainrule.nn import receptive_field

SIDE = 48


def support(net: nn.Module, size: int, place: int) -> tuple[int, int]:
    """The first and last column that a column of the output depends on.

    Of columns that rise a maximum picks the last, of columns that fall the first.
    """
    depends = np.zeros(size, bool)
    rising = np.linspace(1, 2, size, dtype=np.float32)
    for columns in (rising, rising[::-1]):
        pictures = np.broadcast_to(columns[:, None], (1, size, size, 1))
        x = cr.Tensor(pictures, requires_grad=True)
        net(x)[:, :, place].sum().backward()
        assert x.grad is not None
        depends |= x.grad.numpy()[0].any(axis=(0, 2))
    (found,) = np.nonzero(depends)
    return int(found[0]), int(found[-1])


def positive(net: nn.Module) -> nn.Module:
    """The network with weights of which nothing cancels out."""
    for parameter in net.parameters():
        parameter.data = np.full(parameter.shape, 0.1, np.float32)
    return net.eval()


@st.composite
def layers(draw: Any) -> nn.Module:
    """A layer from one channel to one channel whose windows are drawn."""
    kind = draw(st.sampled_from(["conv", "pool", "transposed", "resize", "shuffle"]))
    stride = draw(st.integers(1, 3))
    if kind == "conv":
        size, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        padding = [(draw(st.integers(0, 3)), draw(st.integers(0, 3)))] * 2
        return nn.Conv(1, 1, size, stride=stride, dilation=dilation, padding=padding)
    if kind == "pool":
        return nn.AveragePool(stride + draw(st.integers(0, 1)), stride=stride)
    if kind == "transposed":
        size = stride + draw(st.integers(0, 3))
        padding = draw(st.integers(0, 1))
        return nn.ConvTranspose(1, 1, size, stride=stride, padding=padding)
    if kind == "shuffle":
        return nn.Sequential(
            nn.Conv(1, stride**2, 1),
            nn.Function(lambda x: ops.pixel_shuffle(x, stride)),
        )
    mode = draw(st.sampled_from(["nearest", "bilinear"]))
    return nn.Function(
        lambda x: ops.resize(x, [stride * h for h in x.shape[1:-1]], mode)
    )


@settings(max_examples=40)
@given(st.lists(layers(), min_size=1, max_size=4))
def test_no_gradient_leaves_the_field(drawn: list[nn.Module]) -> None:
    net = positive(nn.Sequential(*drawn))
    field = receptive_field(net, (SIDE, SIDE, 1))
    assert field.is_local, field.obstacle
    width = nn.output_shape(net, (SIDE, SIDE, 1))[1]
    for place in range(width // 2, min(width, width // 2 + 3)):
        first, last = support(net, SIDE, place)
        assert field.stride[1] * place - field.before[1] <= first
        assert last <= field.stride[1] * place + field.after[1]


@pytest.mark.parametrize(
    ("net", "multiple"),
    [
        (nn.dncnn((32, 32, 1), 1, width=4, depth=9), 1),
        (nn.unet((32, 32, 1), 1, width=2, depth=1), 2),
        (nn.unet((32, 32, 1), 1, width=2, depth=2, residual=True), 4),
        (nn.encoder_decoder((32, 32, 1), 1, widths=(4, 4)), 4),
        (nn.Conv(1, 1, (3, 5), stride=3, dilation=2, padding=((1, 2), (0, 4))), 3),
    ],
)
def test_fields_of_the_models_are_exactly_as_wide_as_their_gradients(
    net: nn.Module, multiple: int
) -> None:
    field = receptive_field(net, (32, 32, 1))
    assert field.multiple == (multiple, multiple)
    positive(net)
    stride = field.stride[1]
    side = 4 * field.size[1] // multiple * multiple
    middle = side // 2 // multiple * multiple
    places = [(middle + r) // stride for r in range(multiple)]
    ends = [(stride * p, *support(net, side, p)) for p in places]
    assert field.before[1] == max(here - first for here, first, _ in ends)
    assert field.after[1] == max(last - here for here, _, last in ends)


def test_strides_are_told_as_input_pixels_from_one_output_to_the_next() -> None:
    net = nn.Sequential(
        nn.Conv(1, 2, 3, stride=2, padding=1), nn.MaxPool(2), nn.ReLU(),
        nn.ConvTranspose(2, 1, 3, stride=3),
    )  # fmt: skip
    field = receptive_field(net, (24, 24, 1))
    assert field.stride == (Fraction(4, 3),) * 2
    assert field.multiple == (4, 4)
    assert str(field).endswith("every 4/3×4/3 in a grid of 4×4")


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (nn.image_mlp((16, 16, 1), 1), "writes the picture as one row"),
        (nn.cnn((16, 16, 1), 3), "looks at all places"),
        (nn.MeanVarianceNorm(), "looks at all places"),
        (nn.Function(lambda x: x - x.mean(axis=(1, 2), keepdims=True)), "all places"),
        (nn.Function(lambda x: x[:, ::-1]), "turns the picture around"),
        (nn.Function(lambda x: x * np.arange(16.0)[:, None]), "other numbers"),
        (nn.Function(lambda x: ops.softmax(x, axis=2)), "looks at all places"),
        (nn.Function(lambda x: ops.resize(x, 8, "area")), "the picture's size"),
        (nn.Function(lambda x: x + x[:, :, :1]), "repeats what was seen"),
        (nn.Function(lambda x: ops.cumsum(x, axis=1)), "looks at all places"),
    ],
)  # fmt: skip
def test_what_looks_at_the_whole_picture_is_named(net: nn.Module, told: str) -> None:
    field = receptive_field(net, (16, 16, 1))
    assert not field.is_local
    assert told in str(field)


def test_the_network_trains_on_as_before() -> None:
    net = nn.dncnn((8, 8, 1), 1, width=2, depth=3)
    before = net.state()
    receptive_field(net, (8, 8, 1))
    assert net.training
    for path, value in net.state().items():
        np.testing.assert_array_equal(value, before[path])
