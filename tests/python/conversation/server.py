"""A gRPC server with a method of every kind. Messages are plain bytes, so that it needs no generated code."""

import argparse
import concurrent.futures
import json
import signal
import threading
import time

import grpc

MESSAGE_LIMIT = 64 << 20
cancelled = 0
counting = threading.Lock()


def echo(request, context):
    context.set_trailing_metadata((("x-seen", str(len(request))),))
    return request


def metadata(request, context):
    return json.dumps({name: str(value) for name, value in context.invocation_metadata()}).encode()


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it was told to")


def wait(request, context):
    """Waits for so many seconds, or until the client gives up, which is counted."""
    gone = threading.Event()

    def ended():
        global cancelled
        if not context.code() and not done:
            with counting:
                cancelled += 1
        gone.set()

    done = False
    context.add_callback(ended)
    gone.wait(float(request))
    done = True
    return b"waited"


def given_up(request, context):
    return str(cancelled).encode()


def count(request, context):
    number, pause = json.loads(request)
    for each in range(number):
        yield str(each).encode()
        time.sleep(pause)


def gather(requests, context):
    return b" ".join(requests)


def converse(requests, context):
    for request in requests:
        yield request.upper()


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "GivenUp": grpc.unary_unary_rpc_method_handler(given_up),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Gather": grpc.stream_unary_rpc_method_handler(gather),
    "Converse": grpc.stream_stream_rpc_method_handler(converse),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(32),
        options=[("grpc.max_receive_message_length", MESSAGE_LIMIT), ("grpc.max_send_message_length", MESSAGE_LIMIT)],
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("talk.Conversation", METHODS),))
    server.add_insecure_port(f"{options.host}:{options.port}")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=30))
    server.wait_for_termination()


main()
