"""chainrule beside PyTorch, on PyTorch's own published samples of each function.

For every entry of ``counterparts.py``, every sample that PyTorch's op database gives is
run by both, in float64 and in float32, and values and gradients (of random dy) are
compared. Run it where torch and expecttest are installed (extra "referee"):

    python tests/referee/compare_with_pytorch.py [ENTRY ...]

It prints a row for each entry and ends with status 1 if a sample failed.

float64  |ours - theirs| ≤ 1e-9·|theirs|, or 16 ulp of the array's largest number.
float32  max|ours - exact| ≤ 4·max|theirs - exact| + 2 ulp of the largest number, where
         exact is PyTorch's answer in float64 from the same float32 inputs. The 2 ulp
         are for samples on which PyTorch happens to make no error at all.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from counterparts import COUNTERPARTS, Skip
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.errors import ChainruleError

RELATIVE = 1e-9
ULP_FLOOR = {"float64": 16, "float32": 2}
TIMES_PYTORCH = 4
SEED = 0

Array = np.ndarray[Any, Any]
Outcome = tuple[list[Array], list[Array]]
"""Values and gradients."""


class Disagreement(Exception):
    """A sample on which the two differ, in words."""


@dataclass
class Tally:
    tried: int = 0
    passed: int = 0
    skips: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.tried += other.tried
        self.passed += other.passed
        self.skips += other.skips
        self.failures += other.failures


def is_float(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype.is_floating_point


# ----------------------------------------------------------------- the two runs


def random_dy(shape: tuple[int, ...], dtype: Any, seed: int) -> Array:
    # float32 numbers, so that both precisions start from the same dy.
    dy = np.random.default_rng([SEED, seed]).standard_normal(shape, np.float32)
    return np.asarray(dy, dtype)


def run_pytorch(op: Any, arguments: Any, differentiate: bool) -> Outcome:
    args, kwargs = tree_map(
        lambda x: (
            x.detach().clone().requires_grad_(differentiate) if is_float(x) else x
        ),
        arguments,
    )
    outputs = [y for y in tree_flatten(op(*args, **kwargs))[0] if is_tensor(y)]
    values = [y.detach().resolve_neg().numpy().copy() for y in outputs]
    smooth = [(i, y) for i, y in enumerate(outputs) if y.requires_grad]
    leaves = [x for x in tree_flatten((args, kwargs))[0] if is_float(x)]
    if not smooth or not differentiate:
        return values, []
    dys = [torch.tensor(random_dy(y.shape, values[i].dtype, i)) for i, y in smooth]
    found = torch.autograd.grad(
        [y for _, y in smooth], leaves, dys, allow_unused=True, materialize_grads=True
    )
    return values, [g.numpy() for g in found]


def is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def run_chainrule(
    adapter: Callable[..., Any], arguments: Any, differentiate: bool
) -> Outcome:
    args, kwargs = tree_map(to_chainrule, arguments)
    result = adapter(*args, **kwargs)
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    values = [y.numpy() for y in outputs]
    smooth = [(i, y) for i, y in enumerate(outputs) if y.requires_grad]
    leaves = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, cr.Tensor)]
    leaves = [x for x in leaves if x.requires_grad]
    if not differentiate:
        return values, []
    dys = [random_dy(y.shape, y.dtype, i) for i, y in smooth]
    found = gradients([y for _, y in smooth], leaves, dys)
    return values, [g.numpy() for g in found]


def to_chainrule(x: Any) -> Any:
    if isinstance(x, torch.dtype):
        return str(x).removeprefix("torch.")
    if not is_tensor(x):
        return x
    if x.dtype.is_complex or x.is_sparse or x.dtype in (torch.float16, torch.bfloat16):
        raise Skip(f"{str(x.dtype).removeprefix('torch.')} or sparse operands")
    return cr.Tensor(x.detach().numpy(), requires_grad=is_float(x))


# ------------------------------------------------------------------- comparison


def agree_in_float64(kind: str, ours: Array, theirs: Array) -> None:
    floor = ULP_FLOOR["float64"] * np.finfo(np.float64).eps * scale_of(theirs)
    with np.errstate(invalid="ignore"):
        off = np.abs(ours - theirs) > RELATIVE * np.abs(theirs) + floor
    off &= np.isfinite(theirs)
    if off.any():
        worst = np.abs(ours - theirs)[off].max()
        raise Disagreement(f"{kind} differ by {worst:.3g} of {scale_of(theirs):.3g}")


def agree_in_float32(kind: str, ours: Array, theirs: Array, exact: Array) -> None:
    known = np.isfinite(exact) & np.isfinite(theirs)
    if not known.any():
        return
    wrong, right = (np.abs(a - exact)[known].max() for a in (ours, theirs))
    floor = ULP_FLOOR["float32"] * np.finfo(np.float32).eps * scale_of(exact)
    if not wrong <= TIMES_PYTORCH * right + floor:
        raise Disagreement(
            f"{kind}: error {wrong:.3g}, PyTorch's {right:.3g}, of {scale_of(exact):.3g}"
        )


def scale_of(a: Array) -> float:
    finite = np.abs(a[np.isfinite(a)])
    return float(finite.max()) if finite.size else 0.0


def compare(ours: Outcome, theirs: Outcome, exact: Outcome | None) -> None:
    for kind, a, b, c in zip(
        ("values", "gradients"), ours, theirs, exact or theirs, strict=True
    ):
        if len(a) != len(b):
            raise Disagreement(f"{len(a)} {kind}, PyTorch has {len(b)}")
        for x, y, z in zip(a, b, c, strict=True):
            compare_arrays(kind, x, y, None if exact is None else z)


def compare_arrays(kind: str, ours: Array, theirs: Array, exact: Array | None) -> None:
    if ours.shape != theirs.shape:
        raise Disagreement(f"{kind}: shape {ours.shape}, PyTorch's {theirs.shape}")
    if theirs.dtype.kind != "f":
        if not np.array_equal(ours, theirs):
            raise Disagreement(f"{kind} differ")
        return
    if ours.dtype != theirs.dtype:
        raise Disagreement(f"{kind}: {ours.dtype}, PyTorch's {theirs.dtype}")
    for test in (np.isnan, np.isposinf, np.isneginf):
        if not np.array_equal(test(ours), test(theirs)):
            raise Disagreement(f"{kind}: {test.__name__} in different places")
    if exact is None or ours.dtype == np.float64:
        agree_in_float64(kind, ours, theirs)
    else:
        agree_in_float32(kind, ours, theirs, exact)


# --------------------------------------------------------------------- the rows


def samples_of(op: Any, dtype: torch.dtype) -> Iterator[Any]:
    torch.manual_seed(SEED)
    for sample in op.sample_inputs("cpu", dtype, requires_grad=False):
        yield (sample.input, *sample.args), sample.kwargs


def widened(arguments: Any) -> Any:
    flat, structure = tree_flatten(arguments)
    wide = [x.double() if is_float(x) else x for x in flat]
    return tree_unflatten(wide, structure)


def judge(op: Any, adapter: Callable[..., Any], arguments: Any, dtype: Any) -> None:
    differentiate = bool(op.supports_autograd)
    ours = run_chainrule(adapter, arguments, differentiate)
    theirs = run_pytorch(op, arguments, differentiate)
    if not any(a.dtype.kind == "f" for a in theirs[0]):
        differentiate = False
        ours = ours[0], []
        theirs = theirs[0], []
    exact = None
    if dtype == torch.float32:
        exact = run_pytorch(op, widened(arguments), differentiate)
    compare(ours, theirs, exact)


def examine(op: Any, adapter: Callable[..., Any], dtype: torch.dtype) -> Tally:
    tally = Tally()
    for number, arguments in enumerate(samples_of(op, dtype)):
        tally.tried += 1
        try:
            judge(op, adapter, arguments, dtype)
            tally.passed += 1
        except Skip as reason:
            tally.skips[str(reason)] += 1
        except Exception as error:
            name = str(dtype).removeprefix("torch.")
            if isinstance(error, (Disagreement, ChainruleError)):
                text = str(error)
            else:
                text = f"{type(error).__name__}: {error}"
            tally.failures.append(f"sample {number}, {name}: {text}")
    return tally


def entries(wanted: list[str]) -> Iterator[tuple[str, Any]]:
    for op in op_db:
        variant = op.variant_test_name
        name = f"{op.name}.{variant}" if variant else op.name
        if name in COUNTERPARTS and (not wanted or name in wanted):
            yield name, op


def main(wanted: list[str]) -> int:
    warnings.simplefilter("ignore")  # PyTorch's own, about its old functions
    torch.set_num_threads(1)
    start = time.perf_counter()
    total, count = Tally(), 0
    print(f"{'entry':<45} {'tried':>6} {'passed':>6} {'skipped':>7} {'failed':>6}")
    for name, op in entries(wanted):
        tally = Tally()
        for dtype in (torch.float64, torch.float32):
            if dtype in op.dtypes:
                tally.add(examine(op, COUNTERPARTS[name], dtype))
        if "int64" in name or not tally.tried:
            tally.add(examine(op, COUNTERPARTS[name], torch.int64))
        skipped, failed = sum(tally.skips.values()), len(tally.failures)
        print(
            f"{name:<45} {tally.tried:>6} {tally.passed:>6} {skipped:>7} {failed:>6}"
        )
        for reason, times in tally.skips.items():
            print(f"    skipped {times}: {reason}")
        for failure in tally.failures:
            print(f"    FAILED {failure}")
        total.add(tally)
        count += 1
    missing = set(COUNTERPARTS) - {name for name, _ in entries([])}
    skipped, failed = sum(total.skips.values()), len(total.failures)
    print(
        f"{count} entries, {total.tried} samples: {total.passed} passed, "
        f"{skipped} skipped, {failed} failed ({time.perf_counter() - start:.0f} s)"
    )
    if missing:
        print("not in PyTorch's database:", ", ".join(sorted(missing)))
    return 1 if total.failures or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
