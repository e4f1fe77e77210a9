"""Steps of pipelines, as a runner tells them."""

import json
import os
import pathlib
import select
import subprocess
import sys
import time

from conftest import LIMIT_SECONDS, ROOT

PACKAGE = ROOT / "crates" / "tradewind-pipeline" / "python"
sys.path.insert(0, str(PACKAGE))


def told(directory, name="step", **parts):
    """Writes what a step is told; gives the file's path."""
    home = directory / f"{name}-{len(list(directory.iterdir()))}"
    (home / "output").mkdir(parents=True)
    whole = {
        "schema_version": 1, "pipeline": "test", "step": name, "seed": 7, "parameters": {}, "inputs": {},
        "output": str(home / "output"), "result": str(home / "result.json"), **parts,
    }
    (home / "told.json").write_text(json.dumps(whole))
    return home / "told.json"


def environment(directory):
    # Output is buffered as it is where nobody says otherwise.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**inherited, **threads, "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(directory)])}


class Worker:
    """`python -m tradewind.pipeline.worker`, with modules of its own."""

    def __init__(self, directory, **modules):
        self.directory = directory
        for name, text in modules.items():
            (directory / f"{name}.py").write_text(text)
        self.log_file = directory / "log"
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tradewind.pipeline.worker"], cwd=directory, env=environment(directory),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        self.read = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()

    def send(self, function, path=None, **parts):
        """Gives an order; returns the step's directory."""
        path = path or told(self.directory, **parts)
        order = {"step": str(path), **({"function": function} if function else {})}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return path.parent

    def reply(self):
        return json.loads(self.line())

    def line(self):
        """The next line of standard output; empty at its end."""
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_SECONDS)
        assert ready, f"nothing was replied: {self.log_file.read_text()}"
        return self.process.stdout.readline()

    def do(self, function, **parts):
        """An order to its end: the reply, what the step said, and the log of it."""
        home = self.send(function, **parts)
        reply = self.reply()
        result = home / "result.json"
        said = json.loads(result.read_text()) if result.exists() else None
        return reply, said, self.log()

    def log(self):
        """What has been written since the last time."""
        text = self.log_file.read_text()
        new, self.read = text[self.read:], len(text)
        return new

    def end(self):
        """Ends the orders; gives how the worker ended."""
        self.process.stdin.close()
        return self.ended()

    def ended(self):
        return self.process.wait(timeout=LIMIT_SECONDS)


def until_exists(path):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not pathlib.Path(path).exists():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
