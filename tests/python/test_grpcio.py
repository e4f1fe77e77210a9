"""`grpcio` against gateways: calls of the protocol, and conversations with a gRPC server of somebody's own."""

import json
import pathlib
import threading
import time

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

BUNDLE = pathlib.Path(__file__).resolve().parent / "conversation"
PATIENCE_SECONDS = 60
MESSAGE_BYTES = 8 << 20
MODEL = (("x-tradewind-model", "conversation"),)


@pytest.fixture(scope="module")
def deployed(world):
    world.cli("deploy", "--regions", "europe-west1", str(BUNDLE))
    yield world
    world.cli("undeploy", "conversation", "--yes")


# The second gateway has no replica of its own: it passes conversations on to the other region.
@pytest.fixture(params=["europe-west1", "us-east1"])
def channel(deployed, request):
    limits = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    with grpc.insecure_channel(deployed.gateway(request.param), limits) as channel:
        yield channel


def method(channel, kind, name):
    return getattr(channel, kind)(f"/talk.Conversation/{name}", _registered_method=False)


def failure(call):
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value


def test_calls_of_the_protocol(world):
    with grpc.insecure_channel(world.gateway("us-east1")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        server = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=PATIENCE_SECONDS)
        assert server.name == "tradewind" and server.version
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=PATIENCE_SECONDS).ready
        request = service_pb2.ModelInferRequest(model_name="digits")
        tensor = request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
        tensor.contents.fp32_contents.extend([0.0] * 64)
        answer, call = stub.ModelInfer.with_call(request, timeout=PATIENCE_SECONDS)
        assert [output.name for output in answer.outputs] == ["label", "probabilities"]
        assert dict(call.initial_metadata())["x-tradewind-region"] == "us-east1"
        unknown = failure(lambda: stub.ModelInfer(service_pb2.ModelInferRequest(model_name="nobody"), timeout=9))
        assert unknown.code() == grpc.StatusCode.NOT_FOUND and "nobody" in unknown.details()


def test_metadata_crosses_both_ways(channel):
    sent = MODEL + (("x-mine", "1"), ("x-tradewind-peer", "forged"), ("x-raw-bin", b"\0\xff"))
    seen, call = method(channel, "unary_unary", "Metadata").with_call(b"", metadata=sent, timeout=PATIENCE_SECONDS)
    assert b"forged" not in seen
    assert json.dumps("x-mine").encode() in seen
    answer, call = method(channel, "unary_unary", "Echo").with_call(b"abc", metadata=MODEL, timeout=PATIENCE_SECONDS)
    assert answer == b"abc" and dict(call.trailing_metadata())["x-seen"] == "3"
    assert dict(call.initial_metadata())["x-tradewind-region"] == "europe-west1"


def test_large_messages_come_back_whole(channel):
    message = bytes(range(256)) * (MESSAGE_BYTES // 256)
    assert method(channel, "unary_unary", "Echo")(message, metadata=MODEL, timeout=PATIENCE_SECONDS) == message


def test_failures_keep_their_code_their_words_and_their_trailers(channel):
    failed = failure(lambda: method(channel, "unary_unary", "Fail")(b"", metadata=MODEL, timeout=PATIENCE_SECONDS))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "it was told to")
    assert dict(failed.trailing_metadata())["x-why"] == "because"
    unknown = failure(lambda: method(channel, "unary_unary", "Nothing")(b"", metadata=MODEL, timeout=PATIENCE_SECONDS))
    assert unknown.code() == grpc.StatusCode.UNIMPLEMENTED


def given_up(channel):
    return int(method(channel, "unary_unary", "GivenUp")(b"", metadata=MODEL, timeout=PATIENCE_SECONDS))


def more_given_up(channel, before):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while given_up(channel) <= before:
        assert time.monotonic() < deadline, "the server never heard of it"
        time.sleep(0.02)


def test_a_deadline_ends_the_call_at_the_server_too(channel):
    before = given_up(channel)
    began = time.monotonic()
    late = failure(lambda: method(channel, "unary_unary", "Wait")(b"50", metadata=MODEL, timeout=0.3))
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 10
    more_given_up(channel, before)


def test_a_cancelled_call_is_cancelled_at_the_server_too(channel):
    before = given_up(channel)
    future = method(channel, "unary_unary", "Wait").future(b"50", metadata=MODEL, timeout=PATIENCE_SECONDS)
    # Cancelled before it was sent it would never reach the server.
    assert method(channel, "unary_unary", "Echo")(b"a", metadata=MODEL, timeout=PATIENCE_SECONDS) == b"a"
    future.cancel()
    assert future.cancelled() and future.code() == grpc.StatusCode.CANCELLED
    more_given_up(channel, before)


def test_a_server_stream_comes_message_by_message(channel):
    began = time.monotonic()
    times = []
    for number, message in enumerate(method(channel, "unary_stream", "Count")(b"[10, 0.1]", metadata=MODEL, timeout=60)):
        assert message == str(number).encode()
        times.append(time.monotonic() - began)
    assert len(times) == 10
    assert times[-1] - times[0] > 0.7, f"they came together: {times}"


def test_a_cancelled_stream_ends(channel):
    stream = method(channel, "unary_stream", "Count")(b"[100000, 0.01]", metadata=MODEL, timeout=PATIENCE_SECONDS)
    assert next(stream) == b"0"
    stream.cancel()
    assert failure(lambda: list(stream)).code() == grpc.StatusCode.CANCELLED


def test_a_client_stream_arrives_whole(channel):
    words = [str(number).encode() for number in range(2000)]
    answer = method(channel, "stream_unary", "Gather")(iter(words), metadata=MODEL, timeout=PATIENCE_SECONDS)
    assert answer == b" ".join(words)


def test_a_conversation_goes_back_and_forth(channel):
    said = threading.Semaphore(1)

    def questions():
        for number in range(20):
            # Not before the answer to the one before.
            assert said.acquire(timeout=PATIENCE_SECONDS)
            yield f"question {number}".encode()

    answers = []
    for answer in method(channel, "stream_stream", "Converse")(questions(), metadata=MODEL, timeout=PATIENCE_SECONDS):
        answers.append(answer)
        said.release()
    assert answers == [f"QUESTION {number}".encode() for number in range(20)]


def test_calls_side_by_side_on_one_channel(channel):
    echo = method(channel, "unary_unary", "Echo")
    messages = [str(number).encode() * 100 for number in range(500)]
    futures = [echo.future(message, metadata=MODEL, timeout=PATIENCE_SECONDS) for message in messages]
    assert [future.result() for future in futures] == messages
