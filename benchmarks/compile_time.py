"""How long a training step of a large network takes to compile.

    python benchmarks/compile_time.py [--rounds N]

Each is compiled in a process of its own, once with an empty cache and once with what
that left on the disk. "Compiled" is the time of all passes, LLVM's included; "first
step" is the whole first call, with capture and one step of training. Medians of all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median

import machine

NETWORKS = {
    "resnet20": ("nn.resnet20((32, 32, 3), 10)", (128, 32, 32, 3)),
    "alexnet": ("nn.alexnet((224, 224, 3), 1000)", (16, 224, 224, 3)),
    "mnist_cnn": ("nn.cnn((28, 28, 1), 10)", (64, 28, 28, 1)),
}

_SCRIPT = """
import json, sys, time
import llvmlite.binding, numpy as np
import chainrule as cr
from chainrule import nn, optim
model, shape = eval(sys.argv[1]), json.loads(sys.argv[2])
optimizer = optim.optimizer("momentum", model.named_parameters(), lr=0.01)

@cr.compile
def step(images, labels):
    loss = nn.softmax_cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss

images = np.random.default_rng(0).random(shape, np.float32)
began = time.perf_counter()
step(images, np.arange(shape[0]) % 10)
first_s = time.perf_counter() - began
report = step.report()
print(json.dumps([sum(report.times_s.values()), first_s, report.is_cached]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="times of each (5)")
    arguments = parser.parse_args()
    print(machine.description())
    print(f"busy processes in the last minute: {machine.load():.1f}")
    for name, (model, shape) in NETWORKS.items():
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as empty:
                for _ in range(2):
                    compiled_s, first_s, is_cached = compiled(model, shape, empty)
                    found[is_cached].append((compiled_s, first_s))
        for is_cached, times_s in found.items():
            compiled_s, first_s = (
                median(column) for column in zip(*times_s, strict=True)
            )
            how = "from the disk" if is_cached else "nothing cached"
            print(
                f"  {name:10} {how:15} compiled {compiled_s:6.2f} s"
                f"  first step {first_s:6.2f} s"
            )


def compiled(
    model: str, shape: tuple[int, ...], cache: str
) -> tuple[float, float, bool]:
    """Seconds to compile, seconds of the first call, whether the disk had it."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, model, json.dumps(shape)],
        env={**os.environ, "CHAINRULE_CACHE_DIR": cache},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return tuple(json.loads(done.stdout))


if __name__ == "__main__":
    main()
