"""Ready models: the papers' numbers, the sizes that they take, and that they learn."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import init
from chainrule.nn.zoo.wired import RandomGraph, small_world
from chainrule.optim import optimizer

RNG = np.random.default_rng(0)
IMAGE_MODELS = [name for name in nn.MODELS if name not in ("linear", "mlp")]


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of zeros, which take neither time nor memory."""
    monkeypatch.setattr(
        init, "_fill", lambda _, __, shape, dtype: np.zeros(shape, dtype)
    )


# ------------------------------------------------------------------------- numbers


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        (lambda: nn.vgg16(), (224, 224, 3), 138_357_544),
        (lambda: nn.resnet18((224, 224, 3), 1000), (224, 224, 3), 11_689_512),
        (lambda: nn.resnet20((32, 32, 3), 10), (32, 32, 3), 272_474),
        (lambda: nn.resnet32((32, 32, 3), 10), (32, 32, 3), 466_906),
        (lambda: nn.unet((64, 64, 1), 2), (64, 64, 1), 31_030_658),
        (lambda: nn.cnn((32, 32, 3), 10), (32, 32, 3), 242_474),
    ],
)
def test_models_have_the_parameters_that_are_stated(
    model: Any, shape: tuple[int, ...], parameters: int
) -> None:
    built = model()
    assert built.num_parameters() == parameters
    counts = nn.count(built, shape)
    assert counts.parameters == parameters
    assert str(counts).splitlines()[-1].split()[0] == f"{parameters:,}"


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize(
    ("model", "side", "parameters", "units", "connections"),
    [
        (nn.alexnet, 224, 61_100_840, 494_184, 714_188_480),
        (nn.alexnet_two_groups, 227, 60_965_224, 659_272, 724_406_816),
    ],
)
def test_alexnet_has_the_counts_of_one_tower_and_of_two(
    model: Any, side: int, parameters: int, units: int, connections: int
) -> None:
    net = model()
    counts = nn.count(net, (side, side, 3))
    found = (counts.parameters, counts.units, counts.connections)
    assert found == (parameters, units, connections)
    (last,) = [c for c in counts.layers if c.path == "classifier.hidden2"]
    assert last.shape == (4096,), "the feature that other tasks start from"


def test_lenet_has_the_papers_layers_but_for_c3_and_the_output() -> None:
    net = nn.lenet5((28, 28, 1), 10)
    own = {name: getattr(net, name).num_parameters() for name in net.names}
    assert {k: v for k, v in own.items() if v} == {
        "c1": 156, "s2": 12, "c3": 2_416, "s4": 32, "c5": 48_120, "f6": 10_164,
        "output": 850,
    }  # fmt: skip
    # The paper: 60,000, with 1,516 in C3 and none that are trained in the output.
    assert net.num_parameters() - 2_416 + 1_516 - 850 == 60_000
    shapes = {c.path: c.shape for c in nn.count(net, (28, 28, 1)).layers}
    assert [shapes[k] for k in ("c1", "s2.bias", "c3", "s4.bias")] == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)
    ]  # fmt: skip
    assert nn.output_shape(nn.lenet5((32, 32, 1)), (32, 32, 1)) == (10,)


@pytest.mark.usefixtures("without_drawing")
def test_the_random_network_of_the_papers_size_costs_what_the_paper_says() -> None:
    shape = (224, 224, 3)
    net = nn.random_wired(shape, 1000, channels=78, num_nodes=32)
    counts = nn.count(net, shape)
    assert counts.parameters == pytest.approx(5.6e6, rel=0.04)
    assert counts.connections == pytest.approx(583e6, rel=0.04)


@pytest.mark.usefixtures("without_drawing")
def test_unet_has_23_convolutions_as_the_paper_counts_them() -> None:
    paths = [p for p, _ in nn.unet((64, 64, 1), 2).named_parameters()]
    assert sum(p.endswith("weight") for p in paths) == 23


def test_counts_are_per_example_and_leave_the_model_alone() -> None:
    net = nn.Sequential(nn.Conv(1, 2, 3), nn.BatchNorm(2), nn.Flatten())
    before = net.state()
    counts = nn.count(net, (5, 5, 1))
    assert [(c.units, c.connections) for c in counts.layers] == [
        (2 * 9, 2 * 9 * 9), (0, 0), (0, 0)
    ]  # fmt: skip
    assert net.training
    assert net[1].training
    for path, value in net.state().items():
        np.testing.assert_array_equal(value, before[path])


def test_connections_of_every_kind_of_weighted_sum_are_counted() -> None:
    def connections(layer: nn.Module, shape: tuple[int, ...]) -> int:
        return nn.count(layer, shape).connections

    assert connections(nn.Dense(3, 5), (4, 3)) == 4 * 15
    assert connections(nn.Conv(4, 8, 3, groups=2), (5, 5, 4)) == 9 * 8 * 9 * 2
    # 2×2 pixels, each painting 4×4 taps of 3 channels from 4.
    assert connections(nn.ConvTranspose(4, 3, 4, stride=2), (2, 2, 4)) == 4 * 16 * 12
    assert connections(nn.Upsample(2, "bilinear"), (4, 4, 3)) == 0, "no weights"
    assert connections(nn.Maxout(4, 2, pieces=3), (4,)) == 24
    tied = nn.Dense(3, 3, bias=False)
    twice = nn.Sequential(tied, nn.Function(lambda x: x @ tied.weight.T))
    assert connections(twice, (3,)) == 18


def test_a_model_that_looks_at_values_is_counted_all_the_same() -> None:
    def doubled_if_large(x: Any) -> Any:
        return x * 2 if x.data.max() > 1 else x

    net = nn.Sequential(nn.Dense(3, 2), nn.Function(doubled_if_large), nn.Dense(2, 1))
    counts = nn.count(net, (3,))
    assert (counts.parameters, counts.units, counts.connections) == (11, 3, 8)


# ------------------------------------------------------------------------ behaviour


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 36, 3), (65, 64, 3)])
@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_models_take_pictures_of_many_sizes(name: str, shape: Any) -> None:
    smallest = {"lenet5": 12, "alexnet": 63}.get(name, 1)
    if min(shape) and min(shape[:2]) < smallest:
        with pytest.raises(ShapeError, match="the window is larger than the image"):
            nn.model_builder(name)(shape, 7)
        return
    net = nn.model_builder(name)(shape, 7)
    assert nn.output_shape(net, shape) == (7,)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_rows_of_numbers_are_no_pictures(name: str) -> None:
    for shape in ((64,), 64):
        with pytest.raises(ShapeError, match=r"needs pictures") as caught:
            nn.model_builder(name)(shape, 2)
        assert caught.value.hint == "use mlp or linear for rows of numbers"


SMALL: dict[str, Any] = {
    "cnn": lambda: nn.cnn((8, 8, 1), 2),
    "cnn with dropout": lambda: nn.cnn((8, 8, 1), 2, dropout=0.2, activation="gelu"),
    "lenet5": lambda: nn.lenet5((12, 12, 1), 2),
    "vgg": lambda: nn.vgg((8, 8, 1), 2, dropout=0.0),
    "resnet": lambda: nn.resnet((8, 8, 1), 2, widths=(4, 8), blocks=1),
    "random_wired": lambda: nn.random_wired((8, 8, 1), 2, channels=4, num_nodes=6),
    "unet": lambda: nn.unet_classifier((8, 8, 1), 2, width=2, depth=2),
}


@pytest.mark.parametrize("name", SMALL)
def test_models_learn_from_a_few_pictures_and_keep_what_they_learned(name: str) -> None:
    side = 12 if name == "lenet5" else 8
    x = RNG.normal(size=(32, side, side, 1)).astype(np.float32)
    y = np.arange(32) % 2
    x[y == 1, : side // 2] += 2.0  # brighter above
    net = SMALL[name]().initialize(0)
    chosen = optimizer("adam", net.named_parameters(), lr=0.005)
    losses = []
    for _ in range(25):
        loss = nn.softmax_cross_entropy(net(x), y)
        losses.append(loss.item())
        loss.backward()
        chosen.step()
        chosen.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    twin = SMALL[name]()
    twin.load_state(net.state())
    copied = pickle.loads(pickle.dumps(net)).eval()
    expected = net.eval()(x).data
    np.testing.assert_array_equal(twin.eval()(x).data, expected)
    np.testing.assert_array_equal(copied(x).data, expected)


def test_shortcuts_are_projected_only_where_the_shape_changes() -> None:
    net = nn.resnet((32, 32, 3), 10)
    projected = [name for name in net.names if name.startswith("block")
                 and getattr(net, name)["sum"].shortcut is not None]  # fmt: skip
    assert projected == ["block2_1", "block3_1"]
    convolutions = [m for _, m in net.named_modules() if isinstance(m, nn.Conv)]
    assert len(convolutions) == 1 + 3 * 2 * 2 + 2
    assert all(conv.bias is None for conv in convolutions)


def test_unet_gives_a_number_for_each_pixel_of_any_image() -> None:
    net = nn.unet((8, 8, 3), 2, width=2, depth=3).initialize(0)
    for h, w in ((8, 8), (1, 1), (13, 21)):
        x = RNG.normal(size=(2, h, w, 3)).astype(np.float32)
        assert net(x).shape == (2, h, w, 2)
    # A pixel is decided by itself: what is far away does not matter.
    x = np.zeros((1, 64, 64, 3), np.float32)
    changed = x.copy()
    changed[0, 0, 0] = 5.0
    difference = np.abs(net(x).data - net(changed).data).max(axis=(0, 3))
    assert difference[0, 0] > 0
    assert not difference[48:, 48:].any()


# --------------------------------------------------------------------------- wiring


def test_wiring_follows_from_its_seed_and_has_the_rings_number_of_edges() -> None:
    for num_nodes, neighbors in ((6, 2), (12, 4), (32, 4)):
        edges = small_world(num_nodes, num_neighbors=neighbors, seed=3)
        assert edges == small_world(num_nodes, num_neighbors=neighbors, seed=3)
        assert edges != small_world(num_nodes, num_neighbors=neighbors, seed=4)
        assert len(edges) == len(set(edges)) == num_nodes * neighbors // 2
        assert all(0 <= a < b < num_nodes for a, b in edges)
    ring = small_world(8, num_neighbors=4, rewired=0.0)
    assert {(a - b) % 8 for a, b in ring} <= {1, 2, 6, 7}
    with pytest.raises(OptionError, match="no such ring"):
        small_world(4, num_neighbors=4)


def test_a_graphs_output_is_the_mean_of_the_nodes_that_lead_nowhere() -> None:
    graph = RandomGraph(4, [(0, 2), (1, 2), (1, 3)], 3, 2).initialize(0).eval()
    x = cr.Tensor(RNG.normal(size=(2, 6, 5, 3)).astype(np.float32))
    cr.assign(graph.nodes[2].gates, [0.0, 100.0])  # shares 1/2 and 1
    a, b, c, d = graph.nodes
    y0, y1 = a(x), b(x)
    assert y0.shape == (2, 3, 3, 2), "what takes the graph's input halves it"
    expected = (c.norm(c.pointwise(c.depthwise(cr.relu(y0 / 2 + y1)))) + d(y1)) / 2
    np.testing.assert_allclose(graph(x).data, expected.data, rtol=1e-5, atol=1e-6)


def test_other_seeds_wire_other_networks() -> None:
    nets = [nn.random_wired((8, 8, 1), 2, channels=2, seed=s) for s in (0, 0, 1)]
    first, again, other = (net["graph1"].sources for net in nets)
    assert first == again
    assert first != other


# ------------------------------------------------------------- on larger images


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda: nn.lenet5((32, 32, 1), 4), (32, 32, 1)),
        (lambda: nn.cnn((16, 16, 3), 4, dropout=0.5), (16, 16, 3)),
        (lambda: nn.vgg((16, 16, 3), 4), (16, 16, 3)),
        (lambda: nn.alexnet((63, 63, 1), 4), (63, 63, 1)),
        (lambda: nn.linear((5, 4, 2), 4), (5, 4, 2)),
        (lambda: nn.mlp((5, 4, 2), (6, 3), 4, dropout=0.1), (5, 4, 2)),
    ],
)
@pytest.mark.usefixtures("without_drawing")
def test_on_its_own_size_a_sliding_classifier_is_the_classifier(
    model: Any, shape: tuple[int, ...]
) -> None:
    net = model()
    for parameter in net.parameters():
        values = 0.1 * RNG.standard_normal(parameter.shape, np.float32)
        cr.assign(parameter, values)
    sliding = nn.fully_convolutional(net, shape).eval()
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    y = sliding(x).data
    assert y.shape == (2, 1, 1, 4)
    np.testing.assert_allclose(y[:, 0, 0], net.eval()(x).data, rtol=1e-3, atol=1e-4)
    assert {*map(id, sliding.parameters())} == {*map(id, net.parameters())}


def test_without_padding_every_place_is_the_classifier_on_that_part() -> None:
    net = nn.lenet5((32, 32, 1), 3).initialize(0).eval()
    sliding = nn.fully_convolutional(net, (32, 32, 1))
    x = RNG.normal(size=(1, 44, 40, 1)).astype(np.float32)
    y = sliding(x).data
    assert y.shape == (1, 4, 3, 3)
    for i in range(4):
        for j in range(3):
            part = x[:, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32]
            np.testing.assert_allclose(y[:, i, j], net(part).data, rtol=1e-3, atol=1e-5)


def test_weights_are_shared_with_the_classifier_and_learn_through_it() -> None:
    net = nn.mlp((2, 2, 1), (3,), 2).initialize(0)
    sliding = nn.fully_convolutional(net, (2, 2, 1))
    sliding(RNG.normal(size=(1, 4, 4, 1)).astype(np.float32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    cr.assign(net["output"].bias, [7.0, 7.0])
    cr.assign(net["output"].weight, np.zeros((3, 2)))
    assert (sliding(np.zeros((1, 3, 3, 1), np.float32)).data == 7).all()


@pytest.mark.parametrize(
    "layer",
    [nn.AdaptiveMaxPool(2), nn.SpatialPyramidPool(), nn.Residual(nn.Flatten())],
)
def test_layers_made_for_one_size_cannot_slide(layer: nn.Module) -> None:
    with pytest.raises(OptionError, match="is made for one size of images"):
        nn.fully_convolutional(nn.Sequential(layer), (4, 4, 3))


def test_many_layers_are_told_in_blocks_with_the_same_totals() -> None:
    shape = (16, 16, 3)
    for net, length in (
        (nn.resnet32(shape, 10), 18),
        (nn.unet_classifier(shape, 10, width=2), 16),
        (nn.random_wired(shape, 10, channels=2), 14),
    ):
        whole = nn.count(net, shape)
        short = nn.count(net, shape, max_rows=30)
        assert len(short.layers) == length < 30 < len(whole.layers)
        for name in ("parameters", "units", "connections"):
            assert getattr(short, name) == getattr(whole, name)
        summary = net.summary(shape, max_rows=30)
        assert len(summary.splitlines()) == length + 3
        assert f"{net.num_parameters():,} parameters" in summary
    block = nn.count(nn.resnet32(shape, 10), shape, max_rows=30).layers[6]
    assert (block.path, block.layer, block.shape) == (
        "block2_1", "9 layers", (8, 8, 32)
    )  # fmt: skip
