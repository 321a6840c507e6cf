"""chainrule explain: the lectures' numbers, and what it refuses."""

import json
import re

import pytest

from chainrule.cli import main

TWO_WEIGHTS = "f=w1*x; g=relu(f); yhat=w2*g; L=0.5*(yhat-y)**2"
SMALL_GATES = "1/(1+exp(-(w0*x0+w1*x1+w2)))"
ONE_GATE = "sigmoid(w0*x0+w1*x1+w2)"
NEURON = ["w0=2", "x0=-1", "w1=-3", "x1=-2", "w2=-3"]
NORM = ["W=[[.1,.5],[-.3,.8]]", "x=[.2,.4]"]


@pytest.fixture
def explain(capsys):
    """Run the command; its exit code, standard output and standard error."""

    def run(*words):
        code = main(["explain", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def line_of(text, symbol):
    (line,) = [s for s in text.splitlines() if s.strip().startswith(f"{symbol} = ")]
    return re.sub(r"\s{3,}\[.*$", "", line.strip())


def test_x_plus_y_times_z_gate_by_gate(explain):
    code, out, _ = explain("(x+y)*z", "x=-2", "y=5", "z=-4")
    assert code == 0
    assert out == (
        "forward\n"
        "  x = -2\n"
        "  y = 5\n"
        "  z = -4\n"
        "  v₁ = x + y = 3\n"
        "  f = v₁·z = -12\n"
        "backward\n"
        "  ∂f/∂f = 1\n"
        "  ∂f/∂v₁ = -4   [multiply switches]\n"
        "  ∂f/∂z = 3     [multiply switches]\n"
        "  ∂f/∂y = -4    [add distributes]\n"
        "  ∂f/∂x = -4    [add distributes]\n"
    )


def test_x_plus_y_times_z_by_x_is_one_path(explain):
    code, out, _ = explain("q=x+y; f=q*z", "x=-2", "y=5", "z=-4", "--wrt", "x")
    assert code == 0
    assert out.splitlines()[0] == "∂f/∂x = ∂q/∂x · ∂f/∂q = 1 · -4 = -4"


def test_the_two_weight_network_is_5_1_2_8(explain):
    given = ["w1=3", "x=5", "w2=2", "y=22"]
    _, out, _ = explain(TWO_WEIGHTS, *given, "--wrt", "w1")
    first = out.splitlines()[0]
    assert first == "∂L/∂w₁ = ∂f/∂w₁ · ∂g/∂f · ∂ŷ/∂g · ∂L/∂ŷ = 5 · 1 · 2 · 8 = 80"
    _, out, _ = explain(TWO_WEIGHTS, *given, "--wrt", "w2")
    assert out.splitlines()[0] == "∂L/∂w₂ = ∂ŷ/∂w₂ · ∂L/∂ŷ = 15 · 8 = 120"


@pytest.mark.parametrize("program", [SMALL_GATES, ONE_GATE])
def test_the_sigmoid_neuron_by_small_gates_and_as_one_gate(explain, program):
    code, out, _ = explain(program, *NEURON, "--digits", "4")
    assert code == 0
    assert line_of(out, "f").endswith(" = 0.7311")
    gradients = {"w₀": "-0.1966", "w₁": "-0.3932", "w₂": "0.1966"}
    gradients |= {"x₀": "0.3932", "x₁": "-0.5898"}
    for name, value in gradients.items():
        assert line_of(out, f"∂f/∂{name}") == f"∂f/∂{name} = {value}"


def test_the_small_gates_of_the_neuron_have_the_known_values(explain):
    _, out, _ = explain(SMALL_GATES, *NEURON, "--digits", "3")
    forward = out.partition("backward")[0]
    values = [s.rpartition(" = ")[2] for s in forward.splitlines() if " v" in s[:4]]
    assert values == ["-2", "6", "4", "1", "-1", "0.368", "1.37"]


def test_the_squared_norm_of_w_x(explain):
    _, out, _ = explain("q=W@x; f=sum(q**2)", *NORM)
    assert line_of(out, "q").endswith("= [0.22, 0.26]")
    assert line_of(out, "f").endswith("= 0.116")
    by_w = line_of(out, "∂f/∂W")
    assert by_w == "∂f/∂W = [[0.088, 0.176], [0.104, 0.208]]"
    assert line_of(out, "∂f/∂x") == "∂f/∂x = [-0.112, 0.636]"


@pytest.mark.parametrize(
    ("name", "entry", "value"),
    [("W", "0,0", 0.088), ("W", "1,1", 0.208), ("x", "0", -0.112), ("x", "1", 0.636)],
)
def test_an_entry_of_the_squared_norm_is_written_out(explain, name, entry, value):
    words = ["q=W@x; f=sum(q**2)", *NORM, "--wrt", name, "--entry", entry, "--json"]
    code, out, _ = explain(*words)
    found = json.loads(out)
    assert (code, found["wrt"]) == (0, f"{name}[{entry}]")
    assert found["value"] == pytest.approx(value, rel=1e-12)
    assert sum(p["value"] for p in found["paths"]) == pytest.approx(value)


def test_an_entry_of_the_value_is_chosen(explain):
    code, out, _ = explain("x**2", "x=[1,2,3]", "--wrt", "x", "--of-entry", "2")
    assert (code, out.splitlines()[0]) == (0, "∂f[2]/∂x[2] = 6")


def test_more_is_shown_when_asked_for(explain):
    words = ["y=W@x; sum(tanh(y)*y)", "W=[[1,2,3],[4,5,6]]", "x=[.1,.2,.3]"]
    _, out, _ = explain(*words, "--wrt", "x", "--max-terms", "1", "--max-depth", "1")
    assert "… and 1 more term, together" in out
    assert "max_terms=2" in out
    assert "max_depth=2" in out


def test_it_prints_latex_and_json(explain):
    words = ["(x+y)*z", "x=-2", "y=5", "z=-4", "--wrt", "x"]
    _, out, _ = explain(*words, "--latex")
    assert out.startswith(r"\frac{\partial f}{\partial x} = \frac{\partial v_{1}}")
    _, out, _ = explain(*words, "--json")
    assert json.loads(out)["value"] == -4
    _, out, _ = explain(*words[:4], "--json")
    rows = {row["name"]: row["gradient"] for row in json.loads(out)["rows"]}
    assert (rows["x"], rows["y"], rows["z"]) == (-4, -4, 3)


def test_an_infinity_is_null_in_json_and_told_in_the_text(explain):
    code, out, _ = explain("log(x)*2", "x=0", "--wrt", "x", "--json")
    found = json.loads(out)
    assert (code, found["value"]) == (0, None)
    assert "log made the first" in found["text"]


def test_graph_and_page_are_written(explain, tmp_path):
    svg, page = tmp_path / "f.svg", tmp_path / "f.html"
    words = ["(x+y)*z", "x=-2", "y=5", "z=-4", "--svg", svg, "--html", page]
    assert explain(*words)[0] == 0
    assert svg.read_text().startswith("<svg")
    assert "∂f/∂x = -4" in page.read_text()
    assert explain(*words, "--wrt", "x")[0] == 0
    assert "<details>" in page.read_text()


def test_figures_are_listed_shown_and_saved(explain, tmp_path):
    code, out, _ = explain("--figure", "list")
    assert code == 0
    assert re.search(r"^hyperplane +\S", out, re.MULTILINE)
    path = tmp_path / "line.svg"
    code, out, _ = explain("--figure", "x-plus-y-times-z", "--svg", path)
    assert code == 0
    assert out.strip()
    assert "<svg" in path.read_text()
    code, out, _ = explain("--figure", "hyperplane", "--json")
    assert json.loads(out)["figure"] == "hyperplane"


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ((), "OptionError: nothing to explain"),
        (("--figure",), "OptionError: --figure needs a name"),
        (("--figure", "hyperplan"), "OptionError: unknown figure 'hyperplan'"),
        (("x*2", "x=1", "--figure", "list"),
         "OptionError: options that a figure does not have"),
        (("x*2", "x=1", "--layer", "0"),
         "OptionError: options that a formula (there is no such folder) does not have"),
        (("x*2", "x=1", "--entry", "0"),
         "OptionError: options that a formula without --wrt does not have"),
        (("x*2", "x=1", "--wrt", "v"), "OptionError: unknown name in the program 'v'"),
        (("x*2", "x=1", "--of", "v"), "OptionError: unknown name in the program 'v'"),
        (("2*3",),
         "OptionError: the value is not computed from anything that is given"),
        (("x*2", "x=1", "--of", "x"),
         "OptionError: the value is not computed from anything that is given"),
        (("x*2", "x=one"), "OptionError: not a name and its value"),
        (("x*2", "x=[1,[2]]"), "OptionError: x: not an array of numbers"),
        (("x*2", "x=[1,2]"),
         "ShapeError: explain: an array, and one number is explained at a time"),
        (("x*2", "x=[1,2]", "--wrt", "x", "--of-entry", "2"),
         "IndexingError: explain: of_entry is not there"),
        (("x*2", "x=1", "--wrt", "x", "--max-terms", "few"),
         "OptionError: option max-terms: wrong kind of value"),
        (("x*2", "x=1", "--digits", "0"), "OptionError: explain: digits"),
        (("x*2", "x=1", "--wrt", "x", "--digits", "99"),
         "OptionError: explain: digits"),
        (("__import__('os').system('true')", "x=1"),
         "OptionError: a formula has something that is not arithmetic"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_told(explain, words, first):
    code, out, err = explain(*words)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == first


def test_a_folder_is_a_run_and_takes_no_formulas_options(explain, tmp_path):
    code, _, err = explain(tmp_path)
    assert code == 2
    assert err.startswith("CheckpointError: ")
    code, _, err = explain(tmp_path, "x=1", "--wrt", "x")
    assert code == 2
    assert err.startswith("OptionError: options that a run does not have")
    assert "--wrt, NAME=VALUE" in err
    (tmp_path / "model.safetensors").touch()
    code, _, err = explain(tmp_path / "model.safetensors")
    assert code == 2
    assert err.startswith("OptionError: a file has no examples to explain")
    assert f"try:      chainrule explain {tmp_path}" in err


def test_a_run_is_handed_to_the_tasks(explain, tmp_path, monkeypatch):
    asked = {}

    class Found:
        page = tmp_path / "page.html"

        def __str__(self):
            return "the network says 4\x1b[31m"

    def explain_run(run, **options):
        asked.update(options, run=run)
        return Found()

    monkeypatch.setattr("chainrule.tasks.explained.explain_run", explain_run)
    code, out, _ = explain(tmp_path, "--layer", "pool1", "--example", "2")
    assert (code, out) == (0, "the network says 4\N{REPLACEMENT CHARACTER}[31m\n")
    assert asked == {"run": tmp_path, "layer": "pool1", "example": 2, "out": None}
    _, out, _ = explain(tmp_path, "--json", "--html", tmp_path / "x.html")
    assert json.loads(out)["page"] == str(Found.page)
    assert asked["out"] == tmp_path / "x.html"
