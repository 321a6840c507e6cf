"""Native readings of scalar expressions, and the functions' errors on samples."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.emit import Function, Module, Value, number, vector
from chainrule.compiler.host import TARGETS, usable_targets
from chainrule.compiler.native import Library, attributes, object_code
from chainrule.compiler.threads import emit_flush_denormals, emit_restore
from chainrule.compiler.vector_math import convert, element, literal, native_table
from chainrule.core import scalar
from chainrule.core.scalar import Expr, symbol
from chainrule.ops import activations

FULL = 0  # as many lanes as the target's vectors have

x, y = symbol("x"), symbol("y")
SIGMOID = 1 / (1 + scalar.exp(-x))
FUNCTIONS = {
    name: getattr(scalar, name)(x)
    for name in ("exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos")
} | {"sigmoid": SIGMOID}
BOUNDS_ULP = dict.fromkeys(FUNCTIONS, 4) | {"exp": 2, "log": 2}

COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal", "not_equal")
LOGIC = ("logical_and", "logical_or", "logical_not")

every_target = pytest.mark.parametrize("target", usable_targets())
every_width = pytest.mark.parametrize("lanes", [1, FULL], ids=["one lane", "full"])
every_float = pytest.mark.parametrize("dtype", ["float32", "float64"])


def loop_over(
    body: Callable[[Function, list[Value]], Value],
    target: str,
    inputs: list[str],
    output: str,
    lanes: int,
) -> Callable[..., Any]:
    """A function of arrays that runs ``body`` on their elements, lane by lane.

    Full vectors flush denormal numbers, as a step does; single lanes keep them.
    """
    flushes = lanes == FULL
    chosen = TARGETS[target]
    lanes = lanes or chosen.lanes(element(inputs[0]))
    module = Module(attributes=attributes(chosen))
    names = [("ptr noalias", "out")]
    names += [("ptr noalias", f"in{i}") for i in range(len(inputs))]
    f = Function(module, "cr_loop", [*names, ("i64", "size")])
    out, *pointers, size = f.parameters
    saved = emit_flush_denormals(f) if flushes else None
    with f.loop(0, size, lanes) as loop:
        values = []
        for pointer, dtype in zip(pointers, inputs, strict=True):
            kept = "uint8" if dtype == "bool" else dtype
            address = f.at(pointer, loop.index, element(kept))
            value = f.load(address, vector(element(kept), lanes))
            values.append(
                convert(f, value, "uint8", "bool") if kept != dtype else value
            )
        result = body(f, values)
        kept = "uint8" if output == "bool" else output
        if kept != output:
            result = convert(f, result, "bool", "uint8")
        f.store(result, f.at(out, loop.index, element(kept)))
    if saved:
        emit_restore(f, saved)
    f.ret()
    module.add(f)
    library = Library(object_code(module.text(), chosen), chosen)
    pointer_types = [ctypes.c_void_p] * len(names)
    native = library.function("cr_loop", *pointer_types, ctypes.c_int64)

    def run(*arrays: Any) -> Any:
        count = arrays[0].size
        padded = -(-count // lanes) * lanes
        full = [
            np.resize(a.astype(d), padded) for a, d in zip(arrays, inputs, strict=True)
        ]
        found = np.empty(padded, output)
        native(found.ctypes.data, *(a.ctypes.data for a in full), padded)
        return found[:count]

    run.library = library  # type: ignore[attr-defined]
    return run


@cache
def compiled(
    expression: Expr, target: str, dtypes: tuple[str, ...], output: str, lanes: int
) -> Callable[..., Any]:
    names = scalar.symbols(expression)

    def body(f: Function, values: list[Value]) -> Value:
        table = native_table(f, dtypes[-1])
        symbols = dict(zip(names, values, strict=True))
        return scalar.fold(expression, table, symbols, partial(number, values[-1].type))

    return loop_over(body, target, list(dtypes), output, lanes)


def native(expression: Expr, target: str, *arrays: Any, lanes: int = FULL) -> Any:
    """What native code makes of the expression, as NumPy would."""
    is_yes = expression.kind in (
        *COMPARISONS,
        "logical_and",
        "logical_or",
        "logical_not",
    )
    output = "bool" if is_yes else arrays[-1].dtype.name
    dtypes = tuple(a.dtype.name for a in arrays)
    return compiled(expression, target, dtypes, output, lanes)(*arrays)


def by_numpy(expression: Expr, *arrays: Any) -> Any:
    names = scalar.symbols(expression)
    return scalar.numpy_function("reference", names, expression)(*arrays)


def errors_ulp(found: Any, exact: Any, dtype: str) -> Any:
    """Distances to a wider reference in units of the reference's last place.

    Where the reference is denormal, 0 is right too.
    """
    tiny = np.finfo(dtype).tiny
    with np.errstate(all="ignore"):
        rounded = exact.astype(dtype)
        unit = np.spacing(np.maximum(np.abs(rounded), tiny)).astype(exact.dtype)
        error = np.abs(found.astype(exact.dtype) - exact) / unit
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    flushed = (np.abs(rounded) < tiny) & (found == 0)
    return np.where(same | flushed, 0, np.where(np.isnan(error), np.inf, error))


def samples(dtype: str) -> Any:
    """Every magnitude, the interesting ranges, and the special values."""
    rng = np.random.default_rng(0)
    bits = np.dtype(dtype).itemsize * 8
    anything = rng.integers(0, 2**bits, 2**14, dtype=f"uint{bits}").view(dtype)
    limits = np.finfo(dtype)
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, limits.max]
    ranges = [rng.uniform(-s, s, 2**13) for s in (0.01, 1, 10, 100, 800, 30_000)]
    least = limits.tiny * rng.uniform(1, 4, 256)
    # Where sin and cos are small: what is left of the argument must be exact.
    multiples = np.arange(-2000, 2000) * (np.pi / 2)
    parts = [*ranges, np.array(special), least, -least, multiples]
    every = np.concatenate([anything, *(part.astype(dtype) for part in parts)])
    return every[~(np.abs(every) < limits.tiny) | (every == 0)]


def reference(name: str, points: Any) -> Any:
    with np.errstate(all="ignore"):
        wide = points.astype(
            np.float64 if points.dtype == np.float32 else np.longdouble
        )
        if name == "sigmoid":
            return 1 / (1 + np.exp(-wide))
        if name == "erf":
            return np.vectorize(math.erf)(wide.astype(np.float64)).astype(wide.dtype)
        return getattr(np, name)(wide)


@every_target
@every_width
@every_float
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_within_its_bound(name, dtype, lanes, target):
    points = samples(dtype)
    exact = reference(name, points)
    errors = errors_ulp(
        native(FUNCTIONS[name], target, points, lanes=lanes), exact, dtype
    )
    worst = int(errors.argmax())
    assert errors[worst] <= BOUNDS_ULP[name], f"at {points[worst]!r}"


# ------------------------------------------------------------------ special values

INF, NAN = math.inf, math.nan
SPECIAL = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e4, INF), (-1e4, 0)],
    "expm1": [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -1), (1e4, INF), (-1e4, -1)],
    "log": [(1, 0), (0, -INF), (-0.0, -INF), (-1, NAN), (INF, INF), (-INF, NAN)],
    "log1p": [(0, 0), (-0.0, -0.0), (-1, -INF), (-2, NAN), (INF, INF), (-INF, NAN)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (30, 1), (-30, -1)],
    "erf": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (7, 1), (-7, -1)],
    "sin": [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "sigmoid": [(0, 0.5), (INF, 1), (-INF, 0), (1e4, 1), (-1e4, 0)],
}


@every_target
@every_width
@every_float
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_exact(name, dtype, lanes, target):
    cases = [*SPECIAL[name], (NAN, NAN)]
    points, expected = np.array(cases, dtype).T
    found = native(FUNCTIONS[name], target, points, lanes=lanes)
    np.testing.assert_array_equal(found, expected)
    decided = ~np.isnan(expected)
    np.testing.assert_array_equal(
        np.signbit(found)[decided], np.signbit(expected)[decided]
    )


@every_target
@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh", "erf", "sin"])
def test_an_odd_start_keeps_its_digits(name, target):
    points = np.array([1e-30, -1e-30, 1e-12, -3e-9, 2e-7, -1e-6], np.float32)
    slope = 2 / math.sqrt(math.pi) if name == "erf" else 1.0
    found = native(FUNCTIONS[name], target, points)
    np.testing.assert_allclose(found, points * np.float64(slope), rtol=1e-6)


@every_target
def test_every_nan_stays_one(target):
    # Also those whose lowest bits are set, which arithmetic on bits could lose.
    points = np.array([0x7FC00000, 0x7FC00001, 0xFFFFFFFF, 0x7FFFFFFF], np.uint32)
    for expression in FUNCTIONS.values():
        assert np.isnan(native(expression, target, points.view(np.float32))).all()


@every_target
def test_a_lane_does_not_depend_on_its_neighbours(target):
    points = np.linspace(-100, 100, 64, dtype=np.float32)
    far = points.copy()
    far[::3] = 1e6  # beyond what the own reduction takes
    for name in ("sin", "cos"):
        alone = native(FUNCTIONS[name], target, points)
        beside = native(FUNCTIONS[name], target, far)
        keeps = far == points
        np.testing.assert_array_equal(beside[keeps], alone[keeps])


# ---------------------------------------------------------------------- primitives

EXACT = {
    "add": x + y,
    "subtract": x - y,
    "multiply": x * y,
    "divide": x / y,
    "negative": -x,
    "sqrt": scalar.sqrt(x),
    "absolute": scalar.absolute(x),
    "sign": scalar.sign(x),
    "floor": scalar.floor(x),
    "minimum": scalar.minimum(x, y),
    "maximum": scalar.maximum(x, y),
    "relu": scalar.maximum(x, 0),
    "clip": scalar.minimum(scalar.maximum(-1.0, x), 2.0),
    "select": scalar.select(scalar.less(x, y), x, 0.25 * y),
} | {name: scalar.compare(name, x, y) for name in COMPARISONS}


def pairs(dtype: str) -> tuple[Any, Any]:
    """Every pair of some ordinary and all special numbers."""
    numbers = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e30, INF, -INF, NAN]
    grid = np.meshgrid(np.array(numbers, dtype), np.array(numbers, dtype))
    return grid[0].ravel(), grid[1].ravel()


@every_target
@every_width
@every_float
@pytest.mark.parametrize("name", EXACT)
def test_a_primitive_gives_numpys_result(name, dtype, lanes, target):
    expression = EXACT[name]
    arrays = pairs(dtype)[: len(scalar.symbols(expression))]
    found = native(expression, target, *arrays, lanes=lanes)
    with np.errstate(all="ignore"):
        expected = by_numpy(expression, *arrays)
    np.testing.assert_array_equal(found, expected)


def test_a_relu_is_one_comparison_and_one_choice():
    f = Function(Module(), "cr_relu", [("float", "x")], "float")
    table, symbols = native_table(f), {"x": f.parameters[0]}
    scalar.fold(EXACT["relu"], table, symbols, partial(number, "float"))
    lines = f.text().splitlines()[2:-1]
    assert [line.split()[2] for line in lines] == ["fcmp", "select"]


def test_every_primitive_has_a_native_reading():
    table = native_table(Function(Module(), "cr_none"))
    assert set(table) == set(scalar.PRIMITIVES)


@every_target
def test_logic_combines_bools(target):
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    for expression, expected in [
        (scalar.logical_and(x, y), a & b),
        (scalar.logical_or(x, y), a | b),
        (scalar.compare("less", x, y), a < b),
        (scalar.compare("equal", x, y), a == b),
    ]:
        np.testing.assert_array_equal(native(expression, target, a, b), expected)
    np.testing.assert_array_equal(native(scalar.logical_not(x), target, a), ~a)


INTEGER_EXPRESSIONS = [
    *(EXACT[name] for name in ("add", "subtract", "multiply", "negative")),
    *(EXACT[name] for name in ("absolute", "sign", "minimum", "maximum", "relu")),
    *(EXACT[name] for name in COMPARISONS),
    *(scalar.power(x, exponent) for exponent in (0, 1, 2, 3, 7, 10)),
]


@every_target
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_wrap_as_numpys_do(dtype, target):
    limits = np.iinfo(dtype)
    numbers = np.array([0, 1, -1, 2, -7, 46341, limits.max, limits.min], dtype)
    grid = [g.ravel() for g in np.meshgrid(numbers, numbers)]
    for expression in INTEGER_EXPRESSIONS:
        arrays = grid[: len(scalar.symbols(expression))]
        found = native(expression, target, *arrays)
        with np.errstate(all="ignore"):
            expected = by_numpy(expression, *arrays)
        np.testing.assert_array_equal(found, expected, str(expression))


@every_target
def test_bytes_are_compared_without_a_sign(target):
    a, b = np.array([0, 1, 127, 128, 255], np.uint8), np.array([128] * 5, np.uint8)
    for name in COMPARISONS:
        expression = scalar.compare(name, x, y)
        found = native(expression, target, a, b)
        np.testing.assert_array_equal(found, by_numpy(expression, a, b))


# --------------------------------------------------------------------------- power

EXPONENTS = [0, 1, 2, 3, 4, 5, -1, -2, -3, 0.5, -0.5, 1.5, -0.75, 1 / 3, 13.0, INF, NAN]


@every_target
@every_float
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_constant_power_is_numpys(exponent, dtype, target):
    points = samples(dtype)[::8]
    points = np.concatenate([points, pairs(dtype)[0]])
    expression = scalar.power(x, exponent)
    wide = np.float64 if dtype == "float32" else np.longdouble
    with np.errstate(all="ignore"):
        exact = points.astype(wide) ** wide(points.dtype.type(exponent))
        if exponent == 0.5:  # NumPy's array ** 0.5 is the root, NaN at -inf
            exact = np.sqrt(points.astype(wide))
    errors = errors_ulp(native(expression, target, points), exact, dtype)
    assert errors.max() <= 4, points[errors.argmax()]


@every_target
@every_width
@every_float
def test_a_power_of_two_variables_is_numpys(dtype, lanes, target):
    rng = np.random.default_rng(1)
    base, exponent = pairs(dtype)
    base = np.concatenate([base, rng.uniform(0, 20, 500), rng.uniform(-9, 9, 500)])
    exponent = np.concatenate(
        [exponent, rng.uniform(-20, 20, 500), rng.integers(-20, 20, 500)]
    )
    arrays = base.astype(dtype), exponent.astype(dtype)
    wide = np.float64 if dtype == "float32" else np.longdouble
    with np.errstate(all="ignore"):
        exact = arrays[0].astype(wide) ** arrays[1].astype(wide)
    found = native(scalar.power(x, y), target, *arrays, lanes=lanes)
    errors = errors_ulp(found, exact, dtype)
    assert errors.max() <= 4, (arrays[0][errors.argmax()], arrays[1][errors.argmax()])


def test_an_integer_to_a_variable_power_is_refused():
    f = Function(Module(), "cr_power", [("i32", "x"), ("i32", "y")], "i32")
    with pytest.raises(ValueError, match="constant exponent"):
        native_table(f)["power"](*f.parameters)


def test_a_literal_is_told_from_a_variable():
    assert literal(number("float", 1.5)) == 1.5
    assert literal(number("<8 x double>", -2.0)) == -2
    assert literal(number("<16 x i32>", 7)) == 7
    assert literal(number("i1", True)) == 1
    assert literal(Value("float", "%v3")) is None


# --------------------------------------------------------------------- activations

ACTIVATIONS = [
    activations.ELU.make(1.0),
    activations.GELU.make(),
    activations.LeakyReLU.make(0.1),
    activations.ReLU.make(),
    activations.Sigmoid.make(),
    activations.Softplus.make(),
    activations.Tanh.make(),
]


@every_target
@every_float
@pytest.mark.parametrize("op", ACTIVATIONS, ids=lambda op: op.name)
def test_an_activation_is_as_exact_as_numpys(op, dtype, target):
    rng = np.random.default_rng(2)
    spread = rng.choice([-1, 1], 20_000) * 10 ** rng.uniform(-10, 2, 20_000)
    points = spread.astype(dtype)
    found = native(op.expression, target, points)
    if op.name == "gelu":
        # 1 + erf cancels below 0, so the error is a part of x, as NumPy's is.
        exact = by_numpy(op.expression, points.astype(np.float64))
        relative = (found - exact) / points
        assert np.abs(relative).max() <= 4 * np.finfo(dtype).eps
    else:
        wide = np.float64 if dtype == "float32" else np.longdouble
        exact = by_numpy(op.expression, points.astype(wide))
        errors = errors_ulp(found, exact, dtype)
        assert errors.max() <= 4, points[errors.argmax()]


# --------------------------------------------------------------------------- casts

DTYPES = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("uint64", "int64", "float32", "float64"),
]
WHOLE = [0, 1, 2, 100, 127, 128, 200, 255, 256, 40_000, 70_000, 2**31 - 1, 2**31, 2**40]


@every_target
@pytest.mark.parametrize("source", DTYPES)
def test_a_cast_gives_what_astype_gives(source, target):
    if source.startswith("float"):
        points = np.array([0, -0.0, 0.9, 1, -1.5, 99.99, -100.2, 1e-30, 2.5], source)
    else:
        numbers = np.array([*WHOLE, *(-n for n in WHOLE)])
        points = numbers.astype(source)
    for wanted in DTYPES:
        kept = points
        if source.startswith("float"):
            if wanted.startswith("uint"):
                kept = np.abs(points)  # C leaves the others undefined
            if wanted in ("uint32", "int64", "uint64"):
                kept = np.append(kept, points.dtype.type(3e9))
        run = loop_over(
            lambda f, v, wanted=wanted: convert(f, v[0], source, wanted),
            target,
            [source],
            wanted,
            FULL,
        )
        np.testing.assert_array_equal(run(kept), kept.astype(wanted), wanted)


@every_target
def test_nan_is_yes(target):
    run = loop_over(
        lambda f, v: convert(f, v[0], "float32", "bool"), target, ["float32"], "bool", 0
    )
    points = np.array([NAN, INF, 0, -0.0, 1e-20], np.float32)
    assert run(points).tolist() == [True, True, False, False, True]
