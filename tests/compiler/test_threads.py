"""Every chunk runs once, whoever runs it, and no disturbance makes the pool hang."""

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.emit import Function, Module, Value
from chainrule.compiler.host import host_target
from chainrule.compiler.native import Library, attributes, object_code
from chainrule.compiler.threads import (
    Pool,
    emit_flush_denormals,
    emit_restore,
    pool,
)

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64


@dataclass
class Native:
    """Kernels, and loops that call cr_parallel as generated steps do."""

    library: Library
    mark: int
    nested: int
    product: int
    run: Any
    flushed: Any


def integer(value: int) -> Value:
    return Value("i64", str(value))


def meeting(module: Module) -> Function:
    """A kernel whose two chunks wait for each other, and the second sleeps then.

    Its context is the number of those that came. After 20 s one gives up.
    """
    f = Function(module, "cr_meet", [("ptr", "context"), ("i64", "chunk")])
    context, chunk = f.parameters
    module.declarations["usleep"] = "declare i32 @usleep(i32)"
    f.value("i64", f"atomicrmw add {context}, i64 1 seq_cst, align 8")
    with f.loop(0, 20_000):
        came = f.value("i64", f"load atomic i64, {context} seq_cst, align 8")
        with f.when(f.compare("icmp slt", came, integer(2))):
            f.call("usleep", "i32", Value("i32", "1000"))
    with f.when(f.compare("icmp eq", chunk, integer(1))):
        f.call("usleep", "i32", Value("i32", "5000"))
    came = f.value("i64", f"load atomic i64, {context} seq_cst, align 8")
    f.store(came, f.at(context, f.binary("add", chunk, integer(1)), "i64"))
    f.ret()
    return f


@pytest.fixture(scope="module")
def native() -> Native:
    target = host_target()
    module = Module(attributes=attributes(target))

    # context: counts, values. counts[chunk] += 1; values[chunk] = (chunk + 1)²
    f = Function(module, "cr_mark", [("ptr", "context"), ("i64", "chunk")])
    context, chunk = f.parameters
    count = f.at(f.load(context, "ptr"), chunk, "i64")
    f.store(f.binary("add", f.load(count, "i64"), integer(1)), count)
    value = f.at(f.load(f.at(context, 1, "i64"), "ptr"), chunk, "i64")
    next_ = f.binary("add", chunk, integer(1))
    f.store(f.binary("mul", next_, next_), value)
    f.ret()
    module.add(f)

    # context: parallel, pool, kernel, the contexts of one inner job per chunk, chunks
    f = Function(module, "cr_nested", [("ptr", "context"), ("i64", "chunk")])
    context, chunk = f.parameters
    parallel, pool_, kernel, contexts = (
        f.load(f.at(context, k, "i64"), "ptr") for k in range(4)
    )
    chunks = f.load(f.at(context, 4, "i64"), "i64")
    inner = f.at(contexts, f.binary("mul", chunk, integer(2)), "i64")
    f.line(f"call void {parallel.name}({pool_}, {kernel}, {inner}, {chunks})")
    f.ret()
    module.add(f)

    # context: values. values[chunk] = values[-1] · values[-2], as this thread rounds
    f = Function(module, "cr_product", [("ptr", "context"), ("i64", "chunk")])
    context, chunk = f.parameters
    values = f.load(context, "ptr")
    x, y = (f.load(f.at(values, k, "float"), "float") for k in (-1, -2))
    f.store(f.binary("fmul", x, y), f.at(values, chunk, "float"))
    f.ret()
    module.add(f)

    if sys.platform != "win32":
        module.add(meeting(module))

    pointers = ("parallel", "pool", "kernel", "context")
    parameters = [*(("ptr", name) for name in pointers)]
    parameters += [("i64", "chunks"), ("i64", "jobs")]
    for name, flushes in (("cr_run", False), ("cr_flushed", True)):
        f = Function(module, name, parameters)
        parallel, pool_, kernel, context, chunks, jobs = f.parameters
        saved = emit_flush_denormals(f) if flushes else None
        with f.loop(0, jobs):
            arguments = f"{pool_}, {kernel}, {context}, {chunks}"
            f.line(f"call void {parallel.name}({arguments})")
        if saved:
            emit_restore(f, saved)
        f.ret()
        module.add(f)

    library = Library(object_code(module.text(), target), target)
    types = (POINTER, POINTER, POINTER, POINTER, INTEGER, INTEGER)
    return Native(
        library,
        library.address("cr_mark"),
        library.address("cr_nested"),
        library.address("cr_product"),
        library.function("cr_run", *types),
        library.function("cr_flushed", *types),
    )


@pytest.fixture
def threads():
    found = pool()
    before = found.num_threads
    yield found
    found.resize(before)


class Marks:
    """What cr_mark writes, and the context that tells it where."""

    def __init__(self, num_chunks: int) -> None:
        self.num_chunks = num_chunks
        self.counts = np.zeros(num_chunks + 1, np.int64)
        self.values = np.zeros(num_chunks + 1, np.int64)
        self.context = np.array([self.counts.ctypes.data, self.values.ctypes.data])

    def run(self, native: Native, pool: Pool, pointer: int | None = -1, jobs=1) -> None:
        pointer = pool.pointer if pointer == -1 else pointer
        native.run(
            pool.parallel_address, pointer, native.mark,
            self.context.ctypes.data, self.num_chunks, jobs,
        )  # fmt: skip

    def check(self, jobs: int = 1) -> None:
        n = self.num_chunks
        assert np.array_equal(self.counts, [jobs] * n + [0])
        assert np.array_equal(self.values[:n], np.arange(1, n + 1) ** 2)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
def test_every_chunk_runs_once_on_any_number_of_threads(native, threads, num_threads):
    threads.resize(num_threads)
    assert threads.num_threads == num_threads
    for num_chunks in (*range(20), 31, 64, 100, 255, 1000):
        marks = Marks(num_chunks)
        marks.run(native, threads)
        marks.check()


@pytest.mark.parametrize("num_threads", [2, 3, 7])
def test_thousands_of_jobs_in_a_row_lose_and_repeat_no_chunk(
    native, threads, num_threads
):
    threads.resize(num_threads)
    for num_chunks in (2, 3, 8, 50):
        marks = Marks(num_chunks)
        marks.run(native, threads, jobs=5000)
        marks.check(5000)


def test_jobs_of_changing_kernels_and_contexts_never_mix(native, threads):
    # A worker that is late for one job must not run the next with what it remembers.
    threads.resize(3)
    several = [Marks(n) for n in (2, 9, 3, 40, 5)]
    for _ in range(2000):
        for marks in several:
            marks.run(native, threads)
    for marks in several:
        marks.check(2000)


def test_without_a_pool_the_caller_runs_all_chunks_in_order(native, threads):
    marks = Marks(10)
    marks.run(native, threads, pointer=None)
    marks.check()


def test_workers_that_fell_asleep_wake_for_the_next_job(native, threads):
    threads.resize(3)
    marks = Marks(100)
    for _ in range(20):
        time.sleep(0.003)  # far longer than they spin
        marks.run(native, threads)
    marks.check(20)


@pytest.mark.skipif(sys.platform == "win32", reason="needs usleep")
def test_a_sleeping_worker_helps_and_wakes_a_caller_that_sleeps_itself(native, threads):
    threads.resize(2)
    for _ in range(5):
        time.sleep(0.02)
        came = np.zeros(3, np.int64)
        kernel = native.library.address("cr_meet")
        native.run(
            threads.parallel_address, threads.pointer, kernel, came.ctypes.data, 2, 1
        )
        assert np.array_equal(came, [2, 2, 2])


def test_eight_python_threads_may_call_at_once(native, threads):
    threads.resize(3)
    several = [Marks(n) for n in range(2, 10)]

    def call(marks: Marks) -> None:
        for _ in range(20):
            marks.run(native, threads, jobs=200)

    callers = [threading.Thread(target=call, args=(marks,)) for marks in several]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for marks in several:
        marks.check(4000)


def test_a_kernel_may_run_a_job_of_its_own(native, threads):
    threads.resize(3)
    several = [Marks(7) for _ in range(12)]
    contexts = np.concatenate([marks.context for marks in several])
    outer = np.array(
        [
            threads.parallel_address,
            threads.pointer,
            native.mark,
            contexts.ctypes.data,
            7,
        ]
    )
    address = outer.ctypes.data
    native.run(
        threads.parallel_address, threads.pointer, native.nested, address, 12, 300
    )
    for marks in several:
        marks.check(300)


def test_the_pool_is_resized_while_others_call(native, threads):
    marks = Marks(50)
    over = threading.Event()
    rounds = 0

    def call() -> None:
        nonlocal rounds
        while not over.is_set():
            marks.run(native, threads, jobs=100)
            rounds += 1

    caller = threading.Thread(target=call)
    caller.start()
    for num_threads in (1, 4, 2, 7, 3, 1, 2) * 5:
        threads.resize(num_threads)
    over.set()
    caller.join()
    marks.check(100 * rounds)


def test_a_closed_pool_runs_in_the_caller(native, threads):
    threads.close()
    assert threads.num_threads == 1
    marks = Marks(30)
    marks.run(native, threads)
    marks.check()


def test_a_huge_number_of_threads_is_cut(native, threads):
    threads.resize(100_000)
    assert threads.num_threads == 256
    marks = Marks(1000)
    marks.run(native, threads, jobs=3)
    marks.check(3)


def test_denormals_are_zero_in_a_step_and_themselves_after_it(native, threads):
    threads.resize(3)
    memory = np.full(66, -1, np.float32)
    memory[:2] = 1e-20, 1e-21  # their product is denormal
    context = np.array([memory[2:].ctypes.data])
    arguments = (
        threads.parallel_address, threads.pointer, native.product,
        context.ctypes.data, 64,
    )  # fmt: skip
    native.flushed(*arguments, 1000)
    assert np.array_equal(memory[2:], np.zeros(64))
    native.run(threads.parallel_address, None, *arguments[2:], 1)
    assert (memory[2:] > 0).all()
    assert np.float32(1e-20) * np.float32(1e-21) > 0


def test_there_is_one_pool() -> None:
    assert pool() is pool()


# What happens to whole processes is seen from outside of them.

PRELUDE = """
    import os, sys, threading, time, multiprocessing, ctypes
    import numpy as np
    from chainrule.compiler.threads import pool
    from chainrule.compiler.emit import Function, Module
    from chainrule.compiler.host import host_target
    from chainrule.compiler.native import Library, attributes, object_code

    target = host_target()
    module = Module(attributes=attributes(target))
    f = Function(module, "cr_mark", [("ptr", "context"), ("i64", "chunk")])
    place = f.at(f.parameters[0], f.parameters[1], "i64")
    f.store(f.parameters[1], place)
    f.ret()
    module.add(f)
    library = Library(object_code(module.text(), target), target)
    kernel = library.address("cr_mark")

    def run(times=100):
        p = pool()
        types = [ctypes.c_void_p] * 3 + [ctypes.c_int64]
        parallel = ctypes.CFUNCTYPE(None, *types)(p.parallel_address)
        marks = np.zeros(64, np.int64)
        for _ in range(times):
            parallel(p.pointer, kernel, marks.ctypes.data, 64)
        assert np.array_equal(marks, np.arange(64))

    def forever():
        while True:
            run()

    def num_tasks():
        return len(os.listdir("/proc/self/task"))
"""


def output(code: str, num_threads: int = 3) -> str:
    """What a process prints, which must end well and soon."""
    program = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    environment = {**os.environ, "CHAINRULE_NUM_THREADS": str(num_threads)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("wait_s", [0, 0.05], ids=["spinning", "sleeping"])
def test_a_process_exits_while_its_workers_are(wait_s):
    assert output(f"run()\ntime.sleep({wait_s})\nprint('end')") == "end\n"


def test_a_process_exits_while_a_daemon_thread_calls():
    code = """
        for _ in range(2):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
        print("end")
    """
    assert output(code) == "end\n"


@FORKS
def test_the_child_of_a_fork_gets_workers_of_its_own():
    code = """
        run()
        child = os.fork()
        if child == 0:
            run()
            print(pool().num_threads, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run()
        print(pool().num_threads)
    """
    assert output(code) == "3\n3\n"


@FORKS
def test_a_fork_in_the_middle_of_jobs_is_safe():
    code = """
        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                run()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        run()
        print("end")
    """
    assert output(code) == "end\n"


@FORKS
def test_multiprocessing_by_fork_works_before_and_after_first_use():
    code = """
        context = multiprocessing.get_context("fork")
        for _ in range(2):
            children = [context.Process(target=run) for _ in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
            run()
        print("end")
    """
    assert output(code) == "end\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_idle_workers_use_no_processor_time():
    code = """
        run()
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.5)
        print(time.process_time() - before < 0.1)
    """
    assert output(code) == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_are_started_once_and_end_when_the_pool_is_closed():
    code = """
        before = num_tasks()
        run()
        run()
        print(num_tasks() - before)
        pool().close()
        print(num_tasks() - before)
        run()
    """
    assert output(code) == "2\n0\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_leave_signals_to_python_except_faults_of_their_own():
    code = """
        import signal

        def held(task):
            for line in open(f"/proc/self/task/{task}/status"):
                if line.startswith("SigBlk"):
                    mask = int(line.split()[1], 16)
            several = signal.SIGINT, signal.SIGALRM, signal.SIGSEGV
            return [mask >> (each - 1) & 1 for each in several]

        before = os.listdir("/proc/self/task")
        run()
        worker, = set(os.listdir("/proc/self/task")) - set(before)
        end = time.monotonic() + 20
        while all(held(worker)) and time.monotonic() < end:
            time.sleep(0.001)  # a thread holds all signals until it begins
        print(*held(worker))
    """
    assert output(code, num_threads=2) == "1 1 0\n"


def test_results_have_the_same_bits_on_any_number_of_threads(native, threads):
    results = []
    for num_threads in (1, 2, 3, 7):
        threads.resize(num_threads)
        marks = Marks(123)
        marks.run(native, threads, jobs=3)
        results.append(marks.values.tobytes())
    assert len(set(results)) == 1
