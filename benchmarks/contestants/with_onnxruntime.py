"""Inference in ONNX Runtime, of a graph in its own order of axes: (n, c, h, w)."""

from __future__ import annotations

import numpy as np
import onnxruntime
from networks import Activation, Convolution, Dense, Flatten, MaxPool
from onnx import TensorProto, helper, numpy_helper
from problems import Problem

VERSION = f"ONNX Runtime {onnxruntime.__version__}"


def infer(problem: Problem, threads: int):
    """A function from pictures to scores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model_of(problem), options, providers=["CPUExecutionProvider"]
    )

    def scores(pictures):
        planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        return session.run(None, {"x": planes})[0]

    return scores


def model_of(problem: Problem) -> bytes:
    """The network as an ONNX model."""
    network = problem.workload.network
    weights = iter(problem.weights)
    nodes, constants = [], []
    shape, flattened = network.in_shape, ()

    def constant(array: np.ndarray) -> str:
        name = f"w{len(constants)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(op: str, *inputs: str, **attributes) -> None:
        output = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, [value, *inputs], [output], **attributes))

    value = "x"
    for layer in network.layers:
        match layer:
            case Convolution():
                w = constant(next(weights).transpose(3, 2, 0, 1))
                b = constant(next(weights))
                around, steps = [layer.padding] * 4, [layer.stride] * 2
                add("Conv", w, b, pads=around, strides=steps)
            case MaxPool(size, stride):
                add("MaxPool", kernel_shape=[size] * 2, strides=[stride] * 2)
            case Flatten():
                flattened = shape
                add("Flatten")
            case Dense():
                w = next(weights)
                if flattened:  # its rows in the order of planes
                    planes = w.reshape(*flattened, -1).transpose(2, 0, 1, 3)
                    w, flattened = planes.reshape(w.shape), ()
                add("Gemm", constant(w), constant(next(weights)))
            case Activation("relu"):
                add("Relu")
            case _:
                raise TypeError(layer)
        shape = layer.out_shape(shape)
        value = nodes[-1].output[0]
    h, w, c = network.in_shape
    sizes = [problem.workload.batch, c, h, w]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [sizes[0], *shape])],
        constants,
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return model.SerializeToString()
