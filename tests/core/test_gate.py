"""Gates that a user writes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import check_gradients, grad, hessian, jacobian
from chainrule.core.gate import Gate
from chainrule.core.graph import Op
from chainrule.core.spec import Spec
from chainrule.core.trace import Graph
from chainrule.errors import GradientError, ShapeError


class MultiplyGate(Gate):
    def forward(self, x: Any, y: Any) -> Any:
        self.x, self.y = x, y
        return x * y

    def backward(self, dz: Any) -> Any:
        return self.y * dz, self.x * dz


class SigmoidGate(Gate):
    """The derivative uses the output, as in Caffe's sigmoid layer."""

    def forward(self, x: Any) -> Any:
        self.y = 1 / (1 + cr.exp(-x))
        return self.y

    def backward(self, dy: Any) -> Any:
        return dy * self.y * (1 - self.y)


class NumpySigmoidGate(Gate):
    def forward(self, x: Any) -> Any:
        self.y = 1 / (1 + np.exp(-x.data))
        return self.y

    def backward(self, dy: Any) -> Any:
        return dy.data * self.y * (1 - self.y)


class ScaleGate(Gate):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x * self.factor

    def backward(self, dy: Any) -> Any:
        return dy * self.factor


def _leaf(value: Any, dtype: str = "float64") -> cr.Tensor:
    return cr.Tensor(value, dtype, requires_grad=True)


def test_a_gate_gives_its_value_and_the_gradient_of_each_input() -> None:
    x, y = _leaf(3.0), _leaf(-4.0)
    z = MultiplyGate()(x, y)
    z.backward()
    assert (z.item(), x.grad.item(), y.grad.item()) == (-12.0, -4.0, 3.0)


def test_one_gate_object_serves_several_places_of_a_graph() -> None:
    gate = MultiplyGate()
    x, y = _leaf(3.0), _leaf(5.0)
    gate(gate(x, y), gate(x, x)).backward()  # x·y·x·x
    assert x.grad.item() == 3 * 3.0**2 * 5
    assert y.grad.item() == 3.0**3
    assert vars(gate) == {"plans": {}}, "the state belongs to the call"


def test_a_gate_in_the_graph_is_an_op_with_name_spec_value_and_formula() -> None:
    z = MultiplyGate()(_leaf([1.0, 2.0]), _leaf([3.0, 4.0]))
    op = z.op
    assert isinstance(op, Op)
    assert op.name == "MultiplyGate"
    assert op.formula("x", "y") == "MultiplyGate(x, y)"
    assert op.compute(np.array([2.0]), np.array([5.0])).tolist() == [10.0]
    spec = Spec((2, 3), np.dtype(np.float32))
    assert op.spec(spec, spec) == spec


def test_a_gate_without_gradients_wanted_leaves_nothing_behind() -> None:
    z = MultiplyGate()(cr.Tensor(2.0), cr.Tensor(3.0))
    assert z.op is None
    with cr.no_grad():
        assert MultiplyGate()(_leaf(2.0), _leaf(3.0)).op is None


def test_python_numbers_and_arrays_are_inputs_too() -> None:
    x = _leaf(3.0)
    z = MultiplyGate()(x, 0.1)
    assert z.dtype == np.float64
    assert z.item() == 3.0 * 0.1
    assert MultiplyGate()(np.float32([1, 2]), np.float32([3, 4])).tolist() == [3, 8]


def test_a_broadcast_operand_gets_its_gradient_summed_by_the_engine() -> None:
    x, y = _leaf(np.arange(6.0).reshape(2, 3)), _leaf([1.0, 2.0, 3.0])
    MultiplyGate()(x, y).sum().backward()
    assert y.grad.tolist() == [3.0, 5.0, 7.0]


@pytest.mark.parametrize("gate", [SigmoidGate(), NumpySigmoidGate()])
def test_a_gate_may_compute_with_tensors_or_with_numpy(gate: Gate) -> None:
    x = _leaf([-1.0, 0.5])
    gate(x).sum().backward()
    s = 1 / (1 + np.exp(-x.data))
    assert np.allclose(x.grad.data, s * (1 - s), rtol=1e-14)


def test_a_saturated_sigmoid_gate_lets_nothing_through() -> None:
    x = _leaf([-40.0, 40.0])
    SigmoidGate()(x).sum().backward()
    assert np.abs(x.grad.data).max() < 1e-16


def test_settings_of_a_gate_are_kept_by_every_call() -> None:
    x = _leaf(2.0)
    (ScaleGate(3.0)(x) + ScaleGate(10.0)(x)).backward()
    assert x.grad.item() == 13.0


def test_gates_written_in_tensors_differentiate_twice() -> None:
    x = np.array([-1.0, 0.3, 2.0])
    ours = hessian(lambda x: SigmoidGate()(x).sum(), x)
    built_in = hessian(lambda x: cr.sigmoid(x).sum(), x)
    assert np.allclose(ours.data, built_in.data, rtol=1e-12, atol=1e-15)
    third = grad(grad(grad(lambda x: MultiplyGate()(x, MultiplyGate()(x, x)))))
    assert third(np.array(2.0)).item() == 6.0


def test_a_gate_written_in_numpy_says_that_it_cannot_be_differentiated_twice() -> None:
    with pytest.raises(GradientError) as caught:
        grad(grad(NumpySigmoidGate()))(1.0)
    assert str(caught.value) == (
        "NumpySigmoidGate: cannot be differentiated twice\n"
        "  got:      self.y, a NumPy array, in which the inputs' history is lost\n"
        "  expected: tensors in forward, on self and in backward\n"
        "  try:      use operators and chainrule's functions in place of NumPy's"
    )


def test_a_jacobian_of_a_numpy_gate_needs_only_first_derivatives() -> None:
    x = np.array([0.5])
    j = jacobian(lambda x: NumpySigmoidGate()(x * np.array([1.0, 2.0, 3.0])), x)
    assert j.shape == (3, 1)


def test_an_input_may_have_no_gradient() -> None:
    class Gather(Gate):
        def forward(self, x: Any, i: Any) -> Any:
            self.shape, self.i = x.shape, i.data
            return x.data[i.data]

        def backward(self, dy: Any) -> Any:
            dx = np.zeros(self.shape)
            np.add.at(dx, self.i, dy.data)
            return dx, None

    x = _leaf([1.0, 2.0, 3.0])
    Gather()(x, cr.Tensor([0, 0, 2])).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 1.0]


def test_a_wrong_number_of_gradients_names_the_gate() -> None:
    class Forgetful(MultiplyGate):
        def backward(self, dz: Any) -> Any:
            return self.y * dz

    with pytest.raises(GradientError) as caught:
        Forgetful()(_leaf(1.0), _leaf(2.0)).backward()
    assert str(caught.value) == (
        "Forgetful.backward: wrong number of gradients\n"
        "  got:      1\n"
        "  expected: 2, one for each input of forward: x, y\n"
        "  try:      return None for an input that has no gradient"
    )


def test_a_gradient_of_the_wrong_shape_names_the_gate_and_the_input() -> None:
    class Summed(MultiplyGate):
        def backward(self, dz: Any) -> Any:
            return self.y * dz, (self.x * dz).sum()

    with pytest.raises(ShapeError) as caught:
        Summed()(_leaf([1.0, 2.0]), _leaf([3.0, 4.0])).sum().backward()
    assert str(caught.value) == (
        "Summed.backward: the gradient of y has the wrong shape\n"
        "  got:      float64[]\n"
        "  expected: float64[2], the shape of y"
    )


def test_a_gate_that_returns_two_values_is_refused() -> None:
    class Two(MultiplyGate):
        def forward(self, x: Any, y: Any) -> Any:
            return x, y

    with pytest.raises(ShapeError, match=r"Two\.forward: did not return one tensor"):
        Two()(_leaf(1.0), _leaf(2.0))


def test_a_parameter_inside_a_gate_is_refused_since_it_would_not_train() -> None:
    class Hidden(Gate):
        def __init__(self) -> None:
            self.w = cr.Parameter([1.0])

        def forward(self, x: Any) -> Any:
            return x * self.w

        def backward(self, dy: Any) -> Any:
            return dy * self.w

    with pytest.raises(GradientError, match="the parameter w inside it"):
        Hidden()(_leaf([1.0]))


def test_a_gate_in_a_graph_is_replayed_on_new_values() -> None:
    graph = Graph(lambda x, y: MultiplyGate()(x, y), x=3.0, y=-4.0)
    graph.backward()
    assert graph.forward(x=10.0, y=7.0).item() == 70.0
    assert {n: g.item() for n, g in graph.backward().items()} == {"x": 7.0, "y": 10.0}


def test_a_gate_is_checked_like_a_built_in_op() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 4))
    assert check_gradients(lambda x, y: cr.tanh(MultiplyGate()(x, y)), x, y).passed
    assert check_gradients(NumpySigmoidGate(), x).passed


def test_a_net_of_gates_trains() -> None:
    rng = np.random.default_rng(0)
    x = cr.Tensor(rng.normal(size=(50, 1)))
    target = cr.Tensor(1 / (1 + np.exp(-(3 * x.data - 1))))
    w, b = cr.Parameter([[0.0]], "float64"), cr.Parameter([0.0], "float64")
    for _ in range(800):
        w.grad = b.grad = None
        y = SigmoidGate()(MultiplyGate()(x, w) + b)
        ((y - target) ** 2).mean().backward()
        for p in (w, b):
            cr.assign(p, p.data - 8.0 * p.grad.data)
    assert abs(w.item() - 3) < 0.05
    assert abs(b.item() + 1) < 0.05


def test_the_state_of_a_gate_lives_as_long_as_its_output() -> None:
    x = _leaf(np.ones(3))
    gate = SigmoidGate()
    y = gate(x)
    kept = weakref.ref(y.op.y)
    gc.disable()
    try:
        del y
        assert kept() is None, "no reference cycle may hold it"
    finally:
        gc.enable()
