"""How far the compiled exp, log, tanh ... are from the exact ones, in ulp.

float32: every one of the 2^32 inputs, against NumPy's float64 function.
float64: 10^8 random inputs, against the long double function, whose mantissa has 64
bits on x86: a quarter any bits at all, a quarter spread evenly over the magnitudes
from 2^-60 to 2^10, half evenly over the range where the function bends.

An error is the distance to the reference, in units of the last place of the reference
rounded to the dtype. Denormal numbers are flushed, as in a compiled step: an argument
may count as 0 and a result may be 0. Exits with 1 if an error is above its bound.

    python benchmarks/function_errors.py
    python benchmarks/function_errors.py exp log --quick --target avx2
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

import numpy as np
from scipy.special import erf as scipy_erf

from chainrule.compiler.emit import Function, Module, number, vector
from chainrule.compiler.host import TARGETS, Target, host_target, usable_targets
from chainrule.compiler.native import Library, attributes, object_code
from chainrule.compiler.threads import emit_flush_denormals, emit_restore
from chainrule.compiler.vector_math import element, native_table
from chainrule.core import scalar

X = scalar.symbol("x")
NAMES = ("exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos")
EXPRESSIONS = {name: getattr(scalar, name)(X) for name in NAMES}
EXPRESSIONS["sigmoid"] = 1 / (1 + scalar.exp(-X))
BOUNDS_ULP = dict.fromkeys(EXPRESSIONS, 4.0) | {"exp": 2.0, "log": 2.0}
DTYPES = ("float32", "float64")

# Where float64 inputs are drawn evenly.
RANGES = {
    "exp": (-746, 710),
    "expm1": (-3, 3),
    "log": (0, 4),
    "log1p": (-1, 3),
    "tanh": (-4, 4),
    "erf": (-6, 6),
    "sin": (-100, 100),
    "cos": (-100, 100),
    "sigmoid": (-40, 40),
}

CHUNK = 2**20
NUM_RANDOM = 10**8
NUM_QUICK = 2**22


def native_function(name: str, dtype: str, target: Target, lanes: int):
    """The compiled function of an array whose size is a multiple of the lanes."""
    type = vector(element(dtype), lanes)
    module = Module(attributes=attributes(target))
    parameters = [("ptr noalias", "y"), ("ptr noalias", "x"), ("i64", "size")]
    f = Function(module, "cr_loop", parameters)
    y, x, size = f.parameters
    saved = emit_flush_denormals(f)
    with f.loop(0, size, lanes) as loop:
        value = f.load(f.at(x, loop.index, element(dtype)), type)
        table, constant = native_table(f, dtype), partial(number, type)
        found = scalar.fold(EXPRESSIONS[name], table, {"x": value}, constant)
        f.store(found, f.at(y, loop.index, element(dtype)))
    emit_restore(f, saved)
    f.ret()
    module.add(f)
    return callable_loop(module, target)


def callable_loop(module: Module, target: Target):
    library = Library(object_code(module.text(), target), target)
    types = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    loop = library.function("cr_loop", *types)
    loop.library = library  # whose code it is
    return loop


@cache
def long_double_erf():
    """C's erfl over an array of float64; NumPy has no error function."""
    target = host_target()
    module = Module(attributes=attributes(target))
    module.declarations["erfl"] = "declare x86_fp80 @erfl(x86_fp80)"
    f = Function(module, "cr_loop", [("ptr", "y"), ("ptr", "x"), ("i64", "size")])
    y, x, size = f.parameters
    with f.loop(0, size) as loop:
        value = f.load(f.at(x, loop.index, "double"), "double")
        exact = f.call("erfl", "x86_fp80", f.cast("fpext", value, "x86_fp80"))
        f.line(f"store {exact}, {f.at(y, loop.index, 'x86_fp80')}, align 16")
    f.ret()
    module.add(f)
    return callable_loop(module, target)


def reference(name: str, points: np.ndarray) -> np.ndarray:
    """The function in the next wider type."""
    wide = points.astype(np.float64 if points.dtype == np.float32 else np.longdouble)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-wide))
    if name != "erf":
        return getattr(np, name)(wide)
    if wide.dtype == np.float64:
        return scipy_erf(wide)
    exact = np.empty_like(wide)
    long_double_erf()(exact.ctypes.data, points.ctypes.data, points.size)
    return exact


def errors_ulp(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distances in units of the last place of the rounded reference."""
    limits = np.finfo(found.dtype)
    rounded = exact.astype(found.dtype)
    size = np.maximum(np.abs(rounded), limits.tiny)
    integer = f"u{found.dtype.itemsize}"
    power = size.view(integer) >> limits.nmant << limits.nmant
    errors = np.abs(found - exact) / (power.view(found.dtype) * limits.eps)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    flushed = (np.abs(rounded) < limits.tiny) & (found == 0)
    errors[same & ~np.isfinite(errors) | flushed] = 0
    errors[np.isnan(errors)] = np.inf
    return errors


def points_of(name: str, dtype: str, chunk: int, is_quick: bool) -> np.ndarray:
    """The inputs of one chunk."""
    rng = np.random.default_rng(chunk)
    if dtype == "float32":
        if is_quick:
            return rng.integers(0, 2**32, CHUNK, np.uint32).view(np.float32)
        first = chunk * CHUNK
        return np.arange(first, first + CHUNK, dtype=np.uint32).view(np.float32)
    anything = rng.integers(0, 2**64, CHUNK // 4, np.uint64).view(np.float64)
    spread = 2.0 ** rng.uniform(-60, 10, CHUNK // 4) * rng.choice([-1, 1], CHUNK // 4)
    return np.concatenate([anything, spread, rng.uniform(*RANGES[name], CHUNK // 2)])


compiled = cache(native_function)


def worst_of(
    name: str, dtype: str, target: str, lanes: int, is_quick: bool, chunk: int
) -> tuple[float, float]:
    """The largest error in one chunk, and its input."""
    points = points_of(name, dtype, chunk, is_quick)
    chosen = TARGETS[target]
    function = compiled(name, dtype, chosen, lanes or chosen.lanes(element(dtype)))
    found = np.empty_like(points)
    function(found.ctypes.data, points.ctypes.data, points.size)
    with np.errstate(all="ignore"):
        errors = errors_ulp(found, reference(name, points))
        is_denormal = np.abs(points) < np.finfo(dtype).tiny
        if is_denormal.any():
            small = np.flatnonzero(is_denormal)
            zeros = np.copysign(np.zeros(small.size, dtype), points[small])
            as_zero = errors_ulp(found[small], reference(name, zeros))
            errors[small] = np.minimum(errors[small], as_zero)
    worst = int(errors.argmax())
    return float(errors[worst]), float(points[worst])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(EXPRESSIONS))
    parser.add_argument("--dtype", choices=DTYPES, help="only this one")
    parser.add_argument("--target", choices=usable_targets())
    parser.add_argument("--lanes", type=int, default=0, help="not a full vector")
    parser.add_argument("--quick", action="store_true", help="2^22 random inputs")
    options = parser.parse_args()
    target = options.target or host_target().name
    dtypes = [options.dtype] if options.dtype else list(DTYPES)
    if "float64" in dtypes and np.finfo(np.longdouble).nmant < 63:
        print("float64: left out, since long double is no wider on this machine")
        dtypes.remove("float64")
    is_good = True
    print(f"target {target}")
    print(
        "function dtype          inputs   max error  bound  at                seconds"
    )
    # New processes, not forked ones: native code was compiled in this one.
    num_processes = os.cpu_count() or 1
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as processes:
        for dtype in dtypes:
            for name in options.names or EXPRESSIONS:
                total = 2**32 if dtype == "float32" else NUM_RANDOM
                num_chunks = -(-(NUM_QUICK if options.quick else total) // CHUNK)
                run = partial(
                    worst_of, name, dtype, target, options.lanes, options.quick
                )
                begin = time.perf_counter()
                found = processes.map(run, range(num_chunks))
                error, where = max(found)
                time_s = time.perf_counter() - begin
                is_within = error <= BOUNDS_ULP[name]
                is_good = is_good and is_within
                print(
                    f"{name:8} {dtype} {num_chunks * CHUNK:13,} {error:7.3f} ulp"
                    f" {BOUNDS_ULP[name]:6g}  {where:<16.9g} {time_s:8.1f}"
                    f"{'' if is_within else '  ABOVE'}",
                    flush=True,
                )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
