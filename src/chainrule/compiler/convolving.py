"""Native code for what convolutions are made of: sums made directly or by transforms.

What decides is in the program: a convolution, and the filters packed for it, say of how
many places a tile is, and 0 stands for direct sums.
"""

from __future__ import annotations

from chainrule.compiler.convolution import DirectPixels, Writer, pack
from chainrule.compiler.emit import Module
from chainrule.compiler.emitter import Chunks, Slots
from chainrule.compiler.filters import DirectFilters
from chainrule.compiler.fusion import Kernel
from chainrule.compiler.host import Target
from chainrule.compiler.ir import Convolution, Node, Packed
from chainrule.compiler.winograd_filters import WinogradFilters
from chainrule.compiler.winograd_pixels import WinogradPixels, pack_transformed

__all__ = ["emit_convolution", "emit_filters", "emit_pack"]


def emit_convolution(
    module: Module,
    kernel: Kernel,
    target: Target,
    slots: Slots,
    stored: set[Node],
    batch: int = 1,
    images: int = 0,
) -> Chunks:
    """A convolution by outputs or by data, and what is made of its results.

    With ``images``, a chunk has so many of them; otherwise as many as suit a batch.
    """
    w = Writer(module, kernel, target, slots, stored)
    node = w.node
    assert isinstance(node, Convolution)
    kind = WinogradPixels if node.tile else DirectPixels
    return kind(w, node, images, batch).emit()


def emit_filters(
    module: Module, kernel: Kernel, target: Target, slots: Slots, stored: set[Node]
) -> Chunks:
    """A convolution by filters: sums over places, part by part."""
    w = Writer(module, kernel, target, slots, stored)
    node = w.node
    assert isinstance(node, Convolution)
    kind = WinogradFilters if node.tile else DirectFilters
    return kind(w, node).emit()


def emit_pack(
    module: Module, kernel: Kernel, target: Target, slots: Slots, stored: set[Node]
) -> Chunks:
    """Filters in the order in which tiles read them; one chunk a panel."""
    w = Writer(module, kernel, target, slots, stored)
    node = w.node
    assert isinstance(node, Packed)
    return pack_transformed(w, node) if node.tile else pack(w, node)
