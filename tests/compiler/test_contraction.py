"""Contraction kernels against NumPy in float64, on every target of this machine."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from chainrule.compiler.contraction import emit_contraction
from chainrule.compiler.emit import Function, Module, Value, vector
from chainrule.compiler.host import TARGETS, Target, usable_targets
from chainrule.compiler.native import Library, attributes, object_code
from chainrule.compiler.tiling import Operands, Plan, plan_contraction

SIZES = (1, 3, 17, 33, 100)
DTYPES = {"float": np.float32, "double": np.float64}
GUARD = -12345.0

# Slots of ctx: three addresses, three extents, the strides of S, V and T in elements,
# and the distance from one product of a batch to the next in each, a bias's address.
ADDRESSES, EXTENTS, STRIDES, BATCHES, BIAS = 0, 3, 6, 12, 15


class Flush:
    """Arrays that end where an unreadable page begins: reading past them crashes."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        page = mmap.PAGESIZE
        held = -(-size // page) * page
        memory = mmap.mmap(-1, held + page)
        self._maps.append(memory)
        place = ctypes.c_char.from_buffer(memory)
        libc = ctypes.CDLL(None, use_errno=True)
        assert not libc.mprotect(
            ctypes.c_void_p(ctypes.addressof(place) + held), ctypes.c_size_t(page), 0
        )
        return np.frombuffer(memory, dtype, count, held - size).reshape(shape)


def slot(f: Function, index: int, type: str = "i64") -> Value:
    return f.load(f.at(f.parameters[0], index, "i64"), type)


def build(plan: Plan, target: Target, *, bias: bool = False) -> tuple[Library, Any]:
    """A kernel whose every number but the plan's comes out of ctx; T += S·V."""
    module = Module(attributes=attributes(target))
    outputs: dict[str, Value] = {}

    def operands(f: Function, batch: Value) -> Operands:
        def address(i: int) -> Value:
            offset = f.binary("mul", batch, slot(f, BATCHES + i))
            return f.at(slot(f, ADDRESSES + i, "ptr"), offset, plan.element)

        outputs["address"] = address(2)
        outputs["p"], outputs["q"] = slot(f, STRIDES + 4), slot(f, STRIDES + 5)
        one = plan.form == "dot"
        return Operands(
            address(0),
            address(1),
            row_stride=slot(f, STRIDES),
            depth_stride=1 if one else slot(f, STRIDES + 1),
            vector_stride=slot(f, STRIDES + 2),
        )

    def epilogue(
        f: Function, sums: Value, p: Value, q: Value, mask: Value | None, extra: Any
    ) -> None:
        row = f.binary("add", f.binary("mul", p, outputs["p"]), q)
        place = f.at(outputs["address"], row, plan.element)
        if extra:
            sums = f.binary("fadd", sums, extra)
        if mask is None:
            before = f.load(place, sums.type)
            f.store(f.binary("fadd", before, sums), place)
        else:
            before = f.masked_load(place, mask, sums.type)
            f.masked_store(f.binary("fadd", before, sums), place, mask)

    def columns(f: Function, q: Value, mask: Value | None) -> Value:
        place = f.at(slot(f, BIAS, "ptr"), q, plan.element)
        type = vector(plan.element, plan.lanes)
        return f.masked_load(place, mask, type) if mask else f.load(place, type)

    emit_contraction(
        module,
        "cr_product",
        plan,
        operands,
        epilogue,
        extents=lambda f: tuple(slot(f, EXTENTS + i) for i in range(3)),  # type: ignore[arg-type,return-value]
        columns=columns if bias else None,
    )
    library = Library(object_code(module.text(), target), target)
    return library, library.function("cr_product", ctypes.c_void_p, ctypes.c_int64)


def check(
    kernel: Any,
    plan: Plan,
    sizes: tuple[int, int, int],
    batches: int,
    s_transposed: bool,
) -> None:
    p, q, k = sizes
    dtype = DTYPES[plan.element]
    rng = np.random.default_rng(p * 10007 + q * 101 + k)
    guard = Flush()
    gap = 2  # rows are longer than what is read of them, except that the last ends
    s_rows, s_columns = (k, p) if s_transposed else (p, k)
    v_rows, v_columns = (q, k) if plan.form == "dot" else (k, q)
    s_all = guard.array((batches * s_rows * (s_columns + gap) - gap,), dtype)
    v_all = guard.array((batches * v_rows * (v_columns + gap) - gap,), dtype)
    s_all[:] = rng.standard_normal(s_all.shape)
    v_all[:] = rng.standard_normal(v_all.shape)
    size = dtype().itemsize

    def view(a: np.ndarray, rows: int, columns: int) -> np.ndarray:
        row = (columns + gap) * size
        return np.lib.stride_tricks.as_strided(
            a, (batches, rows, columns), (rows * row, row, size)
        )

    s, v = view(s_all, s_rows, s_columns), view(v_all, v_rows, v_columns)
    t = np.full((batches, p + 2, q + 3), GUARD, dtype)
    t[:, 1 : p + 1, 1 : q + 1] = 1
    s_stride, v_stride = s_columns + gap, v_columns + gap
    ctx = np.array(
        [
            s_all.ctypes.data,
            v_all.ctypes.data,
            t[0, 1:, 1:].ctypes.data,
            *(p, q, k),
            *((1, s_stride) if s_transposed else (s_stride, 1)),
            *(v_stride, 1, q + 3, 1),
            *(s_rows * s_stride, v_rows * v_stride, (p + 2) * (q + 3)),
        ],
        np.int64,
    )
    num_chunks = plan.num_chunks(p, q, batches)
    for chunk in reversed(range(num_chunks)):  # any order, each once
        kernel(ctx.ctypes.data, chunk)
    x = s.astype(np.float64)
    y = v.astype(np.float64)
    x = np.swapaxes(x, 1, 2) if s_transposed else x
    y = np.swapaxes(y, 1, 2) if plan.form == "dot" else y
    expected = np.full(t.shape, GUARD)
    expected[:, 1 : p + 1, 1 : q + 1] = 1 + x @ y
    largest = 1 + float((abs(x) @ abs(y)).max())
    np.testing.assert_allclose(
        t, expected, rtol=0, atol=np.finfo(dtype).eps * 2 * largest, err_msg=str(plan)
    )


@pytest.mark.parametrize("element", ["float", "double"])
@pytest.mark.parametrize("form", ["outer", "dot"])
@pytest.mark.parametrize("name", usable_targets())
def test_run_time_sizes_strides_and_batches_give_the_product(name, form, element):
    target = TARGETS[name]
    plan = plan_contraction(target, form, element, None, None, None)
    library, kernel = build(plan, target)
    for p in SIZES:
        for q in SIZES:
            for k in SIZES:
                batches = 1 + (p + q + k) % 3
                transposed = form == "outer" and (p + q) % 4 == 0
                check(kernel, plan, (p, q, k), batches, transposed)
    del library


# Each size occurs in each place, known and unknown to the plan.
MIXED = [
    (P, Q, K, unknown)
    for i, P in enumerate(SIZES)
    for j, Q in enumerate(SIZES)
    for K, unknown in [(SIZES[(i + j) % 5], (i + 2 * j) % 8)]
]


@pytest.mark.parametrize("form", ["outer", "dot"])
@pytest.mark.parametrize("name", usable_targets())
def test_sizes_known_when_compiling_give_the_product(name, form):
    target = TARGETS[name]
    for p, q, k, unknown in MIXED:
        known = [None if unknown >> i & 1 else n for i, n in enumerate((p, q, k))]
        element = "double" if (p + q + k) % 3 == 0 else "float"
        plan = plan_contraction(target, form, element, *known)
        library, kernel = build(plan, target)
        for sizes in [(p, q, k), tuple(n or 20 for n in known)]:
            check(kernel, plan, sizes, 2, s_transposed=False)
        if form == "outer":
            check(kernel, plan, (p, q, k), 1, s_transposed=True)
        del library


@pytest.mark.parametrize("name", usable_targets())
def test_a_copied_panel_of_the_vector_operand_gives_the_product(name):
    target = TARGETS[name]
    unknown = plan_contraction(target, "outer", "float", None, None, None)
    known = plan_contraction(target, "outer", "float", 33, 100, 100)
    for plan in (unknown, known):
        height = plan.heights[0]
        plan = replace(plan, block=16, rows_per_chunk=2 * height, ahead=True)
        library, kernel = build(plan, target)
        for p in (33,) if plan is known or plan.rows else (1, 13, 27, 33, 100):
            for q in (100,) if plan.columns else (3, 33, 100):
                for k in (100,) if plan.depth else (1, 16, 33, 100):
                    check(kernel, plan, (p, q, k), 2, s_transposed=p == 27)
        del library


@pytest.mark.parametrize("form", ["outer", "dot"])
@pytest.mark.parametrize("name", usable_targets())
def test_a_vector_operand_that_is_streamed_gives_the_product(name, form):
    """Terms come in blocks, for which the sums of all tiles wait in memory."""
    target = TARGETS[name]
    unknown = plan_contraction(target, form, "float", None, None, None)
    known = plan_contraction(target, form, "float", None, 100, 100)
    for plan in (unknown, known):
        plan = replace(
            plan,
            block=16,
            streamed=True,
            ahead=form == "outer",
            rows_per_chunk=2 * plan.heights[0],
            columns_per_chunk=(2 if form == "outer" else 1) * plan.tile_columns,
        )
        library, kernel = build(plan, target)
        for p in (1, 13, 27, 33, 100):
            for q in (100,) if plan.columns else (3, 33, 100):
                for k in (100,) if plan.depth else (1, 16, 33, 100):
                    check(kernel, plan, (p, q, k), 2, s_transposed=False)
        del library


def test_large_weights_are_streamed_for_few_rows():
    target = TARGETS["avx512"]
    few = plan_contraction(
        target, "outer", "float", None, 4096, 9216, usual=(16, 4096, 9216)
    )
    many = plan_contraction(
        target, "outer", "float", None, 4096, 9216, usual=(256, 4096, 9216)
    )
    assert few.streamed
    assert not many.streamed
    back = plan_contraction(
        target, "dot", "float", None, 9216, 4096, usual=(16, 9216, 4096)
    )
    assert back.streamed
    gradient = plan_contraction(
        target, "outer", "float", 9216, 4096, None, usual=(9216, 4096, 16)
    )
    assert gradient.heights[0] < few.heights[0]


def test_large_operands_are_copied_and_small_products_are_one_chunk():
    target = TARGETS["avx512"]
    large = plan_contraction(target, "outer", "float", None, 1024, 1024)
    assert large.block == 256
    small = plan_contraction(target, "outer", "float", None, 10, 100)
    assert small.block == 0
    assert small.num_chunks(64, 10) == 1
    assert small.num_chunks(10_000, 10) > 8
    hidden = plan_contraction(target, "outer", "float", None, 100, 784)
    assert hidden.num_chunks(64, 100) == 10
    assert hidden.num_chunks(64, 100, batches=3) == 30


def test_one_call_for_each_column_of_vectors_is_shared_by_its_rows():
    """A bias that ``columns`` loads reaches the epilogue of every row."""
    target = TARGETS[usable_targets()[0]]
    plan = plan_contraction(target, "outer", "float", None, 35, 2)
    library, kernel = build(plan, target, bias=True)
    s = np.ones((20, 2), np.float32)
    v = np.ones((2, 35), np.float32)
    bias = np.arange(35, dtype=np.float32)
    t = np.zeros((20, 35), np.float32)
    ctx = np.array(
        [
            *(a.ctypes.data for a in (s, v, t)),
            *(20, 35, 2, 2, 1, 35, 1, 35, 1, 0, 0, 0, bias.ctypes.data),
        ],
        np.int64,
    )
    for chunk in range(plan.num_chunks(20, 35)):
        kernel(ctx.ctypes.data, chunk)
    np.testing.assert_array_equal(t, np.broadcast_to(bias + 2, t.shape))
    del library


@pytest.mark.parametrize("name", usable_targets())
def test_a_tile_is_tall_whatever_batch_was_seen_first(name):
    target = TARGETS[name]
    plans = [
        plan_contraction(target, "outer", "float", None, 100, 784, usual=(n, 100, 784))
        for n in (1, 3, 10, 512)
    ]
    tallest = max(p.heights[0] for p in plans)
    assert tallest >= 6
    assert all(p.heights[0] == tallest and p.heights[-1] == 1 for p in plans)
