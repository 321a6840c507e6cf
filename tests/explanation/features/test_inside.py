"""What layers put out, weigh and owe; confusions; every picture can be drawn."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import IndexingError, OptionError, ShapeError
from chainrule.explanation import features
from chainrule.explanation.features import (
    activations,
    confusions,
    first_weights,
    look_inside,
)


def half_square(y):
    return 0.5 * (y**2).sum()


# ------------------------------------------------------------------------ look_inside


def test_gradients_of_every_layer_are_those_of_the_layers_that_follow():
    net = nn.mlp(3, (5, 4), 2, activation="tanh").initialize(2).astype("float64")
    x = np.array([0.5, -1.0, 2.0])
    found = look_inside(net, x, half_square, output=1)
    layers = list(net)
    names = [row.path for row in found.layers]
    assert names == list(net.names)
    for place, row in enumerate(found.layers):
        a = cr.Tensor(row.output[None], requires_grad=True)
        y = a
        for layer in layers[place + 1 :]:
            y = layer(y)
        loss = cr.grad(lambda a, rest=layers[place + 1 :]: half_square(run(rest, a)))(a)
        score = cr.grad(lambda a, rest=layers[place + 1 :]: run(rest, a)[0, 1])(a)
        np.testing.assert_allclose(row.loss_gradient, loss.data[0], atol=1e-12)
        np.testing.assert_allclose(row.output_gradient, score.data[0], atol=1e-12)
        assert row.gradient_norm == pytest.approx(np.linalg.norm(loss.data))
        expected = score.data[0] * row.output
        np.testing.assert_allclose(row.contributions, expected, atol=1e-12)
    assert found.score == pytest.approx(net(x[None]).data[0, 1])


def run(layers, a):
    for layer in layers:
        a = layer(a)
    return a


def test_channels_are_weighed_over_all_their_places(digits):
    found = look_inside(digits.model, digits.pictures[0], half_square, output=4)
    row = found.at("network.stage2.activation")
    product = row.output_gradient.astype(np.float64) * row.output
    np.testing.assert_allclose(row.contributions, product.sum(axis=(0, 1)))
    sizes = np.abs(row.contributions)
    assert sizes[row.units[0]] == sizes.max()
    assert sorted(row.units) == list(range(64))
    largest = np.abs(row.loss_gradient).max()
    assert abs(row.loss_gradient[row.largest_gradient]) == largest


def test_zeros_and_saturated_units_are_counted():
    weight = np.array([[30.0, 0.1, -30.0, 0.0]])
    for name, expected in (("sigmoid", 0.5), ("tanh", 0.5), ("relu", None)):
        net = nn.Sequential(nn.Dense(1, 4), nn.activation(name))
        net.load_state({"0.weight": weight, "0.bias": np.zeros(4)})
        row = look_inside(net, [1.0], half_square).at("1")
        assert row.saturated_share == expected
    assert row.zero_share == 0.5
    assert row.told().startswith("50 % zero, gradient 30")


def test_a_block_is_told_of_when_it_is_asked_for(digits):
    picture = digits.pictures[0]
    found = look_inside(digits.model, picture, half_square, layer="network.stage1")
    block, last = found.at("network.stage1"), found.at("network.stage1.activation")
    np.testing.assert_array_equal(block.output, last.output)
    assert "network.stage2" not in [row.path for row in found.layers]


def test_a_layer_that_is_not_there_or_does_not_run_is_an_error(digits):
    picture = digits.pictures[0]
    with pytest.raises(OptionError, match="no layer at 'stage1'"):
        look_inside(digits.model, picture, half_square, layer="stage1")
    with pytest.raises(OptionError, match="unknown layer 'x'"):
        look_inside(digits.model, picture, half_square).at("x")
    net = nn.Sequential(one=nn.Dense(2, 2))
    net.spare = nn.ReLU()
    with pytest.raises(OptionError, match="layer spare does not run"):
        look_inside(net, [1.0, 2.0], half_square, layer="spare")
    with pytest.raises(IndexingError, match="no such output"):
        look_inside(digits.model, picture, half_square, output=10)


# ------------------------------------------------------------------ weights and maps


def test_templates_say_which_are_alike_and_which_are_faint():
    net = nn.linear((2, 2, 1), 3)
    weight = np.array([[1.0, 2.0, 0.01], [0, 0, 0], [0, 0, 0.01], [-1.0, -2.0, 0]])
    net.load_state({"output.weight": weight, "output.bias": np.zeros(3)})
    found = first_weights(net, (2, 2, 1), ("cat", "dog", "owl"))
    assert str(found).splitlines() == [
        "3 units of 2×2×1 weights, from -2 to 2",
        "1 of them hardly look: below 5 % of the longest one",
        "most alike: cat and dog, cosine 1.00",
        "least alike: cat and owl, cosine 0.50",
    ]


def test_activations_of_one_layer_and_of_all(digits):
    picture = digits.pictures[0]
    found = activations(digits.model, picture)
    assert [a.path.removeprefix("network.") for a in found.layers] == [
        "stage1.activation", "stage2.activation", "last.activation"
    ]  # fmt: skip
    (one,) = activations(digits.model, picture, layer="network.stage1.conv").layers
    assert one.num_channels == 32
    assert len(one.channels) == len(one.maps) == 12
    assert one.zero_share < 0.5 < 1.01
    with pytest.raises(OptionError, match="no layer at"):
        activations(digits.model, picture, layer="stage")


# ------------------------------------------------------------------------ confusions


def test_confusions_name_the_pairs_and_show_their_pictures():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([0, 1, 1, 1, 2, 2, 2, 2, 1])
    pictures = np.arange(9)[:, None, None, None] * np.ones((9, 2, 2, 1))
    found = confusions(predicted, labels, ("a", "b", "c"), pictures)
    assert found.counts.tolist() == [[1, 2, 0], [0, 1, 1], [0, 1, 3]]
    assert str(found).splitlines() == [
        "5 of 9 examples right (55.56 %)",
        "  a taken for b: 2 times, 66.7 % of its class",
        "  b taken for c: 1 time, 50.0 % of its class",
        "  c taken for b: 1 time, 25.0 % of its class",
    ]
    first, shown = found.examples[0]
    assert (first.true, first.predicted, first.count) == (0, 1, 2)
    assert [int(picture[0, 0, 0]) for picture in shown] == [1, 2]


def test_scores_are_as_good_as_classes():
    scores = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert confusions(scores, [1, 0], ("a", "b")).counts.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("predicted", "labels", "names", "inputs"),
    [
        ([0, 1], [0], "ab", None),
        ([0, 2], [0, 1], "ab", None),
        ([0, 1], [0, 1], "ab", np.zeros((3, 2, 2, 1))),
    ],
)
def test_confusions_of_what_does_not_fit_are_an_error(predicted, labels, names, inputs):
    with pytest.raises(ShapeError, match="do not fit together"):
        confusions(predicted, labels, names, inputs)


# --------------------------------------------------------------------------- drawing


def everything(digits):
    model, pictures, test = digits.model, digits.pictures, digits.test
    labels = test.targets
    scores = model(pictures.astype(np.float32)).data
    yield "attribution", features.saliency(model, pictures[0])
    yield "templates", first_weights(model, (8, 8, 1))
    yield "activations", activations(model, pictures[0])
    yield "exciting", features.most_exciting(model, test, "network.pool1", 1)
    yield "inside", look_inside(model, pictures[0], half_square)
    yield "confusions", confusions(scores, labels, test.class_names, test)


def test_every_result_says_itself_and_draws_itself_as_valid_svg(digits, tmp_path):
    for name, found in everything(digits):
        assert len(str(found)) > 20
        found.save(tmp_path / f"{name}.svg")
        root = ET.parse(tmp_path / f"{name}.svg").getroot()
        assert root.tag.endswith("svg")
