"""Networks built by hand for a function, and what they are held against."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.behaviour import approximation, bumps, dense, tower, towers

BOX = ((0.0, 2.0), (-1.0, 1.0))


def wave(x: Any) -> Any:
    return np.sin(3 * x[:, 0]) + 2


def hills(x: Any) -> Any:
    return x[:, 0] * x[:, 1] + 1


def middles(num: int) -> Any:
    """The middles of the cells of BOX."""
    sides = [a + (b - a) * (np.arange(num) + 0.5) / num for a, b in BOX]
    return np.array(list(product(*sides)))


@pytest.mark.parametrize("build", [towers, bumps])
def test_a_built_network_has_the_functions_value_in_the_middle_of_each_cell(
    build: Any,
) -> None:
    x = -1 + 3 * (np.arange(7) + 0.5)[:, None] / 7
    np.testing.assert_allclose(
        build(wave, 7, [(-1.0, 2.0)])(x).data[:, 0], wave(x), rtol=1e-9
    )


@pytest.mark.parametrize("build", [towers, bumps])
def test_so_has_one_of_two_dimensions(build: Any) -> None:
    x = middles(5)
    found = build(hills, 5, BOX)(x).data[:, 0]
    np.testing.assert_allclose(found, hills(x), atol=1e-9)


def test_one_tower_of_two_dimensions_is_flat_inside_and_0_outside() -> None:
    heights = {4: 3.0}  # of the cell in the middle of nine

    def f(x: Any) -> Any:
        return np.array([heights.get(k, 0.0) for k in range(len(x))])

    for build in (towers, bumps):
        network = build(f, 3, BOX)
        inside = np.array([[0.75, -0.2], [1.2, 0.2], [1.0, 0.0]])
        outside = np.array([[0.5, 0.0], [1.0, 0.6], [0.2, -0.9], [1.6, 0.5]])
        np.testing.assert_allclose(network(inside).data, 3.0, atol=1e-9)
        np.testing.assert_allclose(network(outside).data, 0.0, atol=1e-9)


def test_units_are_those_of_the_lectures_constructions() -> None:
    def num_hidden(network: nn.Sequential) -> list[int]:
        return [m.out_features for m in network if isinstance(m, nn.Dense)][:-1]

    assert num_hidden(towers(wave, 6)) == [12], "two sigmoids each; a third adds them"
    assert num_hidden(bumps(wave, 6)) == [24], "four ReLUs each"
    assert num_hidden(towers(hills, 6, BOX)) == [14, 36]
    assert num_hidden(bumps(hills, 6, BOX)) == [48, 36]


def test_a_bump_rises_over_a_tenth_of_its_cell() -> None:
    network = bumps(lambda x: np.array([2.0]), 1)
    x = np.array([[0.0], [0.05], [0.1], [0.7], [1.0], [1.05], [1.1], [-0.5]])
    expected = [0, 1, 2, 2, 2, 1, 0, 0]
    np.testing.assert_allclose(network(x).data[:, 0], expected, atol=1e-12)


def test_a_towers_height_width_and_place_are_its_weights() -> None:
    x = np.linspace(-1, 3, 401)[:, None]
    inside = (x > 0.52) & (x < 1.98)
    outside = (x < 0.48) | (x > 2.02)
    found = tower(-1.5, 0.5, 2.0)(x).data
    np.testing.assert_allclose(found[inside], -1.5, atol=1e-6)
    np.testing.assert_allclose(found[outside], 0, atol=1e-6)


def test_errors_fall_with_units_and_equal_the_networks_own() -> None:
    found = approximation(wave, "bumps", (2, 8), num_steps=10)
    assert found.num_units == (8, 32)
    built = found.errors["bumps"]
    assert built[1] < built[0] / 2
    x = found.points
    network = bumps(wave, 8)
    assert built[1] == pytest.approx(abs(network(x).data[:, 0] - wave(x)).mean())


def test_the_nearest_neighbour_has_the_value_of_its_cell() -> None:
    found = approximation(wave, "towers", (4,), num_steps=2)
    cell = np.floor(found.points * 4) / 4 + 1 / 8
    expected = abs(wave(cell) - wave(found.points)).mean()
    assert found.errors["nearest neighbour"][0] == pytest.approx(expected)


def test_a_trained_network_comes_nearer_without_learning_bumps() -> None:
    found = approximation(wave, "bumps", (4, 8))
    assert found.errors["trained"][-1] < found.errors["bumps"][-1] / 2
    edges = np.arange(9) / 8
    inside = found.kinks[(found.kinks > 0) & (found.kinks < 1)]
    far = abs(inside[:, None] - edges).min(axis=1) > 0.01
    assert far.mean() > 0.5, "kinks are not at the cells' edges"
    assert "learns no bumps" in str(found)


@pytest.mark.parametrize("build", [towers, bumps])
def test_what_cannot_be_built_is_an_error(build: Any) -> None:
    with pytest.raises(OptionError, match="no cells"):
        build(wave, 0)
    with pytest.raises(OptionError, match="no cells"):
        build(wave, 2, [(0, 1)] * 3)
    with pytest.raises(OptionError, match="an empty box"):
        build(wave, 2, [(1.0, 1.0)])
    with pytest.raises(ShapeError, match="another number of values"):
        build(lambda x: x[:1], 4)


def test_other_constructions_slopes_and_weights_are_errors() -> None:
    with pytest.raises(OptionError, match="unknown construction 'hills'"):
        approximation(wave, "hills")
    with pytest.raises(OptionError, match="no network"):
        approximation(wave, "bumps", ())
    with pytest.raises(OptionError, match="approximation: no cells"):
        approximation(wave, "bumps", (2,), [(0, 1)] * 3)
    with pytest.raises(OptionError, match="approximation: an empty box"):
        approximation(wave, "bumps", (2,), [(1, 0)])
    with pytest.raises(OptionError, match="slopes of no use"):
        bumps(wave, 2, slope_width=0.0)
    with pytest.raises(OptionError, match="tower: no width"):
        tower(1.0, 0.5, 0.5)
    with pytest.raises(ShapeError, match="weights of a layer"):
        dense([1.0], 0.0)
