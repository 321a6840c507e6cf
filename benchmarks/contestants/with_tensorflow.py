"""The step in TensorFlow: many in one call, by its own kernels or through XLA."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Problem, Workload

VERSION = f"TensorFlow {tf.__version__}"


def make(problem: Problem, xla: bool, threads: int):
    """A function (start, count) that runs steps and returns how to read the losses."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    workload = problem.workload
    inputs, targets = tf.constant(problem.inputs), tf.constant(problem.targets)
    order = tf.constant(problem.order.astype(np.int32))
    position = tf.Variable(0)
    weights = [tf.Variable(w) for w in problem.weights]
    update = updater(workload, weights)

    def step():
        rows = tf.gather(order, position)
        position.assign_add(1)
        if workload.is_full_batch:
            x, t = inputs, targets
        else:
            x, t = tf.gather(inputs, rows), tf.gather(targets, rows)
        with tf.GradientTape() as tape:
            loss = loss_of(workload, weights, x, t)
        update(tape.gradient(loss, weights))
        return loss

    # A call of a graph costs more than a small step, so that a loop is always faster.
    @tf.function(jit_compile=xla)
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


def loss_of(workload: Workload, weights, x, t):
    stride = 2 if workload.has_bias else 1
    matrices = weights[::stride]
    activation = tf.nn.relu if workload.activation == "relu" else tf.sigmoid
    for number, w in enumerate(matrices):
        x = tf.matmul(x, w)
        if stride == 2:
            x = tf.nn.bias_add(x, weights[2 * number + 1])
        if number < len(matrices) - 1:
            x = activation(x)
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
        loss += workload.l2 * sum(tf.reduce_sum(tf.square(w)) for w in matrices)
    return loss


def updater(workload: Workload, weights):
    """The update by TensorFlow's own training ops, one for each weight."""
    first = [tf.Variable(tf.zeros_like(w)) for w in weights]
    if workload.optimizer != "adam":

        def descend(gradients):
            for w, dw, velocity in zip(weights, gradients, first, strict=True):
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

        return descend
    second = [tf.Variable(tf.zeros_like(w)) for w in weights]
    powers = tf.Variable(1.0), tf.Variable(1.0)

    def adam(gradients):
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

    return adam
