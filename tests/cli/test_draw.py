"""The command draw."""

import json

import pytest

from chainrule.cli import main


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A short run on the digits."""
    folder = tmp_path_factory.mktemp("draw") / "digits"
    words = ["train", "--out", str(folder), "--hidden", "16", "--epochs", "1", "-q"]
    assert main(words) == 0
    return folder


@pytest.fixture
def command(capsys):
    """Run a command; its exit code, standard output and standard error."""

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_runs_network_is_told_layer_by_layer(command, run_folder):
    code, out, _ = command("draw", run_folder)
    assert code == 0
    assert "network.hidden1: Dense(in_features=64, out_features=16), n×16" in out
    assert "1,210 parameters" in out


@pytest.mark.parametrize("name", ["net.svg", "net.html"])
def test_it_is_written_where_it_is_asked_for(command, run_folder, tmp_path, name):
    code, out, _ = command("draw", run_folder, "--out", tmp_path / name)
    assert code == 0
    assert out == f"Sequential, 1,210 parameters: {tmp_path / name}\n"
    assert "hidden1" in (tmp_path / name).read_text(encoding="utf-8")


def test_a_model_file_is_as_good_as_its_run(command, run_folder):
    assert command("draw", run_folder / "model.safetensors") == command(
        "draw", run_folder
    )


def test_the_operations_of_a_run_are_drawn_to_any_depth(command, run_folder, tmp_path):
    code, out, _ = command("draw", run_folder, "--graph", "--depth", 9)
    assert code == 0
    assert "v₄ = v₃ @ network.hidden1.weight: n×16" in out
    code, out, _ = command("draw", run_folder, "--graph", "--depth", 0, "--json")
    found = json.loads(out)
    assert "drawn as 2" in found["title"]
    assert found["file"] is None


def test_a_formula_is_drawn_with_its_gradients(command, tmp_path):
    words = ("draw", "(x+y)*z", "x=-2", "y=5", "z=-4")
    code, out, _ = command(*words)
    assert code == 0
    assert out.splitlines()[0] == "f = v₁·z = −12   gradient 1"
    assert command(*words, "--out", tmp_path / "f.svg")[0] == 0
    assert "f = −12" in (tmp_path / "f.svg").read_text(encoding="utf-8")


def test_a_formula_is_stepped_through(command, tmp_path):
    words = ("draw", "(x+y)*z", "x=-2", "y=5", "z=-4", "--frames")
    code, out, _ = command(*words)
    assert code == 0
    assert "6. backward: x + y distributes" in out
    assert command(*words, "--out", tmp_path / "f.html")[0] == 0
    assert "next ▶" in (tmp_path / "f.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("{run}", "--frames"), "options that a run does not have"),
        (("{run}", "x=1"), "options that a run does not have"),
        (("x*2", "x=1", "--graph"), "options that a formula (no such file) does not"),
        (("{run}", "--depth", "two"), "option depth: wrong kind of value"),
        (("{run}", "--depth", "-1"), "no such depth"),
        (("{run}", "--out", "net.png"), "unknown form of a drawing 'png'"),
        (("runs9", "--out", "net.svg"), "there is no file runs9"),
        (("x=1", "--out", "x.svg"), "nothing was recorded"),
    ],
)
def test_what_cannot_be_drawn_says_why(command, run_folder, words, what):
    code, _, err = command("draw", *(w.format(run=run_folder) for w in words))
    assert code == 2
    assert what in err
