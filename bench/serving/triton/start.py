"""Becomes a Triton that serves the model, with its files in the current directory."""

import argparse
import os
import pathlib
import shutil
import sys
import sysconfig

import tritonserver
from onnx_model import Model

HERE = pathlib.Path(__file__).parent


def write_repository(repository):
    home = repository / "model"
    (home / "1").mkdir(parents=True)
    shutil.copy(HERE / "model.py", home / "1" / "model.py")
    session = Model().session
    config = (HERE / "config.pbtxt").read_text()
    for word, tensor in [("shape", session.get_inputs()[0]), ("classes", session.get_outputs()[0])]:
        config = config.replace(f"{{{word}}}", str(tensor.shape[1:]))
    (home / "config.pbtxt").write_text(config)
    return repository


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=pathlib.Path, required=True)
    parser.add_argument("--http-port", required=True)
    parser.add_argument("--grpc-port", required=True)
    options = parser.parse_args()
    here = pathlib.Path.cwd()
    installed = pathlib.Path(sysconfig.get_path("purelib")).iterdir()
    packages = [each for each in installed if each.name != "__pycache__"] + [HERE.parent / "onnx_model.py"]
    backends = tritonserver.backend(options.home, here / "backends", packages)
    repository = write_repository(here / "models")
    command = tritonserver.command(options.home, repository, backends, options.http_port, options.grpc_port)
    sys.stdout.flush()
    os.execve(command[0], command, tritonserver.environment(options.home))
