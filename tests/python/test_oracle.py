"""A replica answers as a real Triton does, request by request; where it does not, the case stands in a table here, and
its reason in the table of docs/serving.md."""

import gzip
import json
import struct
import zlib

import grpc
import numpy as np
import pytest
from conftest import ROOT
from oracle import DATATYPES, Triton
from serving import Replica, ask
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

PATIENCE_SECONDS = 60
VALUES = {
    "BOOL": [True, False], "UINT8": [0, 255], "UINT16": [0, 65535], "UINT32": [0, 2**32 - 1], "UINT64": [0, 2**53],
    "INT8": [-128, 127], "INT16": [-32768, 32767], "INT32": [-(2**31), 2**31 - 1], "INT64": [-(2**53), 2**53],
    "FP16": [0.5, -2.0], "FP32": [0.5, -1e30], "FP64": [0.1, -1e300], "BYTES": ["", "two words, é"],
}
FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}
FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}


def raw(datatype, values):
    if datatype == "BYTES":
        encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)


def given(name, datatype, shape, **more):
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def infer(model, body, headers=None):
    body = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return ("POST", f"/v2/models/{model}/infer", body, headers or {})


def binary(model, request, tail, length=None, **headers):
    text = json.dumps(request).encode()
    length = len(text) if length is None else length
    return infer(model, text + tail, {"Inference-Header-Content-Length": str(length), **headers})


def identity(datatype, data, shape=None):
    shape = [len(data)] if shape is None else shape
    return infer(f"identity_{datatype.lower()}", {"inputs": [given("x", datatype, shape, data=data)]})


def x_raw(datatype, tail, shape, size=None, **request):
    parameters = {"binary_data_size": len(tail) if size is None else size}
    return binary(
        f"identity_{datatype.lower()}", {"inputs": [given("x", datatype, shape, parameters=parameters)], **request}, tail
    )


ROW = [1.0, 2.0, 3.0]
A, B = given("a", "FP32", [1, 3], data=ROW), given("b", "FP32", [1, 3], data=ROW)
ADD = {"inputs": [A, B]}
FOUR_NULLS = b"\0" * 4


def add(**changes):
    return infer("add", {**ADD, **changes})


def a_as(**changes):
    return add(inputs=[{**A, **changes}, B])


GET, POST = "GET", "POST"
REST = {
    **{f"json {datatype}": identity(datatype, VALUES[datatype]) for datatype in DATATYPES},
    **{
        f"binary {datatype}": x_raw(datatype, raw(datatype, VALUES[datatype]), [2], parameters={"binary_data_output": True})
        for datatype in DATATYPES
    },
    **{
        f"binary {datatype} to json": x_raw(datatype, raw(datatype, VALUES[datatype]), [2])
        for datatype in DATATYPES if datatype != "FP16"
    },
    "empty tensor": identity("FP32", []),
    "empty tensor, binary": x_raw("FP32", b"", [0]),
    "add": infer("add", ADD),
    "id": add(id="one"),
    "inputs in another order": add(inputs=[B, A]),
    "nested data": a_as(data=[ROW]),
    "nested data of another depth": a_as(data=[[[1.0]], [2.0, 3.0]]),
    "one output": add(outputs=[{"name": "difference"}]),
    "outputs in another order": add(outputs=[{"name": "difference"}, {"name": "sum"}]),
    "outputs of both kinds": add(outputs=[{"name": "sum", "parameters": {"binary_data": True}}, {"name": "difference"}]),
    "no outputs": add(outputs=[]),
    "unknown parameter": add(parameters={"anything": 1}),
    "unknown field": add(anything=1),
    "version": ("POST", "/v2/models/add/versions/1/infer", json.dumps(ADD), {}),
    "gzip": infer("add", gzip.compress(json.dumps(ADD).encode()), {"Content-Encoding": "gzip"}),
    "deflate": infer("add", zlib.compress(json.dumps(ADD).encode()), {"Content-Encoding": "deflate"}),
    "one raw input": infer("identity_fp32", raw("FP32", [1, 2, 3]), {"Inference-Header-Content-Length": "0"}),
    "one raw string": infer("identity_bytes", b"plain", {"Inference-Header-Content-Length": "0"}),
    "integers for floats": a_as(data=[1, 2, 3]),
    "input missing": add(inputs=[A]),
    "input unknown": add(inputs=[A, B, {**A, "name": "c"}]),
    "input twice": add(inputs=[A, A]),
    "inputs missing": infer("add", {}),
    "no inputs": add(inputs=[]),
    "name missing": add(inputs=[{key: A[key] for key in ("datatype", "shape", "data")}, B]),
    "datatype missing": add(inputs=[{key: A[key] for key in ("name", "shape", "data")}, B]),
    "shape missing": add(inputs=[{key: A[key] for key in ("name", "datatype", "data")}, B]),
    "data missing": add(inputs=[{key: A[key] for key in ("name", "datatype", "shape")}, B]),
    "another datatype": a_as(datatype="INT32", data=[1, 2, 3]),
    "datatype of nobody": a_as(datatype="FP33"),
    "another shape": a_as(shape=[1, 4], data=[1.0, 2.0, 3.0, 4.0]),
    "another rank": a_as(shape=[3]),
    "negative shape": a_as(shape=[-1, 3]),
    "fractional shape": a_as(shape=[1.5, 3]),
    "too few elements": a_as(data=[1.0, 2.0]),
    "too many elements": a_as(data=[1.0, 2.0, 3.0, 4.0]),
    "text for a number": a_as(data=["1", 2.0, 3.0]),
    "null for a number": a_as(data=[None, 2.0, 3.0]),
    "out of range": identity("UINT8", [0, 256]),
    "negative for unsigned": identity("UINT8", [-1, 0]),
    "fraction for an integer": identity("INT32", [1.5]),
    "number for a truth value": identity("BOOL", [1]),
    "number for text": identity("BYTES", [1]),
    "output unknown": add(outputs=[{"name": "product"}]),
    "output twice": add(outputs=[{"name": "sum"}, {"name": "sum"}]),
    "id is a number": add(id=7),
    "malformed JSON": infer("add", '{"inputs": ['),
    "no JSON at all": infer("add", "hello"),
    "empty body": infer("add", ""),
    "NaN in JSON": infer("add", json.dumps(ADD).replace("2.0", "NaN")),
    "infinity in an answer": x_raw("FP32", raw("FP32", [float("inf")]), [1]),
    "NaN in an answer": x_raw("FP32", raw("FP32", [float("nan")]), [1]),
    "text that is not UTF-8": x_raw("BYTES", raw("BYTES", [b"\xff"]), [1], parameters={"binary_data_output": True}),
    "text with NUL": x_raw("BYTES", raw("BYTES", [b"a\0b"]), [1], parameters={"binary_data_output": True}),
    "truth value 2": x_raw("BOOL", b"\2\0", [2]),
    "binary too short": x_raw("FP32", FOUR_NULLS, [2]),
    "binary too long": x_raw("FP32", FOUR_NULLS * 3, [2]),
    "binary size of nobody": x_raw("FP32", FOUR_NULLS * 2, [2], size=100),
    "binary behind the last tensor": x_raw("FP32", FOUR_NULLS * 3, [2], size=8),
    "binary text cut off": x_raw("BYTES", b"\x05\0\0\0ab", [1]),
    "header length beyond the body": binary("identity_fp32", {"inputs": []}, b"", length=1000),
    "header length is no number": infer("add", ADD, {"Inference-Header-Content-Length": "x"}),
    "another coding": infer("add", ADD, {"Content-Encoding": "br"}),
    "damaged gzip": infer("add", b"hello", {"Content-Encoding": "gzip"}),
    "classification": add(outputs=[{"name": "sum", "parameters": {"classification": 1}}]),
    "infer unknown model": infer("nobody", ADD),
    "infer unknown version": ("POST", "/v2/models/add/versions/7/infer", json.dumps(ADD), {}),
    "infer by GET": (GET, "/v2/models/add/infer", None, {}),
    "metadata": (GET, "/v2/models/add", None, {}),
    "metadata of a version": (GET, "/v2/models/add/versions/1", None, {}),
    "metadata of text": (GET, "/v2/models/identity_bytes", None, {}),
    "metadata of nobody": (GET, "/v2/models/nobody", None, {}),
    "ready": (GET, "/v2/models/add/ready", None, {}),
    "ready of nobody": (GET, "/v2/models/nobody/ready", None, {}),
    "live": (GET, "/v2/health/live", None, {}),
    "server ready": (GET, "/v2/health/ready", None, {}),
    "server": (GET, "/v2", None, {}),
    "configuration": (GET, "/v2/models/add/config", None, {}),
    "configuration of text": (GET, "/v2/models/identity_bytes/config", None, {}),
    "configuration of nobody": (GET, "/v2/models/nobody/config", None, {}),
    "statistics": (GET, "/v2/models/add/stats", None, {}),
    "statistics of nobody": (GET, "/v2/models/nobody/stats", None, {}),
    "index": (POST, "/v2/repository/index", "", {}),
    "index of what is ready": (POST, "/v2/repository/index", '{"ready": true}', {}),
    "load": (POST, "/v2/repository/models/add/load", "", {}),
    "load nobody": (POST, "/v2/repository/models/nobody/load", "", {}),
    "unload": (POST, "/v2/repository/models/identity_int8/unload", "", {}),
    "load again": (POST, "/v2/repository/models/identity_int8/load", "", {}),
    "no route": (GET, "/v2/nowhere", None, {}),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory):
    triton = Triton(tmp_path_factory.mktemp("triton"))
    yield triton
    triton.stop()


@pytest.fixture(scope="module")
def replicas():
    """By model."""
    models = ["add", *(f"identity_{datatype.lower()}" for datatype in DATATYPES)]
    running = {model: Replica(model) for model in models}
    try:
        for replica in running.values():
            assert replica.ready(), replica.said
        yield running
    finally:
        for replica in running.values():
            replica.stop()


def rest(address, request):
    """The status, and what the answer says, as far as two servers can agree on it."""
    method, path, body, headers = request
    reply = ask(address, method, path, body, headers)
    if reply.status != 200:
        assert "error" in reply.json() if reply.body else True
        return reply.status
    length = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    text, tail = reply.body[:length], reply.body[length:]
    try:
        said = json.loads(text) if text else ""
    except ValueError:
        said = text
    return reply.status, common(path, said), tail


def common(path, said):
    if path.endswith("/stats"):
        return keys(said)
    if path.endswith("/config"):
        fields = ["name", "max_batch_size", "input", "output"]
        return {field: named(said[field]) if isinstance(said[field], list) else said[field] for field in fields}
    if path == "/v2/repository/index":
        return [(each["name"], each["version"], each["state"]) for each in said if each["name"] == "add"]
    if path == "/v2":
        return sorted(said)
    if isinstance(said, dict):
        # One is a model of Python.
        said.pop("platform", None)
    return said


def named(tensors):
    return [{key: each[key] for key in ("name", "data_type", "dims")} for each in tensors]


def keys(value):
    """The form of a value without its numbers."""
    if isinstance(value, dict):
        return {key: keys(each) for key, each in value.items()}
    return [keys(each) for each in value[:1]] if isinstance(value, list) else type(value).__name__


def model_of(name):
    return name if name.startswith("identity_") else "add"


def status_of(answer):
    return answer if isinstance(answer, (int, str)) else answer[0]


# By case: the status of Triton, that of a replica, and the row of docs/serving.md that says why.
ROWS = {
    "FP16 and BF16 in JSON": (400, 200, ["json FP16"]),
    "FP32 in JSON": (200, 200, ["json FP32", "binary FP32 to json"]),
    "a value of another kind than its datatype, or out of its range": (
        500, 400,
        [
            "text for a number", "null for a number", "negative for unsigned", "fraction for an integer",
            "number for a truth value", "number for text",
        ],
    ),
    "an integer beyond its datatype": (200, 400, ["out of range"]),
    "malformed JSON, or without what it must have": (
        500, 400,
        [
            "malformed JSON", "no JSON at all", "inputs missing", "name missing", "datatype missing", "shape missing",
            "negative shape", "fractional shape", "id is a number",
        ],
    ),
    "more or fewer elements in JSON than the shape has": (500, 400, ["too few elements", "too many elements"]),
    "data nested otherwise than its shape": (200, 400, ["nested data of another depth"]),
    "NaN and infinity in JSON": (200, 400, ["NaN in JSON"]),
    "NaN and infinity in an answer in JSON": (200, 500, ["infinity in an answer", "NaN in an answer"]),
    "BYTES that are not UTF-8, or hold NUL": (200, 400, ["text that is not UTF-8", "text with NUL"]),
    "BOOL as a byte other than 0 and 1": (200, 400, ["truth value 2"]),
    "one raw input of BYTES": (400, 200, ["one raw string"]),
    "order of the outputs": (200, 200, ["outputs in another order"]),
    "an output asked for twice": (200, 400, ["output twice"]),
    "classification": (200, 400, ["classification"]),
    "a content coding that is not had": (501, 415, ["another coding"]),
    "body of health routes": (200, 200, ["live", "server ready", "ready"]),
    "`ready` and `stats` of an unknown model": (400, 404, ["ready of nobody", "statistics of nobody"]),
    "members of `stats`": (200, 200, ["statistics"]),
    "`load` of an unknown model": (500, 404, ["load nobody"]),
    "`unload`": (200, 403, ["unload"]),
}
DIFFERENCES = {case: (theirs, ours) for theirs, ours, cases in ROWS.values() for case in cases}


@pytest.mark.parametrize("name", REST)
def test_rest_is_answered_alike(triton, replicas, name):
    request = REST[name]
    model = model_of(request[1].removeprefix("/v2/models/").removeprefix("/v2/repository/models/").split("/")[0])
    theirs, ours = rest(triton.address, request), rest(replicas[model].address, request)
    judge(name, theirs, ours, DIFFERENCES)


def judge(name, theirs, ours, differences):
    if theirs == ours:
        assert name not in differences, f"it is answered alike by now: {theirs}"
        return
    assert name in differences, f"triton: {theirs}\nhere: {ours}"
    assert (status_of(theirs), status_of(ours)) == differences[name], f"triton: {theirs}\nhere: {ours}"


def test_every_difference_is_documented():
    lines = (ROOT / "docs" / "serving.md").read_text().splitlines()
    rows = {line.split("|")[1].strip() for line in lines if line.startswith("|")}
    assert [row for row in [*ROWS, *CALL_ROWS] if row not in rows] == []


def call_inputs(datatype, shape, **contents):
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    if contents:
        tensor.contents.CopyFrom(messages.InferTensorContents(**contents))
    return tensor


def call(model, inputs, tensors=(), outputs=(), **more):
    wanted = [messages.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs]
    return messages.ModelInferRequest(model_name=model, inputs=inputs, outputs=wanted, raw_input_contents=tensors, **more)


def x_called(datatype, shape, tail):
    return call(f"identity_{datatype.lower()}", [call_inputs(datatype, shape)], [tail])


def typed(datatype):
    values = [value.encode() if isinstance(value, str) else value for value in VALUES[datatype]]
    return call(f"identity_{datatype.lower()}", [call_inputs(datatype, [2], **{FIELDS[datatype]: values})])


TWO = raw("FP32", [1.0, 2.0])


def classified():
    request = call("identity_fp32", [call_inputs("FP32", [2])], [TWO], ["y"])
    request.outputs[0].parameters["classification"].int64_param = 1
    return request


CALLS = {
    **{f"typed {datatype}": typed(datatype) for datatype in FIELDS},
    **{f"raw {datatype}": x_called(datatype, [2], raw(datatype, VALUES[datatype])) for datatype in DATATYPES},
    "id": call("identity_fp32", [call_inputs("FP32", [2])], [TWO], id="one"),
    "version": call("identity_fp32", [call_inputs("FP32", [2])], [TWO], model_version="1"),
    "output named": call("identity_fp32", [call_inputs("FP32", [2])], [TWO], ["y"]),
    "empty tensor, raw": x_called("FP32", [0], b""),
    "NaN and infinity, raw": x_called("FP32", [2], raw("FP32", [float("inf"), float("-inf")])),
    "unknown model": call("nobody", [call_inputs("FP32", [2])], [TWO]),
    "unknown version": call("identity_fp32", [call_inputs("FP32", [2])], [TWO], model_version="7"),
    "no inputs": call("identity_fp32", []),
    "input unknown": call("identity_fp32", [messages.ModelInferRequest.InferInputTensor(name="z", datatype="FP32", shape=[2])], [TWO]),
    "another datatype": call("identity_fp32", [call_inputs("INT32", [2])], [TWO]),
    "datatype of nobody": call("identity_fp32", [call_inputs("FP33", [2])], [TWO]),
    "another rank": x_called("FP32", [1, 2], TWO),
    "negative shape": x_called("FP32", [-2], TWO),
    "raw too short": x_called("FP32", [2], TWO[:4]),
    "raw too long": x_called("FP32", [2], TWO + TWO),
    "raw for more than the inputs": call("identity_fp32", [call_inputs("FP32", [2])], [TWO, TWO]),
    "raw and typed": call("identity_fp32", [call_inputs("FP32", [2], fp32_contents=[1.0, 2.0])], [TWO]),
    "typed too short": call("identity_fp32", [call_inputs("FP32", [2], fp32_contents=[1.0])]),
    "typed in another field": call("identity_fp32", [call_inputs("FP32", [2], int_contents=[1, 2])]),
    "typed out of range": call("identity_int8", [call_inputs("INT8", [2], int_contents=[300, 0])]),
    "text that is not UTF-8, raw": x_called("BYTES", [1], raw("BYTES", [b"\xff"])),
    "classification, called": classified(),
    "output unknown, called": call("identity_fp32", [call_inputs("FP32", [2])], [TWO], ["product"]),
}
CALL_ROWS = {
    "raw contents for more than the inputs": ("OK", "INVALID_ARGUMENT", ["raw for more than the inputs"]),
    "an integer beyond its datatype": ("OK", "INVALID_ARGUMENT", ["typed out of range"]),
    "classification": ("OK", "INVALID_ARGUMENT", ["classification, called"]),
    "BYTES that are not UTF-8, or hold NUL": ("OK", "INVALID_ARGUMENT", ["text that is not UTF-8, raw"]),
}
CALL_DIFFERENCES = {case: (theirs, ours) for theirs, ours, cases in CALL_ROWS.values() for case in cases}


def plain(message):
    """What a response says, as far as two servers can agree on it."""
    outputs = [(each.name, each.datatype, list(each.shape)) for each in message.outputs]
    return message.model_name, message.model_version, message.id, outputs, list(message.raw_output_contents)


def called(address, method, request, read):
    with grpc.insecure_channel(address) as channel:
        try:
            return "OK", read(getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request, timeout=PATIENCE_SECONDS))
        except grpc.RpcError as refused:
            return refused.code().name


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_answered_alike(triton, replicas, name):
    request = CALLS[name]
    replica = replicas[model_of(request.model_name)]
    theirs, ours = (called(address, "ModelInfer", request, plain) for address in (triton.grpc_address, replica.address))
    judge(name, theirs, ours, CALL_DIFFERENCES)


def test_streams_are_answered_alike(triton, replicas):
    def conversation(address):
        requests = [CALLS["id"], CALLS["another datatype"], CALLS["raw FP32"], CALLS["unknown version"], CALLS["typed FP32"]]
        requests = [call_of(request, str(number)) for number, request in enumerate(requests)]
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answers = [
                (bool(answer.error_message), plain(answer.infer_response), final(answer.infer_response))
                for answer in stub.ModelStreamInfer(iter(requests), timeout=PATIENCE_SECONDS)
            ]
        # Triton answers as it is done.
        return sorted(answers, key=str)

    theirs, ours = conversation(triton.grpc_address), conversation(replicas["identity_fp32"].address)
    assert theirs == ours


def call_of(request, id):
    copy = messages.ModelInferRequest()
    copy.CopyFrom(request)
    copy.id = id
    return copy


def final(response):
    return {name: value.bool_param for name, value in response.parameters.items()}


def test_what_is_told_by_calls_is_alike(triton, replicas):
    for method, request, read in [
        ("ModelConfig", messages.ModelConfigRequest(name="add"), lambda answer: shapes(answer.config)),
        ("ModelStatistics", messages.ModelStatisticsRequest(name="add"), lambda answer: [each.name for each in answer.model_stats]),
        ("ModelMetadata", messages.ModelMetadataRequest(name="add"), lambda answer: (list(answer.versions), str(answer.inputs), str(answer.outputs))),
        ("ModelReady", messages.ModelReadyRequest(name="add"), lambda answer: answer.ready),
        ("ServerReady", messages.ServerReadyRequest(), lambda answer: answer.ready),
        ("ModelConfig", messages.ModelConfigRequest(name="nobody"), None),
        ("ModelMetadata", messages.ModelMetadataRequest(name="nobody"), None),
    ]:
        theirs, ours = (called(address, method, request, read) for address in (triton.grpc_address, replicas["add"].address))
        assert theirs == ours, method


def shapes(config):
    tensors = [(each.name, each.data_type, list(each.dims)) for each in [*config.input, *config.output]]
    return config.name, config.max_batch_size, tensors
