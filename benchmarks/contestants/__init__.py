"""Who takes part in the benchmarks, and the flags among which each has its best.

A module here has ``VERSION`` and ``make(problem, **options)``. That returns a function
``run(start, count)``, which takes the steps of ``problem.order[start : start + count]``
and returns a function that reads their losses. What is timed is ``run``: it returns
when the weights of the last step are there. For workloads of inference it has
``infer(problem, **options)`` instead, which returns a function from pictures to scores,
both NumPy arrays.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from machine import COMMON, NUM_CORES, environment
from networks import Perceptron
from workloads import Workload

THREADS = sorted({1, NUM_CORES})


@dataclass(frozen=True)
class Setting:
    """One choice of flags: arguments of ``make``, variables of the environment.

    ``is_common`` says whether it runs under what all have in common, too.
    """

    options: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    is_common: bool = True

    def environment(self) -> dict[str, str]:
        found = environment(**self.variables)
        if self.is_common:
            return found
        return {name: value for name, value in found.items() if name not in COMMON}

    def __str__(self) -> str:
        pairs = {**self.variables, **self.options}
        return " ".join(f"{key}={value}" for key, value in pairs.items())


def _always(workload: Workload) -> str:
    return ""


@dataclass(frozen=True)
class Contestant:
    """A library used in one way.

    ``cannot(workload)`` says why it cannot express a workload, or "". A comparison
    counts only if all that are ``is_required`` took part.
    """

    name: str
    module: str
    package: str
    settings: list[Setting]
    is_required: bool = True
    cannot: Callable[[Workload], str] = _always

    @property
    def is_peer(self) -> bool:
        return self.package != "chainrule"

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def _sklearn_cannot(workload: Workload) -> str:
    if workload.loss == "hinge":
        return "it has no multiclass hinge loss trained by minibatches"
    network = workload.network
    if not (isinstance(network, Perceptron) and network.has_bias):
        return "its networks have biases"
    return ""


def _blas(threads: int) -> dict[str, str]:
    return {"OPENBLAS_NUM_THREADS": str(threads)}


_COMPILED = Setting({"compiled": True})
_EAGER = [Setting({"compiled": False}, _blas(n)) for n in THREADS]
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}

# ------------------------------------------------------------------ dense networks

_NUMPY = [
    Setting({"transposed": transposed}, _blas(n))
    for n in THREADS
    for transposed in (False, True)
]
_TORCH = [Setting({"threads": n}) for n in THREADS]
_TORCH_COMPILED = [
    Setting({"compiled": True, "threads": n, "mode": mode, "cpp_wrapper": cpp_wrapper})
    for n in THREADS
    for mode, cpp_wrapper in [("default", True), ("max-autotune-no-cudagraphs", False)]
]
_JAX = [Setting({"scan": False}, {"NPROC": str(n)}) for n in THREADS]
_JAX_SCAN = [
    Setting({"scan": True, "unroll": unroll}, {"NPROC": str(n)})
    for n in THREADS
    for unroll in (1, 4)
]
_TENSORFLOW = [Setting({"threads": n}, _QUIET) for n in THREADS]
_TENSORFLOW_XLA = [Setting({"xla": "loop", "threads": n}, _QUIET) for n in THREADS]

_DENSE = [
    Contestant("numpy", "with_numpy", "numpy", _NUMPY),
    Contestant("chainrule compiled", "with_chainrule", "chainrule", [_COMPILED]),
    Contestant("chainrule eager", "with_chainrule", "chainrule", _EAGER, False),
    Contestant("pytorch eager", "with_torch", "torch", _TORCH),
    Contestant("pytorch compiled", "with_torch", "torch", _TORCH_COMPILED),
    Contestant("jax jit", "with_jax", "jax", _JAX),
    Contestant("jax scan", "with_jax", "jax", _JAX_SCAN),
    Contestant("tensorflow", "with_tensorflow", "tensorflow", _TENSORFLOW),
    Contestant("tensorflow xla", "with_tensorflow", "tensorflow", _TENSORFLOW_XLA),
    Contestant(
        "scikit-learn",
        "with_sklearn",
        "sklearn",
        [Setting({}, _blas(n)) for n in THREADS],
        is_required=False,
        cannot=_sklearn_cannot,
    ),
    Contestant(
        "tinygrad",
        "with_tinygrad",
        "tinygrad",
        [Setting({}, {"DEV": "CPU"})],
        is_required=False,
    ),
]

# ---------------------------------------------------------- convolutional networks
# Steps are long and touch much memory: one thread and small pages are never better.

_ALL = {"threads": NUM_CORES}
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

_TORCH_DEFAULT = [Setting(_ALL | {"fused": False}, is_common=False)]
_TORCH_CONV = [
    Setting(_ALL | {"channels_last": channels_last}, _LARGE_PAGES)
    for channels_last in (True, False)
]
_TORCH_CONV_COMPILED = [
    Setting(setting.options | {"channels_last": True}, _LARGE_PAGES)
    for setting in _TORCH_COMPILED
    if setting.options["threads"] == NUM_CORES
]
_JAX_CONV, _JAX_CONV_SCAN = (
    [Setting({"scan": scan}, {"NPROC": str(NUM_CORES)} | _LARGE_PAGES)]
    for scan in (False, True)
)
_TENSORFLOW_CONV = [
    Setting(_ALL | {"inter_op": inter_op}, _QUIET | _LARGE_PAGES)
    for inter_op in THREADS
]
_TENSORFLOW_CONV_XLA = [Setting(_ALL | {"xla": "step"}, _QUIET | _LARGE_PAGES)]

_CONVOLUTIONAL = [
    Contestant("chainrule compiled", "with_chainrule", "chainrule", [_COMPILED]),
    Contestant("chainrule eager", "with_chainrule", "chainrule", _EAGER[-1:], False),
    Contestant("pytorch default", "with_torch", "torch", _TORCH_DEFAULT, False),
    Contestant("pytorch eager", "with_torch", "torch", _TORCH_CONV),
    Contestant("pytorch compiled", "with_torch", "torch", _TORCH_CONV_COMPILED),
    Contestant("jax jit", "with_jax", "jax", _JAX_CONV),
    Contestant("jax scan", "with_jax", "jax", _JAX_CONV_SCAN),
    Contestant("tensorflow", "with_tensorflow", "tensorflow", _TENSORFLOW_CONV),
    Contestant("tensorflow xla", "with_tensorflow", "tensorflow", _TENSORFLOW_CONV_XLA),
]

# ----------------------------------------------------------------------- inference

_TORCH_INFER = [
    Setting({"threads": n, "channels_last": channels_last})
    for n in THREADS
    for channels_last in (True, False)
]
_INFERENCE = [
    Contestant("chainrule compiled", "with_chainrule", "chainrule", [_COMPILED]),
    Contestant("chainrule eager", "with_chainrule", "chainrule", _EAGER, False),
    Contestant(
        "onnxruntime",
        "with_onnxruntime",
        "onnxruntime",
        [Setting({"threads": n}) for n in THREADS],
    ),
    Contestant("pytorch eager", "with_torch", "torch", _TORCH_INFER),
    Contestant(
        "pytorch compiled",
        "with_torch",
        "torch",
        [Setting(s.options | {"compiled": True}) for s in _TORCH_INFER],
    ),
    Contestant(
        "jax jit", "with_jax", "jax", [Setting({}, {"NPROC": str(n)}) for n in THREADS]
    ),
    Contestant("tensorflow", "with_tensorflow", "tensorflow", _TENSORFLOW),
    Contestant(
        "tensorflow xla",
        "with_tensorflow",
        "tensorflow",
        [Setting({"xla": "step", "threads": n}, _QUIET) for n in THREADS],
    ),
]

NAMES = list(dict.fromkeys(c.name for c in [*_DENSE, *_CONVOLUTIONAL, *_INFERENCE]))


def contestants(workload: Workload) -> list[Contestant]:
    """Who takes part in a workload."""
    if workload.is_inference:
        return _INFERENCE
    return _DENSE if isinstance(workload.network, Perceptron) else _CONVOLUTIONAL


def reference(workload: Workload) -> Contestant:
    """Whose losses the others' are compared with.

    Where rounding soon decides much, it is a computation that rounds less.
    """
    if isinstance(workload.network, Perceptron):
        return _DENSE[0]
    setting = Setting(_ALL | {"dtype": "float64"})
    return Contestant("PyTorch in float64", "with_torch", "torch", [setting])
