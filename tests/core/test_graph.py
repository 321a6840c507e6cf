"""Tensors: what they hold, what they remember, and how gradients gather."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.backward import gradients, topological_order
from chainrule.core.gate import Gate
from chainrule.errors import DtypeError, GradientError, ShapeError


def _leaf(value: Any, **options: Any) -> cr.Tensor:
    return cr.Tensor(value, requires_grad=True, **options)


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        (3, "int64"),
        ([1, 2], "int64"),
        ([1, 2.5], "float32"),
        (True, "bool"),
        (np.zeros(2), "float64"),
        (np.float64(1.0), "float64"),
        (np.zeros(2, np.float32), "float32"),
        (np.zeros(2, np.uint8), "uint8"),
        ([], "float32"),
    ],
)
def test_python_floats_become_float32_and_arrays_keep_their_dtype(
    data: Any, dtype: str
) -> None:
    assert cr.Tensor(data).dtype == dtype


def test_a_tensor_owns_a_copy_of_its_data() -> None:
    array = np.array([1.0, 2.0])
    t = cr.Tensor(array)
    array[0] = 9
    assert t.tolist() == [1.0, 2.0]
    copied = t.numpy()
    copied[0] = 9
    assert t.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("data", [1j, "a", None, np.float16(1), object()])
def test_data_that_cannot_be_held_is_named(data: Any) -> None:
    with pytest.raises(DtypeError, match="cannot hold elements of type"):
        cr.Tensor(data)


@pytest.mark.parametrize("data", [1j, "a", ["1.5"], None, object()])
def test_a_dtype_that_is_asked_for_makes_no_number_of_a_word(data: Any) -> None:
    with pytest.raises(DtypeError, match="cannot hold elements of type"):
        cr.Tensor(data, "float64")


def test_nested_lists_of_unequal_lengths_are_named() -> None:
    with pytest.raises(ShapeError, match="nested lists of unequal lengths"):
        cr.Tensor([[1.0, 2.0], [3.0]])


def test_only_floats_can_require_a_gradient() -> None:
    with pytest.raises(DtypeError, match="only floats have gradients"):
        _leaf([1, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [2, 2.5, np.float64(2.5), np.float32(2.5), True])
def test_scalars_are_weak_and_take_the_dtype_of_the_tensor(
    dtype: str, number: Any
) -> None:
    t = cr.Tensor([1.0, 2.0], dtype)
    for y in (t + number, number + t, t * number, number / t, t - number, t**number):
        assert y.dtype == dtype


def test_a_fraction_that_meets_integers_makes_float32() -> None:
    assert (cr.Tensor([1, 2]) * 0.5).tolist() == [0.5, 1.0]
    assert (cr.Tensor([1, 2]) * 0.5).dtype == np.float32
    assert (cr.Tensor([1, 2]) * 2).dtype == np.int64
    assert (cr.Tensor([1, 2]) + cr.Tensor([0.5, 0.5], "float64")).dtype == np.float64


def test_arithmetic_on_bytes_is_refused() -> None:
    with pytest.raises(DtypeError, match="would wrap around"):
        cr.Tensor(np.zeros(2, np.uint8)) + 1


def test_an_array_on_the_left_leaves_the_operation_to_the_tensor() -> None:
    y = np.array([1.0, 2.0]) * _leaf([3.0, 4.0], dtype="float64")
    assert isinstance(y, cr.Tensor)
    assert y.requires_grad


def test_gradients_accumulate_until_they_are_cleared() -> None:
    x = _leaf(3.0)
    (x * x).backward()
    (x * x).backward()
    assert x.grad.item() == 12.0
    x.grad = None
    (x * x).backward()
    assert x.grad.item() == 6.0


def test_a_reused_value_adds_up_the_gradients_of_its_uses() -> None:
    x = _leaf(3.0)
    y = x * x
    (y * y + y + x).backward()  # x⁴ + x² + x
    assert x.grad.item() == 4 * 27 + 6 + 1


def test_interior_tensors_keep_no_gradient_but_gradients_finds_theirs() -> None:
    x = _leaf(3.0)
    q = x * 2
    y = q * q
    dq, dx = gradients(y, [q, x])
    assert (dq.item(), dx.item()) == (12.0, 24.0)
    assert x.grad is None
    y.backward()
    assert q.grad is None


def test_an_input_that_does_not_matter_has_a_gradient_of_zeros() -> None:
    x, other = _leaf(3.0), _leaf([1.0, 2.0])
    assert gradients(x * x, [other])[0].tolist() == [0.0, 0.0]


def test_gradients_walks_only_what_depends_on_its_inputs() -> None:
    walked: list[str] = []

    class Watched(Gate):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dy: Any) -> Any:
            walked.append("backward")
            return dy * 2

    x, other = _leaf(3.0), _leaf(5.0)
    y = Watched()(other) * x
    assert gradients(y, [x])[0].item() == 10.0
    assert walked == []
    assert [g.item() for g in gradients(y, [x, other])] == [10.0, 6.0]
    assert walked == ["backward"]


def test_an_unrecorded_result_may_become_a_leaf_of_its_own() -> None:
    t = cr.Tensor(2.0) * 3
    t.requires_grad = True
    (t * t).backward()
    assert t.grad.item() == 12.0


def test_backward_needs_a_scalar_or_dy() -> None:
    x = _leaf([1.0, 2.0])
    with pytest.raises(GradientError, match="the output is not a scalar"):
        (x * x).backward()
    (x * x).backward([1.0, 10.0])
    assert x.grad.tolist() == [2.0, 40.0]
    with pytest.raises(ShapeError, match="dy has another shape"):
        (x * x).backward([1.0, 2.0, 3.0])


def test_backward_of_what_requires_nothing_says_how_to_ask() -> None:
    with pytest.raises(GradientError) as caught:
        (cr.Tensor(1.0) * 2).backward()
    assert str(caught.value) == (
        "backward: nothing here requires a gradient\n"
        "  got:      float32[] that depends on no tensor with requires_grad\n"
        "  expected: an output of tensors made with requires_grad=True\n"
        "  try:      Tensor(..., requires_grad=True), and compute outside no_grad()"
    )


def test_no_grad_records_nothing_and_enable_grad_records_inside_it() -> None:
    x = _leaf(2.0)
    with cr.no_grad():
        assert not (x * x).requires_grad
        with cr.enable_grad():
            assert (x * x).requires_grad
        assert not (x * x).requires_grad
    assert (x * x).requires_grad

    @cr.no_grad()
    def silent() -> cr.Tensor:
        return x * x

    assert not silent().requires_grad


def test_no_grad_ends_when_an_error_leaves_it() -> None:
    with pytest.raises(RuntimeError, match="stop"), cr.no_grad():
        raise RuntimeError("stop")
    assert (_leaf(2.0) * 2).requires_grad


def test_no_grad_holds_for_one_thread_only() -> None:
    x = _leaf(2.0)
    inside, finished = threading.Event(), threading.Event()
    seen: list[bool] = []

    def quiet() -> None:
        with cr.no_grad():
            inside.set()
            finished.wait(10)
            seen.append((x * x).requires_grad)

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    recorded_here = (x * x).requires_grad
    finished.set()
    thread.join()
    assert (recorded_here, seen) == (True, [False])


def test_threads_that_differentiate_at_once_do_not_disturb_each_other() -> None:
    found: dict[int, list[float]] = {}

    def work(k: int) -> None:
        x = _leaf(float(k), dtype="float64")
        values = []
        for _ in range(50):
            x.grad = None
            y = x
            for _ in range(20):
                y = y * x
            y.backward()
            values.append(x.grad.item() / (21.0 * k**20))
        found[k] = values

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2, 3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(found) == {1, 2, 3, 4}
    assert all(abs(v - 1) < 1e-12 for values in found.values() for v in values)


def test_a_variable_overwritten_after_its_use_is_an_error_not_a_wrong_gradient() -> (
    None
):
    w = cr.Parameter([1.0, 2.0], name="w")
    y = (w * w).sum()
    cr.assign(w, [5.0, 5.0])
    with pytest.raises(GradientError) as caught:
        y.backward()
    assert str(caught.value) == (
        "backward: w was overwritten after it was used\n"
        "  got:      float32[2] written after multiply\n"
        "  expected: the values that the forward pass saw\n"
        "  try:      call backward() before the update, or run the forward pass again"
    )


def test_a_buffer_overwritten_after_its_use_is_found_too() -> None:
    x, scale = _leaf([1.0, 2.0]), cr.Buffer([3.0, 3.0], name="scale")
    y = (x * scale).sum()
    cr.assign(scale, [9.0, 9.0])
    with pytest.raises(GradientError, match="scale was overwritten after it was used"):
        y.backward()


def test_a_counter_that_no_gradient_is_made_of_may_go_on() -> None:
    x = _leaf(np.ones(4, np.float32))
    key, step = cr.Tensor([1, 2]), cr.Buffer(0)
    y = cr.sum(x * cr.dropout_mask(x, key, step, 0.5))
    cr.assign(step, 1)
    y.backward()
    assert x.grad is not None


def test_a_result_overwritten_after_its_use_is_an_error_not_a_lost_gradient() -> None:
    x = _leaf(2.0)
    y = x * x
    z = y * 3.0
    y.data = 5.0
    with pytest.raises(GradientError, match="overwritten after it was used"):
        z.backward()


def test_every_leaf_owns_its_gradient() -> None:
    x, y, z = _leaf([1.0, 2.0]), _leaf([3.0, 4.0]), _leaf([[5.0], [6.0]])
    dy = np.ones(2, np.float32)
    (x + y + z.reshape(2)).backward(dy)
    mean = _leaf([1.0, 2.0, 3.0, 4.0])
    mean.mean().backward()
    for leaf in (x, y, z, mean):
        leaf.grad.data[...] *= 10.0
    assert [t.grad.data.ravel().tolist() for t in (x, y, z)] == [[10.0, 10.0]] * 3
    assert mean.grad.tolist() == [2.5] * 4
    assert dy.tolist() == [1.0, 1.0]


def test_what_is_done_to_a_gradient_leaves_numbers_alone() -> None:
    x = _leaf(1.0)
    (slope,) = gradients(x + 1.0, [x])
    slope.name, slope.requires_grad = "slope", True
    assert not (cr.Tensor(2.0) * 1.0).requires_grad
    (x + 1.0).backward()
    x.grad.data[...] = 7.0
    assert (cr.Tensor(2.0) * 1.0).item() == 2.0


def test_a_broadcast_value_cannot_be_written_into() -> None:
    wide = cr.broadcast_to(cr.Tensor(1.0), (3,))
    with pytest.raises(ValueError, match="read-only"):
        wide.data[0] = 2.0


def test_complex_numbers_are_refused_as_operands() -> None:
    with pytest.raises(DtypeError, match="complex64"):
        cr.Tensor([1.0]) * np.complex64(1j)


def test_a_variable_may_be_overwritten_before_its_use() -> None:
    w = cr.Parameter([1.0, 2.0])
    cr.assign(w, [3.0, 4.0])
    (w * w).sum().backward()
    assert w.grad.tolist() == [6.0, 8.0]


def test_assign_writes_into_the_same_storage_and_checks_the_shape() -> None:
    w = cr.Parameter([1.0, 2.0], name="w")
    storage = w.data
    cr.assign(w, [3.0, 4.0])
    assert storage.tolist() == [3.0, 4.0]
    with pytest.raises(ShapeError, match="w: new values have another shape"):
        cr.assign(w, [1.0])
    with pytest.raises(DtypeError) as caught:
        cr.assign(cr.Buffer([1, 2], name="count"), [1.5, 2.5])
    assert str(caught.value) == (
        "count: new values are of another kind\n"
        "  got:      float64[2]\n"
        "  expected: int64[2]\n"
        "  try:      convert first, for example array.astype('float32')"
    )
    with pytest.raises(DtypeError, match="only variables can be replaced"):
        cr.assign(cr.Tensor([1.0]), [2.0])  # type: ignore[arg-type]


def test_detach_cuts_the_history_and_shares_the_values() -> None:
    x = _leaf(3.0)
    y = x * x.detach()
    y.backward()
    assert x.grad.item() == 3.0


def test_create_graph_makes_gradients_that_can_be_differentiated() -> None:
    x = _leaf(2.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert (first.item(), x.grad.item()) == (12.0, 12.0)


def test_a_chain_of_100000_ops_runs_forward_backward_and_is_freed() -> None:
    x = _leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    assert len(topological_order([y])) == 100_002
    del y  # deep chains of references must not overflow the stack


def test_a_ladder_of_reused_values_is_walked_once_per_node() -> None:
    x = _leaf(1.0, dtype="float64")
    y = x
    for _ in range(60):  # 2⁶⁰ paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_scalars_convert_and_larger_tensors_refuse() -> None:
    assert float(cr.Tensor(2.5)) == 2.5
    assert int(cr.Tensor(2)) == 2
    assert [10, 20, 30][cr.Tensor(1)] == 20
    assert bool(cr.Tensor(0.0)) is False
    with pytest.raises(ShapeError, match="more than one value"):
        cr.Tensor([1.0, 2.0]).item()
    with pytest.raises(DtypeError, match="not an integer"):
        [1, 2][cr.Tensor(1.0)]
    with pytest.raises(ShapeError, match="a scalar has no length"):
        len(cr.Tensor(1.0))


def test_tensors_print_values_dtype_and_name() -> None:
    t = _leaf([1.0, 2.0], name="w")
    assert repr(t) == "Tensor([1., 2.], dtype=float32, requires_grad=True, name='w')"
    assert "shape=(100, 3)" in repr(cr.Tensor(np.zeros((100, 3))))


def test_a_number_is_formatted_like_a_number() -> None:
    assert f"{cr.Tensor(2.0):.3f} {cr.Tensor([2]):>3}" == "2.000   2"
    assert f"{cr.Tensor([1.0, 2.0])}" == "Tensor([1., 2.], dtype=float32)"
    with pytest.raises(ShapeError, match="more than one value"):
        f"{cr.Tensor([1.0, 2.0]):.2f}"


def test_a_tensor_is_unequal_to_none_and_to_text() -> None:
    x = cr.Tensor([1.0, 2.0])
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert x not in [None, "x"]


def test_tensors_are_hashable_by_identity_and_compare_by_element() -> None:
    a, b = cr.Tensor([1.0, 2.0]), cr.Tensor([1.0, 3.0])
    assert (a == b).tolist() == [True, False]
    assert len({a, b, a}) == 2
