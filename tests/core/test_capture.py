"""A function captured once, then its graph run again: the same bits as eager."""

from __future__ import annotations

import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.capture import CapturedGraph, capture, op_at
from chainrule.core.graph import OPS, apply, mode
from chainrule.core.size import Size
from chainrule.errors import CaptureError, GradientError, ShapeError
from chainrule.nn import losses
from chainrule.nn.penalties import penalty
from chainrule.optim import (
    MovingAverage,
    clip_by_norm,
    clip_by_value,
    global_norm,
    optimizer,
)


class Replay:
    """A captured graph run by NumPy, as the compiler's native code would run it."""

    def __init__(self, graph: CapturedGraph) -> None:
        self.graph = graph

    def __call__(self, *arguments: Any) -> Any:
        graph = self.graph
        arrays = [np.asarray(cr.as_tensor(a).data) for a in flat(arguments)]
        n = graph.batch_of(arrays)
        assert graph.admits(n)
        assert graph.is_current()
        values: dict[int, Any] = {}
        for node, array in zip(graph.inputs, arrays, strict=True):
            values[id(node)] = array
        for node in graph.nodes:
            if node.kind in ("variable", "constant"):
                values[id(node)] = node.tensor.data.copy()
            elif node.kind == "number":
                values[id(node)] = np.asarray(node.number.at(n), node.dtype)
            elif node.kind == "op":
                op = node.op if n is None else op_at(node.op, n)
                operands = [values[id(i)] for i in node.inputs]
                value = np.asarray(op.compute(*operands))
                assert value.dtype == node.dtype, node
                assert [int_at(s, n) for s in node.shape] == list(value.shape), node
                values[id(node)] = value
        for variable, node in graph.assignments:
            cr.assign(variable, values[id(node)])
        for t in graph.cleared:
            t.grad = None
        for t, node in graph.gradients:
            t.grad = cr.Tensor(values[id(node)])
        return graph.rebuild([cr.Tensor(values[id(o)]) for o in graph.outputs], n)


def int_at(size: Any, n: int | None) -> int:
    return size.at(n) if isinstance(size, Size) else size


def flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [end for part in value for end in flat(part)]
    if isinstance(value, dict):
        return flat(list(value.values()))
    return [value] if isinstance(value, (cr.Tensor, np.ndarray)) else []


def ends(value: Any) -> list[np.ndarray]:
    if isinstance(value, (tuple, list)):
        return [end for part in value for end in ends(part)]
    if isinstance(value, dict):
        return ends(list(value.values()))
    return [] if value is None else [np.asarray(cr.as_tensor(value).data)]


def assert_same(found: Any, expected: Any) -> None:
    pairs = zip(ends(found), ends(expected), strict=True)
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def batch(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 6), np.float32), rng.integers(0, 3, n)


class Setting:
    """A model with an optimizer, made alike as often as wanted."""

    def __init__(
        self,
        loss: Any = losses.softmax_cross_entropy,
        rule: str = "sgd",
        model: Any = None,
        **settings: Any,
    ) -> None:
        build = model or (lambda: nn.mlp((6,), (5,), 3, dropout=0.25))
        self.model = build().initialize(0)
        self.loss = loss
        self.optimizer = optimizer(rule, self.model.named_parameters(), **settings)

    def step(self, x: Any, y: Any) -> Any:
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def state(self) -> dict[str, np.ndarray]:
        gradients = {
            f"gradient of {path}": p.grad.numpy()
            for path, p in self.model.named_parameters()
            if p.grad is not None
        }
        return {**self.model.state(), **self.optimizer.state(), **gradients}


def assert_same_training(
    make: Any, step: Any, batches: list[Any], at: int = 0
) -> CapturedGraph:
    """Steps in eager and of one capture, at ``batches[at]``: equal bits throughout."""
    eager, captured = make(), make()
    graph = capture(lambda *batch: step(captured, *batch), batches[at])
    replay = Replay(graph)
    for arguments in batches:
        expected = step(eager, *arguments)
        assert_same(replay(*arguments), expected)
        states = (captured.state(), eager.state())
        assert states[0].keys() == states[1].keys()
        for name, value in states[1].items():
            np.testing.assert_array_equal(states[0][name], value, err_msg=name)
    return graph


BATCHES = [batch(n, seed) for seed, n in enumerate([4, 7, 4, 2, 33, 3])]

# ------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    "rule", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
)
def test_a_step_of_every_optimizer(rule):
    graph = assert_same_training(lambda: Setting(rule=rule), Setting.step, BATCHES)
    assert all(graph.admits(n) for n in (2, 3, 5, 64, 1000))
    assert not graph.admits(1)


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing": 0.1},
        {"class_weights": [1.0, 2.0, 0.5]},
        {"reduction": "sum"},
    ],
    ids=str,
)
def test_the_options_of_cross_entropy(settings):
    def loss(scores, y):
        return losses.softmax_cross_entropy(scores, y, **settings)

    assert_same_training(lambda: Setting(loss), Setting.step, BATCHES)


@pytest.mark.parametrize(
    "loss",
    [losses.multiclass_hinge, losses.extended_cross_entropy],
    ids=lambda f: f.__name__,
)
def test_losses_of_class_labels(loss):
    assert_same_training(lambda: Setting(loss), Setting.step, BATCHES)


def test_infogain_and_multinomial_logistic():
    def loss(scores, y):
        prices = np.eye(3) + 0.5
        p = cr.softmax(scores)
        return losses.infogain(scores, y, prices) + losses.multinomial_logistic(p, y)

    assert_same_training(lambda: Setting(loss), Setting.step, BATCHES)


@pytest.mark.parametrize(
    "loss",
    [losses.squared_error, losses.absolute_error, losses.sigmoid_cross_entropy],
    ids=lambda f: f.__name__,
)
def test_losses_of_target_vectors(loss):
    rows = [(x, np.abs(np.sin(x[:, :3]))) for x, _ in BATCHES]
    assert_same_training(lambda: Setting(loss), Setting.step, rows)


def test_probabilities_as_labels():
    rows = [(x, np.eye(3, dtype=np.float32)[y]) for x, y in BATCHES]
    assert_same_training(Setting, Setting.step, rows)


def test_pairs_under_the_contrastive_loss():
    def step(self, first, second, is_similar):
        loss = losses.contrastive(self.model(first), self.model(second), is_similar)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    rows = [(x, np.cos(x), y > 0) for x, y in BATCHES]
    assert_same_training(Setting, step, rows)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 10, 5])
def test_a_capture_at_any_size_is_right_wherever_it_is_admitted(n):
    eager, captured = Setting(rule="momentum"), Setting(rule="momentum")
    graph = capture(captured.step, batch(n))
    admitted = [m for m in (1, 2, 3, 4, 5, 6, 7, 10, 11) if graph.admits(m)]
    assert n in admitted
    assert len(admitted) > 1 or n == 1
    for m in admitted:
        expected = eager.step(*batch(m, m))
        assert_same(Replay(graph)(*batch(m, m)), expected)


def test_a_batch_of_one_is_a_capture_of_its_own():
    graph = capture(Setting().step, batch(1))
    assert not graph.admits(2)
    assert "where n = 1" in str(graph)


def test_the_size_that_happens_to_equal_a_constant_is_guarded():
    x = np.ones((3, 3), np.float32)

    def f(x):
        return x.sum(axis=1) + cr.Tensor([1.0, 2.0, 3.0])

    graph = capture(f, (x,))
    assert graph.admits(3)
    assert not graph.admits(4)


def test_penalties_clipping_and_the_moving_average():
    class Averaged(Setting):
        def __init__(self):
            super().__init__(rule="adamw")
            self.average = MovingAverage(self.model.named_parameters(), decay=0.9)

        def state(self):
            return super().state() | self.average.state()

    def step(self, x, y):
        loss = self.loss(self.model(x), y) + penalty(self.model, l2=0.01, l1=0.001)
        loss.backward()
        norm = clip_by_norm(self.model.parameters(), 0.5)
        clip_by_value(self.model.parameters(), 0.2)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()
        return {"loss": loss, "norm": norm, "after": global_norm([])}

    assert_same_training(Averaged, step, BATCHES)


def test_groups_and_frozen_parameters():
    from chainrule.optim import Group

    def make():
        groups = [Group("hidden1", lr_scale=0.5, weight_decay=0.1)]
        setting = Setting(rule="momentum", groups=groups)
        setting.model.freeze("output.bias")
        return setting

    assert_same_training(make, Setting.step, BATCHES)


def test_gradients_of_several_minibatches_are_accumulated():
    def step(self, *halves):
        total = 0.0
        for x, y in halves:
            loss = self.loss(self.model(x), y) * 0.5
            loss.backward()
            total = total + loss
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    pairs = [(BATCHES[i], batch(len(BATCHES[i][1]), 9)) for i in range(4)]
    assert_same_training(Setting, step, pairs)


def test_two_steps_in_one_function_read_the_new_weights():
    def step(self, x, y):
        return [self.step(x, y), self.step(x, y), self.loss(self.model(x), y)]

    assert_same_training(lambda: Setting(rule="adam"), step, BATCHES)


def test_mixup_of_a_batch_with_itself_in_another_order():
    def step(self, x, y, partner, weight):
        mixed = weight * x + (1 - weight) * cr.take(x, partner)
        outputs = self.model(mixed)
        loss = self.loss(outputs, y) * weight
        loss = loss + self.loss(outputs, cr.take(y, partner)) * (1 - weight)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, outputs

    rows = [
        (x, y, np.random.default_rng(0).permutation(len(y)), np.float32([0.3])[0:1][0])
        for x, y in BATCHES
    ]
    rows = [(x, y, p, np.asarray(w, np.float32)) for x, y, p, w in rows]
    assert_same_training(Setting, step, rows)


def test_gradients_that_are_left_are_part_of_the_result():
    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    graph = assert_same_training(Setting, step, BATCHES)
    assert len(graph.gradients) == 4


def test_an_evaluation_has_no_effects():
    setting = Setting()
    setting.model.eval()
    graph = capture(setting.model, (batch(4)[0],))
    assert not graph.assignments
    assert not graph.gradients
    for n in (2, 4, 100):
        x = batch(n)[0]
        assert_same(Replay(graph)(x), setting.model(x))


# ------------------------------------------------------------------------- functions


def assert_same_function(f: Any, *cases: tuple[Any, ...]) -> CapturedGraph:
    """What one capture, on the first case, gives for all of them, and eager."""
    graph = capture(f, cases[0])
    for arguments in cases:
        assert_same(Replay(graph)(*arguments), f(*map(cr.as_tensor, arguments)))
    return graph


def rows(*sizes: int, width: int = 6) -> list[tuple[np.ndarray]]:
    return [(batch(n)[0][:, :width],) for n in sizes]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.mean(axis=0),
        lambda x: x.mean(),
        lambda x: cr.var(x, 0, correction=1),
        lambda x: cr.std(x, 0) + cr.std(x),
        lambda x: (x - x.mean(0)) / (cr.var(x, 0) + 1e-5) ** 0.5,
        lambda x: x / x.shape[0] + x.shape[0] / 7,
        lambda x: x * (x.shape[0] + 1) - 3 * x.shape[0],
        lambda x: x.sum() / (x.size - 1) / x.shape[0] ** 2,
        lambda x: x.T @ x,
        lambda x: x @ x.T,
        lambda x: cr.softmax(x, axis=0),
        lambda x: cr.cumsum(x, axis=0),
        lambda x: cr.argmax(x, axis=0),
        lambda x: cr.argmax(x),
        lambda x: cr.flip(x),
        lambda x: x.reshape(-1),
        lambda x: x.reshape(-1, 3),
        lambda x: x.reshape(x.shape[0], 2, -1),
        lambda x: x.reshape(x.shape[0] * 2, 3),
        lambda x: cr.flatten(x.reshape(-1, 2, 3)),
        lambda x: cr.tile(x, 2) + cr.repeat(x, 2, axis=1),
        lambda x: cr.tile(x, (3, 1)),
        lambda x: cr.repeat(x, 2, axis=0),
        lambda x: cr.concatenate([x, x * 2]),
        lambda x: cr.stack([x, x * 2], axis=1),
        lambda x: cr.pad(x, ((0, 0), (1, 2))),
        lambda x: cr.pad(x, 1),
        lambda x: cr.split(x, [2, 4], axis=1),
        lambda x: x[1:],
        lambda x: x[:2],
        lambda x: x[-1],
        lambda x: x[:-1] - x[1:],
        lambda x: x[:, ::2],
        lambda x: x[..., 0],
        lambda x: x[:, None],
        lambda x: x[: x.shape[0]],
        lambda x: x[np.array([1, 0, 1])],
        lambda x: x[:, cr.Tensor([5, 0])],
        lambda x: cr.take_along_axis(x, cr.argmax(x, 1)[:, None], axis=1),
        lambda x: cr.take_along_axis(x, (x > 0).astype("int64"), axis=0),
        lambda x: cr.positions(x) + cr.positions(x, 1)[0],
        lambda x: cr.scatter_add(x, [1, 0, 0, 1, 0, 1], 2, axis=1),
        lambda x: cr.scatter_add(x, cr.positions(x), x.shape[0] + 1),
        lambda x: cr.one_hot((x > 0).astype("int64"), 2),
        lambda x: cr.zeros_like(x) + cr.ones_like(x > 0),
        lambda x: cr.where(x > 0, x, -1),
        lambda x: cr.norm(x, 0) + cr.norm(x, order=1),
        lambda x: cr.logsumexp(x, 0),
        lambda x: cr.max(x, 0),
        lambda x: cr.broadcast_to(x[:, :1], x.shape),
        lambda x: cr.as_tensor(x, "float64") + cr.Tensor(x),
        lambda x: x.shape[0] * cr.as_tensor(x.shape[0]) + cr.as_tensor(1 / x.shape[0]),
        lambda x: (x, {"size": x.shape[0], "none": None, "twice": [x, x]}),
    ],
)  # fmt: skip
def test_functions_of_a_batch_serve_every_size(f):
    def with_gradient(x):
        leaf = cr.Tensor(x, requires_grad=True)
        y = f(leaf)
        first = y[0] if isinstance(y, (tuple, list)) else y
        if not first.requires_grad:
            return y
        (first * first).sum().backward()
        return y, leaf.grad

    graph = assert_same_function(with_gradient, *rows(4, 7, 3, 9))
    assert graph.admits(1000)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: sum((x[i] for i in range(x.shape[0])), cr.Tensor(0.0)),
        lambda x: x * len(x),
        lambda x: x * float(x.shape[0]) / math.sqrt(x.shape[0]),
        lambda x: x + np.arange(x.shape[0])[:, None],
        lambda x: x[: x.shape[0] // 2],
        lambda x: x[::2],
        lambda x: cr.roll(x, 1, axis=0),
        lambda x: x + np.zeros(x.shape, np.float32),
        lambda x: x * np.float32(2) * np.sqrt(x.shape[0]),
        lambda x: x * cr.Tensor([x.shape[0], 1, 1, 1, 1, 1]),
        lambda x: cr.var(x) if x.shape[0] % 2 else x,
        lambda x: x * round(x.shape[0] / 3) + cr.clip(x, high=x.shape[0]),
        lambda x: x ** x.shape[0],
    ],
)  # fmt: skip
def test_python_that_needs_the_size_itself_makes_a_graph_for_that_size(f):
    graph = assert_same_function(f, *rows(4))
    assert graph.admits(4)
    assert not graph.admits(5)


def test_a_branch_on_the_size_is_guarded():
    def f(x):
        return x * 2 if x.shape[0] > 5 else x + 1

    small, large = (capture(f, (batch(n)[0],)) for n in (3, 8))
    assert [small.admits(n) for n in (5, 6)] == [True, False]
    assert [large.admits(n) for n in (5, 6)] == [False, True]


def test_derivatives_inside_the_function():
    def f(w, x):
        return cr.sum(cr.tanh(x @ w) ** 2)

    w = cr.Parameter([[0.1], [0.2], [-0.3], [0.4], [0.5], [0.6]])

    def g(x):
        y, dw = cr.value_and_grad(f)(w, x)
        curvature = cr.hvp(lambda v: f(v, x), w, dw)
        slope = cr.jvp(lambda v: x @ v, w, np.ones((6, 1)))[1]
        return y, dw, curvature, slope

    assert_same_function(g, *rows(4, 5, 2))


def test_second_derivatives_by_create_graph():
    model = nn.mlp((6,), (4,), 1, activation="tanh").initialize(1)

    def f(x):
        x = cr.Tensor(x, requires_grad=True)
        y = model(x).sum()
        y.backward(create_graph=True)
        steepness = (x.grad * x.grad).sum()
        for p in model.parameters():
            p.grad = None
        steepness.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        for p in model.parameters():
            p.grad = None
        return steepness, gradients

    assert_same_function(f, *rows(4, 7))


def test_an_argument_that_requires_a_gradient():
    x = cr.Tensor(batch(4)[0], requires_grad=True)
    graph = capture(lambda x: (x * x).sum().backward(), (x,))
    ((node, dx),) = graph.input_gradients
    assert node is graph.inputs[0]
    assert dx.shape == node.shape
    assert x.grad is None


def test_arguments_inside_structures_are_inputs_and_others_are_passed_on():
    def f(pair, options, scale, *, tensors):
        assert options["flag"] is True
        return {"y": pair[0] * scale + tensors["b"], "kept": options["flag"]}

    a, b = (cr.Tensor(np.full((4, 2), v, np.float32)) for v in (1.0, 2.0))
    graph = capture(f, ((a, None), {"flag": True}, 3), {"tensors": {"b": b}})
    assert [node.name for node in graph.inputs] == ["pair", "tensors"]
    values = Replay(graph)(a, b)
    assert values["kept"] is True
    np.testing.assert_array_equal(values["y"].data, 5.0)


def test_a_variable_as_an_argument_stays_itself():
    w = cr.Parameter([1.0, 2.0])
    graph = capture(lambda w, x: cr.assign(w, w + x), (w, cr.Tensor([1.0, 1.0])))
    assert len(graph.inputs) == 1
    assert graph.assignments[0][0] is w
    Replay(graph)(cr.Tensor([1.0, 1.0]))
    assert w.tolist() == [2.0, 3.0]


def test_an_input_that_nothing_reads_is_still_an_input():
    graph = capture(lambda x, y: x + 1, batch(4))
    assert [n.name for n in graph.inputs] == ["x", "y"]
    assert graph.inputs[1] not in graph.nodes


def test_what_no_result_needs_is_left_out():
    def f(x):
        cr.exp(x) @ x.T
        return x + 1

    graph = capture(f, (batch(4)[0],))
    assert [n.op.name for n in graph.nodes if n.op] == ["add"]


def test_a_closed_over_tensor_counts_as_it_is_at_each_run():
    w, c = cr.Buffer([1.0, 2.0]), cr.Tensor([10.0, 20.0])
    graph = capture(lambda x: x * w + c, (cr.Tensor([1.0, 1.0]),))
    cr.assign(w, [3.0, 4.0])
    c.data[:] = 0
    assert Replay(graph)(cr.Tensor([1.0, 1.0])).tolist() == [3.0, 4.0]


def test_an_assignment_is_seen_by_what_follows():
    count = cr.Buffer(0)

    def f(x):
        before = count + 0
        kept = count.detach()
        cr.assign(count, count + 1)
        cr.assign(count, count * 2)
        return x + count, before, kept

    graph = capture(f, (cr.Tensor([1.0]),))
    assert count.item() == 0
    assert len(graph.assignments) == 1
    for expected in (2, 6, 14):
        y, before, kept = Replay(graph)(cr.Tensor([1.0]))
        assert y.item() == expected + 1
        assert before.item() == kept.item() == expected / 2 - 1
        assert count.item() == expected


def test_numbers_and_arrays_can_be_assigned():
    a, b, rate = cr.Buffer([0.0, 0.0]), cr.Buffer(0.0), cr.Buffer(0.0, "float64")

    def f(x):
        cr.assign(a, [1.0, 2.0])
        cr.assign(b, x.shape[0] / 2)
        cr.assign(rate, 0.1)

    Replay(capture(f, (batch(5)[0],)))(batch(3)[0])
    assert (a.tolist(), b.item(), rate.item()) == ([1.0, 2.0], 1.5, 0.1)


def test_assigning_another_shape_is_refused_at_the_line_that_does_it():
    w = cr.Parameter([1.0, 2.0])
    with pytest.raises(ShapeError, match="another shape"):
        capture(lambda x: cr.assign(w, x), (cr.Tensor([1.0]),))


def test_a_value_overwritten_before_backward_is_refused_as_in_eager():
    w = cr.Parameter([1.0, 2.0])

    def f(x):
        loss = (w * w * x).sum()
        cr.assign(w, w * 2)
        loss.backward()

    with pytest.raises(GradientError, match="overwritten"):
        capture(f, (cr.Tensor([1.0, 1.0]),))


# ------------------------------------------------------------------ ops and layers


def table(name: str) -> Any:
    """A module of contract tests, for the table that it goes over."""
    path = Path(__file__).parents[1] / f"{name}.py"
    spec = spec_from_file_location(f"captured_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sample", table("test_every_op").CASES)
def test_every_op_and_its_gradient(sample, dtype):
    def f(*tensors):
        ours = [cr.Tensor(t, requires_grad=t.dtype.kind == "f") for t in tensors]
        y = apply(sample.op, *ours)
        if not y.requires_grad:
            return y
        (y * y).sum().backward()
        return y, [t.grad for t in ours if t.grad is not None]

    assert_same_function(f, tuple(sample.arrays(dtype)))


LAYERS = table("test_every_layer").ROWS


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_with_its_gradients_and_its_state(name, training):
    row = LAYERS[name]
    layers = [row.make().initialize(0).train(training) for _ in range(2)]
    rng = np.random.default_rng(0)
    batches = [row.draw(rng, (n, *row.shape)) for n in (5, 3, 5, 8)]
    batches = [b if b.dtype.kind == "i" else b.astype(np.float32) for b in batches]

    def step(layer, x):
        for p in layer.parameters():
            p.grad = None
        y = layer(x)
        if row.has_gradient and y.requires_grad:
            (y * y).sum().backward()
        return y, [p.grad for p in layer.parameters()]

    captured, eager = layers
    graph = capture(lambda x: step(captured, x), batches[:1])
    for x in batches:
        if graph.admits(len(x)):
            assert_same(Replay(graph)(x), step(eager, x))
            assert_same(captured.state(), eager.state())
    assert graph.admits(8) or row.mixes_examples


# ----------------------------------------------------------------- gates of one's own


class CubeInNumpy(cr.Gate):
    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, x):
        self.x = x.numpy()
        return self.factor * self.x**3

    def backward(self, dy):
        return 3 * self.factor * self.x**2 * dy.numpy()


class PairwiseGate(cr.Gate):
    """Rows differ by an output of half of them, and labels have no gradient."""

    def forward(self, x, labels):
        self.shape = x.shape
        return x.numpy()[1:] * (labels.numpy()[1:, None] + 1)

    def backward(self, dy):
        dx = np.zeros(self.shape, np.float32)
        dx[1:] = dy.numpy()
        return dx, None


class HalfGate(cr.Gate):
    def forward(self, x):
        self.shape = x.shape
        return x.numpy()[: len(x) // 2]

    def backward(self, dy):
        dx = np.zeros(self.shape, np.float32)
        dx[: len(dx) // 2] = dy.numpy()
        return dx


def gate_step(gate):
    def f(x, *others):
        leaf = cr.Tensor(x, requires_grad=True)
        y = gate(leaf, *others)
        (y * y * 0.5).sum().backward()
        return y, leaf.grad

    return f


def test_a_gate_of_ones_own_runs_in_numpy_for_every_size():
    gate = CubeInNumpy()
    graph = assert_same_function(gate_step(gate), *rows(4, 9))
    assert next(n.op.name for n in graph.nodes if n.op) == "CubeInNumpy"
    assert "CubeInNumpy.backward" in str(graph)
    gate.factor = 2.0
    assert_same(Replay(graph)(rows(4)[0][0]), gate_step(gate)(rows(4)[0][0]))


def test_a_gate_with_integers_and_another_leading_size():
    graph = assert_same_function(gate_step(PairwiseGate()), batch(4), batch(7))
    assert graph.outputs[0].shape[0].fixed == -1


def test_a_gate_whose_shape_is_no_multiple_is_for_one_size():
    graph = assert_same_function(gate_step(HalfGate()), *rows(4))
    assert not graph.admits(6)


def test_a_gate_in_numpy_cannot_be_differentiated_twice():
    def f(x):
        x = cr.Tensor(x, requires_grad=True)
        CubeInNumpy()(x).sum().backward(create_graph=True)

    with pytest.raises(CaptureError, match="not there yet"):
        capture(f, rows(4)[0])


# ------------------------------------------------------------------ what is not there


def loss_of(x):
    return (x * x).mean()


READINGS = {
    "bool": lambda x: bool(loss_of(x)),
    "if": lambda x: x if loss_of(x) > 0 else x + 1,
    "int": lambda x: int(loss_of(x)),
    "float": lambda x: float(loss_of(x)),
    "item": lambda x: loss_of(x).item(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "data": lambda x: x.data,
    "np.asarray": lambda x: np.asarray(x),
    "np.exp": lambda x: np.add.reduce([x]),
    "print": lambda x: print(x),
    "str": lambda x: str(loss_of(x)),
    "format": lambda x: f"{loss_of(x):.3f} {loss_of(x)}",
    "iteration": lambda x: list(x),
    "unpacking": lambda x: (lambda a, b, c, d: a)(*x),
    "index": lambda x: [1, 2, 3][cr.argmax(x)],
    "mask": lambda x: x[x > 0],
    "range": lambda x: range(cr.argmax(x)),
    "list": lambda x: cr.Tensor([loss_of(x), loss_of(x)]),
    "a variable": lambda x: x * VARIABLE.item(),
    "print a variable": lambda x: print(VARIABLE),
}
VARIABLE = cr.Parameter([2.0], name="w")


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS.keys())
def test_reading_a_value_is_reported_with_the_line_that_does_it(read):
    with pytest.raises(CaptureError) as caught:
        capture(read, rows(4)[0])
    text = str(caught.value)
    (line,) = {read.__code__.co_firstlineno}
    assert f"test_capture.py:{line}: " in text
    assert mode.capturing is None


def test_the_error_shows_where_the_value_was_made_and_read():
    def step(x):
        loss = (x * x).mean()
        if loss < 0.1:
            return x
        return loss

    with pytest.raises(CaptureError) as caught:
        capture(step, rows(4)[0])
    first = step.__code__.co_firstlineno
    assert str(caught.value) == (
        "capture: a value is read that is not there yet\n"
        f"  got:      less bool[], made at test_capture.py:{first + 2}\n"
        f"            at {__file__}:{first + 2}: if loss < 0.1:\n"
        "  expected: a function that computes without looking: it runs once, without "
        "values, and is then compiled\n"
        "  try:      return the tensor and read it outside; choose with where(), not if"
    )


def test_an_error_inside_a_layer_names_the_layer():
    model = nn.Sequential(nn.Dense(6, 3), nn.Function(lambda x: cr.Tensor(x.numpy())))
    with pytest.raises(CaptureError, match=r"not there yet \(layer 1\)"):
        capture(model, rows(4)[0])


@pytest.mark.parametrize("target", ["input", "variable", "inner"])
def test_replacing_data_is_reported(target):
    w = cr.Parameter([1.0])

    def f(x):
        tensors = {"input": x, "variable": w, "inner": x + 1}
        tensors[target].data = 0.0

    with pytest.raises(CaptureError, match=r"\.data of a tensor is replaced") as caught:
        capture(f, rows(4)[0])
    assert "assign(variable, value)" in str(caught.value)
    assert w.item() == 1.0


def test_a_debugger_may_ask_for_the_repr():
    seen = []
    capture(lambda x: seen.append(repr(x * 2)), rows(4)[0])
    assert seen == ["Tensor(op: float32[n, 6])"]


def test_a_tensor_that_escaped_says_so_whoever_uses_it():
    kept = []
    capture(lambda x: kept.append(x.sum()), rows(4)[0])
    uses = [
        lambda y: y.item(),
        lambda y: print(y),
        lambda y: y + 1,
        lambda y: cr.Tensor([1.0]) * y,
        lambda y: cr.exp(y).sum(),
        lambda y: np.asarray(y),
        lambda y: y.data,
    ]
    for use in uses:
        with pytest.raises(CaptureError, match="kept from a function"):
            use(kept[0])
    with pytest.raises(CaptureError, match="another captured function"):
        capture(lambda x: x + kept[0], rows(4)[0])
    assert not any(isinstance(n, Size) for key in Sum.plans for n in flat_key(key))


Sum = OPS["sum"].make((), False)


def flat_key(key: Any) -> list[Any]:
    return [n for part in key for n in (part if isinstance(part, tuple) else [part])]


def test_a_gradient_from_before_must_be_cleared():
    setting = Setting()
    x, y = batch(4)
    losses.softmax_cross_entropy(setting.model(x), y).backward()
    with pytest.raises(CaptureError, match="a gradient from before") as caught:
        capture(setting.step, (x, y))
    assert "zero_grad() first" in str(caught.value)

    def cleared(x, y):
        setting.optimizer.zero_grad()
        return setting.step(x, y)

    graph = capture(cleared, (x, y))
    assert len(graph.cleared) == 4
    assert all(p.grad is not None for p in setting.model.parameters())
    Replay(graph)(x, y)
    assert all(p.grad is None for p in setting.model.parameters())


# --------------------------------------------------------------- nothing else changes


def snapshot(setting: Setting) -> list[Any]:
    variables = [*setting.model.parameters()]
    variables += [b for _, b in setting.model.named_buffers()]
    variables += [b for _, b in setting.optimizer.named_state()]
    return [
        (id(v._array), v.numpy().tobytes(), v.order, v.name, v.requires_grad, v._grad)
        for v in variables
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_a_capture_leaves_everything_as_it_was(fails):
    setting = Setting(rule="adam")
    setting.step(*batch(4))
    before = snapshot(setting)

    def f(x, y):
        loss = setting.step(x, y)
        loss = setting.step(x, y)
        if fails:
            raise ZeroDivisionError
        return loss

    if fails:
        with pytest.raises(ZeroDivisionError):
            capture(f, batch(4))
    else:
        capture(f, batch(4))
    assert mode.capturing is None
    assert snapshot(setting) == before


def test_the_function_runs_once():
    runs = []

    def f(x):
        runs.append(x.shape)
        return x * 2

    graph = capture(f, rows(4)[0])
    Replay(graph)(rows(4)[0][0])
    assert len(runs) == 1


def test_a_capture_inside_a_capture_is_refused_and_the_outer_one_goes_on():
    def outer(x):
        with pytest.raises(CaptureError, match="another function is being captured"):
            capture(loss_of, (x,))
        return loss_of(x)

    assert_same(Replay(capture(outer, rows(4)[0]))(rows(4)[0][0]), loss_of(
        cr.Tensor(rows(4)[0][0])))  # fmt: skip


def test_other_threads_compute_while_one_captures():
    results = []

    def f(x):
        thread = Thread(target=lambda: results.append(cr.Tensor([1.0, 2.0]).sum()))
        thread.start()
        thread.join()
        return x + 1

    capture(f, rows(4)[0])
    assert results[0].item() == 3.0


def test_eager_ops_do_not_remember_the_batch_of_a_capture():
    def f(x):
        y = cr.broadcast_to(x[:, :1], (x.shape[0], 6)).reshape(x.shape[0] * 6)
        (y * cr.Tensor(np.ones((1, 6), np.float32)).reshape(-1)[:1]).sum()
        return cr.pad(y, 0) + x.shape[0] / 4

    for n in (1, 4, 6):
        capture(f, rows(n)[0])
        shape = cr.Tensor(rows(n)[0][0]).reshape(n * 6).shape
        assert all(type(size) is int for size in shape)
        eager = f(cr.Tensor(rows(n)[0][0]))
        assert type(eager.shape[0]) is int


def test_what_was_taken_for_granted_is_checked():
    setting = Setting()
    graph = capture(setting.step, batch(4))
    modules = [type(m).__name__ for m, _ in graph.modules]
    assert modules == ["Dropout"]
    assert graph.is_current()
    setting.model.eval()
    assert not graph.is_current()
    setting.model.train()
    setting.model.freeze("hidden1")
    assert not graph.is_current()
    setting.model.unfreeze()
    parameter = setting.model.parameters()[0]
    parameter.grad = cr.zeros_like(parameter)
    assert not graph.is_current()
    parameter.grad = None
    assert graph.is_current()
    setting.model.astype("float64")
    assert not graph.is_current()


def test_arrays_that_do_not_fit_the_inputs_have_no_batch_size():
    graph = capture(lambda x, y: (x, y), batch(4))
    assert graph.batch_of(batch(9)) == 9
    for x, y in [(batch(4)[0], batch(5)[1]), (batch(4)[0][:, :3], batch(4)[1])]:
        with pytest.raises(ShapeError, match="the captured function's"):
            graph.batch_of((x, y))


def test_a_function_without_a_batch():
    w = cr.Parameter([[1.0, 2.0], [3.0, 4.0]])
    graph = capture(lambda: (w * w).sum())
    assert graph.batch is None
    assert graph.admits(None)
    assert not graph.admits(3)
    assert Replay(graph)().item() == 30.0


def test_a_graph_prints_as_text():
    w = cr.Parameter([[1.0], [2.0]], name="w")

    def step(x):
        scores = x @ w
        scores.name = "scores"
        loss = scores.mean() * (1 / x.shape[0])
        loss.backward()
        cr.assign(w, w - 0.5 * w.grad)
        w.grad = None
        return loss

    graph = capture(step, (np.ones((3, 2), np.float32),))
    assert (
        str(graph)
        == """\
x = input: float32[n, 2]
w = variable: float32[2, 1]
scores = x @ w: float32[n, 1]
v1 = mean(scores): float32[]
v2 = v1·(1 / n): float32[]
v3 = 1·(1 / n): float32[]
v4 = v3 / n: float32[]
v5 = broadcast_to(v4): float32[n, 1]
v6 = xᵀ @ v5: float32[2, 1]
v7 = 0.5·v6: float32[2, 1]
v8 = w - v7: float32[2, 1]
w <- v8
return v2
where n ≠ 1"""
    )
    assert graph.nodes[-1].line == f"test_capture.py:{step.__code__.co_firstlineno + 5}"
