"""The node cases of ONNX itself, each served by a replica: models of one operator with inputs and outputs, by REST with
binary tensors, by gRPC, and by REST with JSON where JSON can carry them.

Which of them fail, and why, stands in `failing_nodes.py`: ONNX Runtime alone fails them too.
"""

import concurrent.futures
import functools
import json
import os
import pathlib

import grpc
import numpy as np
import onnx
import pytest
from failing_nodes import FAILING, UNCERTAIN
from onnx import TensorProto, numpy_helper
from serving import Replica, ask
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

CASES = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
ALL_CASES = 1678
EXPRESSIBLE = 1485
PASSING, PASSING_IN_JSON = 1405, 1350
# As the backend tests of ONNX judge.
RELATIVE, ABSOLUTE = 1e-3, 1e-7
PATIENCE_SECONDS = 60
DATATYPES = {
    TensorProto.BOOL: "BOOL", TensorProto.UINT8: "UINT8", TensorProto.UINT16: "UINT16", TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64", TensorProto.INT8: "INT8", TensorProto.INT16: "INT16", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.FLOAT16: "FP16", TensorProto.FLOAT: "FP32", TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES", TensorProto.BFLOAT16: "BF16",
}


class Inexpressible(Exception):
    """What the protocol has no tensors for."""


def tensors(values):
    """Name and datatype of each input or output of a model."""
    for value in values:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise Inexpressible(kind.removesuffix("_type"))
        element = value.type.tensor_type.elem_type
        if element not in DATATYPES:
            raise Inexpressible(TensorProto.DataType.Name(element))
        yield value.name, DATATYPES[element]


def read(name, kind, values):
    """The tensors of the case, in the order of the model."""
    def one(index, named):
        proto = TensorProto()
        proto.ParseFromString((CASES / name / "test_data_set_0" / f"{kind}_{index}.pb").read_bytes())
        return *named, numpy_helper.to_array(proto)

    return [one(index, named) for index, named in enumerate(tensors(values))]


def load(name):
    model = onnx.load(CASES / name / "model.onnx", load_external_data=False)
    return read(name, "input", model.graph.input), read(name, "output", model.graph.output)


@functools.cache
def expressible():
    names, others = [], {}
    for path in sorted(CASES.iterdir()):
        model = onnx.load(path / "model.onnx", load_external_data=False)
        try:
            list(tensors([*model.graph.input, *model.graph.output]))
            names.append(path.name)
        except Inexpressible as kind:
            others[path.name] = str(kind)
    return names, others


def to_raw(datatype, values):
    if datatype == "BYTES":
        return serialize_byte_tensor(np.array(values, dtype=object)).item() if values.size else b""
    return np.ascontiguousarray(values).tobytes()


def from_raw(datatype, shape, raw, like):
    if datatype == "BYTES":
        return np.array([text.decode() for text in deserialize_bytes_tensor(raw)], dtype=object).reshape(shape)
    return np.frombuffer(raw, dtype=like.dtype).reshape(shape)


def compare(expected, found):
    """What is wrong, if anything, by output."""
    for (name, datatype, values), (got_name, got_datatype, got) in zip(expected, found, strict=True):
        if (name, datatype, list(values.shape)) != (got_name, got_datatype, list(got.shape)):
            return f"{got_name} {got_datatype} {got.shape} instead of {name} {datatype} {values.shape}"
        if datatype == "BYTES":
            if [str(value) for value in values.ravel()] != list(got.ravel()):
                return f"{name}: other strings"
        elif not np.allclose(
            got.astype(np.float64), values.astype(np.float64), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True
        ):
            return f"{name}: other values"
    return None


def by_binary(replica, inputs, outputs):
    parts = [to_raw(datatype, values) for _, datatype, values in inputs]
    request = {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": list(values.shape), "parameters": {"binary_data_size": len(part)}}
            for (name, datatype, values), part in zip(inputs, parts)
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    reply = ask(replica.address, "POST", f"/v2/models/{replica.model}/infer", text + b"".join(parts), headers)
    if reply.status != 200:
        return reply.json()["error"]
    length = int(reply.headers["inference-header-content-length"])
    rest, found = reply.body[length:], []
    for output, (_, _, like) in zip(json.loads(reply.body[:length])["outputs"], outputs, strict=True):
        size = output["parameters"]["binary_data_size"]
        values = from_raw(output["datatype"], output["shape"], rest[:size], like)
        found.append((output["name"], output["datatype"], values))
        rest = rest[size:]
    return compare(outputs, found)


def by_call(replica, inputs, outputs):
    request = messages.ModelInferRequest(model_name=replica.model)
    for name, datatype, values in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(to_raw(datatype, values))
    with grpc.insecure_channel(replica.address) as channel:
        try:
            answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=PATIENCE_SECONDS)
        except grpc.RpcError as refused:
            return refused.details()
    raw = zip(answer.outputs, answer.raw_output_contents, outputs, strict=True)
    found = [
        (output.name, output.datatype, from_raw(output.datatype, list(output.shape), contents, like))
        for output, contents, (_, _, like) in raw
    ]
    return compare(outputs, found)


def by_json(replica, inputs, outputs):
    request = {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": list(values.shape), "data": values.ravel().tolist()}
            for name, datatype, values in inputs
        ]
    }
    reply = ask(replica.address, "POST", f"/v2/models/{replica.model}/infer", json.dumps(request))
    if reply.status != 200:
        return reply.json()["error"]
    found = [
        (each["name"], each["datatype"], np.array(each["data"], dtype=like.dtype).reshape(each["shape"]))
        for each, (_, _, like) in zip(reply.json()["outputs"], outputs, strict=True)
    ]
    return compare(outputs, found)


def json_carries(tensors):
    def carries(datatype, values):
        if datatype in ("FP16", "BF16"):
            return False
        return datatype == "BYTES" or bool(np.isfinite(values.astype(np.float64)).all())

    return all(carries(datatype, values) for _, datatype, values in tensors)


WAYS = {"binary": by_binary, "gRPC": by_call, "JSON": by_json}


def try_case(name):
    """What is wrong by each way; nothing where all is as it should be."""
    inputs, outputs = load(name)
    replica = Replica("case", CASES / name, "model.onnx")
    try:
        if not replica.ready():
            return {way: replica.said.strip().splitlines()[-1] for way in WAYS}
        ways = WAYS if json_carries(inputs) and json_carries(outputs) else {way: WAYS[way] for way in ("binary", "gRPC")}
        return {way: ask_by(replica, inputs, outputs) for way, ask_by in ways.items()}
    finally:
        replica.stop()


@pytest.fixture(scope="module")
def results():
    """By case, all tried side by side."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() + 1) as pool:
        names, _ = expressible()
        return dict(zip(names, pool.map(try_case, names)))


@pytest.mark.parametrize("name", expressible()[0])
def test_case(results, name):
    wrong = {way: why for way, why in results[name].items() if why}
    if name in FAILING:
        assert wrong, "it passes by now: take it from the list"
    elif name not in UNCERTAIN:
        assert wrong == {}


def test_none_is_missing(results):
    names, others = expressible()
    assert (len(names) + len(others), len(names)) == (ALL_CASES, EXPRESSIBLE)
    assert {*FAILING, *UNCERTAIN} <= set(names)
    assert len(results) == EXPRESSIBLE
    passed = {way: sum(way in ways and not ways[way] for ways in results.values()) for way in WAYS}
    assert min(passed["binary"], passed["gRPC"]) >= PASSING, passed
    assert passed["JSON"] >= PASSING_IN_JSON, passed
