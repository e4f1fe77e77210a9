"""One model behind the protocol, for tests that ask a replica itself."""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

from conftest import PROGRAM, READY_LIMIT_SECONDS, ROOT

MODELS = ROOT / "crates" / "tradewind-replica" / "tests" / "models"


class Replica:
    """Serves version 1 of a model on a port of its own."""

    def __init__(self, model, directory=MODELS, file=None):
        self.model = model
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
            arguments = ["--id", "test", "--model", model, "--version", "1", "--bundle", str(directory)]
            command = [PROGRAM, "replica", *arguments, "--model-file", file or f"{model}.onnx", "--inherit-listener"]
            # The socket becomes descriptor 3, and the shell the replica, so that its own number is known before.
            handed = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"'
            self.process = subprocess.Popen(
                ["bash", "-c", handed, *command],
                pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, env={**os.environ, "RUST_LOG": "error"},
            )

    def ready(self):
        """Waits until it serves; False when it ended instead, with the reason in `said`."""
        deadline = time.monotonic() + READY_LIMIT_SECONDS
        while time.monotonic() < deadline:
            try:
                if ask(self.address, "GET", "/v2/health/ready").status == 200:
                    return True
            except OSError:
                pass
            if self.process.poll() is not None:
                self.said = self.process.stderr.read().decode()
                return False
            time.sleep(0.005)
        raise RuntimeError(f"{self.model} was not ready in time")

    def __enter__(self):
        assert self.ready(), self.said
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def ask(address, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(address, timeout=READY_LIMIT_SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
