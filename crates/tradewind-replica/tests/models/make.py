# /// script
# requires-python = ">=3.10"
# dependencies = ["onnx==1.23.2", "numpy"]
# ///
"""Writes the tiny models that the tests of this crate serve.

    uv run make.py            or: pip install onnx numpy && python make.py

The outputs are committed, so that the tests need neither Python nor onnx.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
IR_VERSION = 10
OPSET = [helper.make_opsetid("", 21)]


def save(name, nodes, inputs, outputs, initializers=(), opset=OPSET, **graph):
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers), **graph)
    model = helper.make_model(graph, producer_name="tradewind-tests", opset_imports=opset)
    model.ir_version = IR_VERSION
    onnx.save(model, HERE / f"{name}.onnx")
    return model


def tensor(name, datatype, shape):
    return helper.make_tensor_value_info(name, datatype, shape)


def identities():
    """One input and output of every datatype that the protocol knows, two elements each."""
    datatypes = {
        "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16,
        "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64, "int8": TensorProto.INT8,
        "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
        "fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT, "fp64": TensorProto.DOUBLE,
        "bytes": TensorProto.STRING, "bf16": TensorProto.BFLOAT16,
    }
    for name, datatype in datatypes.items():
        save(
            f"identity_{name}",
            [helper.make_node("Identity", ["x"], ["y"])],
            [tensor("x", datatype, ["n"])],
            [tensor("y", datatype, ["n"])],
        )


def add():
    """sum = a + b and difference = a - b, over a free batch of rows of three."""
    save(
        "add",
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [tensor("a", TensorProto.FLOAT, ["batch", 3]), tensor("b", TensorProto.FLOAT, ["batch", 3])],
        [tensor("sum", TensorProto.FLOAT, ["batch", 3]), tensor("difference", TensorProto.FLOAT, ["batch", 3])],
    )


def scalar():
    """A rank-0 tensor in and out."""
    save(
        "scalar",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", TensorProto.DOUBLE, [])],
        [tensor("y", TensorProto.DOUBLE, [])],
    )


def reciprocal():
    """1 / x: zero in gives infinity out, which JSON cannot carry."""
    save(
        "reciprocal",
        [helper.make_node("Reciprocal", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n"])],
        [tensor("y", TensorProto.FLOAT, ["n"])],
    )


def reshape():
    """The shape is an input, so a request can make ONNX Runtime itself fail."""
    save(
        "reshape",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n"]), tensor("shape", TensorProto.INT64, [2])],
        [tensor("y", TensorProto.FLOAT, ["rows", "columns"])],
    )


def fill():
    """Bytes in a shape that the request chooses: it decides how large the answer is."""
    save(
        "fill",
        [helper.make_node("ConstantOfShape", ["shape"], ["y"], value=numpy_helper.from_array(np.zeros(1, np.uint8)))],
        [tensor("shape", TensorProto.INT64, [1])],
        [tensor("y", TensorProto.UINT8, ["n"])],
    )


def spin():
    """Counts to `n` in a loop inside the model: work whose length the request chooses."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["keep_out"]), helper.make_node("Add", ["sum", "one"], ["sum_out"])],
        "body",
        [tensor("i", TensorProto.INT64, []), tensor("keep", TensorProto.BOOL, []), tensor("sum", TensorProto.INT64, [])],
        [tensor("keep_out", TensorProto.BOOL, []), tensor("sum_out", TensorProto.INT64, [])],
        [numpy_helper.from_array(np.array(1, np.int64), "one")],
    )
    save(
        "spin",
        [helper.make_node("Loop", ["n", "", "zero"], ["y"], body=body)],
        [tensor("n", TensorProto.INT64, [])],
        [tensor("y", TensorProto.INT64, [])],
        [numpy_helper.from_array(np.array(0, np.int64), "zero")],
    )


def external_tensor(name, values, location):
    """An initializer whose bytes lie in `location`."""
    proto = numpy_helper.from_array(values, name)
    data = proto.raw_data
    proto.ClearField("raw_data")
    proto.data_location = TensorProto.EXTERNAL
    for key, value in [("location", location), ("offset", "0"), ("length", str(len(data)))]:
        entry = proto.external_data.add()
        entry.key, entry.value = key, value
    return proto, data


def external(name, location):
    """y = x + w, with w outside the model file."""
    proto, data = external_tensor("w", np.array([10.0, 20.0, 30.0], np.float32), location)
    save(
        name,
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["batch", 3])],
        [tensor("y", TensorProto.FLOAT, ["batch", 3])],
        [proto],
    )
    return data


def external_in_subgraph():
    """The external tensor hides inside the branch of an If, where a shallow walk would miss it."""
    proto, _ = external_tensor("w", np.array([10.0, 20.0, 30.0], np.float32), "../secret.bin")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])], "branch", [], [tensor("b", TensorProto.FLOAT, [3])], [proto]
    )
    save(
        "escaping_subgraph",
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        [tensor("c", TensorProto.BOOL, [])],
        [tensor("y", TensorProto.FLOAT, [3])],
    )


def zipmap():
    """What scikit-learn's converter makes by default: class probabilities as a sequence of maps."""
    output = helper.make_value_info(
        "output_probability",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        ),
    )
    save(
        "zipmap",
        [helper.make_node("ZipMap", ["x"], ["output_probability"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
        [tensor("x", TensorProto.FLOAT, ["n", 2])],
        [output],
        opset=[*OPSET, helper.make_opsetid("ai.onnx.ml", 3)],
    )


def rows():
    """Per row: value = table[index] and spun = spin, after a loop of as many turns as the largest spin says."""
    one = numpy_helper.from_array(np.array(1, np.int64), "one")
    turn = helper.make_graph(
        [helper.make_node("Identity", ["keep_in"], ["keep_out"]), helper.make_node("Add", ["count_in", "one"], ["count_out"])],
        "turn",
        [tensor("turn", TensorProto.INT64, []), tensor("keep_in", TensorProto.BOOL, []), tensor("count_in", TensorProto.INT64, [])],
        [tensor("keep_out", TensorProto.BOOL, []), tensor("count_out", TensorProto.INT64, [])],
    )
    constants = [
        one,
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(np.array(True), "keep"),
        numpy_helper.from_array(np.array([0.5, 1.5, 2.5, 3.5], np.float32), "table"),
    ]
    save(
        "rows",
        [
            helper.make_node("ReduceMax", ["spin"], ["turns"], keepdims=0),
            helper.make_node("Loop", ["turns", "keep", "zero"], ["count"], body=turn),
            helper.make_node("Mul", ["count", "zero"], ["nothing"]),
            helper.make_node("Add", ["spin", "nothing"], ["spun"]),
            helper.make_node("Gather", ["table", "index"], ["value"]),
        ],
        [tensor("spin", TensorProto.INT64, ["batch"]), tensor("index", TensorProto.INT64, ["batch"])],
        [tensor("value", TensorProto.FLOAT, ["batch"]), tensor("spun", TensorProto.INT64, ["batch"])],
        constants,
    )


def centred():
    """y = x minus the mean of all rows: what looks like a batch, and is none."""
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    save(
        "centred",
        [helper.make_node("ReduceMean", ["x", "axes"], ["mean"]), helper.make_node("Sub", ["x", "mean"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["batch", 3])],
        [tensor("y", TensorProto.FLOAT, ["batch", 3])],
        [axes],
    )


def large():
    """y = table[x]: a file of some bytes, and 64 MiB of weights once its constants are folded."""
    shape = numpy_helper.from_array(np.array([16 << 20], np.int64), "shape")
    one = numpy_helper.from_array(np.array([1], np.float32), "one")
    save(
        "large",
        [
            helper.make_node("ConstantOfShape", ["shape"], ["table"], value=one),
            helper.make_node("Gather", ["table", "x"], ["y"]),
        ],
        [tensor("x", TensorProto.INT64, ["batch"])],
        [tensor("y", TensorProto.FLOAT, ["batch"])],
        [shape],
    )


if __name__ == "__main__":
    identities()
    add()
    scalar()
    reciprocal()
    reshape()
    fill()
    spin()
    (HERE / "external.bin").write_bytes(external("external", "external.bin"))
    external("escaping", "../secret.bin")
    external("absolute", "/etc/passwd")
    external_in_subgraph()
    zipmap()
    rows()
    centred()
    large()
