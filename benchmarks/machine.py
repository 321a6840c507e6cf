"""What this machine is and the most it can do, as measured here and now.

    python machine.py

prints the peak in GFLOP/s: the best of several float32 products of 1024×1024 matrices
by NumPy, on all cores that the process may use.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NUM_CORES = (
    len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    else os.cpu_count() or 1
)

# Some images preset the first two for another processor, which halves NumPy's matrix
# product. The others are for each contestant to choose.
REMOVED = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPROC",
    "XLA_FLAGS",
    "GLIBC_TUNABLES",
    "CHAINRULE_NUM_THREADS",
    "PYTHONDONTWRITEBYTECODE",
)
# Frameworks allocate in each step, some of them in their own threads; memory that went
# back to the system would have to be cleared by it again.
COMMON = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_ARENA_MAX": "1",
}


def environment(**variables: str) -> dict[str, str]:
    """What a measurement runs under: no presets, ``variables`` on top."""
    kept = {k: v for k, v in os.environ.items() if k not in REMOVED}
    return kept | COMMON | variables


def description() -> str:
    """The processor, its cores that may be used, its caches, the system."""
    caches = ", ".join(
        f"L{level} {_readable(size)}" for level, size in sorted(_caches().items())
    )
    return (
        f"{_processor()}; {NUM_CORES} cores; {caches or 'caches unknown'}; "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def l2_bytes() -> int:
    """The size of all level-2 caches that the process can use; 0 if unknown."""
    return _caches().get(2, 0) * NUM_CORES


def memory_bytes(kind: str, process: int | str = "self") -> int:
    """A process's memory: now (VmRSS), or the most it has held (VmHWM).

    0 where the system does not say.
    """
    status = Path(f"/proc/{process}/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    return 0


def load() -> float:
    """How many processes wanted a core in the last minute."""
    return os.getloadavg()[0]


def peak_gflops() -> float:
    """The peak, measured in a process of its own."""
    script = str(Path(__file__))
    printed = subprocess.run(
        [sys.executable, script],
        env=environment(OPENBLAS_NUM_THREADS=str(NUM_CORES)),
        capture_output=True,
        check=True,
    )
    return float(printed.stdout)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _caches() -> dict[int, int]:
    """Bytes of the first core's caches by level, of those that hold data."""
    sizes = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (folder / "type").read_text().strip() != "Instruction":
            size = (folder / "size").read_text().strip()
            level = int((folder / "level").read_text())
            sizes[level] = int(size.removesuffix("K")) * 1024
    return sizes


def _readable(size_bytes: int) -> str:
    mib = size_bytes / (1 << 20)
    return f"{mib:g} MiB" if mib >= 1 else f"{size_bytes // 1024} KiB"


def _measure() -> float:
    n = 1024
    rng = np.random.default_rng(0)
    a, b = rng.random((2, n, n), np.float32)
    out = np.empty_like(a)
    best_s = np.inf
    for _ in range(40):
        began = time.perf_counter()
        np.matmul(a, b, out)
        best_s = min(best_s, time.perf_counter() - began)
    return 2 * n**3 / best_s / 1e9


if __name__ == "__main__":
    print(_measure())
