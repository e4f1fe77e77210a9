"""A world of two regions with two versions' worth of digits, for tests of real Python clients."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY_LIMIT_SECONDS = 60


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
    def __init__(self, program, directory, *options):
        self.program, self.directory = program, directory
        self.base = free_port_base(2)
        self.log = open(directory / "up.log", "w+")
        arguments = ["up", "--regions", "us-east1,europe-west1", "--port-base", str(self.base), *options]
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

    def cli(self, *arguments):
        environment = {
            **os.environ,
            "TRADEWIND_URL": self.world["control_url"],
            "TRADEWIND_TOKEN": pathlib.Path(self.world["token_file"]).read_text(),
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


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    program = os.environ.get("TRADEWIND_BIN", str(ROOT / "target" / "debug" / "tradewind"))
    world = World(program, tmp_path_factory.mktemp("tradewind"))
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
