"""What explain prints can be checked by somebody who knows nothing but the text."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.backward import gradients, topological_order
from chainrule.explanation.notation import entry_name, pretty_name
from chainrule.explanation.span import Span

ROUNDING = 5.1e-6  # of a number with six digits, relative to it


class Reader:
    """Reads a derivation line by line and computes each product and sum again."""

    def __init__(self, text: str, noise: float = 0.0) -> None:
        self.noise = noise  # what float32 adds to the rounding of printed digits
        self.derivatives: dict[str, float] = {}
        self.numbers: dict[str, set[float]] = {}
        lines = text.splitlines()
        head = next((i for i, s in enumerate(lines) if s in ("forward", "more")), None)
        lines, rest = lines[:head], lines[head:] if head else []
        blocks: list[list[str]] = []
        for line in lines:
            if line.startswith("∂"):
                blocks.append([])
            blocks[-1].append(line)
        for block in blocks:
            self.block(block)
        self.first = blocks[0][0].partition(" = ")[0]
        self.backward(rest)
        for symbol, values in self.numbers.items():
            assert len(values) == 1, f"{symbol} has several values"
            if symbol in self.derivatives:
                (value,) = values
                assert self.near(value, self.derivatives[symbol], abs(value), 2)

    def near(self, a: float, b: float, size: float, count: int) -> bool:
        return abs(a - b) <= size * (count * ROUNDING + self.noise) + 1e-300

    def block(self, lines: list[str]) -> None:
        symbol, _, right = lines[0].partition(" = ")
        if len(lines) == 1:
            number = right.partition(": ")[0]
            is_product = " · " in number
            value = self.product(right) if is_product else float(number)
            if not is_product:
                self.numbers.setdefault(symbol, set()).add(value)
            self.derivatives[symbol] = value
            return
        num_terms = int(re.match(r"the sum over (\d+) (path|term)s", right)[1])
        values = [
            self.product(line.partition(": ")[2])
            for line in lines
            if re.match(r"  (path|term) \d", line)
        ]
        num_left_out = 0
        more = [re.match(r"  … and (\d+) more \w+, together (\S+)", s) for s in lines]
        left_out = next((m for m in more if m), None)
        if left_out:
            num_left_out = int(left_out[1]) - 1
            values.append(float(left_out[2]))
        assert num_terms == len(values) + num_left_out
        *parts, total = re.split(r" \+ | = ", lines[-1].partition("sum: ")[2])
        assert len(parts) == len(values)
        for part, value in zip(parts, values, strict=True):
            assert self.near(float(part), value, abs(value), 8)
        size = sum(map(abs, values))
        assert self.near(float(total), sum(values), size, 8), lines
        self.derivatives[symbol] = sum(values)
        self.size = size

    def product(self, text: str) -> float:
        """The product of the numbers of ``a · b = 2 · 3 = 6``, found anew."""
        parts = text.split(" = ")
        symbols = parts[0].split(" · ") if parts[0].startswith("∂") else []
        numbers = [float(n) for n in parts[-2 if len(parts) > 2 else -1].split(" · ")]
        value = math.prod(numbers)
        assert self.near(value, float(parts[-1]), abs(value), len(numbers) + 1), text
        assert len(symbols) == len(numbers)
        for symbol, number in zip(symbols, numbers, strict=True):
            self.numbers.setdefault(symbol, set()).add(number)
        return value

    def backward(self, lines: list[str]) -> None:
        """Every factor's line ends with the number that stands in the products."""
        if "backward" not in lines:
            return
        for line in lines[lines.index("backward") + 1 :]:
            if not line.startswith("  ∂"):
                break
            line = re.sub(r"   \[.*\]$", "", line.strip())
            symbol, _, rest = line.partition(" = ")
            assert self.numbers[symbol] == {float(rest.split(" = ")[-1])}


def entry_of(symbol: str) -> tuple[int, ...]:
    """The entry of what a symbol differentiates by: (0, 3) of ∂L/∂W₁[0,3]."""
    found = re.search(r"/∂.*?\[([\d,]+)\]$", symbol)
    return tuple(map(int, found[1].split(","))) if found else ()


def check(y: cr.Tensor, x: cr.Tensor, noise: float = 0.0, **options: object) -> str:
    """Explain ∂y/∂x, read the text, and compare with the automatic gradient."""
    text = str(cr.explain(y, wrt=x, **options))
    reader = Reader(text, noise)
    (gradient,) = gradients(y, [x])
    entry = entry_of(reader.first)
    entry = entry if len(entry) == x.ndim else (0,) * x.ndim
    wanted = float(gradient.data[entry])
    found = reader.derivatives[reader.first]
    size = max(abs(wanted), abs(found), getattr(reader, "size", 0.0))
    assert reader.near(found, wanted, size, 8), f"{found} is not {wanted}\n{text}"
    return text


# ---------------------------------------------------------------------- random graphs

SHAPES = [(), (), (3,), (2, 3), (1, 3), (2, 1), (3, 2)]
UNARY = [
    cr.tanh, cr.sigmoid, cr.relu, lambda x: cr.exp(x * 0.3), lambda x: x**2, cr.abs,
    lambda x: x * 1.7 - 0.4, lambda x: 1 / (2 + x * x), cr.sin, cr.softplus,
]  # fmt: skip
OF_ARRAYS = [
    lambda x: x.sum(axis=0), lambda x: x.mean(axis=-1, keepdims=True),
    lambda x: cr.softmax(x), lambda x: x.max(axis=-1), lambda x: cr.flip(x),
    lambda x: cr.transpose(x), lambda x: x[-1], lambda x: cr.logsumexp(x, axis=0),
    lambda x: cr.concatenate([x, x * 0.5], axis=0), lambda x: x.reshape(-1),
]  # fmt: skip
BINARY = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, cr.maximum,
    lambda a, b: a / (1.5 + b * b),
]  # fmt: skip


def random_graph(seed: int) -> tuple[cr.Tensor, list[cr.Tensor]]:
    rng = np.random.default_rng(seed)
    is_scalar = seed % 4 == 0
    shapes = [() if is_scalar else SHAPES[rng.integers(len(SHAPES))] for _ in range(3)]
    leaves = [
        cr.Tensor(rng.normal(size=s), "float64", requires_grad=True, name=f"x{i}")
        for i, s in enumerate(shapes)
    ]
    nodes = list(leaves)
    for i in range(int(rng.integers(3, 8))):
        a, b = (nodes[rng.integers(len(nodes))] for _ in range(2))
        kind = rng.random()
        if kind < 0.35:
            made = UNARY[rng.integers(len(UNARY))](a)
        elif kind < 0.5 and a.ndim == 2 == b.ndim and a.shape[1] == b.shape[0]:
            made = a @ b
        elif kind < 0.65 and a.ndim:
            made = OF_ARRAYS[rng.integers(len(OF_ARRAYS))](a)
        else:
            try:
                made = BINARY[rng.integers(len(BINARY))](a, b)
            except cr.errors.ShapeError:
                made = cr.tanh(a)
        if seed % 3 == 0 and made.name is None and made.op is not None:
            made.name = f"h{i}"
        nodes.append(made)
    y = cr.Tensor(0.0, "float64")
    for node in nodes[-3:]:
        y = y + (node * rng.normal(size=node.shape)).sum()
    return y, leaves


def is_reused(y: cr.Tensor) -> bool:
    uses: dict[int, int] = {}
    for t in topological_order([y]):
        for x in t.inputs:
            if x.requires_grad:
                uses[id(x)] = uses.get(id(x), 0) + 1
    return any(n > 1 for n in uses.values())


def broadcasts(y: cr.Tensor) -> bool:
    return any(
        len({x.shape for x in t.inputs if x.requires_grad}) > 1
        for t in topological_order([y])
        if t.op is not None and t.op.name in ("add", "subtract", "multiply", "maximum")
    )


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_products_and_sums_of_200_random_graphs_are_the_gradient(start):
    for seed in range(start, start + 20):
        y, leaves = random_graph(seed)
        for x in leaves:
            check(y, x, max_paths=5)


def test_the_random_graphs_reuse_nodes_and_broadcast():
    graphs = [random_graph(seed)[0] for seed in range(200)]
    assert sum(map(is_reused, graphs)) >= 30
    assert sum(map(broadcasts, graphs)) >= 20


# --------------------------------------------------------------------------- formulas


def values_by_name(y: cr.Tensor, x: cr.Tensor) -> dict[str, float]:
    """Every number that a formula may mention, by the name that it has there."""
    names = Span.of(y, x).names
    found = {}
    for t in topological_order([y]):
        for place in np.ndindex(t.shape) if id(t) in names else ():
            name = pretty_name(entry_name(names[id(t)], place))
            found[name] = float(t.data[place])
    return found


def evaluated(formula: str, values: dict[str, float]) -> float:
    """A printed formula of products, sums, powers and a few functions."""
    text = re.sub(
        r"[^\W\d_]+[₀-₉]*\d*(\[[\d,]+\])?",
        lambda m: m[0] if m[0] in FUNCTIONS else f"({values[m[0]]!r})",
        formula,
    )
    text = text.replace("·", "*").replace("^", "**")
    return eval(text, {"__builtins__": {}}, FUNCTIONS)


FUNCTIONS = {
    "exp": math.exp, "log": math.log, "sin": math.sin, "cos": math.cos,
    "tanh": math.tanh, "max": max, "min": min, "sign": np.sign,
}  # fmt: skip


def test_the_formulas_of_factors_come_to_their_values():
    num_checked = num_named = 0
    for seed in range(80):
        y, leaves = random_graph(seed)
        for x in leaves:
            values = values_by_name(y, x)
            for factor in cr.explain(y, wrt=x).factors:
                if any(c in factor.formula for c in "?√|⌊…@"):
                    continue
                found = evaluated(factor.formula, values)
                assert found == pytest.approx(factor.value, rel=1e-4), factor
                num_checked += 1
                num_named += any(c.isalpha() for c in factor.formula)
    assert num_checked > 400
    assert num_named > 200


# ------------------------------------------------------------------- trained networks


def trained(seed: int) -> tuple[nn.Module, cr.Tensor]:
    """A small network after some steps on the digits, and the loss of a minibatch."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(seed)
    cr.manual_seed(seed)
    if seed % 2:
        activation = (nn.ReLU, nn.Tanh, nn.Sigmoid)[seed // 2 % 3]
        model = nn.Sequential(
            nn.Flatten(), nn.Dense(64, 12), activation(), nn.Dense(12, 10)
        )
    else:
        pool = (nn.MaxPool, nn.AveragePool)[seed // 2 % 2]
        model = nn.Sequential(
            nn.Conv(1, 4, 3), nn.ReLU(), pool(2), nn.Flatten(), nn.Dense(36, 10)
        )
    rule = optim.optimizer("sgd", model.named_parameters(), lr=0.05)
    for _ in range(8):
        chosen = rng.integers(0, len(digits.images), 16)
        x = cr.Tensor(digits.images[chosen][..., None] / 16, "float32")
        loss = nn.softmax_cross_entropy(model(x), digits.target[chosen])
        rule.zero_grad()
        loss.backward()
        rule.step()
    return model, nn.softmax_cross_entropy(model(x), digits.target[chosen])


@pytest.mark.parametrize("seed", range(20))
def test_products_and_sums_of_a_trained_network_are_the_gradient(seed):
    model, loss = trained(seed)
    for parameter in model.parameters():
        check(loss, parameter, noise=3e-6, max_depth=20)


# -------------------------------------------------------------- the reader is no sheep


def some_text() -> str:
    x = cr.Tensor([[0.5, -1.0], [2.0, 0.25]], "float64", requires_grad=True, name="x")
    return str(cr.explain((cr.tanh(x @ x) ** 2).sum(), wrt=x, max_terms=2))


def test_the_reader_accepts_what_is_printed():
    assert Reader(some_text()).derivatives


@pytest.mark.parametrize("pattern", [r"term 1: .* = .* = (\S+)", r"sum: .* = (\S+)"])
def test_the_reader_notices_a_wrong_number(pattern):
    text = some_text()
    match = re.search(pattern, text)
    wrong = f"{float(match[1]) * 1.001:.6g}"
    with pytest.raises(AssertionError):
        Reader(text[: match.start(1)] + wrong + text[match.end(1) :])


def test_the_reader_notices_a_missing_term():
    lines = some_text().splitlines()
    with pytest.raises(AssertionError):
        Reader("\n".join(line for line in lines if "term 2" not in line))


def test_more_digits_are_printed_when_asked_for():
    x = cr.Tensor(1 / 3, "float64", requires_grad=True, name="x")
    assert "0.333333333" in str(cr.explain(x * x / 2, wrt=x, digits=9))
