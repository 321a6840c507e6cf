"""Models from pictures to pictures: their sizes, their start, and that they compile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.optim import optimizer

RNG = np.random.default_rng(0)
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (30,)},
    "encoder_decoder": {"widths": (8, 16)},
    "unet": {"width": 8, "depth": 2},
    "dncnn": {"width": 8, "depth": 4},
}


def test_the_four_layer_networks_of_the_lectures_have_their_parameters() -> None:
    assert nn.image_mlp((28, 28, 1), 1).num_parameters() == 784 * 256 * 2 + 256 + 784
    convolutional = nn.encoder_decoder((28, 28, 1), 1)
    weights = 9 * 1 * 32 + 9 * 32 * 64 + 16 * 64 * 32 + 16 * 32 * 1
    assert convolutional.num_parameters() == weights + 32 + 64 + 32 + 1


def test_dncnn_at_the_papers_size_has_17_layers_of_64_filters() -> None:
    net = nn.dncnn((40, 40, 1), 1, width=64, depth=17)
    shapes = [p.shape for _, p in net.named_parameters() if len(p.shape) == 4]
    assert shapes == [(3, 3, 1, 64), *[(3, 3, 64, 64)] * 15, (3, 3, 64, 1)]
    assert nn.receptive_field(net, (40, 40, 1)).size == (35, 35), "2·17 + 1"


@pytest.mark.parametrize("name", nn.IMAGE_MODELS)
def test_every_model_puts_out_numbers_for_each_pixel(name: str) -> None:
    shape = (13, 22, 4)
    net = nn.image_model_builder(name)(shape, 3, **SMALL[name])
    assert nn.output_shape(net, shape) == (13, 22, 3)
    if name != "mlp":
        assert nn.output_shape(net, (30, 7, 4)) == (30, 7, 3)
    with pytest.raises(ShapeError, match="needs pictures"):
        nn.image_model_builder(name)((784,), 1)


@pytest.mark.parametrize(
    "net", [nn.dncnn((8, 8, 3), 2), nn.unet((8, 8, 3), 2, width=4, residual=True)]
)
def test_what_corrects_a_picture_starts_by_leaving_it_alone(net: nn.Module) -> None:
    pictures = RNG.normal(size=(2, 9, 8, 3)).astype("float32")
    np.testing.assert_array_equal(net(cr.Tensor(pictures)).numpy(), pictures[..., :2])


@pytest.mark.parametrize("name", nn.IMAGE_MODELS)
def test_every_model_learns_as_native_code_alone(name: str) -> None:
    """Half of the pixels are lost; which, a mask beside the picture says."""
    shape = (14, 11, 2)
    net = nn.image_model_builder(name)(shape, 1, **SMALL[name])
    rows = np.linspace(0, 3, 14)[:, None] + RNG.uniform(0, 3, (64, 1, 11))
    pictures = np.sin(rows)[..., None].astype("float32")
    lost = (RNG.uniform(size=pictures.shape) < 0.5).astype("float32")
    inputs = np.concatenate([pictures * (1 - lost), lost], axis=-1)
    chosen = optimizer("adam", net.named_parameters(), lr=0.01)

    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        loss = nn.squared_error(net(x), y)
        loss.backward()
        chosen.step()
        chosen.zero_grad()
        return loss

    compiled = cr.compile(step)
    losses = [compiled(cr.Tensor(inputs), cr.Tensor(pictures)) for _ in range(60)]
    assert compiled.report().through_compute == []
    assert losses[-1].item() < 0.5 * losses[0].item()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: nn.dncnn((8, 8, 1), 3), "more outputs than channels"),
        (lambda: nn.unet((8, 8, 1), 3, residual=True), "more outputs than channels"),
        (lambda: nn.dncnn((8, 8, 1), 1, depth=1), "too few layers"),
        (lambda: nn.encoder_decoder((8, 8, 1), 1, widths=()), "no layers"),
        (lambda: nn.image_model_builder("unett"), "did you mean 'unet'"),
    ],
)
def test_what_is_no_network_is_refused(make: Any, told: str) -> None:
    with pytest.raises(OptionError) as raised:
        make()
    assert told in str(raised.value)


def test_zeros_behind_a_picture_do_not_change_what_is_far_from_them() -> None:
    net = nn.unet((16, 16, 1), 1, width=4, depth=2).eval()
    picture = RNG.normal(size=(1, 96, 96, 1)).astype("float32")
    whole = net(cr.Tensor(picture)).numpy()
    cut = net(cr.Tensor(picture[:, :90, :93])).numpy()
    after = nn.receptive_field(net, (16, 16, 1)).after[0]
    np.testing.assert_allclose(
        cut[:, : 90 - after, : 93 - after],
        whole[:, : 90 - after, : 93 - after],
        atol=1e-5,
    )
