"""The workloads of the benchmarks: what is trained, how, and on which data.

The step of every workload is the same four things: pick the minibatch by index from a
float32 array in memory, the loss, its gradients, the update. In a workload of inference
it is one call with a NumPy array of pictures, and its scores as a NumPy array.

* softmax: mean over the batch of -log softmax(scores)_label
* hinge: mean over the batch of Σ_{j≠label} max(0, s_j - s_label + 1)
* squared: mean (or sum) over the batch of Σ_outputs (output - target)²

and to the loss comes l2·ΣW², over weights and not over biases. Weight decay λ adds λ·W
to the gradient of each weight that is neither a bias nor of a normalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from networks import (
    Activation,
    BatchNorm,
    Convolution,
    Dense,
    Flatten,
    GlobalAverage,
    Layer,
    MaxPool,
    Network,
    Residual,
    TransposedConvolution,
    he_deviation,
    perceptron,
)

MOMENTUM = 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Workload:
    """A network, its loss, its update and its data."""

    name: str
    network: Network
    loss: str  # "softmax", "hinge" or "squared"
    optimizer: str  # "sgd", "momentum" or "adam"
    lr: float
    batch: int
    data: str  # a name of problems.DATA
    l2: float = 0.0
    weight_decay: float = 0.0
    reduction: str = "mean"
    is_full_batch: bool = False
    is_inference: bool = False
    num_examples: int = 10_000
    num_agreeing: int = 100
    """How many of the first losses must be those of the reference."""

    @property
    def flops(self) -> int:
        """Floating-point operations that the products of a step need."""
        network = self.network
        each = network.forward_flops if self.is_inference else network.flops
        return self.batch * each

    @property
    def data_bytes(self) -> int:
        """The size of the array that minibatches are picked from."""
        num_rows = self.batch if self.is_full_batch else self.num_examples
        return 4 * num_rows * math.prod(self.network.in_shape)

    def __str__(self) -> str:
        how = "inference" if self.is_inference else f"{self.loss} {self.optimizer}"
        parts = [str(self.network), how]
        if self.l2:
            parts.append(f"λ={self.l2}")
        if self.weight_decay:
            parts.append(f"weight decay {self.weight_decay}")
        parts.append(f"{'full batch' if self.is_full_batch else 'batch'} {self.batch}")
        return " ".join(parts)


# ------------------------------------------------------------------ dense networks

_TWENTY_LINE = Workload(
    "twenty_line",
    # The lecture draws its weights from the standard normal distribution.
    perceptron((1000, 100, 10), "sigmoid", deviation=1.0, has_bias=False),
    loss="squared",
    optimizer="sgd",
    lr=1e-4,
    batch=64,
    data="random",
    reduction="sum",
    is_full_batch=True,
)
_SMALL = Workload(
    "mnist_mlp_30_30_b10",
    perceptron((784, 30, 30, 10), "sigmoid"),
    loss="softmax",
    optimizer="momentum",
    lr=0.1,
    batch=10,
    data="mnist",
)
_WIDE = Workload(
    "mnist_mlp_100",
    perceptron((784, 100, 10), "relu"),
    loss="softmax",
    optimizer="adam",
    lr=0.001,
    batch=64,
    data="mnist",
)
_LINEAR = Workload(
    "cifar_linear_hinge",
    perceptron((3072, 10), deviation=0.001),
    loss="hinge",
    optimizer="sgd",
    lr=0.001,
    batch=256,
    data="cifar10",
    l2=0.001,
)
_INPAINT = Workload(
    "inpaint_mlp",
    perceptron((784, 256, 784), "relu"),
    loss="squared",
    optimizer="adam",
    lr=0.001,
    batch=128,
    data="damaged mnist",
)

# ---------------------------------------------------------- convolutional networks
# Rounding decides now and then which of two nearly equal elements a pooling picks, and
# whether a ReLU is open; from there on two runs part, by a factor of up to ten in each
# step at usual learning rates. So these networks learn slowly, and agree for few steps.

_RELU = Activation("relu")


def _dense(num_in: int, num_out: int) -> Dense:
    return Dense(num_in, num_out, he_deviation(num_in))


def _block(num_in: int, num_out: int, stride: int) -> list[Layer]:
    """A basic block; where the shape changes, the shortcut is a projection.

    He et al., "Deep residual learning for image recognition", 2016, figure 2, option B.
    """
    body = (
        Convolution(num_in, num_out, 3, stride, padding=1, has_bias=False),
        BatchNorm(num_out),
        _RELU,
        Convolution(num_out, num_out, 3, padding=1, has_bias=False),
        BatchNorm(num_out),
    )
    projection = (
        Convolution(num_in, num_out, 1, stride, has_bias=False),
        BatchNorm(num_out),
    )
    is_same = (num_in, stride) == (num_out, 1)
    return [Residual(body, () if is_same else projection), _RELU]


_MNIST_CNN = Workload(
    "mnist_cnn",
    Network(
        (28, 28, 1),
        (
            Convolution(1, 32, 5, padding=2),
            _RELU,
            MaxPool(2, 2),
            Convolution(32, 64, 5, padding=2),
            _RELU,
            MaxPool(2, 2),
            Flatten(),
            _dense(3136, 128),
            _RELU,
            _dense(128, 10),
        ),
        "conv5×5 1→32, pool, conv5×5 32→64, pool, 3136-128-10, relu",
    ),
    loss="softmax",
    optimizer="adam",
    lr=1e-4,
    batch=64,
    data="mnist",
    num_agreeing=20,
)
_CIFAR_RESNET = Workload(
    "cifar_resnet",
    Network(
        (32, 32, 3),
        (
            Convolution(3, 32, 3, padding=1, has_bias=False),
            BatchNorm(32),
            _RELU,
            *_block(32, 32, 1),
            *_block(32, 32, 1),
            *_block(32, 64, 2),
            *_block(64, 64, 1),
            *_block(64, 128, 2),
            *_block(128, 128, 1),
            GlobalAverage(),
            _dense(128, 10),
        ),
        "conv3×3 3→32, 3 stages of 2 residual blocks, 32/64/128, average, 128-10",
    ),
    loss="softmax",
    optimizer="momentum",
    lr=1e-3,
    batch=128,
    data="cifar10",
    weight_decay=5e-4,
    num_agreeing=10,
)
# Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014;
# without dropout, so that losses can agree.
_ALEXNET = Workload(
    "alexnet",
    Network(
        (224, 224, 3),
        (
            Convolution(3, 64, 11, stride=4, padding=2),
            _RELU,
            MaxPool(3, 2),
            Convolution(64, 192, 5, padding=2),
            _RELU,
            MaxPool(3, 2),
            Convolution(192, 384, 3, padding=1),
            _RELU,
            Convolution(384, 256, 3, padding=1),
            _RELU,
            Convolution(256, 256, 3, padding=1),
            _RELU,
            MaxPool(3, 2),
            Flatten(),
            _dense(9216, 4096),
            _RELU,
            _dense(4096, 4096),
            _RELU,
            _dense(4096, 1000),
        ),
        "AlexNet, one tower, 1000 classes",
    ),
    loss="softmax",
    optimizer="momentum",
    lr=1e-4,
    batch=16,
    data="enlarged cifar10",
    num_examples=128,
    num_agreeing=8,
)
_INPAINT_CONV = Workload(
    "inpaint_conv",
    Network(
        (28, 28, 1),
        (
            Convolution(1, 32, 3, stride=2, padding=1),
            _RELU,
            Convolution(32, 64, 3, stride=2, padding=1),
            _RELU,
            TransposedConvolution(64, 32, 4, stride=2, padding=1),
            _RELU,
            TransposedConvolution(32, 1, 4, stride=2, padding=1),
        ),
        "conv3×3 1→32→64, transposed conv4×4 64→32→1, all stride 2, relu",
    ),
    loss="squared",
    optimizer="adam",
    lr=0.001,
    batch=64,
    data="damaged mnist",
    num_agreeing=40,
)

WORKLOADS = {
    workload.name: workload
    for workload in [
        _TWENTY_LINE,
        _SMALL,
        replace(_SMALL, name="mnist_mlp_30_30_b128", batch=128),
        _WIDE,
        _LINEAR,
        replace(_LINEAR, name="cifar_linear_softmax", loss="softmax", lr=0.01),
        _INPAINT,
        _MNIST_CNN,
        _CIFAR_RESNET,
        _ALEXNET,
        _INPAINT_CONV,
        *(
            replace(
                _MNIST_CNN,
                name=f"mnist_cnn_infer_b{batch}",
                batch=batch,
                is_inference=True,
            )
            for batch in (1, 256)
        ),
    ]
}
