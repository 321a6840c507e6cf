"""From LLVM IR to functions that can be called, on every target of this machine."""

import ctypes
import gc
import weakref

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.emit import Function, Module, Value, number, vector
from chainrule.compiler.host import TARGETS, usable_targets
from chainrule.compiler.native import Library, assembly, attributes, object_code

TYPES = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


@pytest.fixture(params=usable_targets())
def target(request):
    return TARGETS[request.param]


def axpy(target):
    """The text of ``cr_axpy(x, y, n)``: y += 2.5·x, for any number of elements."""
    module = Module(attributes=attributes(target))
    f = Function(module, "cr_axpy", [("ptr", "x"), ("ptr", "y"), ("i64", "n")])
    x, y, n = f.parameters
    lanes = target.lanes("float")
    type = vector("float", lanes)
    with f.loop(0, n, lanes) as loop:
        mask = f.first_lanes(f.binary("sub", n, loop.index), lanes)
        p, q = (f.at(a, loop.index, "float") for a in (x, y))
        left, right = f.masked_load(p, mask, type), f.masked_load(q, mask, type)
        f.masked_store(f.fma(left, number(type, 2.5), right), q, mask)
    f.ret()
    module.add(f)
    return module.text()


def is_right(function, count):
    x = np.arange(count, dtype=np.float32)
    y = np.ones(count + 1, np.float32)
    function(x.ctypes.data, y.ctypes.data, count)
    return np.array_equal(y, [*(2.5 * x + 1), 1])


def test_code_does_what_its_text_says(target):
    function = Library(object_code(axpy(target), target), target).function(
        "cr_axpy", *TYPES
    )
    assert all(is_right(function, count) for count in (0, 1, 3, 16, 17, 100))


def test_the_same_text_makes_the_same_bytes(target):
    assert object_code(axpy(target), target) == object_code(axpy(target), target)


def test_wide_vectors_stay_wide():
    wide = {"avx512": "zmm", "avx2": "ymm", "generic": "xmm", "neon": ".4s"}
    for name in usable_targets():
        assert wide[name] in assembly(axpy(TARGETS[name]), TARGETS[name])


def test_functions_to_be_inlined_and_variables_leave_no_trace(target):
    module = Module(attributes=attributes(target))
    inner = Function(
        module,
        "cr_twice",
        [("i64", "n")],
        "i64",
        linkage="internal",
        inline="alwaysinline",
    )
    inner.ret(inner.binary("add", inner.parameters[0], inner.parameters[0]))
    module.add(inner)
    outer = Function(module, "cr_four_times", [("i64", "n")], "i64")
    place = outer.value("ptr", "alloca i64")
    outer.store(outer.call("cr_twice", "i64", outer.parameters[0]), place)
    outer.ret(outer.call("cr_twice", "i64", outer.load(place, "i64")))
    module.add(outer)
    listing = assembly(module.text(), target)
    assert "cr_twice" not in listing
    assert "sp)" not in listing  # nothing goes through the stack
    library = Library(object_code(module.text(), target), target)
    four_times = library.function(
        "cr_four_times", ctypes.c_int64, returns=ctypes.c_int64
    )
    assert four_times(-5) == -20


def test_code_can_call_the_c_library(target):
    module = Module(attributes=attributes(target))
    f = Function(module, "cr_fill", [("ptr", "x"), ("ptr", "y"), ("i64", "n")])
    module.declarations["memset"] = "declare ptr @memset(ptr, i32, i64)"
    f.call("memset", "ptr", f.parameters[0], Value("i32", "7"), f.parameters[2])
    f.ret()
    module.add(f)
    fill = Library(object_code(module.text(), target), target).function(
        "cr_fill", *TYPES
    )
    x = np.zeros(10, np.uint8)
    fill(x.ctypes.data, 0, 9)
    assert x.tolist() == [7] * 9 + [0]


def test_a_function_keeps_its_library_alive(target):
    library = Library(object_code(axpy(target), target), target)
    function, alive = library.function("cr_axpy", *TYPES), weakref.ref(library)
    del library
    gc.collect()
    assert alive() is not None
    assert is_right(function, 100)
    del function
    assert alive() is None


def test_a_name_that_is_not_there_is_not_called(target):
    library = Library(object_code(axpy(target), target), target)
    assert library.address("cr_other") == 0
    with pytest.raises(LookupError, match="no function cr_other"):
        library.function("cr_other")


def mapped_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * 4096


def test_libraries_let_go_of_their_memory(target):
    code = object_code(axpy(target), target)
    try:
        mapped_bytes()
    except FileNotFoundError:
        pytest.skip("this system does not tell a process's size in /proc")
    for _ in range(20):
        Library(code, target)
    before = mapped_bytes()
    for _ in range(200):
        Library(code, target)
    assert mapped_bytes() - before < 200 * 1024
