"""How the server of the wheel `nvidia-pytriton` is started by itself: it runs models of Python on a CPU.

`home` is where the wheel and numpy 1, which it is built for, are unpacked. Its stub needs the shared library of this
Python.
"""

import ctypes.util
import os
import pathlib
import shutil
import sys
import sysconfig


def shared_library():
    """Where the stub finds the library of this Python."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    own = pathlib.Path(sysconfig.get_config_var("LIBDIR")) / name
    if own.exists():
        return own.parent
    short = name.removeprefix("lib").removesuffix(".so.1.0")
    assert ctypes.util.find_library(short), f"{name} is missing: apt-get install lib{short}"
    return None


def backend(home, directory, packages):
    """The backend of Python as the server wants it, with the stub of this Python and packages beside it: the stub looks
    nowhere else."""
    server = home / "pytriton" / "tritonserver"
    python = directory / "python"
    shutil.copytree(server / "backends" / "python", python)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    assert stub.exists(), f"the wheel has no stub for Python {version}"
    shutil.copy(stub, python / stub.name)
    (python / stub.name).chmod(0o755)
    for package in packages:
        (python / package.name).symlink_to(package)
    return directory


def command(home, repository, backends, http, grpc):
    return [
        str(home / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        "--model-repository", str(repository), "--backend-directory", str(backends),
        "--http-address", "127.0.0.1", "--http-port", str(http),
        "--grpc-address", "127.0.0.1", "--grpc-port", str(grpc), "--allow-metrics", "false",
        "--model-control-mode", "explicit", "--load-model", "*",
    ]


def environment(home):
    libraries = [str(home / "nvidia_pytriton.libs"), *filter(None, [str(shared_library() or "")])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}
