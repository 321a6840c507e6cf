"""The gradient of runs against differences, and a wrong one found and located."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule import tasks
from chainrule.cli import main
from chainrule.core.graph import OPS
from chainrule.errors import CheckpointError, OptionError

DIGITS: dict[str, Any] = {"epochs": 1, "batch_size": 64}
RUNS: dict[str, dict[str, Any]] = {
    "cnn": {"model": "cnn", **DIGITS},
    "dropout": {"hidden": (12,), "dropout": 0.5, **DIGITS},
    "svm": {"hidden": (12,), "loss": "svm", **DIGITS},
    "restore": {
        "task": "restore", "corruption": ("noise:gaussian:25",), "model": "dncnn",
        "width": 6, "depth": 3, **DIGITS,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a short run by its name; made once, only read."""
    folder = tmp_path_factory.mktemp("gradcheck")

    def run(name: str) -> Path:
        if not (folder / name).exists():
            tasks.train(tasks.Settings(out=str(folder / name), **RUNS[name]))
        return folder / name

    return run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with label maps: squares brighter than the ground."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i in range(12):
        picture = rng.integers(0, 90, (16, 16, 3), dtype=np.uint8)
        labels = np.zeros((16, 16), np.uint8)
        labels[4:12, i % 6 : i % 6 + 7] = 1
        picture[labels == 1] += 120
        Image.fromarray(picture).save(folder / "images" / f"{i}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_the_gradients_of_runs_agree_with_differences(runs: Any, name: str) -> None:
    found = tasks.check_run_gradients(runs(name))
    assert found.passed, str(found)
    both = ["in training", "in evaluation"]
    has_modes = name in ("cnn", "dropout", "restore")
    assert list(found.layers) == (both if has_modes else [" and ".join(both)])
    for layers in found.layers.values():
        assert layers[0].path == "input"
        assert all(layer.max_error <= found.tolerance for layer in layers)
        assert all(layer.num_probes >= 5 for layer in layers)


def test_a_cnns_layers_stand_in_the_table_with_their_kinds(runs: Any) -> None:
    text = str(tasks.check_run_gradients(runs("cnn")))
    for row in (
        r"network.stage1.conv  Conv       5 ",
        r"network.stage1.norm  BatchNorm  10 ",
        r"network.output       Dense      10 ",
    ):
        assert text.count(row) == 2
    assert text.endswith("right: every gradient agrees to 1e-05 of its size")


def test_a_segmenting_run_is_checked_too(scenes: Path, tmp_path: Path) -> None:
    settings = tasks.Settings(
        data=str(scenes), task="segment", out=str(tmp_path / "run"), epochs=1,
        width=4, depth=1, validation=0.2, test=0.2,
    )  # fmt: skip
    tasks.train(settings)
    found = tasks.check_run_gradients(tmp_path / "run", num_examples=2)
    assert found.passed, str(found)
    assert found.num_examples == 2


def test_a_wrong_gradient_is_located_to_its_layer(
    runs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs("cnn")
    rule = OPS["max_pool"].gradient

    def too_large(self: Any, dy: Any, y: Any, *inputs: Any) -> Any:
        return rule(self, dy * 1.01, y, *inputs)

    monkeypatch.setattr(OPS["max_pool"], "gradient", too_large)
    found = tasks.check_run_gradients(folder)
    assert not found.passed
    for layers in found.layers.values():
        right = {layer.path: layer.is_right for layer in layers}
        # The way back goes wrong at the pooling, behind the first convolution.
        assert not right["input"]
        assert not right["network.stage1.conv"]
        assert right["network.last.conv"]
        assert right["network.output"]
    for faults in found.faults.values():
        assert faults
        assert all(f.startswith("max_pool in layer network.pool1: ") for f in faults)
    assert "WRONG: the way back from the loss goes wrong at the last" in str(found)
    capsys.readouterr()
    assert main(["gradcheck", str(folder)]) == 1
    assert "at fault: max_pool in layer network.pool1" in capsys.readouterr().out


def test_a_rule_that_is_wrong_at_a_few_entries_only_is_caught(
    runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random directions see what single entries miss."""
    rule = OPS["matmul"].gradient

    def forgets_a_row(self: Any, dy: Any, y: Any, *inputs: Any) -> Any:
        dx, dw = rule(self, dy, y, *inputs)

        def less() -> Any:
            found = dw() if callable(dw) else dw
            keep = np.ones(found.shape)
            keep[0] = 0
            return found * keep

        return dx, less

    monkeypatch.setattr(OPS["matmul"], "gradient", forgets_a_row)
    assert not tasks.check_run_gradients(runs("svm")).passed


def test_the_command_prints_the_table_or_one_object(
    runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gradcheck", str(runs("dropout"))]) == 0
    out = capsys.readouterr().out
    assert "the gradient of the loss of 4 examples" in out
    assert "network.hidden1  Dense" in out
    assert main(["gradcheck", str(runs("dropout")), "--json", "--examples", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is True
    assert told["num_examples"] == 3
    layers = told["modes"]["in training"]["layers"]
    assert [layer["path"] for layer in layers] == [
        "input",
        "network.hidden1",
        "network.output",
    ]


def test_the_run_is_left_as_it_is(runs: Any) -> None:
    folder = runs("dropout")
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    tasks.check_run_gradients(folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_what_is_no_run_and_no_examples_are_told(runs: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run"):
        tasks.check_run_gradients(tmp_path)
    with pytest.raises(OptionError, match="no examples"):
        tasks.check_run_gradients(runs("dropout"), num_examples=0)
    assert main(["gradcheck", str(tmp_path)]) == 2
    assert main(["gradcheck", str(tmp_path), "--examples", "x"]) == 2
