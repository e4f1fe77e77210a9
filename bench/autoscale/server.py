"""A model server that does two inferences at once, each in a tenth of a second, and lets all others wait."""

import argparse
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AT_ONCE = threading.Semaphore(2)
TAKES_SECONDS = 0.1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 1
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer(b"ready" if self.path == "/health" else b"right")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        with AT_ONCE:
            time.sleep(TAKES_SECONDS)
        self.answer(b"right")

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


options = argparse.ArgumentParser()
options.add_argument("--host")
options.add_argument("--port", type=int)
options = options.parse_args()
Server((options.host, options.port), Handler).serve_forever(poll_interval=0.1)
