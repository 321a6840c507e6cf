"""The gradient check: it accepts what is right, locates what is wrong, knows kinks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.autodiff import check_gradients, grad
from chainrule.core.gate import Gate
from chainrule.errors import DtypeError, GradientError, NonFiniteError

RNG = np.random.default_rng(0)


class CubeGate(Gate):
    """x³, whose backward is off by the factor given."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: Any) -> Any:
        self.x = x
        return x * x * x

    def backward(self, dy: Any) -> Any:
        return dy * self.x * self.x * (3 * self.factor)


class Model:
    """A model as the check knows it: parameters and buffers by path."""

    def __init__(self) -> None:
        self.w = cr.Parameter(RNG.normal(size=(4, 3)).astype(np.float32))
        self.b = cr.Parameter(np.zeros(3, np.float32))
        self.step = cr.Buffer(0)
        self.gate: Any = cr.tanh

    def named_parameters(self) -> Any:
        return [("layer.weight", self.w), ("layer.bias", self.b)]

    def named_buffers(self) -> Any:
        return [("step", self.step)]

    def __call__(self, x: Any) -> Any:
        cr.assign(self.step, self.step.data + 1)
        mask = cr.dropout_mask(x, cr.Tensor([1, 2]), self.step, 0.5)
        return self.gate((x * mask) @ self.w + self.b)


def squared(prediction: Any, target: Any) -> Any:
    return ((prediction - target) ** 2).mean()


def test_right_gradients_pass_and_the_report_lists_every_input() -> None:
    x, w, b = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 3)), RNG.normal(size=3)
    report = check_gradients(lambda x, w, b: cr.softmax(cr.tanh(x @ w + b)), x, w, b)
    assert report.passed
    assert [c.name for c in report.comparisons] == ["x", "w", "b"]
    assert [len(c.probes) for c in report.comparisons] == [20 + 3, 12 + 3, 3 + 3]
    assert max(c.max_error for c in report.comparisons) < 1e-6
    assert str(report).splitlines()[1].split() == [
        *("x", "float64[5,", "4]", "23", "0"),
        f"{report.comparisons[0].max_error:.1e}",
        "ok",
    ]


@pytest.mark.parametrize("factor", [2.0, -1.0, 1.001, 0.0])
def test_a_wrong_backward_is_caught_and_its_op_named_with_its_formula(
    factor: float,
) -> None:
    gate = CubeGate(factor)

    def f(x: Any, w: Any) -> Any:
        h = x @ w
        h.name = "h"
        return cr.sigmoid(gate(h)).mean()

    x, w = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 3))
    with pytest.raises(GradientError) as caught:
        check_gradients(f, x, w)
    assert caught.value.what == "check_gradients: wrong gradient in CubeGate"
    assert "= CubeGate(h), by h: backward" in caught.value.got
    report = check_gradients(f, x, w, raise_error=False)
    assert not report.passed
    assert [c.name for c in report.wrong] == ["x", "w"]
    assert {fault.op for fault in report.faults} == {"CubeGate"}
    assert "at fault: CubeGate" in str(report)


def test_an_error_in_a_single_entry_is_caught() -> None:
    class OffByOne(Gate):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dy: Any) -> Any:
            slopes = np.full(dy.shape, 2.0)
            slopes[-1, -1] = 2.02
            return dy.data * slopes

    with pytest.raises(GradientError, match="wrong gradient in OffByOne"):
        check_gradients(lambda x: OffByOne()(x).sum(), RNG.normal(size=(20, 30)))


def test_a_model_is_checked_by_parameter_and_left_exactly_as_it_was() -> None:
    model = Model()
    arrays = model.w.data, model.step.data
    before = model.w.numpy()
    x, y = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=(6, 3))
    report = check_gradients(model, x, y, loss=squared)
    names = [c.name for c in report.comparisons]
    assert names[-2:] == ["layer.weight", "layer.bias"]
    assert all(c.spec.dtype == np.float64 for c in report.comparisons)
    assert model.w.data is arrays[0]
    assert model.step.data is arrays[1]
    assert np.array_equal(model.w.data, before)
    assert model.step.item() == 0
    assert model.w.grad is None
    assert model.w.name is None


def test_a_fault_inside_a_model_is_located_by_path() -> None:
    model = Model()
    model.gate = CubeGate(1.5)
    x, y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 3))
    with pytest.raises(GradientError, match="wrong gradient in CubeGate"):
        check_gradients(model, x, y, loss=squared)
    assert model.w.dtype == np.float32, "also put back when the check fails"


def test_parameters_that_a_plain_function_reads_are_checked_too() -> None:
    w = cr.Parameter([2.0, 3.0], name="w")
    report = check_gradients(lambda x: (w * x).sum(), np.ones(2))
    assert [c.name for c in report.comparisons] == ["x", "w"]
    assert w.dtype == np.float32


@pytest.mark.parametrize(
    "f",
    [
        cr.relu,
        abs,
        cr.floor,
        lambda x: cr.leaky_relu(x, 0.1),
        lambda x: cr.clip(x, 0.0, 1.0),
        lambda x: cr.maximum(x, 0.0),
        lambda x: cr.max(x),
        lambda x: cr.relu(x) * cr.relu(-x + 1.0),
    ],
)
def test_any_slope_between_left_and_right_is_accepted_at_a_kink(f: Any) -> None:
    assert check_gradients(f, np.array([0.0, 1.0, 1.0, -1.0, 0.0])).passed


def test_the_report_counts_the_kinks_that_it_met() -> None:
    report = check_gradients(cr.relu, np.array([0.0, 1.0, -1.0, 0.0]), num_directions=0)
    assert report.comparisons[0].num_kinks == 2


def test_kinks_that_cancel_are_recognised_by_stepping_off_them() -> None:
    # relu takes slope 0 at 0 and maximum takes 1/2, so backward says -1/2 of a zero.
    report = check_gradients(
        lambda x: cr.relu(x) - cr.maximum(x, 0.0), np.array([0.0, 1.0, -1.0])
    )
    assert report.passed
    assert report.is_only_at_kinks
    assert str(report).splitlines()[1].endswith("kink")


def test_a_slope_outside_both_sides_of_a_kink_is_a_fault() -> None:
    class SteepReLU(Gate):
        def forward(self, x: Any) -> Any:
            self.x = x
            return cr.relu(x)

        def backward(self, dy: Any) -> Any:
            return dy * cr.where(self.x > 0, 1.0, cr.where(self.x == 0, 5.0, 0.0))

    with pytest.raises(GradientError, match="wrong gradient in SteepReLU"):
        check_gradients(SteepReLU(), np.array([0.0, 1.0, -1.0]))


def test_points_next_to_a_kink_or_to_the_end_of_the_domain_pass() -> None:
    assert check_gradients(cr.relu, np.array([1e-7, -1e-7, 1e-9])).passed
    assert check_gradients(cr.log, np.array([1e-7, 1.0])).passed


def test_what_leaves_the_graph_is_suspected_when_every_op_is_right() -> None:
    with pytest.raises(GradientError) as caught:
        check_gradients(lambda x: x * x.detach(), RNG.normal(size=3))
    assert "though every op in the graph is right" in str(caught.value)
    assert "detach()" in str(caught.value)


def test_what_leaves_the_graph_is_not_excused_by_a_kink() -> None:
    with pytest.raises(GradientError, match="every op in the graph is right"):
        check_gradients(lambda x: cr.relu(x) * x.detach(), np.array([0.0, 1.0, 2.0]))


def test_a_function_that_draws_new_numbers_each_time_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="gives another value each time"):
        check_gradients(lambda x: x * rng.normal(), np.ones(2))


def test_parts_in_float32_are_checked_to_what_float32_allows() -> None:
    report = check_gradients(
        lambda x: cr.tanh(x.astype("float32") * 3).sum(), np.array([0.1, 1.0])
    )
    assert report.passed
    assert 1e-3 < report.tolerance < 1e-2


def test_derivatives_can_be_checked_as_functions() -> None:
    assert check_gradients(grad(lambda x: cr.sin(x).sum()), RNG.normal(size=4)).passed


def test_integer_inputs_are_passed_on() -> None:
    report = check_gradients(lambda x, i: x[i], RNG.normal(size=4), np.array([0, 0, 2]))
    assert [c.name for c in report.comparisons] == ["x"]


def test_the_same_seed_probes_the_same_entries() -> None:
    x = RNG.normal(size=100)
    reports = [check_gradients(cr.sin, x, seed=s) for s in (1, 1, 2)]
    probes = [r.comparisons[0].probes for r in reports]
    assert probes[0] == probes[1]
    assert probes[0] != probes[2]


def test_wrong_uses_are_named() -> None:
    with pytest.raises(NonFiniteError, match="the value is not finite"):
        check_gradients(cr.log, np.array([-1.0]))
    with pytest.raises(DtypeError, match="did not return a tensor"):
        check_gradients(lambda x: 1.0, np.ones(2))
    with pytest.raises(GradientError, match="depends on nothing"):
        check_gradients(lambda x: x.detach() * 2, np.ones(2))


def test_kinks_on_both_sides_of_a_step_are_no_mistake_either() -> None:
    """They bend upwards left and downwards right, so that the two slopes agree."""

    def bend(x: Any) -> Any:
        right, left = cr.relu(x - 4.5e-7), cr.relu(-4.5e-7 - x)
        return (100 * x + 0.05 * (right - left)).sum()

    assert check_gradients(bend, np.zeros(1)).comparisons[0].max_error < 1e-5


@pytest.mark.parametrize("place", [4e-6, 2e-6, 2e-7, 1e-8])
def test_small_kinks_within_a_step_are_no_mistake(place: float) -> None:
    """Of many units some bend within any step; shorter steps miss them."""
    bend = lambda x: (100 * x + 0.05 * cr.relu(x - place)).sum()  # noqa: E731
    report = check_gradients(bend, np.zeros(3))
    assert report.passed
    assert report.comparisons[0].max_error < 1e-5


def test_a_small_mistake_beside_such_kinks_is_found() -> None:
    class Nearly(cr.Gate):
        def forward(self, x: Any) -> Any:
            return 100 * x

        def backward(self, dy: Any) -> Any:
            return 100.01 * dy

    gate = Nearly()
    bend = lambda x: (gate(x) + 0.05 * cr.relu(x - 2e-6)).sum()  # noqa: E731
    report = check_gradients(bend, np.zeros(3), raise_error=False)
    assert not report.passed
    assert report.faults[0].op == "Nearly"


def test_entries_are_drawn_where_the_slope_is_not_0_too() -> None:
    """One entry of 10,000 counts; its slope is wrong."""

    class OneOfMany(cr.Gate):
        def forward(self, x: Any) -> Any:
            self.shape = x.shape
            return 1.0 * x[7]

        def backward(self, dy: Any) -> Any:
            dx = np.zeros(self.shape)
            dx[7] = 1.001
            return dy * dx

    report = check_gradients(
        OneOfMany(), np.ones(10_000), num_entries=4, num_directions=0, raise_error=False
    )
    assert not report.passed


def test_the_layer_at_fault_is_named() -> None:
    class Wrong(cr.Gate):
        def forward(self, x: Any) -> Any:
            return 2 * x

        def backward(self, dy: Any) -> Any:
            return 3 * dy

    twice = nn.Sequential(nn.Dense(3, 3), nn.Function(Wrong()), nn.Dense(3, 2))
    model = nn.Sequential(body=twice, end=nn.Sigmoid()).initialize(0)
    report = check_gradients(model, RNG.normal(size=(4, 3)), raise_error=False)
    assert {fault.layer for fault in report.faults} == {"body.1"}
    assert "Wrong in layer body.1: " in str(report)
    assert [c.name for c in report.wrong] == ["x1", "body.0.weight", "body.0.bias"]
