"""A server that answers rightly until a file says what ails it: `slow`, `busy`, `fail`, `wrong`, `dead`."""

import argparse
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--ailment")
arguments = parser.parse_args()

DELAY_SECONDS = {"busy": 0.3, "slow": 0.4}


def ailment():
    with open(arguments.ailment) as file:
        return file.read()


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            return self.answer(200, "ok")
        what = ailment()
        time.sleep(DELAY_SECONDS.get(what, 0))
        if what == "fail":
            return self.answer(500, "broken")
        self.answer(200, "wrong" if what == "wrong" else "right")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if ailment() == "dead":
    sys.exit("it cannot start")
Server((arguments.host, arguments.port), Handler).serve_forever()
