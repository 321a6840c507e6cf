"""The step in TensorFlow: many in one call, by its own kernels or through XLA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from networks import (
    BATCH_NORM_EPSILON,
    RUNNING_SHARE,
    Activation,
    BatchNorm,
    Convolution,
    Dense,
    Flatten,
    GlobalAverage,
    Layer,
    MaxPool,
    Residual,
    TransposedConvolution,
)
from problems import Problem
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Workload

VERSION = f"TensorFlow {tf.__version__}"


def make(problem: Problem, threads: int, xla: str = "", inter_op: int = 1):
    """A function (start, count) that runs steps and returns how to read the losses.

    ``xla`` compiles each "step", or the whole "loop" over them.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(inter_op)
    workload = problem.workload
    inputs, targets = tf.constant(problem.inputs), tf.constant(problem.targets)
    order = tf.constant(problem.order.astype(np.int32))
    position = tf.Variable(0)
    weights = [tf.Variable(w) for w in problem.weights]
    statistics = [
        tf.Variable(values)
        for channels in workload.network.normalised_channels
        for values in (tf.zeros(channels), tf.ones(channels))
    ]
    update = updater(workload, weights)

    @tf.function(jit_compile=xla == "step")
    def step():
        rows = tf.gather(order, position)
        position.assign_add(1)
        if workload.is_full_batch:
            x, t = inputs, targets
        else:
            x, t = tf.gather(inputs, rows), tf.gather(targets, rows)
        with tf.GradientTape() as tape:
            loss = loss_of(workload, weights, statistics, x, t)
        update(tape.gradient(loss, weights))
        return loss

    # A call of a graph costs more than a small step, so that a loop is always faster.
    @tf.function(jit_compile=xla == "loop")
    def many_steps(count):
        losses = tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            losses = losses.write(i, step())
        return losses.stack()

    def run(start: int, count: int):
        position.assign(start)
        # XLA needs the length of the losses; a Python number is a constant to it.
        losses = many_steps(count).numpy()
        return lambda: losses

    return run


def infer(problem: Problem, threads: int, xla: str = ""):
    """A function from pictures to scores."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    weights = [tf.constant(w) for w in problem.weights]
    layers, shape = problem.workload.network.layers, problem.inputs.shape[1:]
    pictures = tf.TensorSpec((problem.workload.batch, *shape), tf.float32)

    @tf.function(jit_compile=bool(xla), input_signature=[pictures])
    def scores_of(x):
        return _run(layers, x, iter(weights), iter(()))

    return lambda pictures: scores_of(tf.constant(pictures)).numpy()


def loss_of(workload: Workload, weights, statistics, x, t):
    x = _run(workload.network.layers, x, iter(weights), iter(statistics))
    if workload.loss == "softmax":
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=t, logits=x)
        )
    elif workload.loss == "hinge":
        right = tf.gather(x, t, axis=1, batch_dims=1)[:, None]
        # The right class itself adds exactly the margin of 1.
        loss = tf.reduce_sum(tf.nn.relu(x - right + 1)) / len(x) - 1
    else:
        loss = tf.reduce_sum(tf.math.squared_difference(x, t))
        if workload.reduction == "mean":
            loss = loss / len(x)
    if workload.l2:
        matrices = [w for w in weights if len(w.shape) > 1]
        loss += workload.l2 * sum(tf.reduce_sum(tf.square(w)) for w in matrices)
    return loss


@tf.autograph.experimental.do_not_convert
def _run(
    layers: Sequence[Layer],
    x,
    weights: Iterator[tf.Variable],
    statistics: Iterator[tf.Variable],
):
    for layer in layers:
        match layer:
            case Dense():
                x = tf.matmul(x, next(weights))
                if layer.has_bias:
                    x = tf.nn.bias_add(x, next(weights))
            case Convolution():
                x, padding = _padded(x, layer)
                x = tf.nn.conv2d(x, next(weights), layer.stride, padding)
                if layer.has_bias:
                    x = tf.nn.bias_add(x, next(weights))
            case TransposedConvolution():
                shape = x.shape[0], *layer.out_shape(tuple(x.shape[1:]))
                assert _is_same(shape, layer)
                w, b = next(weights), next(weights)
                x = tf.nn.conv2d_transpose(x, w, shape, layer.stride, "SAME")
                x = tf.nn.bias_add(x, b)
            case BatchNorm():
                x = _normalised(x, *(next(weights) for _ in "12"), statistics)
            case Activation("relu"):
                x = tf.nn.relu(x)
            case Activation():
                x = tf.sigmoid(x)
            case MaxPool():
                x = tf.nn.max_pool2d(x, layer.size, layer.stride, "VALID")
            case GlobalAverage():
                x = tf.reduce_mean(x, (1, 2))
            case Flatten():
                x = tf.reshape(x, (x.shape[0], -1))
            case Residual():
                y = _run(layer.body, x, weights, statistics)
                x = y + _run(layer.shortcut, x, weights, statistics)
    return x


def _padded(x, layer: Convolution):
    """x and how to pad it: explicit numbers take TensorFlow a slower way back."""
    if _is_same(x.shape, layer):
        return x, "SAME"
    around = (layer.padding, layer.padding)
    return tf.pad(x, [(0, 0), around, around, (0, 0)]) if layer.padding else x, "VALID"


def _is_same(shape: Sequence[int], layer: Convolution | TransposedConvolution) -> bool:
    """Whether what "SAME" adds around pictures is the layer's padding on all sides."""
    covered = (-(-shape[1] // layer.stride) - 1) * layer.stride + layer.size
    return max(covered - shape[1], 0) == 2 * layer.padding


def _normalised(x, scale, shift, statistics: Iterator[tf.Variable]):
    # What tf.nn.batch_normalization does in several passes is one op here.
    x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=shift,
        mean=(),
        variance=(),
        epsilon=BATCH_NORM_EPSILON,
        is_training=True,
    )
    for seen in (mean, variance):
        running = next(statistics)
        running.assign_sub(RUNNING_SHARE * (running - seen))
    return x


def updater(workload: Workload, weights):
    """The update by TensorFlow's own training ops, one for each weight."""
    make_update = _adam if workload.optimizer == "adam" else _descent
    update = make_update(workload, weights)
    if not workload.weight_decay:
        return update

    def decayed(gradients):
        update(
            [
                dw + workload.weight_decay * w if len(w.shape) > 1 else dw
                for w, dw in zip(weights, gradients, strict=True)
            ]
        )

    return decayed


def _descent(workload: Workload, weights):
    velocities = [tf.Variable(tf.zeros_like(w)) for w in weights]

    def update(gradients):
        for w, dw, velocity in zip(weights, gradients, velocities, strict=True):
            if workload.optimizer == "momentum":
                tf.raw_ops.ResourceApplyMomentum(
                    var=w.handle,
                    accum=velocity.handle,
                    lr=workload.lr,
                    grad=dw,
                    momentum=MOMENTUM,
                )
            else:
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=w.handle, alpha=workload.lr, delta=dw
                )

    return update


def _adam(workload: Workload, weights):
    first = [tf.Variable(tf.zeros_like(w)) for w in weights]
    second = [tf.Variable(tf.zeros_like(w)) for w in weights]
    powers = tf.Variable(1.0), tf.Variable(1.0)

    def update(gradients):
        power1 = powers[0].assign(powers[0] * BETA1)
        power2 = powers[1].assign(powers[1] * BETA2)
        for w, dw, m, v in zip(weights, gradients, first, second, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=w.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=power1,
                beta2_power=power2,
                lr=workload.lr,
                beta1=BETA1,
                beta2=BETA2,
                # The op adds it to √v, the paper to √v̂.
                epsilon=EPSILON * tf.sqrt(1 - power2),
                grad=dw,
            )

    return update
