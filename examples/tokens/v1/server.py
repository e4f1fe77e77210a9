"""A token server: continues a prompt word by word, over server-sent events, with Python's standard library alone."""

import argparse
import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = """the wind carries the ship over the sea and the sea carries the wind to the shore where the trade begins
again when the ship returns with the wind toward a new harbour""".split()
# The word that follows each word, as the text has it last: all that this model has learned.
FOLLOWS = dict(zip(TEXT, TEXT[1:] + TEXT[:1]))
TOKENS_LIMIT = 10_000
BODY_LIMIT = 1 << 20
DELAY_LIMIT_MS = 60_000


def tokens(prompt, count):
    words = prompt.lower().split()
    word = words[-1] if words else "the"
    for _ in range(count):
        word = FOLLOWS.get(word, "the")
        yield word


class BadRequest(Exception):
    pass


def bounded(request, key, default, limit):
    value = request.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise BadRequest(f"{key} is a number from 0 to {limit}")
    return value


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A connection that is kept without a request is closed after so many seconds.
    timeout = 5
    # Each token leaves at once.
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"status": "ready"})
        else:
            self.answer(404, {"error": f"no such path: {self.path}"})

    def do_POST(self):
        if self.path != "/v1/completions":
            return self.answer(404, {"error": f"no such path: {self.path}"})
        try:
            length = int(self.headers.get("content-length", 0))
            if length > BODY_LIMIT:
                raise BadRequest(f"the body is longer than {BODY_LIMIT} bytes")
            request = json.loads(self.rfile.read(length))
            if not isinstance(request, dict) or not isinstance(request.get("prompt"), str):
                raise BadRequest("a prompt is wanted")
            count = bounded(request, "max_tokens", 16, TOKENS_LIMIT)
            delay = bounded(request, "delay_ms", 0, DELAY_LIMIT_MS) / 1000
        except (BadRequest, ValueError) as error:
            self.close_connection = True
            return self.answer(400, {"error": str(error)})
        if request.get("stream"):
            self.stream(tokens(request["prompt"], count), delay)
        else:
            self.answer(200, {"text": " ".join(tokens(request["prompt"], count)), "usage": {"tokens": count}})

    def stream(self, words, delay):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-store")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, word in enumerate(words):
            if number and delay:
                time.sleep(delay)
            self.event(json.dumps({"token": word}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        event = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        self.wfile.flush()

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        if self.path != "/health":
            super().log_message(format, *arguments)


class Server(ThreadingHTTPServer):
    # A stream that is under way when the server is told to end is finished.
    daemon_threads = False
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = Server((options.host, options.port), Handler)
    # Not here: `shutdown` waits for the loop that this very thread runs.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving on {options.host}:{options.port}")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("all streams have ended")


if __name__ == "__main__":
    main()
