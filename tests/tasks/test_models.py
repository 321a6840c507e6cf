"""Which network a run trains, and what options mean for it."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, tasks
from chainrule.errors import OptionError, ShapeError
from chainrule.tasks import Settings
from chainrule.tasks.architecture import Architecture, model_options

RNG = np.random.default_rng(0)


def resolved(shape=(8, 8, 1), **options):
    """Concrete settings for data of this shape."""
    x = RNG.integers(0, 256, (20, *shape), dtype=np.uint8)
    dataset = cr.data.arrays(x, np.arange(20) % 2)
    splits = cr.data.Splits(dataset, dataset, dataset)
    return tasks.resolve(Settings(**options), splits)


@pytest.mark.parametrize(
    ("shape", "options", "model"),
    [
        ((8, 8, 1), {}, "cnn"),
        ((480, 640, 3), {}, "cnn"),
        ((7, 40, 1), {}, "mlp"),
        ((12,), {}, "mlp"),
        ((32, 32, 3), {"hidden": (100,)}, "mlp"),
        ((32, 32, 3), {"hidden": ()}, "mlp"),
        ((32, 32, 3), {"model": "resnet20"}, "resnet20"),
    ],
)
def test_pictures_get_a_convolutional_net_and_all_else_a_multilayer_perceptron(
    shape, options, model
):
    assert resolved(shape, **options).model == model


def test_options_that_were_left_open_are_the_models_own():
    cnn, vgg = resolved(), resolved(model="vgg")
    assert (cnn.hidden, cnn.activation, cnn.dropout) == (None, "relu", 0.0)
    assert (vgg.activation, vgg.dropout) == (None, 0.5)
    mlp = resolved((6,))
    assert (mlp.hidden, mlp.activation, mlp.dropout) == ((256,), "relu", 0.0)
    assert resolved(model="lenet5").activation == "tanh"
    assert resolved(model="vgg", dropout=0.2).dropout == 0.2


def test_rates_and_epochs_follow_the_model():
    assert resolved().lr == 0.003
    assert resolved(model="alexnet").lr == pytest.approx(0.0003)
    assert resolved(model="alexnet", optimizer="momentum").lr == pytest.approx(0.002)
    assert (resolved().epochs, resolved((6,)).epochs) == (30, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "cnn", "hidden": (100,)},
            "option hidden: cnn has none\n"
            "  got:      hidden 100, model cnn\n"
            "  expected: with hidden, one of the models mlp",
        ),
        (
            {"model": "resnet20", "activation": "gelu"},
            "option activation: resnet20 has none\n"
            "  got:      activation gelu, model resnet20\n"
            "  expected: with activation, one of the models mlp, cnn, lenet5",
        ),
        (
            {"model": "linear", "dropout": 0.5},
            "option dropout: linear has none\n"
            "  got:      dropout 0.5, model linear\n"
            "  expected: with dropout, one of the models mlp, cnn, vgg, alexnet",
        ),
    ],
)
def test_an_option_that_the_model_does_not_have_is_refused(options, message):
    with pytest.raises(OptionError) as error:
        resolved(**options)
    assert str(error.value) == message


def test_pictures_too_small_for_a_model_are_told_the_arithmetic(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ShapeError) as error:
        tasks.train(Settings(model="lenet5", out=str(folder)))
    assert str(error.value) == (
        "lenet5 does not take pictures of 8×8×1; conv: the window is larger than the "
        "image (layer c3)\n"
        "  got:      h = 4, padding 0 + 0, window 5, dilation 1\n"
        "  expected: 4 + 0 + 0 ≥ 1·(5 - 1) + 1 = 5; the output size is "
        "(4 + 0 + 0 - 5) // 1 + 1\n"
        "  try:      larger pictures (option size: 64,64), or a model for small ones, "
        "such as cnn or resnet20"
    )
    assert not folder.exists()


def test_a_table_is_no_picture():
    x = RNG.normal(size=(20, 6))
    with pytest.raises(ShapeError, match="cnn: needs pictures"):
        cr.fit(x, np.arange(20) % 2, model="cnn", epochs=1)


@pytest.mark.parametrize("name", nn.MODELS)
def test_every_model_is_built_from_its_own_description(name):
    shape = (64, 64, 1) if name == "alexnet" else (16, 16, 1)
    settings = resolved(shape, model=name)
    architecture = Architecture(
        model=name,
        input_shape=shape,
        num_outputs=3,
        hidden=settings.hidden or (),
        activation=settings.activation,
        dropout=settings.dropout,
        seed=5,
    )
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert nn.output_shape(architecture.build(), shape) == (3,)
    assert set(model_options(name)) <= {"hidden", "activation", "dropout"}


def test_a_random_networks_wiring_follows_the_runs_seed_and_is_saved(tmp_path):
    x = RNG.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(20) % 2
    models = [cr.fit(x, labels, model="random_wired", epochs=0, seed=s) for s in (0, 1)]
    wiring = [m.model.network.graph1.sources for m in models]
    assert wiring[0] != wiring[1]
    models[1].save(tmp_path / "model.safetensors")
    again = cr.load(tmp_path / "model.safetensors")
    assert again.model.network.graph1.sources == wiring[1]
    np.testing.assert_array_equal(again.outputs(x), models[1].outputs(x))


def test_a_frozen_part_keeps_its_running_statistics_too(tmp_path):
    settings = Settings(out=str(tmp_path / "first"), epochs=1, schedule="constant")
    first = tasks.train(settings)
    tuned = tasks.train(
        settings.replace(
            out=str(tmp_path / "tuned"),
            init=str(first.folder),
            freeze=("network.stage1", "network.stage2"),
        )
    )
    before, after = (tasks.load(run.folder).model.state() for run in (first, tuned))
    for path, value in before.items():
        is_frozen = path.startswith(("network.stage1", "network.stage2", "standardize"))
        assert np.array_equal(value, after[path]) == is_frozen, path


def test_a_convolutional_run_can_be_stopped_and_resumed_to_the_same_bits(tmp_path):
    settings = Settings(epochs=2, batch_size=128, schedule="constant")
    whole = tasks.train(settings.replace(out=str(tmp_path / "whole")))
    half = tasks.train(settings.replace(out=str(tmp_path / "half"), epochs=1))
    resumed = tasks.resume(half.folder, epochs=2)
    assert resumed.results["loss"] == whole.results["loss"]
    scores = tasks.evaluate_run(resumed.folder)
    assert scores["loss"] == whole.results["loss"]
    first, second = (tasks.load(run.folder).model.state() for run in (whole, resumed))
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path], err_msg=path)


def test_a_moving_average_has_the_running_statistics_that_belong_to_it(tmp_path):
    settings = resolved(epochs=1, average=0.9, out=str(tmp_path / "run"))
    digits = cr.data.load(seed=0)
    job = tasks.prepare(settings, digits)
    norm = job.predictor.model.network.stage1.norm
    seen = []

    def look(event):
        if type(event).__name__ == "EpochFinished":
            seen.append(norm.mean.numpy())

    job.trainer.listeners.append(look)
    job.trainer.run()
    names = dict(job.trainer.average.named_state())
    averaged = names["average/network.stage1.norm.mean"].data
    np.testing.assert_array_equal(norm.mean.data, averaged)
    assert not np.array_equal(seen[0], averaged)
