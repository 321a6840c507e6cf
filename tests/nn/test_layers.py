from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DtypeError, IndexingError, OptionError, ShapeError


def test_dense_multiplies_by_in_out_weights_and_adds_the_bias() -> None:
    layer = nn.Dense(2, 3)
    cr.assign(layer.weight, [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    cr.assign(layer.bias, [0.5, 0.0, -0.5])
    assert layer([[1.0, 2.0]]).tolist() == [[21.5, 42.0, 62.5]]
    assert layer([1.0, 2.0]).tolist() == [21.5, 42.0, 62.5]


def test_dense_names_both_numbers_of_features() -> None:
    with pytest.raises(ShapeError) as caught:
        nn.Dense(784, 10)(np.zeros((1, 28, 28)))
    assert str(caught.value) == (
        "dense: input has 28 features, the layer takes 784\n"
        "  got:      float64[1, 28, 28]\n"
        "  expected: (..., 784)\n"
        "  try:      put Flatten() before the layer"
    )
    with pytest.raises(ShapeError):
        nn.Dense(1, 10)(1.0)


@pytest.mark.parametrize("size", [0, -3, 2.0, True, "3"])
def test_sizes_are_whole_numbers_from_one_on(size: Any) -> None:
    for make in (
        lambda: nn.Dense(size, 1),
        lambda: nn.Maxout(1, size),
        lambda: nn.Embedding(size, 1),
        lambda: nn.Scale(size),
        lambda: nn.Bias(size),
        lambda: nn.PReLU(size),
    ):
        with pytest.raises(OptionError, match="is not a size"):
            make()


def test_sizes_may_be_integers_of_numpy() -> None:
    assert nn.mlp((2, 2), np.array([3]), np.int64(2)).num_parameters() == 23


def test_bytes_must_be_rescaled_before_dense() -> None:
    pixels = np.full((1, 4), 255, np.uint8)
    with pytest.raises(DtypeError, match="uint8 would wrap around"):
        nn.Dense(4, 1)(pixels)
    assert nn.Sequential(nn.Rescale(), nn.Dense(4, 1))(pixels).dtype == np.float32


def test_maxout_is_the_larger_of_two_sums() -> None:
    layer = nn.Maxout(1, 2)
    cr.assign(layer.weight, [[1.0, 0.0, -1.0, 2.0]])  # outputs 0 and 1 of both pieces
    cr.assign(layer.bias, [0.0, 1.0, 0.0, 0.0])
    assert layer([[3.0], [-3.0]]).tolist() == [[3.0, 6.0], [3.0, 1.0]]


def test_embedding_looks_rows_up_and_adds_their_gradients() -> None:
    layer = nn.Embedding(3, 2)
    y = layer([[0, 2], [2, 2]])
    assert y.shape == (2, 2, 2)
    np.testing.assert_array_equal(y.data[0, 1], layer.table.data[2])
    y.sum().backward()
    assert layer.table.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [3.0, 3.0]]


def test_embedding_refuses_other_positions() -> None:
    layer = nn.Embedding(3, 2)
    for positions in ([3], [-1]):
        with pytest.raises(IndexingError, match="no such row in the table"):
            layer(positions)
    with pytest.raises(DtypeError, match="positions in a table are integers"):
        layer([0.5])
    assert layer(np.zeros((0,), np.int64)).shape == (0, 2)


def test_prelu_learns_its_slope_where_inputs_are_negative() -> None:
    layer = nn.PReLU()
    y = layer([[-2.0, 3.0]])
    assert y.tolist() == [[-0.5, 3.0]]
    y.sum().backward()
    assert layer.slopes.grad.tolist() == [-2.0]
    assert not layer.slopes.is_penalized


def test_softmax_layers_take_an_axis() -> None:
    x = np.zeros((2, 4))
    np.testing.assert_allclose(nn.Softmax(axis=0)(x).data, 0.5)
    np.testing.assert_allclose(nn.LogSoftmax(axis=0)(x).data, -np.log(2))


def test_an_unknown_activation_offers_the_nearest() -> None:
    with pytest.raises(OptionError) as caught:
        nn.activation("lekyrelu")
    assert str(caught.value) == (
        "unknown activation 'lekyrelu'\n"
        "  got:      'lekyrelu'\n"
        "  expected: one of elu, gelu, identity, leaky_relu, log_softmax, prelu, relu, "
        "sigmoid, silu, softmax, softplus, tanh\n"
        "  try:      did you mean 'leaky_relu'?"
    )
    with pytest.raises(OptionError, match="unknown GELU form"):
        nn.GELU("fast")


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_every_named_activation_is_a_new_layer(name: str) -> None:
    assert nn.activation(name) is not nn.activation(name)
    assert nn.activation(name)([[0.5, -0.5]]).shape == (1, 2)


def test_threshold_and_reindexing() -> None:
    assert nn.Threshold(0.5)([0.5, 0.6]).tolist() == [0.0, 1.0]
    x = cr.Tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    y = nn.BatchReindex()(x, [2, 0, 2])
    assert y.tolist() == [[3.0], [1.0], [3.0]]
    y.sum().backward()
    assert x.grad.tolist() == [[1.0], [0.0], [2.0]]
    with pytest.raises(IndexingError):
        nn.BatchReindex()(x, [3])


def test_sequential_layers_are_attributes_items_and_replaceable() -> None:
    net = nn.Sequential(nn.Dense(2, 3), head=nn.Dense(3, 1))
    assert len(net) == 2
    assert net["head"] is net[-1] is net.head
    net.head = nn.Dense(3, 5)
    assert [repr(layer) for layer in net] == [
        "Dense(in_features=2, out_features=3)",
        "Dense(in_features=3, out_features=5)",
    ]
    assert net(np.zeros((1, 2), np.float32)).shape == (1, 5)


def test_an_empty_sequential_is_the_identity() -> None:
    assert nn.Sequential()([1.0]).tolist() == [1.0]


def test_sequential_refuses_functions_and_names_in_use() -> None:
    with pytest.raises(OptionError) as caught:
        nn.Sequential(nn.Dense(2, 2), cr.relu)
    assert str(caught.value) == (
        "sequential: 1 is not a layer\n"
        "  got:      function\n"
        "  expected: a Module\n"
        "  try:      wrap a function of tensors in nn.Function"
    )
    for name in ("training", "forward", "names"):
        with pytest.raises(OptionError, match=f"cannot be named '{name}'"):
            nn.Sequential(**{name: nn.ReLU()})


def test_sequential_says_which_layers_it_has() -> None:
    net = nn.mlp(2, (3,), 1)
    with pytest.raises(OptionError, match="did you mean 'hidden1'"):
        net["hiden1"]
    with pytest.raises(OptionError, match="no layer 9"):
        net[9]


def test_residual_adds_the_shortcut() -> None:
    body = nn.Function(lambda x: x * 2)
    assert nn.Residual(body)([1.0]).tolist() == [3.0]
    assert nn.Residual(body, shortcut=nn.Function(cr.negative))([1.0]).tolist() == [1.0]
    with pytest.raises(ShapeError, match="body and shortcut differ in shape"):
        nn.Residual(nn.Dense(2, 3))([[1.0, 2.0]])


def test_dropout_is_the_identity_in_evaluation_and_keeps_the_mean_in_training() -> None:
    layer = nn.Dropout(0.25).initialize(0)
    x = np.ones((100, 100), np.float32)
    y = layer(x).data
    assert set(np.unique(y)) == {0.0, np.float32(4 / 3)}
    assert y.mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(layer.eval()(x).data, x)


def test_dropout_draws_by_seed_path_and_step_not_by_call_order() -> None:
    x = np.ones((4, 50), np.float32)

    def masks(seed: int, path: str) -> list[Any]:
        model = nn.Sequential(**{path: nn.Dropout(0.5)}).initialize(seed)
        return [model(x).data for _ in range(2)]

    first, second = masks(0, "a")
    again = masks(0, "a")
    np.testing.assert_array_equal([first, second], again)
    for other in (second, masks(1, "a")[0], masks(0, "b")[0]):
        assert (first != other).any()


def test_dropout_goes_on_where_a_saved_state_stopped() -> None:
    x = np.ones((4, 50), np.float32)
    layer = nn.Dropout(0.5).initialize(0)
    layer(x)
    resumed = nn.Dropout(0.5)
    resumed.load_state(layer.state())
    np.testing.assert_array_equal(layer(x).data, resumed(x).data)
    assert layer.step.item() == 2


def test_two_new_dropouts_differ() -> None:
    x = np.ones((4, 50), np.float32)
    assert (nn.Dropout(0.5)(x).data != nn.Dropout(0.5)(x).data).any()


def test_dropout_passes_gradients_where_it_passed_values() -> None:
    x = cr.Tensor(np.ones((4, 50)), requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_dropout_rates_are_checked(rate: float) -> None:
    with pytest.raises(OptionError, match="rate out of range"):
        nn.Dropout(rate)


def test_standardizing_undoes_mean_and_deviation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    layer = nn.Standardize(pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2)))
    y = layer(pixels).data
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Standardize([1.0, 2.0]), nn.Rescale([1.0, 2.0])])
def test_first_layers_never_widen_their_input(layer: nn.Module) -> None:
    with pytest.raises(ShapeError) as caught:
        layer(np.zeros((3, 1)))
    assert str(caught.value) == (
        f"{type(layer).__name__.lower()}: the layer's numbers do not fit the input\n"
        "  got:      float64[3, 1], which would become float64[3, 2]\n"
        "  expected: one number, one for each channel, or an image of them"
    )


def test_rescaling_takes_a_number_for_each_channel() -> None:
    layer = nn.Rescale([1.0, 10.0], offset=[0.0, 5.0])
    assert layer([[1.0, 2.0]]).tolist() == [[1.0, 25.0]]
    assert set(layer.state()) == {"scale", "offset"}
    assert set(nn.Rescale(2.0).state()) == {"scale"}


def test_standardizing_by_nothing_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        nn.Standardize(0.0, [1.0, 0.0])
    assert str(caught.value) == (
        "standardize: a standard deviation is not positive\n"
        "  got:      smallest std 0\n"
        "  expected: std > 0\n"
        "  try:      constant pixels: np.maximum(std, 1e-3)"
    )
    with pytest.raises(OptionError, match="mean is not finite"):
        nn.Standardize(float("nan"))


def test_preprocessing_is_saved_with_the_model() -> None:
    state = nn.Sequential(nn.Standardize(3.0, 2.0), nn.Rescale(1 / 255, -0.5)).state()
    assert {path: float(value) for path, value in state.items()} == {
        "0.mean": 3.0,
        "0.std": 2.0,
        "1.scale": pytest.approx(1 / 255),
        "1.offset": -0.5,
    }


def test_models_by_name() -> None:
    assert nn.model_builder("linear") is nn.linear
    with pytest.raises(OptionError, match="did you mean 'mlp'"):
        nn.model_builder("mpl")


def test_a_multilayer_perceptron_starts_by_the_rule_of_its_activation() -> None:
    for name, rule in [("relu", nn.he_normal()), ("tanh", nn.glorot_uniform())]:
        model = nn.mlp(8, (4,), 2, activation=name)
        assert model["hidden1"].weight.initializer == rule


def test_only_weights_are_penalized() -> None:
    model = nn.Sequential(nn.Dense(2, 2), nn.Maxout(2, 2), nn.PReLU(), nn.Scale(2))
    assert [path for path, p in model.named_parameters() if p.is_penalized] == [
        "0.weight",
        "1.weight",
    ]
