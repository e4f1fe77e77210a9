"""Writes the two models of `cargo xtask bench serving` into a directory: `small.onnx`, a perceptron of one hidden layer,
and `large.onnx`, a net with the layers of ResNet-18 (batch normalisation folded into the convolutions, as every exporter
does it). Their weights are random, the same each time."""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 10
OPSET = [helper.make_opsetid("", 21)]
SIDE = 64
CLASSES = 1000
SEED = 7


class Graph:
    """Layers, one after the other."""

    def __init__(self):
        self.nodes, self.weights = [], []
        self.random = np.random.default_rng(SEED)

    def add(self, operator, inputs, **attributes):
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, shape, scale):
        name = f"weight_{len(self.weights)}"
        values = (self.random.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def dense(self, x, inputs, outputs):
        weight, bias = self.weight((inputs, outputs), inputs**-0.5), self.weight((outputs,), 0.01)
        return self.add("Gemm", [x, weight, bias])

    def convolution(self, x, inputs, outputs, size, stride=1, gain=2.0):
        weight = self.weight((outputs, inputs, size, size), (gain / (inputs * size * size)) ** 0.5)
        bias, pad = self.weight((outputs,), 0.01), size // 2
        return self.add("Conv", [x, weight, bias], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def relu(self, x):
        return self.add("Relu", [x])

    def block(self, x, inputs, outputs, stride):
        """Two convolutions, and a way around them."""
        inner = self.relu(self.convolution(x, inputs, outputs, 3, stride))
        inner = self.convolution(inner, outputs, outputs, 3, gain=0.2)
        around = x if stride == 1 else self.convolution(x, inputs, outputs, 1, stride, gain=1.0)
        return self.relu(self.add("Add", [inner, around]))

    def save(self, path, input_shape, classes):
        self.nodes[-1].output[0] = "scores"
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *input_shape])
        scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes])
        graph = helper.make_graph(self.nodes, path.stem, [image], [scores], self.weights)
        model = helper.make_model(graph, producer_name="tradewind-bench", opset_imports=OPSET)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        onnx.save(model, path)


def small(path):
    graph = Graph()
    hidden = graph.relu(graph.dense("image", 64, 128))
    graph.dense(hidden, 128, 10)
    graph.save(path, [64], 10)


def large(path):
    graph = Graph()
    x = graph.relu(graph.convolution("image", 3, 64, 7, stride=2))
    x = graph.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    inputs = 64
    for outputs, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        x = graph.block(x, inputs, outputs, stride)
        x = graph.block(x, outputs, outputs, 1)
        inputs = outputs
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    graph.dense(x, 512, CLASSES)
    graph.save(path, [3, SIDE, SIDE], CLASSES)


if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    small(directory / "small.onnx")
    large(directory / "large.onnx")
