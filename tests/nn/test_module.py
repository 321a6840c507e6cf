from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import CheckpointError, DtypeError, OptionError, ShapeError


class Assembled(nn.Module):
    """Parts in every place that a walk enters."""

    def __init__(self) -> None:
        self.first = nn.Dense(2, 3)
        self.blocks = [nn.Dense(3, 3), (nn.Bias(3), {"scale": nn.Scale(3)})]
        self.shift = cr.Parameter(np.zeros(3))
        self.heads = OrderedDict(a=nn.Dense(3, 1, bias=False))
        self.count = cr.Buffer(np.zeros((), np.int64))
        self.again = self.first
        self.settings = {"anything": {1, 2}, 3: "else"}

    def forward(self, x: Any) -> Any:
        y = self.blocks[1][1]["scale"](self.blocks[1][0](self.blocks[0](self.first(x))))
        return self.heads["a"](y + self.shift)


class Bag:
    """A container of somebody's own, which no walk enters."""

    def __init__(self, part: Any) -> None:
        self.part = part


class Holder(nn.Module):
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)

    def forward(self, x: Any) -> Any:
        return x


def test_parameters_come_in_order_of_definition_and_shared_ones_once() -> None:
    assert [path for path, _ in Assembled().named_parameters()] == [
        "first.weight",
        "first.bias",
        "blocks.0.weight",
        "blocks.0.bias",
        "blocks.1.0.offset",
        "blocks.1.1.scale.factor",
        "shift",
        "heads.a.weight",
    ]


def test_modules_and_buffers_are_walked_alike() -> None:
    model = Assembled()
    assert [path for path, _ in model.named_modules()] == [
        "",
        "first",
        "blocks.0",
        "blocks.1.0",
        "blocks.1.1.scale",
        "heads.a",
    ]
    assert dict(model.named_buffers()) == {"count": model.count}


def test_a_module_that_knows_its_parent_is_walked_once() -> None:
    parent, child = Holder(), nn.Dense(1, 1)
    parent.child = child
    child.parent = parent
    assert [p for p, _ in parent.named_modules()] == ["", "child"]


@pytest.mark.parametrize(
    "hide",
    [
        lambda part: {part},
        lambda part: frozenset([part]),
        lambda part: deque([part]),
        lambda part: {"a": part}.values(),
        lambda part: np.array([part, None], dtype=object),
        lambda part: Bag(part),
    ],
    ids=["set", "frozenset", "deque", "dict view", "object array", "own class"],
)
@pytest.mark.parametrize(
    "part", [nn.Bias(1), cr.Buffer([0.0])], ids=["module", "buffer"]
)
def test_parts_where_no_walk_finds_them_raise(hide: Any, part: Any) -> None:
    with pytest.raises(
        OptionError, match=f"a {type(part).__name__} is hidden in things"
    ):
        list(Holder(things=hide(part)).named_parameters())


def test_a_hidden_parameter_is_reported_in_full() -> None:
    with pytest.raises(OptionError) as caught:
        Holder(inner=Holder(weights={cr.Parameter([1.0])})).state()
    assert str(caught.value) == (
        "a Parameter is hidden in inner.weights\n"
        "  got:      inner.weights is a set\n"
        "  expected: modules, parameters and buffers as attributes, or in lists, "
        "tuples and dicts\n"
        "  try:      without this error it would be neither trained nor saved"
    )


def test_two_parts_with_one_path_raise() -> None:
    parts = {"a.b": nn.Bias(1), "a": {"b": nn.Bias(1)}}
    with pytest.raises(OptionError, match=r"two parts of the model have the path"):
        Holder(parts=parts).state()


def test_calling_takes_arrays_and_lists() -> None:
    assert nn.ReLU()([-1, 2]).tolist() == [0.0, 2.0]


def test_forward_must_return_a_tensor() -> None:
    class Forgetful(nn.Module):
        def forward(self, x: Any) -> Any:
            x + 1

    with pytest.raises(DtypeError) as caught:
        Forgetful()([1.0])
    assert str(caught.value) == (
        "Forgetful: forward must return a tensor\n"
        "  got:      NoneType\n"
        "  expected: Tensor\n"
        "  try:      end forward with a return statement"
    )


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()([1.0])


def test_errors_name_the_layer_by_its_path() -> None:
    inner = nn.Sequential(nn.Dense(4, 3), middle=nn.Dense(5, 2))
    model = nn.Sequential(body=nn.Residual(inner))
    with pytest.raises(ShapeError) as caught:
        model(np.zeros((2, 4)))
    assert str(caught.value) == (
        "dense: input has 3 features, the layer takes 5 (layer body.body.middle)\n"
        "  got:      float64[2, 3]\n"
        "  expected: (..., 5)\n"
        "  try:      make in_features 3"
    )


def test_switching_and_counting() -> None:
    model = nn.mlp(4, (3,), 2, dropout=0.5)
    assert model.num_parameters() == 4 * 3 + 3 + 3 * 2 + 2
    model.freeze("hidden1")
    assert model.num_parameters() == 23
    assert model.num_parameters(trainable_only=True) == 8
    model.unfreeze("hidden1.bias")
    assert model.num_parameters(trainable_only=True) == 11
    model.unfreeze()
    assert model.num_parameters(trainable_only=True) == 23


def test_freezing_a_layer_spares_those_whose_names_begin_alike() -> None:
    model = nn.mlp(2, (2,) * 10, 1).freeze("hidden1")
    assert [path for path, p in model.named_parameters() if not p.requires_grad] == [
        "hidden1.weight",
        "hidden1.bias",
    ]


def test_a_star_freezes_every_part_that_it_stands_for():
    model = nn.mlp(4, (3, 3), 2).freeze("*.bias")
    trained = [path for path, p in model.named_parameters() if p.requires_grad]
    assert trained == ["hidden1.weight", "hidden2.weight", "output.weight"]


def test_frozen_parameters_receive_no_gradient() -> None:
    model = nn.mlp(4, (3,), 2).freeze("hidden1.weight")
    model(np.ones((1, 4), np.float32)).sum().backward()
    assert {path for path, p in model.named_parameters() if p.grad is None} == {
        "hidden1.weight"
    }


def test_freezing_what_is_not_there_offers_the_nearest() -> None:
    with pytest.raises(OptionError) as caught:
        nn.mlp(4, (3,), 2).freeze("hiden1")
    assert str(caught.value) == (
        "no parameters at 'hiden1'\n"
        "  got:      'hiden1'\n"
        "  expected: the path of a layer or parameter: flatten, hidden1, activation1, "
        "output, hidden1.weight, hidden1.bias and 2 more\n"
        "  try:      did you mean 'hidden1'?"
    )


def test_initial_values_do_not_depend_on_when_layers_were_built() -> None:
    later = nn.Dense(3, 2)
    forwards = nn.Sequential(a=nn.Dense(4, 3), b=later).initialize(5)
    backwards = nn.Sequential(a=nn.Dense(4, 3), b=nn.Dense(3, 2)).initialize(5)
    for path, value in forwards.state().items():
        np.testing.assert_array_equal(value, backwards.state()[path])
    assert (forwards.a.weight.data[:3, :2] != forwards.b.weight.data).any()


def test_both_float_dtypes_start_from_the_same_draws() -> None:
    single = nn.Dense(3, 2).initialize(0).weight.data
    double = nn.Dense(3, 2).astype("float64").initialize(0).weight.data
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_values_given_by_hand_survive_initialize() -> None:
    model = Holder(slope=cr.Parameter([2.0]), layer=nn.Bias(1))
    cr.assign(model.layer.offset, [3.0])
    model.initialize(0)
    assert model.slope.tolist() == [2.0]
    assert model.layer.offset.tolist() == [0.0]


def test_changing_the_dtype_keeps_the_objects_and_leaves_integers() -> None:
    model = Assembled()
    before = model.parameters()
    model.astype("float64")
    assert all(p is q for p, q in zip(before, model.parameters(), strict=True))
    assert {p.dtype for p in before} == {np.dtype("float64")}
    assert model.count.dtype == np.int64
    with pytest.raises(DtypeError, match="a model computes in floats"):
        model.astype("int64")


def test_a_forward_pass_from_before_a_change_of_dtype_is_out_of_date() -> None:
    layer = nn.Dense(2, 1)
    y = layer(np.ones((1, 2), np.float32)).sum()
    layer.astype("float64")
    with pytest.raises(cr.errors.GradientError, match="overwritten"):
        (y * y).backward()


def test_the_state_is_a_copy() -> None:
    layer = nn.Bias(2)
    state = layer.state()
    state["offset"][:] = 7.0
    assert layer.offset.tolist() == [0.0, 0.0]


def test_loading_names_everything_that_does_not_fit() -> None:
    model = nn.mlp(4, (3,), 2)
    state = model.state()
    state["hiden1.bias"] = state.pop("hidden1.bias")
    state["output.bias"] = np.zeros(3, np.float32)
    state["output.weight"] = np.zeros((3, 2), np.complex128)
    with pytest.raises(CheckpointError) as caught:
        model.load_state(state)
    assert str(caught.value) == (
        "these weights do not fit the model\n"
        "  got:      other shape or kind: output.weight complex128[3, 2] for "
        "float32[3, 2], output.bias float32[3] for float32[2]\n"
        "            missing: hidden1.bias\n"
        "            unexpected: hiden1.bias (did you mean hidden1.bias?)\n"
        "  expected: the 4 entries of Sequential\n"
        "  try:      build the model with the settings that it was saved with"
    )


def test_loading_all_or_nothing() -> None:
    model = nn.mlp(4, (3,), 2)
    before = model.state()
    state = {path: value + 1 for path, value in before.items()}
    state["output.bias"] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError):
        model.load_state(state, strict=False)
    for path, value in model.state().items():
        np.testing.assert_array_equal(value, before[path])


def test_loading_a_part_leaves_the_rest() -> None:
    model = nn.mlp(4, (3,), 2)
    before = model.state()
    model.load_state({"hidden1.bias": np.ones(3), "other": np.ones(1)}, strict=False)
    assert model["hidden1"].bias.tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_array_equal(model["output"].weight.data, before["output.weight"])


def test_the_summary_prints_the_lectures_network() -> None:
    text = nn.mlp((28, 28, 1), (30, 30), 10).summary((28, 28, 1))
    assert text.splitlines()[-1] == "24,790 parameters (24,790 trainable), 99,160 bytes"
    assert "hidden1" in text
    assert "23,550" in text


def test_the_summary_leaves_modes_counters_and_gradients_alone() -> None:
    model = nn.mlp(4, (3,), 2, dropout=0.5)
    model["hidden1"].eval()
    state = model.state()
    model.summary((4,))
    assert model.training
    assert not model["hidden1"].training
    for path, value in model.state().items():
        np.testing.assert_array_equal(value, state[path])


def test_the_summary_counts_parameters_in_lists_and_tells_of_layers_not_run() -> None:
    text = Holder(many=[cr.Parameter([1.0, 2.0])], idle=nn.Dense(2, 2)).summary((3,))
    assert text.splitlines()[1].split() == ["(model)", "Holder()", "(n,", "3)", "2"]
    assert "not run" in text.splitlines()[2]
    assert text.splitlines()[-1].startswith("8 parameters")


def test_a_layer_used_twice_counts_once() -> None:
    layer = nn.Dense(2, 2)
    model = nn.Sequential(layer, layer)
    assert model.num_parameters() == 6
    model(np.ones((1, 2), np.float32)).sum().backward()
    assert layer.bias.grad is not None


def test_observers_see_every_layer_and_only_in_their_thread() -> None:
    model = nn.Sequential(nn.Dense(2, 3), nn.ReLU())
    seen: list[tuple[nn.Module, tuple[int, ...]]] = []
    x = np.ones((5, 2), np.float32)
    with nn.observe(lambda module, y: seen.append((module, y.shape))):
        thread = threading.Thread(target=lambda: model(x))
        thread.start()
        thread.join()
        assert seen == []
        model(x)
    model(x)
    assert seen == [(model[0], (5, 3)), (model[1], (5, 3)), (model, (5, 3))]
