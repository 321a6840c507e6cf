"""Tiled pictures against whole ones: no seam, whatever the tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, ops
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import ReceptiveField, receptive_field
from chainrule.restoration import restore_in_tiles

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def grown_up(net: nn.Module) -> nn.Module:
    """The network with numbers drawn for all that training would have changed."""
    for parameter in net.parameters():
        if not parameter.numpy().any():
            parameter.data = RNG.normal(0, 0.1, parameter.shape).astype("float32")
    for _, module in net.named_modules():
        if isinstance(module, nn.BatchNorm):
            module.mean.data = RNG.normal(0, 0.1, module.features).astype("float32")
    return net.eval()


def run(net: nn.Module) -> Callable[[Array], Array]:
    return lambda x: net(cr.Tensor(x)).numpy()


def border_to_zeros(x: cr.Tensor) -> cr.Tensor:
    """What is cropped away is known, and yet later layers see zeros there."""
    return ops.pad(x[:, 3:-3, 3:-3], ((0, 0), (3, 3), (3, 3), (0, 0)))


LOCAL = {
    "dncnn": nn.dncnn((16, 16, 2), 1, width=8, depth=4),
    "unet": nn.unet((16, 16, 2), 1, width=4, depth=2, residual=True),
    "encoder_decoder": nn.encoder_decoder((16, 16, 2), 1, widths=(8, 8)),
    "bilinear": nn.Sequential(
        nn.Conv(2, 4, 5, padding=((2, 2), (3, 1))),
        nn.Function(
            lambda x: ops.resize(
                ops.resize(x, [2 * h for h in x.shape[1:3]], "bilinear"),
                x.shape[1:3], "bicubic", antialias=True,
            )
        ),
        nn.AveragePool(3, stride=1, padding=1, counts_padding=True),
    ),
    "cropped": nn.Sequential(
        nn.Conv(2, 4, 3, padding=1), nn.Function(border_to_zeros),
        nn.Conv(4, 1, 5, padding=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_a_tiled_picture_is_the_whole_one(name: str) -> None:
    forward = run(grown_up(LOCAL[name]))
    field = receptive_field(LOCAL[name], (16, 16, 2))
    assert field.is_local, field.obstacle
    least = max(field.size) + 2 * max(field.multiple) - 2

    @settings(max_examples=15)
    @given(
        st.integers(30, 110), st.integers(30, 110), st.integers(least, least + 30)
    )  # fmt: skip
    def agree(height: int, width: int, tile: int) -> None:
        picture = RNG.normal(size=(height, width, 2)).astype("float32")
        tiled = restore_in_tiles(forward, picture, field, tile=tile)
        np.testing.assert_allclose(tiled, forward(picture[None])[0], atol=2e-5)

    agree()


@pytest.mark.parametrize("name", ["dncnn", "unet"])
def test_a_megapixel_is_the_same_tiled_and_whole_in_native_code(name: str) -> None:
    net = grown_up(LOCAL[name])
    compiled = cr.compile(lambda x: net(x / 255.0))
    shapes = set()

    def forward(x: Array) -> Array:
        shapes.add(x.shape)
        return compiled(cr.Tensor(x)).numpy() * 255

    picture = RNG.uniform(0, 255, (1000, 1001, 2)).astype("float32")
    field = receptive_field(net, (16, 16, 2))
    whole = forward(picture[None])[0]
    shapes.clear()
    calls: list[tuple[int, int]] = []
    tiled = restore_in_tiles(
        forward, picture, field, tile=(300, 450), progress=lambda *n: calls.append(n)
    )
    assert len(shapes) == 1, "one size of tile is compiled once"
    assert calls[-1][0] == calls[-1][1] == len(calls) > 8
    assert np.abs(tiled - whole).max() < 0.01, "levels of 0 to 255"


def test_where_everything_is_looked_at_tiles_are_blended() -> None:
    field = ReceptiveField(obstacle="looks at all places")
    picture = RNG.uniform(0, 255, (61, 40, 3)).astype("float32")
    same = restore_in_tiles(lambda x: x, picture, field, tile=(28, 20))
    np.testing.assert_allclose(same, picture, rtol=1e-5)
    small = restore_in_tiles(lambda x: x[..., :1], picture[:9], field, tile=28)
    np.testing.assert_allclose(small, picture[:9, :, :1], rtol=1e-5)
    # Each tile with a level of its own: neighbouring pixels differ little all the same.
    levels = iter(range(1000))
    steps = restore_in_tiles(
        lambda x: np.full_like(x, next(levels) % 2), picture, field, tile=20
    )
    assert np.abs(np.diff(steps, axis=0)).max() < 0.2
    assert np.abs(np.diff(steps, axis=1)).max() < 0.2


def test_the_memory_of_a_tile_does_not_depend_on_the_picture() -> None:
    field = receptive_field(LOCAL["dncnn"], (16, 16, 2))
    largest = 0

    def forward(x: Array) -> Array:
        nonlocal largest
        largest = max(largest, x.size)
        return x[..., :1]

    picture = np.zeros((3000, 4000, 2), np.uint8)
    restored = restore_in_tiles(forward, picture, field)
    assert restored.shape == (3000, 4000, 1)
    assert largest <= 513**2 * 2


@pytest.mark.parametrize(
    ("field", "tile", "told"),
    [
        (ReceptiveField((9, 9), (9, 9), (1, 1), (4, 4)), 20, "no middle"),
        (ReceptiveField((1, 1), (1, 1), (2, 2), (2, 2)), 20, "another size"),
        (ReceptiveField(obstacle="of dense layers"), None, "of dense layers"),
        (ReceptiveField((1, 1), (1, 1), (1, 1), (1, 1)), (3, 0), "size of a tile"),
    ],
)
def test_tiles_that_cannot_be_are_refused(
    field: ReceptiveField, tile: Any, told: str
) -> None:
    with pytest.raises(OptionError) as raised:
        restore_in_tiles(lambda x: x, np.zeros((50, 50, 1)), field, tile=tile)
    assert told in str(raised.value)
    with pytest.raises(ShapeError, match="not a picture"):
        restore_in_tiles(lambda x: x, np.zeros((50, 50)), field, tile=tile)
