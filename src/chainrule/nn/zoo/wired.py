"""A network whose layers are wired at random, which works nearly as well as any."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.core.rng import generator
from chainrule.errors import OptionError
from chainrule.nn.affine import Dense
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.init import DrawnParameter
from chainrule.nn.module import Module, check_sizes
from chainrule.nn.normalization import BatchNorm
from chainrule.nn.pooling import GlobalAveragePool
from chainrule.nn.zoo.parts import conv_norm, picture_shape

__all__ = ["random_wired", "small_world"]

_LARGE = 64  # pixels; pictures from here on are halved twice before the first graph


def random_wired(
    in_shape: Sequence[int],
    num_outputs: int,
    *,
    channels: int = 32,
    num_nodes: int = 8,
    seed: int = 0,
) -> Sequential:
    """Three random graphs of convolutions, each at half the size of the one before.

    A node adds up its inputs with learned weights between 0 and 1, then applies ReLU, a
    separable 3×3 convolution and batch normalisation. Nodes that nothing leads to take
    the graph's input and halve it; the mean of those that lead nowhere is its output.

    Args:
        in_shape: height, width and channels of a picture.
        num_outputs: the number of outputs; they are scores, without an activation.
        channels: of the first graph; the others have twice and four times as many.
        num_nodes: of each graph.
        seed: of the graphs; weights start as any layer's do.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Raises:
        OptionError: for fewer than five nodes.

    Source: Xie, Kirillov, Girshick & He, "Exploring randomly wired neural networks for
    image recognition", 2019: graphs of Watts and Strogatz with K = 4, P = 0.75. The
    paper's small network has 78 channels, 32 nodes, two halvings before the first graph
    (as pictures from 64 pixels on have here), 1280 channels after the last one, where
    ours has four times as many as that, and about 5.6 million parameters.
    """
    height, width, in_channels = picture_shape("random_wired", in_shape)
    check_sizes("random_wired", channels=channels)
    layers: dict[str, Module] = {}
    if min(height, width) >= _LARGE:
        layers["stem1"] = conv_norm(in_channels, max(1, channels // 2), stride=2)
        in_channels = max(1, channels // 2)
        layers["stem2"] = conv_norm(in_channels, channels, stride=2)
    else:
        layers["stem"] = conv_norm(in_channels, channels)
    in_channels = channels
    for number in range(1, 4):
        wide = channels * 2 ** (number - 1)
        edges = small_world(num_nodes, seed=seed, name=f"graph {number}")
        layers[f"graph{number}"] = RandomGraph(num_nodes, edges, in_channels, wide)
        in_channels = wide
    layers["head"] = conv_norm(in_channels, 4 * in_channels, 1)
    layers["average"] = GlobalAveragePool()
    layers["output"] = Dense(4 * in_channels, num_outputs)
    return Sequential(**layers)


def small_world(
    num_nodes: int,
    *,
    num_neighbors: int = 4,
    rewired: float = 0.75,
    seed: int = 0,
    name: str = "",
) -> list[tuple[int, int]]:
    """Edges of a random graph of Watts and Strogatz, each from the lower number on.

    Nodes stand in a ring, joined to their nearest neighbours; then each edge, with
    probability ``rewired``, leads to another node.

    Args:
        num_nodes: how many there are, more than neighbours.
        num_neighbors: of each node in the ring, an even number.
        rewired: the share of edges that are moved.
        seed, name: of the draws.

    Raises:
        OptionError: for too few nodes, or an odd number of neighbours.

    Example:
        >>> small_world(5, num_neighbors=2, rewired=0.0)
        [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)]

    Source: Watts & Strogatz, "Collective dynamics of 'small-world' networks", 1998.
    """
    if num_neighbors % 2 or not 0 < num_neighbors < num_nodes:
        raise OptionError(
            "small_world: no such ring",
            got=f"{num_nodes} nodes with {num_neighbors} neighbours each",
            expected="an even number of neighbours, below the number of nodes",
        )
    rng = generator(seed, f"wiring {name}")
    joined = {frozenset((v, (v + i) % num_nodes))
              for i in range(1, num_neighbors // 2 + 1)
              for v in range(num_nodes)}  # fmt: skip
    for i in range(1, num_neighbors // 2 + 1):
        for v in range(num_nodes):
            edge = frozenset((v, (v + i) % num_nodes))
            free = [u for u in range(num_nodes)
                    if u != v and frozenset((u, v)) not in joined]  # fmt: skip
            # An edge that an earlier one was moved onto stays.
            if rng.random() < rewired and free and edge in joined:
                joined.remove(edge)
                joined.add(frozenset((v, free[rng.integers(len(free))])))
    return sorted((min(edge), max(edge)) for edge in joined)


class RandomGraph(Module):
    """Nodes that run in the order of their numbers, each on those that lead to it.

    Shapes: (n, h, w, in_channels) -> (n, ⌈h/2⌉, ⌈w/2⌉, out_channels).
    """

    def __init__(
        self,
        num_nodes: int,
        edges: Sequence[tuple[int, int]],
        in_channels: int,
        out_channels: int,
    ) -> None:
        self.sources = [[a for a, b in edges if b == v] for v in range(num_nodes)]
        leading = {a for a, _ in edges}
        self.ends = [v for v in range(num_nodes) if v not in leading]
        self.nodes = [
            WiredNode(len(sources), in_channels, out_channels)
            for sources in self.sources
        ]

    def forward(self, x: Tensor) -> Tensor:
        made: list[Tensor] = []
        for node, sources in zip(self.nodes, self.sources, strict=True):
            made.append(node(*[made[v] for v in sources]) if sources else node(x))
        total = made[self.ends[0]]
        for v in self.ends[1:]:
            total = total + made[v]
        return total / len(self.ends)


class WiredNode(Module):
    """Inputs added up with learned weights, ReLU, separable convolution, normalisation.

    A node without inputs of its own takes the graph's, and halves its size.
    """

    def __init__(self, num_inputs: int, in_channels: int, out_channels: int) -> None:
        channels = out_channels if num_inputs else in_channels
        self.gates = (
            DrawnParameter((num_inputs,), "zeros", is_penalized=False)
            if num_inputs
            else None
        )
        self.depthwise = Conv(
            channels, channels, 3,
            stride=1 if num_inputs else 2, padding=1, groups=channels, bias=False,
        )  # fmt: skip
        self.pointwise = Conv(channels, out_channels, 1, bias=False)
        self.norm = BatchNorm(out_channels)

    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        if self.gates is not None:
            shares = ops.sigmoid(self.gates)
            total = inputs[0] * shares[0]
            for i, x in enumerate(inputs[1:], start=1):
                total = total + x * shares[i]
        return self.norm(self.pointwise(self.depthwise(ops.relu(total))))
