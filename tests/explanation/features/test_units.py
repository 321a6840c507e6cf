"""What units answer to: parts of networks, exciting examples, inputs made for them."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn
from chainrule.errors import DataError, IndexingError, OptionError, ShapeError
from chainrule.explanation.features import (
    UpTo,
    answers,
    most_exciting,
    visualise,
)

# ---------------------------------------------------------------- parts of a network


@pytest.mark.parametrize(
    "path", ["standardize", "network.stage1", "network.pool1", "network.last.norm"]
)
def test_a_network_up_to_a_layer_puts_out_what_the_layer_does(digits, path):
    wanted, seen = dict(digits.model.named_modules())[path], []
    x = digits.pictures[:3].astype(np.float32)
    with nn.observe(lambda module, y: seen.append(y) if module is wanted else None):
        digits.model(x)
    np.testing.assert_array_equal(UpTo(digits.model, path)(x).data, seen[0].data)


def test_what_comes_after_the_layer_is_not_run():
    def fail(x):
        raise AssertionError("the second layer ran")

    net = nn.Sequential(first=nn.Dense(2, 2), second=nn.Function(fail))
    assert UpTo(net, "first")([[1.0, 2.0]]).shape == (1, 2)


def test_a_part_can_be_compiled_and_differentiated(digits):
    part = UpTo(digits.model, "network.stage2.activation")
    x = digits.pictures[:4].astype(np.float32)
    with cr.no_grad():
        np.testing.assert_allclose(
            cr.compile(part)(x).data, part(x).data, rtol=1e-4, atol=1e-5
        )
    slope = cr.grad(lambda x: part(x).sum())(x)
    assert slope.shape == x.shape
    assert slope.data.any()


def test_a_layer_that_is_not_there_or_does_not_run_is_an_error():
    net = nn.Sequential(one=nn.Dense(2, 2), two=nn.ReLU())
    with pytest.raises(OptionError, match="no layer at 'tow'") as caught:
        UpTo(net, "tow")
    assert caught.value.expected == "one of one, two"
    assert caught.value.hint == "did you mean 'two'?"
    net.spare = nn.ReLU()
    with pytest.raises(OptionError, match="layer spare does not run"):
        UpTo(net, "spare")([[1.0, 2.0]])
    with pytest.raises(OptionError, match="no layer at") as caught:
        UpTo(nn.ReLU(), "any")
    assert caught.value.expected == "a model that is made of layers"


# ----------------------------------------------------------------- exciting examples


def test_answers_are_the_largest_values_and_their_places(digits):
    path = "network.stage2.activation"
    found = answers(digits.model, digits.test, path)
    y = UpTo(digits.model, path)(digits.pictures.astype(np.float32)).data
    np.testing.assert_allclose(found.values, y.max(axis=(1, 2)), rtol=1e-5)
    rows = np.arange(len(y))
    for unit in (0, 17, 63):
        i, j = found.places[:, unit].T
        np.testing.assert_allclose(
            y[rows, i, j, unit], found.values[:, unit], rtol=1e-5
        )


def test_many_examples_are_answered_by_native_code_alike(digits):
    many = np.concatenate([digits.pictures] * 4)
    assert len(many) > 2 * 512
    path = "network.stage1.activation"
    few = answers(digits.model, digits.pictures, path)
    found = answers(digits.model, many, path)
    last = found.values[-len(few.values) :]
    np.testing.assert_allclose(last, few.values, rtol=1e-4, atol=1e-5)


def test_a_network_that_looks_at_values_is_asked_in_numpy_all_along():
    def halved(x):
        return x / 2 if x.data.max() > 0 else x

    net = nn.Sequential(part=nn.Function(halved))
    rows = np.random.default_rng(0).uniform(1, 2, size=(1300, 3)).astype(np.float32)
    np.testing.assert_array_equal(answers(net, rows, "part").values, rows / 2)


def test_the_most_exciting_examples_are_those_with_the_largest_answers(digits):
    path, unit = "network.last.activation", 5
    found = most_exciting(digits.model, digits.test, path, unit, count=4)
    column = answers(digits.model, digits.pictures, path).values[:, unit]
    assert found.indices == tuple(np.argsort(-column, kind="stable")[:4])
    assert found.values == tuple(sorted(found.values, reverse=True))
    assert found.share_active == pytest.approx((column > 0).mean())
    names = [digits.test.class_names[digits.test.targets[i]] for i in found.indices]
    assert list(found.names) == names
    for example, index in zip(found.examples, found.indices, strict=True):
        np.testing.assert_array_equal(example, digits.pictures[index])


def test_nothing_outside_the_cut_out_patch_moves_the_unit():
    net = nn.cnn((16, 16, 1), 3).initialize(0)
    pictures = np.random.default_rng(0).normal(size=(30, 16, 16, 1))
    found = most_exciting(net, pictures, "stage1.activation", 9, count=5)
    part = UpTo(net, "stage1.activation").eval()
    net.eval()
    places = answers(net, pictures, "stage1.activation").places
    for index, box, value in zip(found.indices, found.boxes, found.values, strict=True):
        top, bottom, left, right = box
        assert (bottom - top) * (right - left) <= 9
        other = np.full((16, 16, 1), 5.0)
        other[top:bottom, left:right] = pictures[index, top:bottom, left:right]
        i, j = places[index, 9]
        y = part(other[None].astype(np.float32)).data[0, i, j, 9]
        assert y == pytest.approx(value, rel=1e-5)
        other[(top + bottom) // 2, (left + right) // 2] += 1.0
        assert part(other[None].astype(np.float32)).data[0, i, j, 9] != y


def test_units_of_rows_have_no_places_and_no_patches():
    net = nn.mlp(3, (4,), 2).initialize(0)
    rows = np.random.default_rng(0).normal(size=(20, 3))
    found = most_exciting(net, rows, "activation1", 2, count=3)
    assert found.boxes == (None, None, None)
    assert all(patch.shape == (3,) for patch in found.patches)
    assert found.names == ()


def test_exciting_examples_say_where_they_excite(digits, tmp_path):
    found = most_exciting(digits.model, digits.test, "network.stage1", 0, count=2)
    first, second, third = str(found).splitlines()
    share = 100 * found.share_active
    assert first == f"network.stage1, unit 0: above 0 for {share:.0f} % of the examples"
    top, bottom, left, right = found.boxes[0]
    assert f"rows {top}–{bottom - 1}, columns {left}–{right - 1}" in second
    assert f"for example {found.indices[1]} ({found.names[1]})" in third
    found.save(tmp_path / "found.png")
    assert len(found.figure().axes) == 2


def test_asking_for_what_is_not_there_is_an_error(digits):
    with pytest.raises(IndexingError, match=r"network\.stage1 has no such unit") as e:
        most_exciting(digits.model, digits.test, "network.stage1", 32)
    assert e.value.expected == "0 to 31"
    with pytest.raises(OptionError, match="no examples asked for"):
        most_exciting(digits.model, digits.test, "network.stage1", 0, count=0)
    with pytest.raises(DataError, match="no examples to show"):
        answers(digits.model, digits.pictures[:0], "network.stage1")


# -------------------------------------------------------------- pictures made for units


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("path", ["network.output", "network.stage2.activation"])
def test_pictures_in_the_training_range_drive_10_units_beyond_every_example(
    digits, path, seed
):
    everything = data.load(seed=0)
    pictures = np.concatenate(
        [part.read(np.arange(len(part))) for _, part in everything.items()]
    )
    found = visualise(
        digits.model, path, (8, 8, 1), range(10),
        neutral=pictures.mean(axis=0), examples=pictures, seed=seed,
    )  # fmt: skip
    assert found.pictures.min() >= 0
    assert found.pictures.max() <= 255
    y = UpTo(digits.model, path)(found.pictures).data
    every = UpTo(digits.model, path)(pictures.astype(np.float32)).data
    for unit in range(10):
        at = (4 // 2, 4 // 2) if y.ndim == 4 else ()
        own = y[(unit, *at, unit)]
        best = every[..., unit].max()
        assert own > best, f"unit {unit}"
        assert found.values[unit] == pytest.approx(own, rel=1e-4)
        assert found.best[unit] == pytest.approx(best, rel=1e-4)
    assert found.num_beyond == 10


def test_a_linear_unit_is_driven_near_the_largest_value_that_it_can_have():
    net = nn.mlp(6, (), 1)
    weight = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.25])
    net.load_state({"output.weight": weight[:, None], "output.bias": [0.0]})
    found = visualise(net, "output", (6,), low=-1.0, high=1.0, steps=400)
    largest = np.abs(weight).sum()
    assert 0.8 * largest < found.values[0] <= largest
    np.testing.assert_array_equal(np.sign(found.pictures[0]), np.sign(weight))


def test_a_unit_that_is_dead_for_every_start_is_climbed_through_its_relu():
    net = nn.Sequential(
        flatten=nn.Flatten(), dense=nn.Dense(64, 2), relu=nn.ReLU()
    ).astype("float64")
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=64)
    largest = (signs > 0).sum()  # white where it is 1, black where it is -1
    weight = np.stack([signs, signs], axis=1) / 255
    bias = [-0.75 * largest, -1.05 * largest]
    net.load_state({"dense.weight": weight, "dense.bias": bias})
    assert not net(rng.uniform(0, 255, size=(1000, 8, 8, 1))).data.any()
    found = visualise(net, "relu", (8, 8, 1))
    assert found.values[0] > 0.1 * largest
    assert found.values[1] == 0.0, "no picture in the range wakes the second one"
    assert "unit 1: 0; nothing that was tried wakes it" in str(found)


def test_what_no_unit_asks_for_fades_to_the_neutral_level():
    net = nn.Sequential(flatten=nn.Flatten(), dense=nn.Dense(256, 1))
    weight = np.zeros((16, 16))
    weight[:4, :4] = 0.1
    net.load_state({"dense.weight": weight.reshape(256, 1), "dense.bias": [0.0]})
    for seed in range(2):
        found = visualise(net, "dense", (16, 16, 1), neutral=20.0, steps=300, seed=seed)
        asked, rest = found.pictures[0, :4, :4], found.pictures[0, 8:, 8:]
        assert asked.mean() > 200
        assert np.abs(rest - 20.0).max() < 20


def test_the_same_seed_makes_the_same_pictures_and_another_one_others(digits):
    both = [
        visualise(digits.model, "network.output", (8, 8, 1), [3], steps=8, seed=seed)
        for seed in (4, 4, 5)
    ]
    np.testing.assert_array_equal(both[0].pictures, both[1].pictures)
    assert (both[0].pictures != both[2].pictures).any()


def test_channels_may_have_ranges_of_their_own():
    net = nn.Sequential(nn.Conv(2, 3, 3), nn.ReLU()).initialize(0)
    found = visualise(net, "1", (6, 9, 2), low=[0.0, -1.0], high=[255.0, 1.0], steps=8)
    assert found.pictures.shape == (3, 6, 9, 2)
    assert found.pictures[..., 1].min() >= -1
    assert found.pictures[..., 1].max() <= 1
    assert found.boxes[0] == (2, 5, 3, 6), "what the unit in the middle can see"
    assert found.patches[0].shape == (3, 3, 2)


def test_light_and_dark_come_easier_than_colours():
    net = nn.Sequential(flatten=nn.Flatten(), dense=nn.Dense(192, 1)).initialize(0)
    made = visualise(net, "dense", (8, 8, 3), steps=64).pictures[0]
    weight = net.dense.weight.data.reshape(8, 8, 3)

    def share_of_colour(x):
        grey = x.mean(axis=-1, keepdims=True)
        return (x - grey).var() / grey.var()

    assert share_of_colour(weight) > 1.0
    assert share_of_colour(made) < 0.5


def test_units_are_climbed_one_without_the_other(digits):
    alone = visualise(digits.model, "network.output", (8, 8, 1), [7], steps=16)
    among = visualise(digits.model, "network.output", (8, 8, 1), [2, 7], steps=16)
    np.testing.assert_allclose(alone.pictures[0], among.pictures[1], atol=0.5)


def test_made_pictures_are_told_and_drawn_beside_the_best_examples(digits, tmp_path):
    found = visualise(
        digits.model, "network.output", (8, 8, 1), [1, 2],
        examples=digits.test, names=("one", "two"),
    )  # fmt: skip
    head, first, _ = str(found).splitlines()
    assert head.startswith("network.output: inputs made for 2 units, levels from 0 to")
    assert first.startswith(f"  unit 1 (one): {found.values[0]:.4g}, more than for")
    found.save(tmp_path / "found.svg")
    titles = [axes.get_title(loc="left") for axes in found.figure().axes]
    assert titles[1].startswith("two\n")


def test_climbing_needs_a_range_steps_and_what_fits(digits):
    common = (digits.model, "network.output", (8, 8, 1))
    for options in ({"low": 1.0, "high": 1.0}, {"steps": 0}):
        with pytest.raises(OptionError, match="visualise: nothing to climb"):
            visualise(*common, **options)
    for name in ("neutral", "low", "high"):
        with pytest.raises(ShapeError, match=f"visualise: {name} does not fit"):
            visualise(*common, **{name: np.ones(3) * 300})
        with pytest.raises(DataError, match=f"visualise: {name} is not made of finite"):
            visualise(*common, **{name: np.inf})
    with pytest.raises(IndexingError, match="has no such unit"):
        visualise(*common, [10])
    with pytest.raises(OptionError, match="no layer at"):
        visualise(digits.model, "output", (8, 8, 1))
