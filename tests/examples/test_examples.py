"""Every script in examples/ runs, and prints what its words promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

PRINTED = {
    "derivatives": ["neuron  1 / v11     0.731059", "-0.3932", "'0.7311', '0.1966'"],
    "image_folder": ["report.html", "a picture of a 3: [('3'", "chainrule train"],
    "own_gate": ["ok", "Squash(v1)", "answers [0. 1. 1. 0.]"],
    "train_digits": ["4,810 parameters", "test accuracy: 0.9", "with probability"],
    "two_layer_net": ["24635.893", "211.855778", "4.348503"],
}
NEEDS_MINUTES = {"accuracy"}


def test_every_example_is_run_here() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*PRINTED, *NEEDS_MINUTES}


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_and_prints_what_it_says(name: str, tmp_path: Path) -> None:
    if name == "derivatives":
        pytest.importorskip("sympy")
    environment = os.environ | {"CHAINRULE_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    for words in PRINTED[name]:
        assert words in ran.stdout


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_is_short_enough_to_be_read(name: str) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 45
