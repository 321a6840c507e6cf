"""One contestant in a process of its own, which takes its turns when asked.

    python contestant.py MODULE OPTIONS FOLDER

Requests come by standard input and answers go to standard output, a line of JSON each.
First it says that it is ready, or what went wrong, and how much memory it held with its
library imported and the problem read. To {"count": k, "calls": n} it runs
n times k steps and answers with the seconds of each of the n, and the last k losses.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import machine
import numpy as np
from problems import Problem, losses_of, read_problem


def main() -> None:
    module, options, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    try:
        problem = read_problem(Path(folder))
        contestant = importlib.import_module(f"contestants.{module}")
        held_bytes = machine.memory_bytes("VmRSS")
        options = json.loads(options)
        if problem.workload.is_inference:
            run = calls_of(contestant.infer(problem, **options), problem)
        else:
            run = contestant.make(problem, **options)
        say(
            answers,
            version=contestant.VERSION,
            num_steps=len(problem.order),
            held_bytes=held_bytes,
        )
        take_turns(run, problem, answers)
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        say(answers, error=f"{type(error).__name__}: {text[0]}")
        raise


def calls_of(scores_of, problem: Problem):
    """What runs inference on minibatches, one call for each."""
    inputs, order = problem.inputs, problem.order

    def run(start: int, count: int):
        scores = [scores_of(inputs[rows]) for rows in order[start : start + count]]
        return lambda: losses_of(problem, start, scores)

    return run


def take_turns(run, problem: Problem, answers: TextIO) -> None:
    start = 0
    for line in sys.stdin:
        request = json.loads(line)
        count = request["count"]
        times_s = []
        for _ in range(request["calls"]):
            if start + count > len(problem.order):
                start = 0
            began = time.perf_counter()
            read_losses = run(start, count)
            times_s.append(time.perf_counter() - began)
            losses = np.asarray(read_losses(), np.float64)
            start += count
        say(answers, times_s=times_s, losses=losses.tolist())


def say(answers: TextIO, **answer: Any) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
