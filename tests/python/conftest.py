"""A world of two regions with two versions' worth of digits, for tests of real Python clients."""

import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("TRADEWIND_BIN", str(ROOT / "target" / "debug" / "tradewind"))
READY_LIMIT_SECONDS = 60
# Ten times what most of it takes on a busy machine.
LIMIT_SECONDS = 100


def until(condition, limit=LIMIT_SECONDS):
    """Waits until the condition gives something, and gives it."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, condition.__doc__
        time.sleep(0.1)
    return found


def free_port_base(regions):
    """A base whose ports were free a moment ago: control, gateways from +10, agents from +110."""
    for attempt in range(50):
        base = 20_000 + (os.getpid() * 7 + attempt * 311) % 10_000
        ports = [base] + [base + first + n for first in (10, 110) for n in range(regions)]
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
    raise RuntimeError("no free range of ports was found")


class World:
    def __init__(self, program, directory, *options, regions=("us-east1", "europe-west1")):
        self.program, self.directory = program, directory
        self.base = free_port_base(len(regions))
        self.log = open(directory / "up.log", "w+")
        arguments = ["up", "--regions", ",".join(regions), "--port-base", str(self.base), *options]
        self.up = subprocess.Popen(
            [program, *arguments, "--data-dir", str(directory / "world")],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            # Servers of Python find the packages of these tests.
            env={
                **os.environ,
                "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
                "XDG_STATE_HOME": str(directory / "state"),
            },
        )
        deadline = time.monotonic() + READY_LIMIT_SECONDS
        while not (directory / "world" / "world.json").exists():
            if self.up.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError(f"the world did not start:\n{self.log.read()}")
            time.sleep(0.05)
        self.world = json.loads((directory / "world" / "world.json").read_text())

    def cli(self, *arguments, **variables):
        environment = {
            **os.environ,
            "TRADEWIND_URL": self.world["control_url"],
            "TRADEWIND_TOKEN": pathlib.Path(self.world["token_file"]).read_text(),
            **variables,
        }
        done = subprocess.run(
            [self.program, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def processes(self):
        """Those that run, as the world lists them now."""
        return json.loads((self.directory / "world" / "world.json").read_text())["processes"]

    def gateway(self, region):
        """host:port"""
        return next(p["address"] for p in self.world["processes"] if p["role"] == "gateway" and p["region"] == region)

    def start(self, role, region, address):
        """A process in the place of one that has died."""
        home = self.directory / "world" / f"{role}s" / region
        return subprocess.Popen(
            [
                self.program, role, "--region", region, "--control", self.world["control_url"],
                "--token-file", home / "token", "--data-dir", home, "--listen", address,
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )

    def stop(self):
        self.up.send_signal(signal.SIGINT)
        self.up.wait(timeout=30)
        self.log.close()


class Hook:
    """A webhook that keeps what it is sent."""

    def __init__(self):
        self.taken = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                hook.taken.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    world = World(PROGRAM, tmp_path_factory.mktemp("tradewind"))
    try:
        world.cli("deploy", "--regions", "us-east1,europe-west1", str(ROOT / "examples" / "digits" / "v2"))
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="session")
def cases():
    """The golden cases of digits: a request and the outputs it must give."""
    files = sorted((ROOT / "examples" / "digits" / "v2" / "cases").glob("*.json"))
    assert len(files) == 20
    return [json.loads(file.read_text()) for file in files]
