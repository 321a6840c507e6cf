"""Names as text and LaTeX, whatever somebody called a tensor."""

import pytest

from chainrule.explanation.notation import latex_name, number, pretty_name


@pytest.mark.parametrize(
    ("name", "pretty", "latex"),
    [
        ("w_1", "w₁", "w_{1}"),
        ("yhat2", "ŷ₂", r"\hat{y}_{2}"),
        ("W1[3,7]", "W₁[3,7]", "W_{1}[3,7]"),
        ("conv1.weight[0]", "conv1.weight[0]", r"\mathrm{conv1.weight}[0]"),
        ("learning_rate", "learning_rate", r"\mathrm{learning\_rate}"),
        ("x'2", "x'₂", r"\mathrm{x'}_{2}"),
        ("σ", "σ", "σ"),
        ("1", "1", "1"),
    ],
)
def test_names_are_written_as_lectures_write_them(name, pretty, latex):
    assert pretty_name(name) == pretty
    assert latex_name(name) == latex


@pytest.mark.parametrize(
    "name",
    ["a b", "100%", "a^b", "c{d", "e\\f", "g$h", "i#j", "k&l", "m~n", "x\n2", "_"],
)
def test_any_name_compiles_as_latex(name):
    from matplotlib.mathtext import MathTextParser

    MathTextParser("path").parse(f"${latex_name(name)} = 1$")


def test_zero_has_no_sign_and_digits_can_be_chosen():
    assert [number(-0.0), number(1 / 3, 3), number(float("-inf"))] == [
        "0",
        "0.333",
        "-inf",
    ]
