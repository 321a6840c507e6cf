"""The trainer itself, on data small enough to follow."""

import re
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.compiler import execution as usual_execution
from chainrule.core.graph import Tensor
from chainrule.data import Loader, arrays
from chainrule.errors import NonFiniteError, OptionError
from chainrule.training import Checkpoint, Monitor, Recipe, StepFinished, Trainer


@pytest.fixture(params=["native", "numpy"])
def execution(request, monkeypatch):
    """Each test runs as native code and in NumPy."""
    monkeypatch.setenv("CHAINRULE_EXECUTION", request.param)
    if request.param == "native" and usual_execution() != "native":
        pytest.skip("llvmlite is not installed")
    return request.param


class Broken(nn.Module):
    """NaN for the batch that holds a 3."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (np.nan if (x.data == 3).any() else 0.0)


def trainer(layer: nn.Module, epochs: int = 2, **options) -> Trainer:
    inputs = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    data = arrays(inputs, [0.0, 1.0, 2.0, 3.0], task="regress")
    model = nn.Sequential(layer=layer, out=nn.Dense(1, 1)).initialize(0)
    recipe = Recipe(epochs=epochs, accumulate=options.pop("accumulate", 1))
    return Trainer(
        model,
        nn.squared_error,
        optim.optimizer("sgd", model.named_parameters()),
        Loader(data, 1, shuffle=False),
        recipe=recipe,
        schedule=optim.schedule("constant", lr=0.01, epochs=epochs),
        **options,
    )


def test_the_bad_layer_is_named_whichever_minibatch_of_an_update_met_it():
    with pytest.raises(NonFiniteError) as caught:
        trainer(Broken(), accumulate=4).run()
    assert str(caught.value).splitlines()[0] == (
        "training stopped before step 1: the output of layer 'layer' (Broken)"
    )


def test_an_interrupted_trainer_can_go_on(execution):
    seen: list[int] = []

    def listen(event):
        if isinstance(event, StepFinished):
            seen.append(event.step)
            if event.step == 3:
                ours._interrupted.set()

    ours = trainer(nn.Identity(), listeners=[listen])
    assert ours.run() == "interrupted"
    # Native code ends the block that it is in, at the latest with the first epoch.
    blocks = [[1, 2, 3]] if execution == "numpy" else [[1, 2, 3], [1, 2, 3, 4]]
    assert seen in blocks
    assert ours.run() == "epochs"
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_score_to_monitor_that_nobody_gives_is_told():
    with pytest.raises(OptionError, match="unknown score to monitor 'acuracy'"):
        trainer(nn.Identity(), monitor=Monitor("acuracy")).run()


def image_trainer(inputs: np.ndarray, **options) -> Trainer:
    """A net with dropout on as many pictures as there are inputs, three classes."""
    targets = np.arange(len(inputs)) % 3
    model = nn.Sequential(
        nn.Standardize(1.0, 0.8),
        nn.Flatten(),
        nn.Dense(12, 9),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Dense(9, 3),
    ).initialize(0)
    recipe = Recipe(epochs=options.pop("epochs", 2), **options.pop("recipe", {}))
    with_average = options.pop("average", False)
    return Trainer(
        model,
        nn.softmax_cross_entropy,
        optim.optimizer("adam", model.named_parameters(), lr=0.01),
        Loader(
            arrays(inputs, targets),
            options.pop("batch_size", 4),
            shuffle=options.pop("shuffle", True),
        ),
        recipe=recipe,
        schedule=optim.schedule("cosine", lr=0.01, epochs=recipe.epochs),
        average=optim.MovingAverage(model.named_parameters(), 0.9)
        if with_average
        else None,
        **options,
    )


def pictures(count: int = 18, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, (count, 3, 4, 1)).astype(dtype)


def everything(trainer: Trainer) -> dict[str, np.ndarray]:
    """All state that a checkpoint holds."""
    parts = {"model": trainer.model, "optimizer": trainer.optimizer}
    if trainer.average is not None:
        parts["average"] = trainer.average
    return {f"{p}/{k}": v for p in parts for k, v in parts[p].state().items()}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"clip_norm": 0.5},
        {"accumulate": 2},
        {"mixup": 0.3},
        {"mixup": 0.3, "accumulate": 3, "clip_norm": 1.0},
    ],
    ids=lambda recipe: "-".join(recipe) or "plain",
)
def test_native_code_trains_as_numpy_does(recipe, dtype, monkeypatch):
    if usual_execution() != "native":
        pytest.skip("llvmlite is not installed")
    states, losses = [], []
    for name in ("native", "numpy"):
        monkeypatch.setenv("CHAINRULE_EXECUTION", name)
        seen = []

        def listen(event, seen=seen):
            if isinstance(event, StepFinished):
                seen.append((event.step, event.loss, event.gradient_norm, event.lr))

        ours = image_trainer(
            pictures(dtype=dtype), recipe=recipe, average=True, listeners=[listen]
        )
        ours.run()
        assert ours.update.is_native == (name == "native")
        states.append(everything(ours))
        losses.append(seen)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for name, array in states[1].items():
        np.testing.assert_allclose(states[0][name], array, 2e-3, 1e-5, err_msg=name)


def test_bits_do_not_depend_on_how_many_updates_a_native_call_makes(monkeypatch):
    states = []
    for block_s in (0.0, 10.0):
        monkeypatch.setattr("chainrule.training.loop._BLOCK_S", block_s)
        ours = image_trainer(pictures(67), epochs=5, average=True)
        ours.run()
        states.append(everything(ours))
    assert all(np.array_equal(states[0][k], v) for k, v in states[1].items())


@pytest.mark.parametrize("count", [17, 18])
def test_going_on_with_an_epochs_short_last_minibatch_gives_the_same_bits(
    count, execution, monkeypatch, tmp_path
):
    monkeypatch.setattr("chainrule.training.loop._BLOCK_S", 0.0)
    whole = image_trainer(pictures(count))
    whole.run()

    def interrupt(event):
        if isinstance(event, StepFinished) and event.step == 4:
            stopped._interrupted.set()

    stopped = image_trainer(pictures(count), listeners=[interrupt])
    stopped.checkpoint = tmp_path / "checkpoint.safetensors"
    assert stopped.run() == "interrupted"
    resumed = image_trainer(pictures(count))
    resumed.restore(Checkpoint.load(stopped.checkpoint))
    assert resumed.progress.batches_done == 4
    resumed.run()  # the first minibatch that it is compiled for is the short one
    theirs = everything(whole)
    assert all(np.array_equal(theirs[k], v) for k, v in everything(resumed).items())


def test_an_update_that_is_not_finite_changes_nothing_at_all(execution, tmp_path):
    def kept(inputs: np.ndarray, name: str, expected: Any) -> dict[str, np.ndarray]:
        ours = image_trainer(
            inputs, epochs=1, shuffle=False, average=True, recipe={"clip_norm": 1.0}
        )
        ours.schedule = optim.schedule("constant", lr=0.01, epochs=1)
        ours.checkpoint = tmp_path / name
        with expected:
            ours.run()
        assert ours.progress.step == 3
        found = Checkpoint.load(tmp_path / name).sections
        return {f"{s}/{k}": v for s in found for k, v in found[s].items()}

    inputs = pictures(dtype=np.float32)
    good = kept(inputs[:12], "good", nullcontext())
    inputs[13] = 1e38  # in the fourth minibatch of four
    bad = kept(
        inputs, "bad", pytest.raises(NonFiniteError, match="before step 4: the output")
    )
    for name, array in good.items():
        if not name.startswith("best/"):
            np.testing.assert_array_equal(bad[name], array, name)


def test_a_model_that_looks_at_values_trains_in_numpy_and_says_so():
    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if (x.data > 0).any() else x

    ours = trainer(Looking())
    ours.run()
    assert ours.progress.step == 8
    if usual_execution() == "native":
        assert ours.update.execution == (
            "NumPy (capture: a value is read that is not there yet (layer layer))"
        )


def test_the_execution_is_told_in_words(execution):
    told = trainer(nn.Identity()).update.execution
    if execution == "numpy":
        assert told == "NumPy (CHAINRULE_EXECUTION)"
    else:
        assert re.fullmatch(r"native code \(\w+\), \d+ threads?", told)


def test_a_trial_leaves_the_trainer_as_it_was(execution):
    ours = image_trainer(pictures(), average=True)
    before, progress = everything(ours), vars(ours.progress).copy()
    assert ours.trial(0.01) > 0
    assert vars(ours.progress) == progress
    assert all(np.array_equal(before[k], v) for k, v in everything(ours).items())
