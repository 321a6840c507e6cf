"""Runs on the disk: what is in the folder, and what happens when something is wrong."""

import errno
import json
import os
import re
import shutil
import signal
import threading
import time

import numpy as np
import pytest

import chainrule as cr
from chainrule import tasks
from chainrule.errors import (
    CheckpointError,
    FileError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from chainrule.tasks import Settings
from chainrule.training import (
    Checkpoint,
    StepFinished,
    TrainingFinished,
    read_rows,
    write_tensors,
)


def test_a_run_folder_holds_settings_metrics_weights_checkpoint_and_report(
    finished_run,
):
    names = {p.name for p in finished_run.folder.iterdir()}
    assert names == {
        "settings.toml",
        "metrics.jsonl",
        "model.safetensors",
        "checkpoint.safetensors",
        "results.json",
        "report.html",
    }
    assert finished_run.results["accuracy"] > 0.8
    assert finished_run.results["num_parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert {"python", "numpy", "processor"} <= set(finished_run.results["environment"])
    assert [e["epoch"] for e in finished_run.history] == [1, 2]


def test_without_llvmlite_a_run_trains_in_numpy_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("chainrule.compiler.function._has_llvm", lambda: False)
    run = tasks.train(Settings(out=str(tmp_path / "run"), hidden=(8,), epochs=1))
    told = "NumPy (llvmlite is not installed)"
    assert run.results["environment"]["execution"] == told
    assert told in run.report.read_text(encoding="utf-8")


def test_settings_written_beside_a_run_repeat_it_exactly(finished_run, tmp_path):
    settings = tasks.read_settings(finished_run.folder)
    assert None not in (
        settings.lr,
        settings.epochs,
        settings.loss,
        settings.blas_threads,
    )
    again = tasks.train(settings.replace(out=str(tmp_path / "again")))
    assert again.results["loss"] == finished_run.results["loss"]
    first = tasks.load(finished_run.folder).model.state()
    second = tasks.load(again.folder).model.state()
    assert all(np.array_equal(first[k], second[k]) for k in first)


def test_equal_runs_write_equal_model_files(finished_run, tmp_path):
    again = tasks.train(finished_run.settings.replace(out=str(tmp_path / "again")))
    files = [r.folder / "model.safetensors" for r in (finished_run, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_finished_run_can_be_prolonged(finished_run, tmp_path):
    settings = finished_run.settings
    short = tasks.train(settings.replace(out=str(tmp_path / "short"), epochs=1))
    longer = tasks.resume(short.folder, epochs=2)
    assert longer.results["loss"] == finished_run.results["loss"]
    steps = [r["step"] for r in read_rows(longer.folder / "metrics.jsonl", "step")]
    assert steps == list(range(1, len(steps) + 1))


def test_evaluating_a_run_gives_the_scores_that_training_reported(finished_run):
    scores = tasks.evaluate_run(finished_run.folder)
    assert scores["num_examples"] == finished_run.results["num_examples"] == 359
    for name in ("accuracy", "loss"):
        assert scores[name] == finished_run.results[name]
    json.dumps(scores)


def test_the_model_file_alone_predicts(finished_run, tmp_path):
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((finished_run.folder / "model.safetensors").read_bytes())
    digits = cr.data.load(seed=0)
    model = cr.load(moved)
    picture = digits.test.read(np.array([0]))[0]
    prediction = model.predict(picture)
    assert prediction.classes[0][0] == str(digits.test.targets[0])
    assert sum(p for _, p in model.predict(picture, top=10).classes) == pytest.approx(1)


def test_inputs_of_another_shape_are_refused(finished_run):
    model = cr.load(finished_run.folder)
    with pytest.raises(ShapeError) as error:
        model.outputs(np.zeros((2, 9, 9, 1), np.uint8))
    assert str(error.value) == (
        "predict: inputs of another shape than the model was trained on\n"
        "  got:      uint8[2, 9, 9, 1]\n"
        "  expected: (n, 8, 8, 1)"
    )


def test_fit_and_evaluate_are_the_lectures_two_functions():
    digits = cr.data.load(seed=0)
    images = digits.train.read(np.arange(len(digits.train)))
    model = cr.fit(images, digits.train.targets, hidden=(32,), epochs=20, seed=0)
    held_out = digits.test.read(np.arange(len(digits.test)))
    scores = cr.evaluate(model, held_out, digits.test.targets)
    assert scores["accuracy"] > 0.9
    assert scores["num_examples"] == len(digits.test)


def test_ctrl_c_finishes_the_call_saves_and_resumes_to_the_same_bits(
    finished_run, tmp_path
):
    folder = tmp_path / "run"

    def interrupt(event):
        if isinstance(event, StepFinished) and event.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    settings = finished_run.settings.replace(out=str(folder))
    stopped = tasks.train(settings, listeners=[interrupt])
    assert stopped.reason == "interrupted"
    assert not stopped.results, "the test set is not for unfinished runs"
    # Native code is not stopped within a call, nor does one pass an epoch's end.
    stopped_at = Checkpoint.load(folder / "checkpoint.safetensors").progress["step"]
    assert 7 <= stopped_at <= 41
    resumed = tasks.resume(folder)
    assert resumed.results["loss"] == finished_run.results["loss"]


def test_training_from_another_runs_weights_with_a_frozen_part(finished_run, tmp_path):
    settings = finished_run.settings.replace(
        out=str(tmp_path / "run"), init=str(finished_run.folder), epochs=1
    )
    parts = [n for n, _ in tasks.load(finished_run.folder).model.named_parameters()]
    first = parts[0].rsplit(".", 1)[0]
    tuned = tasks.train(settings.replace(freeze=(first,)))
    before = tasks.load(finished_run.folder).model.state()
    after = tasks.load(tuned.folder).model.state()
    assert np.array_equal(before[parts[0]], after[parts[0]])
    assert not np.array_equal(before[parts[-1]], after[parts[-1]])


def test_a_learning_rate_of_zero_for_a_part_leaves_it_alone(finished_run, tmp_path):
    parts = [n for n, _ in tasks.load(finished_run.folder).model.named_parameters()]
    settings = finished_run.settings.replace(
        out=str(tmp_path / "run"),
        init=str(finished_run.folder),
        epochs=1,
        lr_scale=(f"{parts[0]}=0",),
    )
    tuned = tasks.train(settings)
    before = tasks.load(finished_run.folder).model.state()
    after = tasks.load(tuned.folder).model.state()
    assert np.array_equal(before[parts[0]], after[parts[0]])
    assert not np.array_equal(before[parts[-1]], after[parts[-1]])


# ---------------------------------------------------------------------- bad input


def test_nan_in_the_loss_stops_before_the_update_and_names_the_layer(tmp_path):
    folder = tmp_path / "run"
    settings = Settings(
        out=str(folder), optimizer="sgd", lr=1e20, epochs=5, hidden=(8,), seed=0
    )
    with pytest.raises(NonFiniteError) as error:
        tasks.train(settings)
    text = str(error.value)
    assert "training stopped before step" in text
    assert "layer" in text
    assert "a smaller lr" in text
    checkpoint = Checkpoint.load(folder / "checkpoint.safetensors")
    for name, array in checkpoint.sections["model"].items():
        assert np.isfinite(array).all(), name
    assert all(np.isfinite(a).all() for a in cr.load(folder).model.state().values())


def test_a_full_disk_while_saving_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    replaced = []

    def fill_the_disk(descriptor):
        if len(replaced) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    import chainrule.files as files

    rename = files.os.replace

    def replace(source, target):
        if os.path.dirname(target) == str(folder):  # not the cache of native code
            replaced.append(target)
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.os, "fsync", fill_the_disk)
    with pytest.raises(FileError) as error:
        tasks.train(Settings(out=str(folder), hidden=(8,), epochs=5, seed=0))
    assert re.sub(r"[\d,]+ bytes", "N bytes", str(error.value)) == (
        f"cannot write {folder / 'checkpoint.safetensors'}\n"
        "  got:      No space left on device\n"
        "  expected: a writable folder with N bytes free\n"
        "  try:      free some space or choose another folder; "
        "earlier files are unharmed"
    )
    monkeypatch.undo()
    assert Checkpoint.load(folder / "checkpoint.safetensors").progress["step"] >= 0
    assert not list(folder.glob(".*.tmp"))
    whole = tasks.train(
        Settings(out=str(tmp_path / "b"), hidden=(8,), epochs=5, seed=0)
    )
    assert tasks.resume(folder).results["loss"] == whole.results["loss"]


def test_a_run_folder_of_a_newer_version_is_refused(finished_run, tmp_path):
    text = (finished_run.folder / "settings.toml").read_text()
    (tmp_path / "settings.toml").write_text(text.replace("format = 1", "format = 2"))
    with pytest.raises(CheckpointError) as error:
        tasks.resume(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'settings.toml'} was written by a newer chainrule\n"
        "  got:      settings format 2\n"
        "  expected: at most 1\n"
        "  try:      upgrade: pip install --upgrade chainrule"
    )


def test_a_model_file_of_a_newer_version_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    write_tensors(file, {"w": np.zeros(2)}, {"kind": "model", "version": "7"})
    with pytest.raises(CheckpointError) as error:
        cr.load(file)
    assert str(error.value) == (
        f"{file} was written by a newer chainrule\n"
        "  got:      format version 7\n"
        "  expected: at most 1\n"
        "  try:      upgrade: pip install --upgrade chainrule"
    )


def test_weights_that_do_not_fit_the_model_are_listed(finished_run, tmp_path):
    file = tmp_path / "other.safetensors"
    write_tensors(file, {"w": np.zeros((2, 3))}, {"kind": "model"})
    with pytest.raises(CheckpointError) as error:
        tasks.train(
            finished_run.settings.replace(init=str(file), out=str(tmp_path / "r"))
        )
    assert str(error.value) == (
        f"no weights of {file} fit this model\n"
        "  got:      w [2, 3]\n"
        "  expected: standardize.mean [1], standardize.std [1], "
        "network.hidden1.weight [64, 16], network.hidden1.bias [16], "
        "network.output.weight [16, 10], network.output.bias [10]\n"
        "  try:      use the same --model and --hidden as that run"
    )


@pytest.mark.parametrize("damage", ["truncated", "scrambled", "empty"])
def test_a_damaged_model_file_is_named(finished_run, tmp_path, damage):
    content = (finished_run.folder / "model.safetensors").read_bytes()
    file = tmp_path / "model.safetensors"
    file.write_bytes(
        {"truncated": content[:-50], "scrambled": b"x" * 999, "empty": b""}[damage]
    )
    with pytest.raises(CheckpointError, match="cannot read") as error:
        cr.load(file)
    assert "a whole safetensors file" in str(error.value)


def test_layers_are_taken_whole_from_another_run(finished_run, tmp_path):
    settings = finished_run.settings.replace(
        init=str(finished_run.folder), hidden=(16, 8), epochs=0, out=str(tmp_path / "r")
    )
    before = cr.load(finished_run.folder).model.state()
    after = cr.load(tasks.train(settings).folder).model.state()
    for name in ("weight", "bias"):
        path = f"network.hidden1.{name}"
        assert np.array_equal(before[path], after[path])
    # Its bias would fit, but is worth nothing without its weight.
    path = "network.output.bias"
    assert before[path].shape == after[path].shape
    assert not np.array_equal(before[path], after[path])


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        ("{", "lacks how far training came"),
        ('{"epoch": 1, "new": 2}', "does not say where training stood"),
    ],
)
def test_a_checkpoint_that_does_not_fit_costs_the_run_nothing(
    finished_run, tmp_path, progress, message
):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    metadata = {"kind": "checkpoint", "progress": progress}
    write_tensors(folder / "checkpoint.safetensors", {"w": np.zeros(2)}, metadata)
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(CheckpointError, match=message):
        tasks.resume(folder, epochs=5)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_a_run_cannot_be_shortened(finished_run):
    with pytest.raises(OptionError) as error:
        tasks.resume(finished_run.folder, epochs=1)
    assert str(error.value) == (
        f"{finished_run.folder} has trained for longer already\n"
        "  got:      1 epoch\n"
        "  expected: at least 2"
    )
    assert tasks.read_settings(finished_run.folder).epochs == 2


def test_names_that_are_no_text_reach_settings_and_report(finished_run, tmp_path):
    from PIL import Image

    photos = tmp_path / "two\nlines"
    for name in ("a", os.fsdecode(b"b\xff")):
        (photos / name).mkdir(parents=True)
        for number in range(8):
            Image.new("L", (4, 4), 20 * number).save(photos / name / f"{number}.png")
    run = tasks.train(
        Settings(data=str(photos), epochs=1, hidden=(4,), out=str(tmp_path / "run"))
    )
    assert run.report.exists()
    assert tasks.evaluate_run(run.folder)["loss"] == run.results["loss"]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("settings.toml", "format = 7\n", "was written by a newer chainrule"),
        ("settings.toml", "lr = -1\n", "settings.toml: option lr: out of range"),
        ("results.json", "{", "Expecting property name"),
        ("results.json", "[]", "object has no attribute"),
        ("metrics.jsonl", '3\n{"event": "epoch"}\n', "is_best"),
    ],
)
def test_a_run_that_cannot_be_read_does_not_hide_the_others(
    finished_run, tmp_path, file, content, problem
):
    for name in ("good", "bad"):
        shutil.copytree(finished_run.folder, tmp_path / name)
    (tmp_path / "bad" / file).write_text(content)
    rows = {row["run"]: row for row in tasks.list_runs(tmp_path)}
    assert rows["good"]["problem"] is None
    assert rows["good"]["finished"]
    assert problem in rows["bad"]["problem"]
    assert rows["bad"].keys() == rows["good"].keys()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError) as error:
        tasks.resume(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is not a run\n"
        "  got:      no settings.toml inside\n"
        "  expected: a folder that chainrule train made\n"
        "  try:      chainrule runs lists them"
    )


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError) as error:
        tasks.train(Settings(out=str(tmp_path), epochs=1))
    assert str(error.value) == (
        f"{tmp_path} already holds something\n"
        "  got:      a folder that is not empty\n"
        "  expected: a new or empty folder for the run\n"
        f"  try:      chainrule resume {tmp_path}, or another --out"
    )
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.name == "nt", reason="Windows locks open files by itself")
def test_two_processes_do_not_train_one_folder(finished_run, tmp_path):
    folder = tmp_path / "run"
    settings = finished_run.settings.replace(out=str(folder), epochs=3)
    first_step, go_on = threading.Event(), threading.Event()

    def hold(event):
        if isinstance(event, StepFinished):
            first_step.set()
            go_on.wait(20)

    first = threading.Thread(
        target=tasks.train, args=(settings,), kwargs={"listeners": [hold]}
    )
    first.start()
    assert first_step.wait(20)
    try:
        with pytest.raises(FileError, match="is being trained by another process"):
            tasks.resume(folder)
    finally:
        go_on.set()
        first.join()
    assert cr.load(folder)


def test_runs_without_a_folder_name_get_one_each(finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = finished_run.settings.replace(epochs=1).replace(out=None)
    folders = [str(tasks.train(settings).folder) for _ in range(2)]
    assert folders == ["runs/digits-mlp-1", "runs/digits-mlp-2"]
    rows = tasks.list_runs("runs")
    assert [row["run"] for row in rows] == ["digits-mlp-1", "digits-mlp-2"]
    assert all(row["finished"] and row["test"]["accuracy"] > 0.5 for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": "adam"}, "unknown option 'optimiser'"),
        ({"epochs": "ten"}, "option epochs: wrong kind of value"),
        ({"lr": -1.0}, "option lr: out of range"),
        ({"dropout": 1.0}, "option dropout: out of range"),
        ({"hidden": (0,)}, "option hidden: a layer without units"),
        ({"channels": 2}, "option channels: out of range"),
        ({"clip_norm": 0.0}, "option clip_norm: out of range"),
        ({"tta": 2}, "option tta: there is nothing to change the copies by"),
    ],
)
def test_options_are_checked_with_their_names(changes, message):
    with pytest.raises(OptionError) as error:
        Settings().replace(**changes)
    assert str(error.value).splitlines()[0] == message


def test_settings_made_directly_are_checked_too():
    with pytest.raises(OptionError, match="option size"):
        Settings(size=(1, 2, 3))
    with pytest.raises(OptionError, match="option epochs: wrong kind of value"):
        Settings(epochs="ten")
    assert Settings(hidden=[100, 50], lr=1) == Settings(hidden=(100, 50), lr=1.0)


@pytest.mark.parametrize(
    ("changes", "message", "near"),
    [
        ({"task": "clasify"}, "unknown task 'clasify'", "classify"),
        ({"model": "mpl"}, "unknown model 'mpl'", "mlp"),
        ({"loss": "softmx"}, "unknown loss for task classify 'softmx'", "softmax"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'", "adam"),
        ({"activation": "rleu"}, "unknown activation 'rleu'", "relu"),
        ({"freeze": ("network.layer",)}, None, None),
        ({"lr_scale": ("network",)}, None, None),
        ({"lr_scale": ("network=fast",)}, None, None),
    ],
)
def test_unknown_names_offer_the_nearest(changes, message, near, tmp_path):
    with pytest.raises(OptionError) as error:
        tasks.train(Settings(out=str(tmp_path / "r")).replace(**changes, epochs=1))
    assert not (tmp_path / "r").exists(), "settings that do not work leave no folder"
    if message:
        assert str(error.value).splitlines()[0] == message
        assert error.value.hint == f"did you mean {near!r}?"


def test_the_loop_emits_events_and_knows_no_listener(tmp_path):
    events = []
    tasks.train(
        Settings(out=str(tmp_path / "r"), hidden=(4,), epochs=1),
        listeners=[events.append],
    )
    kinds = [type(e).__name__ for e in events]
    assert kinds[0] == "TrainingStarted"
    assert isinstance(events[-1], TrainingFinished)
    assert kinds.count("EpochFinished") == 1
    assert kinds.count("StepFinished") == events[0].steps_per_epoch
    assert "CheckpointSaved" in kinds


def test_early_stopping_restores_the_best_weights(tmp_path):
    run = tasks.train(
        Settings(
            out=str(tmp_path / "r"),
            hidden=(16,),
            epochs=60,
            patience=3,
            lr=0.05,
            optimizer="adam",
        )
    )
    assert run.reason == "early stopping"
    scores = [e["validation"]["accuracy"] for e in run.history]
    best = run.results["best_epoch"]
    assert scores[best - 1] == max(scores)
    assert len(scores) == best + 3
    validation = tasks.evaluate_run(run.folder, split="validation")
    assert validation["accuracy"] == scores[best - 1]
    again = tasks.resume(run.folder)
    assert again.history == run.history, "resuming must not undo an early stop"
    assert again.results["loss"] == run.results["loss"]
    assert again.reason == "early stopping"
    assert len(tasks.resume(run.folder, epochs=61).history) > len(scores)


def test_accumulated_minibatches_equal_one_large_one(tmp_path):
    def weights(name, **changes):
        settings = Settings(
            out=str(tmp_path / name),
            hidden=(8,),
            epochs=1,
            optimizer="sgd",
            lr=0.1,
            schedule="constant",
        ).replace(**changes)
        return tasks.load(tasks.train(settings).folder).model.state()

    large = weights("large", batch_size=64)
    small = weights("small", batch_size=16, accumulate=4)
    for name in large:
        np.testing.assert_allclose(large[name], small[name], rtol=2e-4, atol=2e-5)


def test_time_is_forecast_without_touching_the_run(finished_run):
    settings = finished_run.settings.replace(dropout=0.5)
    splits = cr.data.load(seed=0)
    job = tasks.prepare(settings, splits)
    before = job.predictor.model.state()
    began = time.perf_counter()
    forecast = cr.training.forecast(job.trainer)
    assert time.perf_counter() - began < 30
    assert forecast.time_s > 0
    assert forecast.activations_bytes > 32 * (64 + 16 + 10) * 4
    after = job.predictor.model.state()
    assert all(np.array_equal(before[k], after[k]) for k in before)
