"""A real Triton beside a replica, with the same models: what it answers is what clients expect.

The server is that of the wheel `nvidia-pytriton`, which runs models of Python on a CPU; `cargo xtask test` unpacks it,
and numpy 1, which it is built for, into a directory of its own.
"""

import os
import pathlib
import socket
import subprocess
import time

import tritonserver
from conftest import READY_LIMIT_SECONDS, ROOT
from serving import ask

HOME = pathlib.Path(os.environ.get("TRADEWIND_TRITON", ROOT / "target" / "triton" / "home"))

DATATYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES",
]

IDENTITY = """
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        def answer(request):
            tensor = triton.get_input_tensor_by_name(request, "x").as_numpy()
            return triton.InferenceResponse([triton.Tensor("y", tensor)])
        return [answer(request) for request in requests]
"""

ADD = """
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        def answer(request):
            a, b = (triton.get_input_tensor_by_name(request, name).as_numpy() for name in "ab")
            wanted = request.requested_output_names()
            outputs = {"sum": a + b, "difference": a - b}
            return triton.InferenceResponse([triton.Tensor(name, outputs[name]) for name in outputs if name in wanted])
        return [answer(request) for request in requests]
"""

SCALAR = IDENTITY.replace('triton.Tensor("y", tensor)', 'triton.Tensor("y", -tensor)')


def tensor(name, datatype, dims):
    kind = "STRING" if datatype == "BYTES" else datatype
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} }}'


def write_model(repository, name, inputs, outputs, code):
    home = repository / name
    (home / "1").mkdir(parents=True)
    (home / "1" / "model.py").write_text(code)
    (home / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
        f'input [ {", ".join(inputs)} ]\noutput [ {", ".join(outputs)} ]\n'
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )


def write_repository(repository):
    """The same models as those of the replica's own tests."""
    for datatype in DATATYPES:
        name = f"identity_{datatype.lower()}"
        write_model(repository, name, [tensor("x", datatype, [-1])], [tensor("y", datatype, [-1])], IDENTITY)
    rows = [tensor(name, "FP32", [-1, 3]) for name in ("a", "b", "sum", "difference")]
    write_model(repository, "add", rows[:2], rows[2:], ADD)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Triton:
    def __init__(self, directory):
        write_repository(directory / "models")
        http, grpc = free_ports(2)
        self.address, self.grpc_address = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        packages = [HOME / "numpy", HOME / "numpy.libs"]
        backends = tritonserver.backend(HOME, directory / "backends", packages)
        self.log = open(directory / "triton.log", "w+")
        self.process = subprocess.Popen(
            tritonserver.command(HOME, directory / "models", backends, http, grpc),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=tritonserver.environment(HOME),
        )
        deadline = time.monotonic() + 3 * READY_LIMIT_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError(f"Triton did not start:\n{self.log.read()}")
            time.sleep(0.05)

    def is_ready(self):
        try:
            return ask(self.address, "GET", "/v2/health/ready").status == 200
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=READY_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
