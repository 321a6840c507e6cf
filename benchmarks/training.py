"""Whole trainings, as native code and in NumPy: the same data, seed and options.

mnist    784-100-10, Adam, minibatches of 64, 10 epochs
digits   the 1,797 digits that come with chainrule and what ``chainrule train`` does

A time is that of ``fit`` and ``evaluate``: from weights to scores, compilation
included, without reading the data. Each training has a process of its own, and the two
executions take turns. ``cold`` starts with an empty cache of native code, ``warm``
finds in it what an earlier process compiled. MNIST is read from CHAINRULE_DATA_DIR.

    python benchmarks/training.py [--turns N] [NAME...]

Exits 1 unless native code takes at most a third of NumPy's time on MNIST with an
accuracy within 0.3 points, and on the digits at most 0.5 s more when cold and no more
when warm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "mnist": {"hidden": (100,), "epochs": 10, "batch_size": 64, "seed": 0},
    "digits": {"seed": 0},
}


def train(name: str) -> dict[str, Any]:
    """One training in this process."""
    import chainrule as cr

    splits = cr.data.load(None if name == "digits" else name, seed=0)
    began = time.perf_counter()
    model = cr.fit(splits.train, validation=splits.validation, **OPTIONS[name])
    scores = cr.evaluate(model, splits.test)
    time_s = time.perf_counter() - began
    return {"time_s": time_s, "accuracy": scores["accuracy"]}


def trained(name: str, execution: str, cache: str) -> dict[str, Any]:
    """One training in a process of its own."""
    environment = {
        **os.environ,
        "CHAINRULE_EXECUTION": execution,
        "CHAINRULE_CACHE_DIR": cache,
    }
    command = [sys.executable, __file__, "--one", name]
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def compare(name: str, num_turns: int) -> bool:
    """Print medians of some turns; whether they are as they should be."""
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": [], "numpy": []}
    for _ in range(num_turns):
        with tempfile.TemporaryDirectory() as cache:
            found["cold"].append(trained(name, "native", cache))
            found["numpy"].append(trained(name, "numpy", cache))
            found["warm"].append(trained(name, "native", cache))
    time_s = {k: median(run["time_s"] for run in runs) for k, runs in found.items()}
    accuracy = {k: median(r["accuracy"] for r in runs) for k, runs in found.items()}
    for kind in found:
        ratio = time_s["numpy"] / time_s[kind]
        print(
            f"{name:8}{kind:8}{time_s[kind]:8.2f} s{ratio:8.2f}×"
            f"{100 * accuracy[kind]:9.2f} %",
            flush=True,
        )
    if name == "mnist":
        difference = abs(accuracy["cold"] - accuracy["numpy"])
        return 3 * time_s["cold"] <= time_s["numpy"] and difference <= 0.003
    return time_s["cold"] <= time_s["numpy"] + 0.5 and time_s["warm"] <= time_s["numpy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mnist, digits")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train(options.one)))
        return
    print(f"{'':16}{'median':>10}{'NumPy is':>9}{'accuracy':>11}")
    names = options.names or list(OPTIONS)
    results = [compare(name, options.turns) for name in names]
    if not all(results):
        sys.exit(1)


if __name__ == "__main__":
    main()
