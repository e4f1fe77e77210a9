"""A server that answers rightly until a file says what is wrong with it: `slow`, `fail`, `wrong`."""

import argparse
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--fault")
arguments = parser.parse_args()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            return self.answer(200, "ok")
        with open(arguments.fault) as file:
            fault = file.read()
        if fault == "slow":
            time.sleep(0.4)
        if fault == "fail":
            return self.answer(500, "broken")
        self.answer(200, "wrong" if fault == "wrong" else "right")

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


ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()
