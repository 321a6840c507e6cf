"""From LLVM IR to functions that can be called: optimise, emit, load.

With ``cache`` and ``host`` the only place that imports llvmlite, and only when called.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from chainrule.compiler import cache
from chainrule.compiler.host import Target

__all__ = ["Library", "assembly", "attributes", "cached_code", "object_code"]


def attributes(target: Target) -> str:
    """What every function of a module says of itself for this target."""
    return f'nounwind "prefer-vector-width"="{target.vector_bytes * 8}"'


@functools.cache
def _machine(target: Target) -> Any:
    import llvmlite.binding as llvm

    _initialize()
    cpu, features = target.cpu, target.features
    if not cpu:
        cpu = llvm.get_host_cpu_name()
        features = llvm.get_host_cpu_features().flatten()
    elif target.name == "avx2":
        features = "+avx2,+fma"
    # opt=2: level 3 takes twice the time here for the same instructions.
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="jitdefault"
    )


@functools.cache
def _initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _optimised(text: str, target: Target) -> Any:
    import llvmlite.binding as llvm

    machine = _machine(target)
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    # Code arrives vectorised, unrolled and with what does not change outside its loops;
    # what is left to do is cleaning up. Level 2 takes ten times as long for code that
    # is as fast or, where it rotates loops whose tiles fill the registers, slower.
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    tuning = llvm.create_pipeline_tuning_options()
    passes.run(module, llvm.create_pass_builder(machine, tuning))
    return module


def object_code(text: str, target: Target) -> bytes:
    """The object image of a module of LLVM IR."""
    code: bytes = _machine(target).emit_object(_optimised(text, target))
    return code


def cached_code(text: str, target: Target) -> tuple[bytes, bool]:
    """The object image of a module, and whether it was found on the disk."""
    key = cache.key(target, text)
    found = cache.load(key)
    if found is not None:
        return found.code, True
    code = object_code(text, target)
    cache.store(key, cache.Entry(code, {}))
    return code, False


def assembly(text: str, target: Target) -> str:
    """The module as the processor's instructions, to read."""
    listing: str = _machine(target).emit_assembly(_optimised(text, target))
    return listing


class Library:
    """Object code made callable.

    An address is good as long as its library lives; a function keeps it alive.
    """

    def __init__(self, code: bytes, target: Target) -> None:
        import llvmlite.binding as llvm

        _initialize()
        # An engine owns its machine, so this is a new one; it compiles nothing, so any
        # processor will do. (LLVM's newer loader, ORC, is experimental in llvmlite.)
        machine = llvm.Target.from_default_triple().create_target_machine(
            reloc="pic", codemodel="jitdefault"
        )
        empty = llvm.parse_assembly("")
        empty.triple = machine.triple
        self._engine = llvm.create_mcjit_compiler(empty, machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function begins; 0 if there is none of that name."""
        found: int = self._engine.get_function_address(name)
        return found

    def function(self, name: str, *argument_types: Any, returns: Any = None) -> Any:
        """A ctypes function, whose calls release Python's lock."""
        address = self.address(name)
        if not address:
            raise LookupError(f"the library has no function {name}")
        function: Any = ctypes.CFUNCTYPE(returns, *argument_types)(address)
        function.library = self
        return function
