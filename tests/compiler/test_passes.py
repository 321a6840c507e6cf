"""What each pass makes of small functions, as it prints it."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

pytest.importorskip("llvmlite")

from chainrule.compiler.host import TARGETS, usable_targets
from chainrule.compiler.pipeline import PASSES, Build, build
from chainrule.core.capture import capture

FIVE = np.arange(20, dtype=np.float32).reshape(5, 4)


def built(f: Callable[..., Any], *arguments: Any, target: str | None = None) -> Build:
    return build(capture(f, arguments), TARGETS[target] if target else None)


def lines(text: str) -> list[str]:
    return dedent(text).strip().splitlines()


def test_capture_writes_down_ops_with_the_batch_size_as_a_letter():
    text = built(lambda x: cr.relu(x).mean(), FIVE).text("capture")
    assert text.splitlines() == lines("""
        x = input: float32[n, 4]
        v1 = max(x, 0): float32[n, 4]
        v2 = mean(v1): float32[]
        return v2
    """)


def test_lowering_makes_views_arithmetic_on_places():
    def f(x: cr.Tensor) -> cr.Tensor:
        return cr.transpose(x.reshape(5, 2, 2), (0, 2, 1))[:, ::-1, 1] + x[:, :2]

    assert built(f, FIVE).text("lower").splitlines() == lines("""
        x: float32[5, 4] = input
        v1: float32[5, 2] = x[i, -1·j + 3] + x[i, j]
        return v1
    """)


def test_lowering_makes_softmax_of_maps_and_reductions():
    assert built(cr.softmax, FIVE).text("lower").splitlines() == lines("""
        x: float32[n, 4] = input
        v1: float32[n] = maximum over j < 4 of x[i, j]
        v2: float32[n, 4] = exp(x[i, j] - v1[i])
        v3: float32[n] = add over j < 4 of v2[i, j]
        v4: float32[n, 4] = v2[i, j] / v3[i]
        return v4
    """)


def test_lowering_reads_transposed_operands_where_they_lie():
    w = cr.Parameter(np.ones((3, 4), np.float32), name="w")
    assert built(lambda x: x @ w.T, FIVE).text("lower").splitlines() == lines("""
        x: float32[n, 4] = input
        w: float32[3, 4] = variable
        v1: float32[n, 3] = sum over k < 4 of x[i, k]·w[j, k]
        return v1
    """)


def test_lowering_picks_labels_without_reading_addresses():
    def f(scores: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        return nn.losses.softmax_cross_entropy(scores, labels, reduction="sum")

    text = built(f, FIVE, np.zeros(5, np.int64)).text("lower")
    assert "iota()" in text
    assert "labels[i]" in text
    assert "[labels" not in text


def test_simplification_drops_neutral_numbers_copies_and_what_nobody_needs():
    def f(x: cr.Tensor) -> cr.Tensor:
        cr.tanh(x)
        return (x * 1.0 - 0.0) / 1.0 + cr.exp(x) * cr.exp(x)

    assert built(f, FIVE).text("simplify").splitlines() == lines("""
        x: float32[n, 4] = input
        v5: float32[n, 4] = exp(x[i, j])
        v6: float32[n, 4] = v5[i, j]·v5[i, j]
        v7: float32[n, 4] = x[i, j] + v6[i, j]
        return v7
    """)


def test_simplification_keeps_what_could_change_a_bit():
    text = built(lambda x: (x + 0.0) * 0.0, FIVE).text("simplify")  # -0, NaN, infinity
    assert "x[i, j] + 0" in text
    assert "·0" in text


def test_arrangement_copies_a_short_operand_that_lies_across():
    w = cr.Parameter(np.ones((3, 4), np.float32), name="w")
    assert built(lambda x: x @ w.T, FIVE).text("arrange").splitlines() == lines("""
        w: float32[3, 4] = variable
        x: float32[n, 4] = input
        w_packed: float32[4, 3] = w[j, i]
        v1: float32[n, 3] = sum over k < 4 of x[i, k]·w_packed[k, j]
        return v1
    """)


def test_arrangement_leaves_long_rows_to_sums_along_them():
    w = cr.Parameter(np.ones((3, 64), np.float32), name="w")
    built_text = built(lambda x: x @ w.T, np.ones((5, 64), np.float32)).text("arrange")
    assert "packed" not in built_text


def sigmoid_step() -> Callable[[cr.Tensor], cr.Tensor]:
    w = cr.Parameter(np.ones((4, 3), np.float32), name="w")

    def step(x: cr.Tensor) -> cr.Tensor:
        h = cr.sigmoid(x @ w)
        loss = (h * h).sum()
        loss.backward()
        cr.assign(w, w - w.grad)
        w.grad = None
        return loss

    return step


def test_fusion_puts_activation_its_gradient_and_the_update_into_products():
    assert built(sigmoid_step(), FIVE).text("fuse").splitlines() == [
        "k0: product [n, 3] over [4]",
        "  v1: float32[n, 3] = sum over k < 4 of x[i, k]·w[k, j]",
        "  store v3: float32[n, 3] = v2[i, j]·v2[i, j]",
        "  store v10: float32[n, 3] = v7[i, j]·v9[i, j]",
        "k1: rows [] over [n, 3]",
        "  v4: float32[] = add over i < n, j < 3 of v3[i, j]",
        "  store v4: float32[] = add over i < n, j < 3 of v3[i, j]",
        "k2: product [4, 3] over [n]",
        "  v11: float32[4, 3] = sum over k < n of x[k, i]·v10[k, j]",
        "  store v12: float32[4, 3] = w[i, j] - v11[i, j]",
        "v12 is w",
    ]


def test_fusion_makes_softmax_cross_entropy_and_its_gradient_in_one_walk():
    w = cr.Parameter(np.ones((4, 10), np.float32), name="w")

    def f(x: cr.Tensor, labels: cr.Tensor) -> Any:
        loss = nn.softmax_cross_entropy(x @ w, labels)
        loss.backward()
        gradient, w.grad = w.grad, None
        return loss, gradient

    kernels = built(f, FIVE, np.zeros(5, np.int64)).fused.kernels
    rows = [k for k in kernels if k.kind == "rows" and k.shape]
    assert len(rows) == 1
    assert len(rows[0].cores) == 4  # largest, sum of powers, picked, sum of gradients
    assert [k.kind for k in kernels].count("product") == 2


def test_a_variable_that_is_still_read_elsewhere_is_written_last():
    v = cr.Parameter(np.arange(6, dtype=np.float32).reshape(2, 3), name="v")

    def f(x: cr.Tensor) -> cr.Tensor:
        cr.assign(v, v[::-1] + x)
        return v * 1.0

    made = built(f, np.ones((2, 3), np.float32))
    assert made.text("fuse").splitlines()[-1].startswith("v <- ")
    assert "is v" not in made.text("fuse")


def test_memory_is_shared_by_values_that_do_not_meet():
    ws = [cr.Parameter(np.ones((8, 8), np.float32), name=f"w{i}") for i in range(4)]

    def f(x: cr.Tensor) -> cr.Tensor:
        for w in ws:
            x = x @ w
        return x.sum()

    made = built(f, np.ones((4, 8), np.float32))
    assert made.text("memory").splitlines() == lines("""
        phase 0: k0 (product)
        phase 1: k1 (product)
        phase 2: k2 (product)
        phase 3: k3 (product)
        phase 4: k4 (rows)
        arena: 256 bytes for n = 4
          0: v1, float32[n, 8], phases 0-1
          128: v2, float32[n, 8], phases 1-2
          0: v3, float32[n, 8], phases 2-3
          128: v4, float32[n, 8], phases 3-4
    """)


def test_small_layers_take_some_examples_through_all_of_them():
    ws = [cr.Parameter(np.ones((8, 8), np.float32), name=f"w{i}") for i in range(3)]

    def f(x: cr.Tensor) -> cr.Tensor:
        for w in ws:
            x = cr.tanh(x @ w)
        return cr.softmax(x).sum()

    made = built(f, np.ones((16, 8), np.float32))
    assert made.text("memory").splitlines()[:2] == lines("""
        phase 0: k0 (product) → k1 (product) → k2 (product) → k3 (rows)
        phase 1: k4 (rows)
    """)


@pytest.mark.skipif("generic" not in usable_targets(), reason="no generic target")
def test_the_native_text_of_one_loop():
    text = built(lambda x: x * 2 + 1, FIVE, target="generic").text("llvm")
    body = text[text.index("loop11.body:") : text.index("loop11.end:")]
    assert body.splitlines() == [
        "loop11.body:",
        "  %v12 = getelementptr float, ptr %a0, i64 %loop11.i",
        "  %v13 = load <4 x float>, ptr %v12, align 4",
        "  %v14 = fmul <4 x float> %v13, splat (float 0x4000000000000000)",
        "  %v15 = fadd <4 x float> %v14, splat (float 0x3FF0000000000000)",
        "  %v16 = getelementptr float, ptr %a1, i64 %loop11.i",
        "  store <4 x float> %v15, ptr %v16, align 4",
        "  %loop11.next = add nsw i64 %loop11.i, 4",
        "  br label %loop11",
    ]


def test_equal_layers_share_one_body():
    w = cr.Parameter(np.ones((3, 3, 4, 4), np.float32))

    def f(x: Any) -> Any:
        for _ in range(4):
            x = cr.relu(cr.conv(x, w, padding="same"))
        return x

    made = built(f, cr.Tensor(np.zeros((2, 8, 8, 4), np.float32)))
    convolutions = [k for k in made.report().kernels if ": convolution" in k]
    assert len(convolutions) == 4
    # The last layer's result has no margins.
    text = made.text("llvm")
    calls = [text.split(f"@cr_{k.split(':')[0]}(")[1] for k in convolutions]
    bodies = {c.split("@cr_body")[1].split("(")[0] for c in calls}
    assert len(bodies) == 2


def test_the_assembly_can_be_read():
    assert "cr_segment0" in built(lambda x: x * 2, FIVE).text("assembly")


def test_every_pass_prints():
    made = built(sigmoid_step(), FIVE)
    assert all(made.text(name) for name in PASSES)


def test_the_report_tells_what_was_made(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    report = built(sigmoid_step(), FIVE).report()
    assert report.through_compute == []
    assert len(report.kernels) == 3
    assert report.num_phases == 2
    assert set(report.times_s) >= {"lower", "simplify", "fuse", "llvm", "load"}
    assert "3 kernels" in str(report)
    assert "cache" in str(report)


def test_a_gate_runs_in_numpy_and_the_report_says_so():
    class Cube(cr.Gate):
        def forward(self, x: cr.Tensor) -> Any:
            return np.asarray(x.data) ** 3

        def backward(self, dy: cr.Tensor) -> Any:
            return dy

    made = built(lambda x: Cube()(x * 2) + 1, FIVE)
    assert made.report().through_compute == ["Cube"]
    (y,) = made.machine.run([FIVE], 5)
    np.testing.assert_allclose(y, (FIVE * 2) ** 3 + 1, rtol=1e-6)
