"""Worker threads on which compiled steps run their kernels: one pool per process.

Generated code calls ``void cr_parallel(ptr pool, ptr kernel, ptr ctx, i64 num_chunks)``
through ``Pool.parallel_address``: ``kernel(ctx, chunk)`` runs once for every chunk, on
the caller and on whichever workers are awake, and all have ended when it returns.
Chunks are what the work's shape says, so which thread runs one changes no bits.

The pool is native code alone. A worker is a thread of the operating system that Python
knows nothing of: it needs no lock of Python's to wake, and nothing of Python's is left
to touch when the interpreter ends. The protocol, in the order of the code below:

* Every participant (the caller is number 0) owns a range of the chunks, so that it
  meets the same rows in one kernel after another; who is done with its own takes from
  the others'. What is left of a range is one word, job number above count, and a chunk
  is claimed by comparing and swapping it. Whoever comes late finds another job's number
  or nothing left. Since a job cannot end before its chunks, a claim that succeeds
  proves that the kernel and context that were read before it belong to that job.
* The caller waits for claimed chunks only, never for a worker that has claimed nothing.
* A second caller at the same time, or a kernel that calls again, finds the pool taken
  and runs all of its chunks itself.
* Idle workers spin for some 200 µs, yield, then sleep until they are woken by name: as
  long as Python takes from one call to the next, since waking one takes 50 µs and more.

Source: the counted sleepers and the check between announcing sleep and sleeping follow
Dekker's rule (each side writes its word, then reads the other's, sequentially
consistent); reading fields first and validating after, H. Boehm, "Can seqlocks get
along with programming language memory models?", MSPC 2012.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chainrule.compiler.emit import Function, Module, Value
from chainrule.compiler.host import host_target
from chainrule.compiler.native import Library, attributes, cached_code
from chainrule.core.threads import num_threads

__all__ = ["Pool", "emit_flush_denormals", "emit_restore", "pool"]

MOST_THREADS = 256
"""More than these are not started; the pool's memory has a line for each."""

_SPIN_US = 200
_NUM_YIELDS = 4

# Where things stand in the pool's memory. What different threads write stands 128 bytes
# apart: processors fetch cache lines of 64 in pairs.
_PLACES = {
    # Written by callers: taken or not; by Python: participants, rounds of spinning.
    "LOCK": 0,
    "PARTICIPANTS": 4,
    "ROUNDS": 8,
    "SLEEPERS": 12,
    # The job. Idle workers look at its number.
    "JOB": 128,
    "STOP": 132,
    "KERNEL": 136,
    "CONTEXT": 144,
    "RANGES": 152,
    "PROCESSOR": 160,  # on which the caller was
    # Chunks that have not ended, and whether the caller sleeps until there are none.
    "LEFT": 256,
    "WAITING": 260,
    # One line per participant: the word and the end of its range, whether it sleeps.
    "LINES": 384,
    "LINE": 128,
    "END": 8,
    "ASLEEP": 16,
    "BYTES": 384 + 128 * MOST_THREADS,
}

_PROTOCOL = """
@cr_pool = global [{BYTES} x i8] zeroinitializer, align 128

; Spins until (word == value) == wanted, which it returns; gives up after some rounds.
define i1 @cr_spin(ptr %word, i32 %value, i1 %wanted, i32 %rounds) #0 {{
entry:
  %limit = add i32 %rounds, {YIELDS}
  br label %look
look:
  %round = phi i32 [ 0, %entry ], [ %next, %again ]
  %found = load atomic i32, ptr %word acquire, align 4
  %equal = icmp eq i32 %found, %value
  %reached = icmp eq i1 %equal, %wanted
  %over = icmp uge i32 %round, %limit
  %end = or i1 %reached, %over
  br i1 %end, label %done, label %wait
wait:
  %brief = icmp ult i32 %round, %rounds
  br i1 %brief, label %pause, label %yield
pause:
  call void @cr_pause()
  br label %again
yield:
  call void @cr_yield()
  br label %again
again:
  %next = add i32 %round, 1
  br label %look
done:
  ret i1 %reached
}}

; Claims and runs chunks of a job until none is left; returns how many it ran.
define internal i32 @cr_work(ptr %pool, i32 %job, i64 %self) #0 {{
entry:
  %kernel.at = getelementptr i8, ptr %pool, i64 {KERNEL}
  %context.at = getelementptr i8, ptr %pool, i64 {CONTEXT}
  %ranges.at = getelementptr i8, ptr %pool, i64 {RANGES}
  %kernel = load atomic ptr, ptr %kernel.at monotonic, align 8
  %context = load atomic ptr, ptr %context.at monotonic, align 8
  %ranges = load atomic i64, ptr %ranges.at monotonic, align 8
  %owns = icmp ult i64 %self, %ranges
  %first = select i1 %owns, i64 %self, i64 0
  %high = zext i32 %job to i64
  br label %range
range:
  %visited = phi i64 [ 0, %entry ], [ %visits, %empty ]
  %before = phi i32 [ 0, %entry ], [ %ran, %empty ]
  %owner = phi i64 [ %first, %entry ], [ %turned, %empty ]
  %none = icmp uge i64 %visited, %ranges
  br i1 %none, label %done, label %open
open:
  %offset = mul i64 %owner, {LINE}
  %lines = getelementptr i8, ptr %pool, i64 {LINES}
  %word = getelementptr i8, ptr %lines, i64 %offset
  %end.at = getelementptr i8, ptr %word, i64 {END}
  br label %claim
claim:
  %ran = phi i32 [ %before, %open ], [ %ran, %look ], [ %more, %run ]
  %seen = load atomic i64, ptr %word acquire, align 8
  %number = lshr i64 %seen, 32
  %current = icmp eq i64 %number, %high
  br i1 %current, label %count, label %done
count:
  %left = and i64 %seen, 4294967295
  %nothing = icmp eq i64 %left, 0
  br i1 %nothing, label %empty, label %look
look:
  %end = load atomic i64, ptr %end.at monotonic, align 8
  %fewer = sub i64 %seen, 1
  %pair = cmpxchg weak ptr %word, i64 %seen, i64 %fewer acq_rel monotonic, align 8
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %run, label %claim
run:
  %chunk = sub i64 %end, %left
  call void %kernel(ptr %context, i64 %chunk)
  %more = add i32 %ran, 1
  br label %claim
empty:
  %visits = add i64 %visited, 1
  %following = add i64 %owner, 1
  %last = icmp uge i64 %following, %ranges
  %turned = select i1 %last, i64 0, i64 %following
  br label %range
done:
  %total = phi i32 [ %before, %range ], [ %ran, %claim ]
  ret i32 %total
}}

; Wakes up to so many sleeping workers. Each is taken off the count after its word is
; changed, here or by itself, so the count is never less than the sleepers.
define internal void @cr_wake_workers(ptr %pool, i64 %most) noinline #0 {{
entry:
  %sleepers.at = getelementptr i8, ptr %pool, i64 {SLEEPERS}
  br label %next
next:
  %self = phi i64 [ 1, %entry ], [ %following, %skip ], [ %following, %wake ]
  %need = phi i64 [ %most, %entry ], [ %need, %skip ], [ %fewer, %wake ]
  %in = icmp ult i64 %self, {MOST}
  %some = icmp sgt i64 %need, 0
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any = icmp sgt i32 %sleepers, 0
  %on.1 = and i1 %in, %some
  %on.2 = and i1 %on.1, %any
  br i1 %on.2, label %look, label %done
look:
  %following = add i64 %self, 1
  %offset = mul i64 %self, {LINE}
  %lines = getelementptr i8, ptr %pool, i64 {LINES}
  %line = getelementptr i8, ptr %lines, i64 %offset
  %asleep = getelementptr i8, ptr %line, i64 {ASLEEP}
  %seen = load atomic i32, ptr %asleep seq_cst, align 4
  %sleeps = icmp eq i32 %seen, 1
  br i1 %sleeps, label %take, label %skip
take:
  %pair = cmpxchg ptr %asleep, i32 1, i32 0 seq_cst seq_cst, align 4
  %taken = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %taken, label %wake, label %skip
skip:
  br label %next
wake:
  %one = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst, align 4
  call void @cr_wake(ptr %asleep)
  %fewer = sub i64 %need, 1
  br label %next
done:
  ret void
}}

define void @cr_parallel(ptr %pool, ptr %kernel, ptr %context, i64 %chunks) #0 {{
entry:
  %none = icmp eq ptr %pool, null
  %less = sub i64 %chunks, 2
  %many = icmp ult i64 %less, 2147483645
  %alone = xor i1 %many, true
  %skip = or i1 %none, %alone
  br i1 %skip, label %serial, label %size
size:
  %participants.at = getelementptr i8, ptr %pool, i64 {PARTICIPANTS}
  %participants.32 = load atomic i32, ptr %participants.at monotonic, align 4
  %crowd = icmp ugt i32 %participants.32, 1
  br i1 %crowd, label %try, label %serial
try:
  %lock = getelementptr i8, ptr %pool, i64 {LOCK}
  %taken = load atomic i32, ptr %lock monotonic, align 4
  %free = icmp eq i32 %taken, 0
  br i1 %free, label %take, label %serial
take:
  %old = atomicrmw xchg ptr %lock, i32 1 acquire, align 4
  %got = icmp eq i32 %old, 0
  br i1 %got, label %describe, label %serial

describe:
  %participants = zext i32 %participants.32 to i64
  %ranges = call i64 @llvm.umin.i64(i64 %participants, i64 %chunks)
  %base = udiv i64 %chunks, %ranges
  %rest = urem i64 %chunks, %ranges
  %chunks.32 = trunc i64 %chunks to i32
  %job.at = getelementptr i8, ptr %pool, i64 {JOB}
  %kernel.at = getelementptr i8, ptr %pool, i64 {KERNEL}
  %context.at = getelementptr i8, ptr %pool, i64 {CONTEXT}
  %ranges.at = getelementptr i8, ptr %pool, i64 {RANGES}
  %left.at = getelementptr i8, ptr %pool, i64 {LEFT}
  %lines = getelementptr i8, ptr %pool, i64 {LINES}
  %former = load atomic i32, ptr %job.at monotonic, align 4
  %job = add i32 %former, 1
  %number = zext i32 %job to i64
  %high = shl i64 %number, 32
  store atomic ptr %kernel, ptr %kernel.at monotonic, align 8
  store atomic ptr %context, ptr %context.at monotonic, align 8
  store atomic i64 %ranges, ptr %ranges.at monotonic, align 8
  store atomic i32 %chunks.32, ptr %left.at monotonic, align 4
  br label %divide
divide:
  %owner = phi i64 [ 0, %describe ], [ %following, %divide ]
  %begin = phi i64 [ 0, %describe ], [ %end, %divide ]
  %longer = icmp ult i64 %owner, %rest
  %extra = zext i1 %longer to i64
  %length = add i64 %base, %extra
  %end = add i64 %begin, %length
  %offset = mul i64 %owner, {LINE}
  %word = getelementptr i8, ptr %lines, i64 %offset
  %end.at = getelementptr i8, ptr %word, i64 {END}
  store atomic i64 %end, ptr %end.at monotonic, align 8
  %whole = or i64 %high, %length
  store atomic i64 %whole, ptr %word release, align 8
  %following = add i64 %owner, 1
  %further = icmp ult i64 %following, %ranges
  br i1 %further, label %divide, label %publish

publish:
  %processor.at = getelementptr i8, ptr %pool, i64 {PROCESSOR}
  %processor = call i32 @cr_processor()
  store atomic i32 %processor, ptr %processor.at monotonic, align 4
  %last.job = atomicrmw xchg ptr %job.at, i32 %job seq_cst, align 4
  %sleepers.at = getelementptr i8, ptr %pool, i64 {SLEEPERS}
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %asleep = icmp sgt i32 %sleepers, 0
  br i1 %asleep, label %wake, label %join
wake:
  %others = sub i64 %chunks, 1
  call void @cr_wake_workers(ptr %pool, i64 %others)
  br label %join
join:
  %ran = call i32 @cr_work(ptr %pool, i32 %job, i64 0)
  %before = atomicrmw sub ptr %left.at, i32 %ran acq_rel, align 4
  %finished = icmp eq i32 %before, %ran
  br i1 %finished, label %release, label %spin
spin:
  %rounds.at = getelementptr i8, ptr %pool, i64 {ROUNDS}
  %rounds = load atomic i32, ptr %rounds.at monotonic, align 4
  %soon = call i1 @cr_spin(ptr %left.at, i32 0, i1 true, i32 %rounds)
  br i1 %soon, label %release, label %announce
announce:
  %waiting.at = getelementptr i8, ptr %pool, i64 {WAITING}
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  br label %sleep
sleep:
  %left = load atomic i32, ptr %left.at seq_cst, align 4
  %over = icmp eq i32 %left, 0
  br i1 %over, label %awake, label %nap
nap:
  call void @cr_wait(ptr %left.at, i32 %left)
  br label %sleep
awake:
  store atomic i32 0, ptr %waiting.at monotonic, align 4
  br label %release
release:
  store atomic i32 0, ptr %lock release, align 4
  ret void

serial:
  %any = icmp sgt i64 %chunks, 0
  br i1 %any, label %one, label %end.serial
one:
  %chunk = phi i64 [ 0, %serial ], [ %next, %one ]
  call void %kernel(ptr %context, i64 %chunk)
  %next = add i64 %chunk, 1
  %on = icmp slt i64 %next, %chunks
  br i1 %on, label %one, label %end.serial
end.serial:
  ret void
}}

; What a worker does until it is told to stop.
define i64 @cr_worker(ptr %number) #0 {{
entry:
  call void @cr_flush_denormals()
  %self = ptrtoint ptr %number to i64
  %offset = mul i64 %self, {LINE}
  %lines = getelementptr i8, ptr @cr_pool, i64 {LINES}
  %line = getelementptr i8, ptr %lines, i64 %offset
  %job.at = getelementptr i8, ptr @cr_pool, i64 {JOB}
  %stop.at = getelementptr i8, ptr @cr_pool, i64 {STOP}
  %left.at = getelementptr i8, ptr @cr_pool, i64 {LEFT}
  %waiting.at = getelementptr i8, ptr @cr_pool, i64 {WAITING}
  %sleepers.at = getelementptr i8, ptr @cr_pool, i64 {SLEEPERS}
  %rounds.at = getelementptr i8, ptr @cr_pool, i64 {ROUNDS}
  %processor.at = getelementptr i8, ptr @cr_pool, i64 {PROCESSOR}
  %asleep = getelementptr i8, ptr %line, i64 {ASLEEP}
  %usual = alloca [128 x i8], align 8
  br label %idle
idle:
  %seen = phi i32 [ 0, %entry ], [ %job, %work ], [ %job, %report ], [ %job, %tell ],
      [ %seen, %awake ]
  %stop = load atomic i32, ptr %stop.at seq_cst, align 4
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %done, label %spin
spin:
  %rounds = load atomic i32, ptr %rounds.at monotonic, align 4
  %new = call i1 @cr_spin(ptr %job.at, i32 %seen, i1 false, i32 %rounds)
  br i1 %new, label %work, label %announce

work:
  %job = load atomic i32, ptr %job.at acquire, align 4
  %ran = call i32 @cr_work(ptr @cr_pool, i32 %job, i64 %self)
  %some = icmp ne i32 %ran, 0
  br i1 %some, label %report, label %idle
report:
  %before = atomicrmw sub ptr %left.at, i32 %ran seq_cst, align 4
  %last = icmp eq i32 %before, %ran
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %waits = icmp ne i32 %waiting, 0
  %both = and i1 %last, %waits
  br i1 %both, label %tell, label %idle
tell:
  call void @cr_wake(ptr %left.at)
  br label %idle

announce:
  %processor = load atomic i32, ptr %processor.at monotonic, align 4
  call void @cr_avoid(i32 %processor, ptr %usual)
  %more = atomicrmw add ptr %sleepers.at, i32 1 seq_cst, align 4
  store atomic i32 1, ptr %asleep seq_cst, align 4
  %job.now = load atomic i32, ptr %job.at seq_cst, align 4
  %stop.now = load atomic i32, ptr %stop.at seq_cst, align 4
  %same = icmp eq i32 %job.now, %seen
  %going = icmp eq i32 %stop.now, 0
  %quiet = and i1 %same, %going
  br i1 %quiet, label %sleep, label %retract
sleep:
  %still = load atomic i32, ptr %asleep seq_cst, align 4
  %sleeps = icmp eq i32 %still, 1
  br i1 %sleeps, label %nap, label %awake
nap:
  call void @cr_wait(ptr %asleep, i32 1)
  br label %sleep
retract:
  %pair = cmpxchg ptr %asleep, i32 1, i32 0 seq_cst seq_cst, align 4
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  %taken = zext i1 %mine to i32
  %fewer = atomicrmw sub ptr %sleepers.at, i32 %taken seq_cst, align 4
  br label %awake
awake:
  call void @cr_return(ptr %usual)
  br label %idle
done:
  ret i64 0
}}

define void @cr_stop(ptr %pool) #0 {{
  %stop.at = getelementptr i8, ptr %pool, i64 {STOP}
  store atomic i32 1, ptr %stop.at seq_cst, align 4
  call void @cr_wake_workers(ptr %pool, i64 {MOST})
  ret void
}}
"""

# What differs between systems: to leave the processor for a moment, and to sleep while
# a word has a value. Where there is no such call, or its number is not known, a sleeper
# looks every millisecond, and nobody needs to wake it.
_POLL = """
define internal void @cr_wait(ptr %word, i32 %value) noinline #0 {{
  {NAP}
  ret void
}}
define internal void @cr_wake(ptr %word) noinline #0 {{
  ret void
}}
"""

_FUTEX = """
declare i64 @syscall(i64, ...)
define internal void @cr_wait(ptr %word, i32 %value) noinline #0 {{
  %wide = zext i32 %value to i64
  %r = call i64 (i64, ...)
      @syscall(i64 {FUTEX}, ptr %word, i64 128, i64 %wide, ptr null)
  ret void
}}
define internal void @cr_wake(ptr %word) noinline #0 {{
  %r = call i64 (i64, ...) @syscall(i64 {FUTEX}, ptr %word, i64 129, i64 1)
  ret void
}}
"""
_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}

# A virtual machine's Linux takes its halted processors for busy ones and wakes a worker
# on the waker's own, where it helps nobody. So, who goes to sleep first leaves the
# processor on which the caller was, and may use it again when awake.
_AFFINITY = """
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)
define i32 @cr_processor() alwaysinline #0 {{
  %r = call i32 @sched_getcpu()
  ret i32 %r
}}
define internal void @cr_avoid(i32 %processor, ptr %usual) noinline #0 {{
entry:
  store <16 x i64> zeroinitializer, ptr %usual, align 8
  %r = call i32 @sched_getaffinity(i32 0, i64 128, ptr %usual)
  %known = icmp ult i32 %processor, 1024
  br i1 %known, label %leave, label %done
leave:
  %others = alloca [128 x i8], align 8
  %all = load <16 x i64>, ptr %usual, align 8
  store <16 x i64> %all, ptr %others, align 8
  %index = lshr i32 %processor, 3
  %byte = getelementptr i8, ptr %others, i32 %index
  %place = and i32 %processor, 7
  %bit = shl i32 1, %place
  %bit.8 = trunc i32 %bit to i8
  %rest = xor i8 %bit.8, -1
  %old = load i8, ptr %byte, align 1
  %new = and i8 %old, %rest
  store i8 %new, ptr %byte, align 1
  %s = call i32 @sched_setaffinity(i32 0, i64 128, ptr %others)
  br label %done
done:
  ret void
}}
define internal void @cr_return(ptr %usual) noinline #0 {{
  %r = call i32 @sched_setaffinity(i32 0, i64 128, ptr %usual)
  ret void
}}
"""
_NO_AFFINITY = """
define i32 @cr_processor() alwaysinline #0 {{
  ret i32 0
}}
define internal void @cr_avoid(i32 %processor, ptr %usual) alwaysinline #0 {{
  ret void
}}
define internal void @cr_return(ptr %usual) alwaysinline #0 {{
  ret void
}}
"""

_ULOCK = """
declare i32 @__ulock_wait(i32, ptr, i64, i32)
declare i32 @__ulock_wake(i32, ptr, i64)
define internal void @cr_wait(ptr %word, i32 %value) noinline #0 {{
  %wide = zext i32 %value to i64
  %r = call i32 @__ulock_wait(i32 1, ptr %word, i64 %wide, i32 0)
  ret void
}}
define internal void @cr_wake(ptr %word) noinline #0 {{
  %r = call i32 @__ulock_wake(i32 1, ptr %word, i64 0)
  ret void
}}
"""

_YIELD = """
{DECLARE}
define internal void @cr_pause() alwaysinline #0 {{
  {PAUSE}
  ret void
}}
define internal void @cr_yield() noinline #0 {{
  {YIELD}
  ret void
}}
"""


def _machine() -> str:
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def emit_flush_denormals(f: Function) -> Value:
    """Round to nearest and take denormal numbers for zero from here on.

    Returns what ``emit_restore`` needs to go back; call it in the entry block.
    """
    machine = _machine()
    if machine == "x86_64":
        saved = f.value("ptr", "alloca i32, align 4")
        f.call("llvm.x86.sse.stmxcsr", "void", saved)
        # All exceptions masked (the default), flush to zero, denormals are zeros.
        _set_mxcsr(f, Value("i32", str(0x1F80 | 0x8040)))
        return f.load(saved, "i32")
    if machine == "aarch64":
        saved = f.call("llvm.aarch64.get.fpcr", "i64")
        f.call("llvm.aarch64.set.fpcr", "void", Value("i64", str(1 << 24)))
        return saved
    return Value("i32", "0")


def emit_restore(f: Function, saved: Value) -> None:
    """Return to the rounding and denormals from before ``emit_flush_denormals``."""
    machine = _machine()
    if machine == "x86_64":
        _set_mxcsr(f, saved)
    elif machine == "aarch64":
        f.call("llvm.aarch64.set.fpcr", "void", saved)


def _set_mxcsr(f: Function, state: Value) -> None:
    place = f.value("ptr", "alloca i32, align 4")
    f.store(state, place)
    f.call("llvm.x86.sse.ldmxcsr", "void", place)


def _text() -> str:
    """The pool's code for this system."""
    module = Module(attributes=attributes(host_target()))
    flush = Function(module, "cr_flush_denormals", linkage="internal")
    emit_flush_denormals(flush)
    flush.ret()
    module.add(flush)
    machine = _machine()
    posix = sys.platform != "win32"
    leave, nap = ("sched_yield", "usleep") if posix else ("SwitchToThread", "Sleep")
    pause = {
        "x86_64": "call void @llvm.x86.sse2.pause()",
        "aarch64": "call void @llvm.aarch64.isb(i32 15)",
    }.get(machine, "")
    declared = [f"declare i32 @{leave}()", "declare i64 @llvm.umin.i64(i64, i64)"]
    if pause:
        declared.append(pause.replace("call", "declare").replace("i32 15", "i32"))
    if sys.platform == "linux" and machine in _FUTEX_CALL:
        sleep = _FUTEX
    elif sys.platform == "darwin":
        sleep = _ULOCK
    else:
        sleep = _POLL
        declared.append(f"declare i32 @{nap}(i32)")
    affinity = _AFFINITY if sys.platform == "linux" else _NO_AFFINITY
    code = (_PROTOCOL + _YIELD + sleep + affinity).format(
        DECLARE="\n".join(declared),
        PAUSE=pause,
        YIELD=f"%r = call i32 @{leave}()",
        YIELDS=_NUM_YIELDS,
        NAP=f"%r = call i32 @{nap}(i32 {1000 if posix else 1})",
        FUTEX=_FUTEX_CALL.get(machine, 0),
        MOST=MOST_THREADS,
        **_PLACES,
    )
    module.globals.append(code)
    return module.text()


class Pool:
    """The process's worker threads; ``pool()`` is the one there is.

    Attributes:
        pointer: the pool as generated code passes it to ``cr_parallel``.
        parallel_address: where ``cr_parallel`` begins. Neither ever changes.
        is_lost: whether this is the child of a fork, which has no workers yet.
    """

    def __init__(self, num_threads: int) -> None:
        target = host_target()
        self._library = Library(cached_code(_text(), target)[0], target)
        self.pointer = self._library.address("cr_pool")
        self.parallel_address = self._library.address("cr_parallel")
        self._workers: list[int] = []
        self._rounds = self._calibrate()
        self.resize(num_threads)

    @property
    def num_threads(self) -> int:
        """The caller and the workers."""
        return 1 + len(self._workers)

    def resize(self, num_threads: int) -> None:
        """Run on so many threads from now on, at most 256.

        Workers end between two jobs, so this waits for the one they are at.
        """
        with _lock:
            self._wanted = num_threads
            self._word("PARTICIPANTS").value = 1
            self._library.function("cr_stop", ctypes.c_void_p)(self.pointer)
            for worker in self._workers:
                _join(worker)
            self._workers = []
            self._word("STOP").value = 0
            self._word("ROUNDS").value = self._rounds
            here = self._library.function("cr_processor", returns=ctypes.c_int32)
            self._word("PROCESSOR").value = here()
            with _signals_held():
                for number in range(1, min(num_threads, MOST_THREADS)):
                    worker = _start(self._library.address("cr_worker"), number)
                    if not worker:  # the system gives no more threads
                        break
                    self._workers.append(worker)
            self._word("PARTICIPANTS").value = self.num_threads
            self.is_lost = False

    def close(self) -> None:
        """End the workers: callers run their chunks themselves from now on."""
        self.resize(1)

    def forget(self) -> None:
        """In the child of a fork: nobody runs, nobody sleeps, nothing is taken."""
        ctypes.memset(self.pointer, 0, _PLACES["BYTES"])
        self._workers = []
        self.is_lost = True

    def recover(self) -> None:
        """Start as many workers as there were before the fork."""
        with _lock:
            if self.is_lost:
                self.resize(self._wanted)

    def _word(self, name: str) -> ctypes.c_int32:
        return ctypes.c_int32.from_address(self.pointer + _PLACES[name])

    def _calibrate(self) -> int:
        """The rounds of spinning that take ``_SPIN_US``; a pause is 5 to 60 ns."""
        types = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_int32)
        spin = self._library.function("cr_spin", *types)
        times_s = []
        for _ in range(3):
            begin = time.perf_counter()
            spin(self.pointer + _PLACES["STOP"], 0, False, 1000)
            times_s.append(time.perf_counter() - begin)
        return min(max(round(1000 * _SPIN_US * 1e-6 / min(times_s)), 100), 100_000)


# Threads of the operating system.


def _start(address: int, number: int) -> int:
    """A thread that runs the function at an address; 0 if there can be none."""
    handle = ctypes.c_void_p()
    code, argument = ctypes.c_void_p(address), ctypes.c_void_p(number)
    if sys.platform == "win32":
        create = ctypes.windll.kernel32.CreateThread
        create.restype = ctypes.c_void_p
        return create(None, ctypes.c_size_t(0), code, argument, 0, None) or 0
    if ctypes.CDLL(None).pthread_create(ctypes.byref(handle), None, code, argument):
        return 0
    return handle.value or 0


def _join(thread: int) -> None:
    handle = ctypes.c_void_p(thread)
    if sys.platform == "win32":
        ctypes.windll.kernel32.WaitForSingleObject(handle, ctypes.c_uint32(0xFFFFFFFF))
        ctypes.windll.kernel32.CloseHandle(handle)
    else:
        ctypes.CDLL(None).pthread_join(handle, None)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Threads started here leave Ctrl-C and alarms to Python's own.

    A fault of the thread itself still reaches ``faulthandler``.
    """
    if sys.platform == "win32":
        yield
        return
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    others = signal.valid_signals() - faults
    before = signal.pthread_sigmask(signal.SIG_BLOCK, others)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The one pool. A fork waits for whoever is starting or ending threads, so that its
# child finds the pool whole; reentrant, because a signal's handler may fork as well.

_lock = threading.RLock()
_pool: Pool | None = None


def pool() -> Pool:
    """The process's pool, with ``num_threads()`` threads from its first use on.

    In the child of a fork, this starts its workers; until then, it runs alone.
    """
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = Pool(num_threads())
                atexit.register(_pool.close)
    if _pool.is_lost:
        _pool.recover()
    return _pool


def _after_fork_in_child() -> None:
    if _pool is not None:
        _pool.forget()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire,
        after_in_parent=_lock.release,
        after_in_child=_after_fork_in_child,
    )
