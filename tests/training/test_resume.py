"""A run may be killed anywhere and still ends with the bits it would have had."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.training import Checkpoint, read_rows

# Runs or resumes in a process of its own, and kills that process at a chosen moment:
# "step:30" after 30 updates, "save:4" in the middle of the 4th write of a checkpoint.
# Changed pictures are made by Python one minibatch at a time; without, native code
# makes many updates a call.
PROGRAM = """
import os, signal, sys
import chainrule.files as files
from chainrule import tasks
from chainrule.training import StepFinished

folder, moment, augment = sys.argv[1:]
kind, _, number = moment.partition(":")
counts = {"step": 0, "save": 0}

def count(what):
    counts[what] += 1
    if what == kind and counts[what] == int(number):
        os.kill(os.getpid(), signal.SIGKILL)

write = os.replace
def replace(source, target):
    if str(target).endswith("checkpoint.safetensors"):
        count("save")
    write(source, target)
files.os.replace = replace

def listen(event):
    if isinstance(event, StepFinished):
        count("step")

settings = tasks.Settings(
    out=folder, hidden=(16,), epochs=10, dropout=0.2, augment=augment, seed=3,
    optimizer="adam", mixup=0.2 if augment else 0, average=0.9, schedule="cosine",
    checkpoint_every_s=0.02,
)
if os.path.exists(os.path.join(folder, "settings.toml")):
    tasks.resume(folder, listeners=[listen])
else:
    tasks.train(settings, listeners=[listen])
"""


def run(folder: Path, moment: str = "never", augment: str = "", **changes: str) -> int:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **changes}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), moment, augment],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        pytest.fail(done.stderr)
    return done.returncode


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("augment", "moments"),
    [
        ("", "save:1 step:9 save:3 step:30 save:2"),
        (
            "shift:1",
            "save:1 step:9 save:3 step:13 save:2 step:7 save:4 step:11 save:2 step:5",
        ),
    ],
    ids=["plain", "changed pictures"],
)
def test_a_run_killed_again_and_again_ends_bit_identical_with_every_step_logged_once(
    tmp_path, augment, moments
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(whole, augment=augment, CHAINRULE_NUM_THREADS="2") == 0

    for number, moment in enumerate(moments.split()):
        file = broken / "checkpoint.safetensors"
        before = Checkpoint.load(file).progress["step"] if file.exists() else 0
        threads = str(1 + number % 3)  # which must not matter either
        code = run(broken, moment, augment, CHAINRULE_NUM_THREADS=threads)
        assert code == -signal.SIGKILL, moment
        assert not file.exists() or Checkpoint.load(file).progress["step"] >= before
    assert run(broken, augment=augment, CHAINRULE_NUM_THREADS="3") == 0

    ours = Checkpoint.load(broken / "checkpoint.safetensors")
    theirs = Checkpoint.load(whole / "checkpoint.safetensors")
    assert ours.progress["step"] == theirs.progress["step"] > 0
    for section, arrays in theirs.sections.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(ours.sections[section][name], array, name)

    steps = read_rows(broken / "metrics.jsonl", "step")
    assert [row["step"] for row in steps] == list(range(1, ours.progress["step"] + 1))
    assert steps == read_rows(whole / "metrics.jsonl", "step")
    for split in ("accuracy", "loss"):
        results = [
            json.loads((f / "results.json").read_text()) for f in (whole, broken)
        ]
        assert results[0][split] == results[1][split]
    leftovers = [p.name for p in broken.iterdir() if p.suffix == ".tmp"]
    assert leftovers == [], "a killed run left temporary files behind"


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    from chainrule import tasks

    def weights(seed: int, name: str) -> dict[str, np.ndarray]:
        settings = tasks.Settings(
            out=str(tmp_path / name), hidden=(8,), epochs=1, dropout=0.1, seed=seed
        )
        tasks.train(settings)
        return tasks.load(tmp_path / name).model.state()

    first, again, other = weights(0, "a"), weights(0, "b"), weights(1, "c")
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert any(not np.array_equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("first", ["native", "numpy"])
def test_what_one_execution_began_another_goes_on_with(tmp_path, first, monkeypatch):
    from chainrule import tasks

    executions = [first, "numpy" if first == "native" else "native"]
    settings = tasks.Settings(out=str(tmp_path / "run"), hidden=(16,), epochs=2)
    monkeypatch.setenv("CHAINRULE_EXECUTION", executions[0])
    begun = tasks.train(settings)
    monkeypatch.setenv("CHAINRULE_EXECUTION", executions[1])
    ended = tasks.resume(begun.folder, epochs=4)
    assert ended.results["loss"] < begun.results["loss"]
    assert ended.results["environment"]["execution"].startswith(
        "native code" if executions[1] == "native" else "NumPy"
    )
