"""Saliency, integrated gradients, occlusion and class activation maps."""

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DataError, IndexingError, OptionError, ShapeError
from chainrule.explanation.features import (
    Attribution,
    class_activation_map,
    integrated_gradients,
    occlusion,
    saliency,
)

SIDE = 4
TOP = 8  # of 256 pixels; the patch has 16, so chance finds half a pixel


def share_in_patch(found, corner):
    """How many of the top pixels lie in the patch, and whether the first one does."""
    order = np.argsort(-found.values.reshape(-1), kind="stable")[:TOP]
    rows, columns = np.divmod(order, found.values.shape[1])
    i, j = corner
    inside = (rows >= i) & (rows < i + SIDE) & (columns >= j) & (columns < j + SIDE)
    return inside.mean(), bool(inside[0])


METHODS = {
    "saliency": (lambda *a, **k: saliency(*a, **k), 0.7, 9),
    "SmoothGrad": (lambda *a, **k: saliency(*a, samples=16, **k), 0.7, 9),
    "integrated gradients": (
        lambda *a, **k: integrated_gradients(*a, baseline=60.0, **k), 0.95, 12,
    ),
    "occlusion": (lambda *a, **k: occlusion(*a, window=4, stride=1, **k), 0.8, 11),
    "class activation map": (lambda *a, **k: class_activation_map(*a, **k), 0.9, 11),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_planted_patch_that_decides_the_class_is_found(planted, name):
    method, least, least_first = METHODS[name]
    found = [
        share_in_patch(method(planted.model, picture, output=label), corner)
        for picture, label, corner in zip(
            planted.pictures, planted.labels, planted.corners, strict=True
        )
    ]
    shares, firsts = zip(*found, strict=True)
    assert np.mean(shares) >= least
    assert sum(firsts) >= least_first


# ------------------------------------------------------------------------- saliency


def smooth_net():
    net = nn.Sequential(
        conv=nn.Conv(2, 3, 3), tanh=nn.Tanh(), flatten=nn.Flatten(), out=nn.Dense(27, 4)
    )
    return net.initialize(1).astype("float64")


def test_saliency_is_the_largest_slope_of_a_pixels_channels():
    net, rng = smooth_net(), np.random.default_rng(0)
    picture, step = rng.normal(size=(5, 5, 2)), 1e-6
    numerical = np.zeros(picture.shape)
    for place in np.ndindex(picture.shape):
        moved = picture.copy()
        moved[place] += step
        up = net(moved[None]).data[0, 2]
        moved[place] -= 2 * step
        numerical[place] = (up - net(moved[None]).data[0, 2]) / (2 * step)
    found = saliency(net, picture, output=2)
    np.testing.assert_allclose(found.values, np.abs(numerical).max(-1), atol=1e-8)
    assert found.score == net(picture[None]).data[0, 2]
    assert not found.is_signed


def test_without_an_output_the_largest_one_is_explained(digits):
    picture = digits.pictures[0]
    largest = int(digits.model(picture[None].astype(np.float32)).data.argmax())
    assert saliency(digits.model, picture).target == f"output {largest}"


def test_smoothgrad_is_the_mean_of_gradients_at_noisy_copies():
    net = nn.mlp(2, (), 1)
    net.load_state({"output.weight": [[3.0], [-4.0]], "output.bias": [0.0]})
    found = saliency(net, [1.0, 2.0], samples=7)
    np.testing.assert_allclose(found.values, [3.0, 4.0], rtol=1e-6)
    # At the kink of a ReLU the gradient is 0, and 1 at about half of the copies.
    kinked = nn.Sequential(nn.ReLU(), nn.Dense(2, 1))
    kinked.load_state({"1.weight": [[1.0], [0.0]], "1.bias": [0.0]})
    assert saliency(kinked, [0.0, 1.0]).values[0] == 0.0
    smooth = saliency(kinked, [0.0, 1.0], samples=400).values[0]
    assert 0.4 < smooth < 0.6


def test_a_model_is_left_in_the_mode_that_it_was_in():
    net = nn.Sequential(nn.Dense(3, 3), nn.Dropout(0.5), nn.Dense(3, 1)).initialize(0)
    net.train()
    first = saliency(net, [1.0, 2.0, 3.0]).values
    np.testing.assert_array_equal(saliency(net, [1.0, 2.0, 3.0]).values, first)
    assert net[1].training
    assert all(p.grad is None for p in net.parameters())


# ------------------------------------------------------------- integrated gradients


@pytest.mark.parametrize("baseline", [0.0, 128.0, "other"])
def test_integrated_gradients_sum_to_the_output_difference_within_1_percent(
    digits, baseline
):
    for i in range(5):
        picture = digits.pictures[i]
        start = digits.pictures[i + 20] if baseline == "other" else baseline
        found = integrated_gradients(digits.model, picture, output=3, baseline=start)
        both = np.stack([picture, np.broadcast_to(start, picture.shape)])
        y = digits.model(both.astype(np.float32)).data[:, 3]
        difference = float(y[0]) - float(y[1])
        assert abs(found.values.sum() - difference) <= 0.01 * abs(difference)
        told = re.search(r"by (\S+) \(off by (\S+) %\)", found.note)
        assert float(told[1]) == pytest.approx(difference, rel=2e-3)
        assert float(told[2]) <= 1.0


def test_integrated_gradients_agree_with_a_fine_riemann_sum():
    net, rng = smooth_net(), np.random.default_rng(1)
    picture, start = rng.normal(size=(5, 5, 2)), rng.normal(size=(5, 5, 2))
    slope = cr.grad(lambda x: net(x)[0, 1])
    shares = (np.arange(2000) + 0.5) / 2000
    sums = sum(slope(start + t * (picture - start)[None]).data[0] for t in shares[::4])
    expected = (sums / 500 * (picture - start)).sum(axis=-1)
    found = integrated_gradients(net, picture, output=1, baseline=start)
    np.testing.assert_allclose(found.values, expected, atol=0.01 * abs(expected).max())


def test_a_kink_on_the_way_is_found_by_halving():
    net = nn.Sequential(nn.ReLU(), nn.Dense(1, 1)).astype("float64")
    net.load_state({"1.weight": [[8.0]], "1.bias": [0.0]})
    found = integrated_gradients(net, [1.0], baseline=-0.6180339)
    assert found.values[0] == pytest.approx(8.0, rel=0.01)


def test_ups_and_downs_that_all_but_cancel_are_followed():
    kinks, rng = np.linspace(0, 1, 201)[:-1], np.random.default_rng(0)
    first = rng.choice([-50.0, 50.0], 100)
    slopes = np.stack([first, -first], axis=1).reshape(
        -1
    )  # up and down, or down and up
    net = nn.Sequential(nn.Dense(1, 200), nn.ReLU(), nn.Dense(200, 1)).astype("float64")
    net.load_state(
        {
            "0.weight": np.ones((1, 200)),
            "0.bias": -kinks,
            "2.weight": np.diff(slopes, prepend=0.0)[:, None],
            "2.bias": [0.0],
        }
    )
    end = kinks[198] + 0.001
    difference = float(net(np.array([[end]])).data[0, 0])
    assert abs(difference) == pytest.approx(0.05), "of 50 up and down before"
    found = integrated_gradients(net, [end])
    assert found.values[0] == pytest.approx(difference, rel=0.01)


def test_an_input_like_the_baseline_gets_nothing(digits):
    found = integrated_gradients(digits.model, np.full((8, 8, 1), 7.0), baseline=7.0)
    assert not found.values.any()
    assert "no pixel has any influence on it" in str(found)


# ------------------------------------------------------------------------ occlusion


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (5, 5), (8, 8)])
def test_occlusion_is_the_mean_drop_of_the_squares_that_cover_a_pixel(
    digits, window, stride
):
    picture = digits.pictures[5].astype(np.float32)
    whole = digits.model(picture[None]).data[0, 4]
    last = 8 - window
    starts = sorted({*range(0, last, stride), last})
    drops = {}
    for i in starts:
        for j in starts:
            covered = picture.copy()
            covered[i : i + window, j : j + window] = 9.0
            drops[i, j] = whole - digits.model(covered[None]).data[0, 4]
    expected = np.zeros((8, 8))
    for r, c in np.ndindex(8, 8):
        expected[r, c] = np.mean(
            [
                drop
                for (i, j), drop in drops.items()
                if i <= r < i + window and j <= c < j + window
            ]
        )
    found = occlusion(
        digits.model, picture, output=4, window=window, stride=stride, fill=9.0
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-4)


def test_occlusion_hides_with_the_mean_of_each_channel_unless_told():
    net = nn.Sequential(nn.Flatten(), nn.Dense(8, 1))
    weight = np.arange(8.0)[:, None]
    net.load_state({"1.weight": weight, "1.bias": [0.0]})
    picture = np.arange(8.0).reshape(2, 2, 2) ** 2
    found = occlusion(net, picture, window=1)
    gaps = picture - picture.mean(axis=(0, 1))
    expected = (gaps * weight.reshape(2, 2, 2)).sum(axis=-1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)


# ------------------------------------------------------------ class activation maps


def outputs_of(model, path, picture):
    """What a layer puts out, by an observer of our own."""
    wanted, seen = dict(model.named_modules())[path], []
    with nn.observe(lambda module, y: seen.append(y) if module is wanted else None):
        model(picture[None].astype(np.float32))
    return seen[0].data[0].astype(np.float64)


def test_the_class_activation_map_is_that_of_zhou(digits):
    picture, k = digits.pictures[7], 2
    found = class_activation_map(digits.model, picture, output=k)
    images = outputs_of(digits.model, "network.last.activation", picture)
    weights = digits.model.network.output.weight.data[:, k]
    expected = images @ weights / (images.shape[0] * images.shape[1])
    large = cr.resize(cr.Tensor(expected[None, ..., None]), (8, 8), "bilinear").data
    np.testing.assert_allclose(found.values, large[0, ..., 0], atol=1e-5)
    bias = digits.model.network.output.bias.data[k]
    assert expected.sum() + bias == pytest.approx(found.score, rel=1e-5)
    assert found.method == "class activation map of network.last.activation"
    assert f"but for a bias of {bias:.3g}" in found.note


def test_grad_cam_weighs_channels_by_their_mean_gradient(digits):
    path, k = "network.stage1.activation", 6
    picture = digits.pictures[3]
    images = outputs_of(digits.model, path, picture)
    network = digits.model.network
    rest = list(network)[1:]

    def score(a):
        for layer in rest:
            a = layer(a)
        return a[0, k]

    slope = cr.grad(score)(images[None].astype(np.float32)).data[0]
    expected = images @ slope.mean(axis=(0, 1)).astype(np.float64)
    found = class_activation_map(digits.model, picture, output=k, layer=path)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert found.method == f"Grad-CAM of {path}"


# --------------------------------------------------------------------- what is said


def test_the_words_name_the_rows_and_columns_where_most_of_it_lies():
    values = np.zeros((10, 10))
    values[2:4, 5:8] = 3.0
    values[9, 0] = -0.5
    found = Attribution("trial", np.zeros((10, 10, 1)), values, "output 1", 2.5)
    assert found.decisive.sum() == 5, "15 of 18.5 are more than 80 %"
    assert found.box == (2, 3, 5, 7)
    assert str(found).splitlines() == [
        "trial: output 1 is 2.5",
        "80 % of the attribution lies on 5 % of the pixels, mainly in rows 2–3, "
        "columns 5–7",
        "3 % of the attribution speaks against it",
    ]
    assert found.marks[0] == (2, 5, "+")
    assert (9, 0, "−") in found.marks


def test_red_speaks_for_and_blue_against():
    values = np.array([[1.0, -0.5], [0.0, 0.0]])
    colours = Attribution("t", np.zeros((2, 2, 1)), values, "o", 0.0).coloured()
    assert colours[0, 0].tolist() == [178, 24, 43]
    assert colours[0, 1, 2] > colours[0, 1, 0]
    assert colours[1, 1].tolist() == [255, 255, 255]


def test_rows_of_numbers_are_told_by_their_places():
    found = Attribution("t", np.zeros(4), np.array([0.0, -2.0, 1.0, 0.1]), "o", 1.0)
    assert "most of it comes from number 1 (-2), number 2 (+1)" in str(found)
    (axes,) = found.figure().axes
    assert [bar.get_height() for bar in axes.patches] == [0.0, -2.0, 1.0, 0.1]


def test_an_attribution_is_drawn_beside_its_picture(digits, tmp_path):
    found = integrated_gradients(digits.model, digits.pictures[0])
    left, right = found.figure().axes
    assert (left.get_title(), right.get_title()) == ("input", "integrated gradients")
    assert {text.get_text() for text in right.texts} <= {"+", "−"}
    found.save(tmp_path / "found.svg")
    assert "<svg" in (tmp_path / "found.svg").read_text()


def test_a_dense_output_is_explained_at_one_of_its_pixels():
    net = nn.dncnn((8, 8, 1), 1, depth=3).initialize(0)
    picture = np.random.default_rng(0).normal(size=(8, 8, 1))
    found = saliency(net, picture, output=(4, 4, 0))
    assert found.target == "channel 0 at (4, 4)"
    seen = np.argwhere(found.values > 0)
    assert seen.min() >= 1
    assert seen.max() <= 7, "three 3×3 filters see 7×7"


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "method", [saliency, integrated_gradients, occlusion, class_activation_map]
)
@pytest.mark.parametrize("output", [10, -1, (1, 2), "3", 1.5])
def test_an_output_that_is_not_there_is_an_error_with_those_that_are(
    digits, method, output
):
    with pytest.raises(IndexingError, match="no such output") as caught:
        method(digits.model, digits.pictures[0], output=output)
    assert caught.value.expected == "0 to 9"


def test_a_pixel_that_is_not_there_is_an_error():
    net = nn.dncnn((8, 8, 1), 1, depth=3).initialize(0)
    with pytest.raises(IndexingError) as caught:
        saliency(net, np.zeros((8, 8, 1)), output=(8, 0, 0))
    assert caught.value.expected == "3 numbers: 0 to 7 and 0 to 7 and 0 to 0"


@pytest.mark.parametrize("example", [np.nan * np.ones((8, 8, 1)), [["a"]], [None]])
def test_an_example_that_is_no_finite_number_is_an_error(digits, example):
    with pytest.raises(DataError, match="not made of finite numbers"):
        saliency(digits.model, example)


def test_a_single_number_is_no_example(digits):
    with pytest.raises(ShapeError, match="a single number is no example"):
        integrated_gradients(digits.model, 3.0)


def test_an_example_of_another_shape_is_refused_by_the_layer_that_meets_it(digits):
    with pytest.raises(ShapeError, match="layer"):
        saliency(digits.model, np.zeros((8, 8, 3)))


@pytest.mark.parametrize("options", [{"samples": 0}, {"samples": 3, "noise": -1.0}])
def test_saliency_needs_copies_to_look_at(digits, options):
    with pytest.raises(OptionError, match="saliency: no copies to look at"):
        saliency(digits.model, digits.pictures[0], **options)


def test_a_baseline_has_to_fit(digits):
    with pytest.raises(ShapeError, match="the baseline does not fit"):
        integrated_gradients(digits.model, digits.pictures[0], baseline=np.zeros(3))


@pytest.mark.parametrize(
    ("window", "stride"), [(0, 1), (9, 1), (3, 4), (3, 0)]
)  # fmt: skip
def test_squares_have_to_cover_the_picture(digits, window, stride):
    with pytest.raises(OptionError, match="squares do not cover the picture"):
        occlusion(digits.model, digits.pictures[0], window=window, stride=stride)


def test_occlusion_is_for_pictures_and_its_fill_has_to_fit(digits):
    with pytest.raises(ShapeError, match="a square slides over pictures only"):
        occlusion(nn.mlp(4, (), 2), np.zeros(4))
    with pytest.raises(ShapeError, match="the fill does not fit"):
        occlusion(digits.model, digits.pictures[0], fill=np.zeros(3))


def test_class_activation_maps_need_images(digits):
    with pytest.raises(OptionError, match="no layer puts out images that were conv"):
        class_activation_map(nn.mlp((4, 4, 1), (3,), 2), np.zeros((4, 4, 1)))
    with pytest.raises(ShapeError, match=r"layer network.output puts out no images"):
        class_activation_map(digits.model, digits.pictures[0], layer="network.output")
    with pytest.raises(OptionError, match=r"no layer at 'network\.stage9'") as caught:
        class_activation_map(digits.model, digits.pictures[0], layer="network.stage9")
    assert "network.stage2" in caught.value.expected
    with pytest.raises(OptionError, match="puts out images itself"):
        class_activation_map(
            nn.dncnn((8, 8, 1), 1, depth=3), np.zeros((8, 8, 1)), output=(1, 1, 0)
        )
