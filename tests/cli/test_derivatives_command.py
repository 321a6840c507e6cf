"""The command derivatives: the lectures' numbers, and what it cannot take."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.cli.options import named_values
from chainrule.errors import OptionError

pytest.importorskip("sympy")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``chainrule derivatives``; exit code, output and errors."""

    def run(*words: Any) -> tuple[int, str, str]:
        code = main(["derivatives", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def gradients(command: Command, *words: Any) -> dict[str, list[float]]:
    """What each way found, by its name."""
    code, out, _ = command(*words, "--json")
    assert code == 0
    return {way["method"]: way["gradient"] for way in json.loads(out)["ways"]}


def test_the_lectures_w_plus_h_table_comes_out_exactly(command: Command) -> None:
    """The lecture gives no loss; this one has its three numbers."""
    code, out, _ = command(
        "1.25347 - 2.5*(w1-0.34) + 0.6*(w2+1.11) + 0*w3", "w1=0.34", "w2=-1.11",
        "w3=0.78", "--step", "0.0001",
    )  # fmt: skip
    assert code == 0
    assert out.startswith(
        "L(W) = 1.25347,  h = 0.0001\n"
        "     entry           W    L(W + h)       dL/dW\n"
        "        w1        0.34     1.25322        -2.5\n"
        "        w2       -1.11     1.25353         0.6\n"
        "        w3        0.78     1.25347           0\n"
    )


def test_a_live_table_of_a_logistic_loss_has_the_slopes_of_its_gradient(
    command: Command,
) -> None:
    """L = log(1 + e^-(w·x)), whose gradient is -x·σ(-w·x)."""
    w, x = [0.34, -1.11, 0.78, 0.12], np.array([1.0, 2.0, -1.0, 0.5])
    values = f"w={w}", f"x={x.tolist()}"
    code, out, _ = command("softplus(-sum(w*x))", *values, "--wrt", "w", "--json")
    assert code == 0
    told = json.loads(out)
    wanted = -x / (1 + np.exp(w @ x))
    assert [row["entry"] for row in told["table"]] == ["w[0]", "w[1]", "w[2]", "w[3]"]
    np.testing.assert_allclose(
        [row["slope"] for row in told["table"]], wanted, atol=1e-4
    )
    for way in told["ways"]:
        np.testing.assert_allclose(way["gradient"], wanted, atol=1e-4)


def test_the_two_weight_network_has_80_and_120(command: Command) -> None:
    program = "f=w1*x; g=relu(f); yhat=w2*g; L=0.5*(yhat-y)**2"
    found = gradients(command, program, "w1=3", "x=5", "w2=2", "y=22")
    assert found["automatic"] == found["symbolic"] == [80, 48, 120, -8]
    for way, error in (("numerical (forward)", 0.02), ("numerical (central)", 1e-6)):
        np.testing.assert_allclose(found[way], [80, 48, 120, -8], atol=error)


def test_x_plus_y_times_z_has_minus_4_minus_4_3(command: Command) -> None:
    code, out, _ = command("(x+y)*z", "x=-2", "y=5", "z=-4")
    assert code == 0
    assert "L(W) = -12.00000" in out
    assert re.search(r"^automatic .* -4, -4, 3$", out, re.MULTILINE)
    assert "∂f/∂x = z\n∂f/∂y = z\n∂f/∂z = x + y\n" in out


def test_the_squared_norm_takes_arrays(command: Command) -> None:
    found = gradients(command, "sum((W@x)**2)", "W=[[.1,.5],[-.3,.8]]", "x=[.2,.4]")
    wanted = [0.088, 0.176, 0.104, 0.208, -0.112, 0.636]
    np.testing.assert_allclose(found["automatic"], wanted, rtol=1e-12)
    np.testing.assert_allclose(found["symbolic"], wanted, rtol=1e-12)


def test_the_sigmoid_neuron_by_small_gates_and_by_one_agree(command: Command) -> None:
    values = ("w0=2", "w1=-3", "w2=-3", "x0=-1", "x1=-2")
    small = gradients(command, "1/(1+exp(-(w0*x0+w1*x1+w2)))", *values)
    one = gradients(command, "sigmoid(w0*x0+w1*x1+w2)", *values)
    wanted = [-0.1966, -0.3932, 0.1966, 0.3932, -0.5898]
    for found in (small, one):
        np.testing.assert_allclose(found["automatic"], wanted, atol=5e-5)
        np.testing.assert_allclose(found["symbolic"], found["automatic"], rtol=1e-12)


def test_wrt_moves_one_name_alone_and_step_is_the_step(command: Command) -> None:
    code, out, _ = command("w*x", "w=[1,2]", "x=3", "--wrt", "x")
    assert (code, out) == (2, "")
    code, out, _ = command("sum(w*x)", "w=[1,2]", "x=3", "--wrt", "w", "--json")
    told = json.loads(out)
    assert told["labels"] == ["w[0]", "w[1]"]
    assert told["step"] == 1e-4
    _, out, _ = command("x**3", "x=1", "--step", "0.5", "--json")
    told = json.loads(out)
    assert told["table"] == [
        {"entry": "x", "value": 1.0, "moved": 3.375, "slope": 4.75}
    ]
    ways = {way["method"]: way["gradient"] for way in told["ways"]}
    assert ways["numerical (central)"] == [3.25]


def test_a_name_that_the_program_gives_anew_is_still_moved(command: Command) -> None:
    found = gradients(command, "x=x*x; x+1", "x=3")
    assert found["automatic"] == found["symbolic"] == [6]
    assert gradients(command, "x*2", "x=3", "unused=1")["automatic"] == [2, 0]


def test_long_arrays_are_cut_off_and_counted(command: Command) -> None:
    _, out, _ = command("sum(x**2)", f"x={list(range(25))}")
    assert "x[19]" in out
    assert "x[20]" not in out.partition("\n\n")[0]
    assert "… and 5 more numbers" in out
    _, out, _ = command("sum(x)", f"x={[0.5] * 70}")
    assert "left out: symbolic: too many symbols: 70 numbers" in out


def test_svg_draws_the_error_against_the_step(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "errors.svg"
    assert command("sin(x)", "x=1", "--svg", file)[0] == 0
    assert "rounding, ε/h" in file.read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("log(x)", "x=-1"), "the function is not finite here"),
        (("x*2", "x=[1,2]"), "does not return one number"),
        (("y*2", "x=1"), "unknown name in a formula 'y'"),
        (("x*2", "x=1", "--step", "0"), "option step: not a step"),
        (("x*2", "x=1", "--step", "a"), "option step: not a step"),
        (("x*2", "x=1", "--wrt", "z"), "unknown name that has a value 'z'"),
        (("x*2", "x=abc"), "not a name and its value"),
        (("x*2", "x=[1,"), "not a name and its value"),
        (("x*2", "x=1", "x=2"), "x is given twice"),
        (("__import__('os')", "x=1"), "not arithmetic"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_what_cannot_be_done_is_told_in_one_error(
    command: Command, words: tuple[str, ...], what: str
) -> None:
    code, out, err = command(*words)
    assert code in (1, 2)
    assert not out
    assert what in err or "unknown function" in err


def test_values_are_numbers_or_arrays_and_nothing_runs() -> None:
    assert named_values(["a=-.5e1", "b=[[1],[.25]]"]) == {
        "a": -5.0,
        "b": [[1], [0.25]],
    }
    for word in ("a", "a=", "1=2", "a=[", "a=[b]", "a=__import__('os')", "a=[1]]"):
        with pytest.raises(OptionError, match="not a name and its value"):
            named_values([word])
    with pytest.raises(OptionError):
        named_values(["a=" + "[" * 100_000])
