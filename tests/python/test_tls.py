"""Real clients that come to a gateway with TLS, while the certificate changes under them."""

import socket
import ssl
import subprocess
import time

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import trustme
from conftest import READY_LIMIT_SECONDS
from test_curl import INFER, REQUEST, curl, label
from test_tritonclient import expected, rows_of

HOST = "localhost"


class Secured:
    """One more gateway of us-east1, whose certificate a root of the tests' own has issued."""

    def __init__(self, world, directory):
        self.directory, self.root = directory, trustme.CA()
        self.roots = directory / "roots.pem"
        self.root.cert_pem.write_to_path(self.roots)
        self.issue()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"{HOST}:{self.port}"
        token = world.directory / "world" / "gateways" / "us-east1" / "token"
        self.log = open(directory / "gateway.log", "w+")
        self.process = subprocess.Popen(
            [
                world.program, "gateway", "--region", "us-east1", "--control", world.world["control_url"],
                "--token-file", token, "--data-dir", directory / "data", "--listen", f"127.0.0.1:{self.port}",
                "--tls-cert", directory / "chain.pem", "--tls-key", directory / "key.pem",
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )

    def issue(self):
        """A certificate that was never used before."""
        issued = self.root.issue_cert(HOST)
        issued.private_key_pem.write_to_path(self.directory / "key.pem")
        for n, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(self.directory / "chain.pem", append=n > 0)

    def curl(self, *arguments):
        return curl("--cacert", self.roots, *arguments, f"https://{self.address}{INFER}")

    def ready(self):
        deadline = time.monotonic() + READY_LIMIT_SECONDS
        url = f"https://{self.address}/readyz"
        while subprocess.run(["curl", "--silent", "--fail", "--cacert", self.roots, url], capture_output=True).returncode:
            assert self.process.poll() is None and time.monotonic() < deadline, (self.directory / "gateway.log").read_text()
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


@pytest.fixture(scope="module")
def secured(world, tmp_path_factory):
    secured = Secured(world, tmp_path_factory.mktemp("tls"))
    try:
        secured.ready()
        yield secured
    finally:
        secured.stop()


@pytest.mark.parametrize("way, version", [(["--http1.1"], "1.1"), (["--http2"], "2")])
def test_curl_comes_by_both_protocols(secured, way, version):
    answer = secured.curl(*way, "--data", f"@{REQUEST}")
    assert (label(answer), answer.version) == ([7], version)


@pytest.mark.parametrize("oldest", ["--tlsv1.2", "--tlsv1.3"])
def test_curl_comes_with_every_version_of_tls(secured, oldest):
    assert label(secured.curl(oldest, "--tls-max", oldest.removeprefix("--tlsv"), "--data", f"@{REQUEST}")) == [7]


def test_a_large_upload_is_taken_and_refused_by_what_it_says(secured, tmp_path):
    large = tmp_path / "large.json"
    large.write_text(" " * (4 << 20) + "no JSON")
    assert secured.curl("--data-binary", f"@{large}").status == "400"


def test_without_tls_the_same_port_serves_too(secured):
    assert label(curl("--data", f"@{REQUEST}", f"http://{secured.address}{INFER}")) == [7]


def test_tritonclient_over_grpc(secured, cases):
    roots = str(secured.roots)
    with tritonclient.grpc.InferenceServerClient(secured.address, ssl=True, root_certificates=roots) as client:
        assert client.is_server_ready()
        case = cases[0]
        rows = rows_of(case)
        tensor = tritonclient.grpc.InferInput("image", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows.astype(np.float32))
        result = client.infer("digits", [tensor], client_timeout=60)
        assert result.as_numpy("label").tolist() == expected(case, "label")["data"]


def test_tritonclient_over_http(secured, cases):
    options = {"ca_certs": str(secured.roots)}
    with tritonclient.http.InferenceServerClient(secured.address, ssl=True, ssl_options=options) as client:
        case = cases[0]
        rows = rows_of(case)
        tensor = tritonclient.http.InferInput("image", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows.astype(np.float32))
        result = client.infer("digits", [tensor])
        assert result.as_numpy("label").tolist() == expected(case, "label")["data"]


def serial(secured):
    trusted = ssl.create_default_context(cafile=secured.roots)
    with socket.create_connection(("127.0.0.1", secured.port), timeout=60) as stream:
        with trusted.wrap_socket(stream, server_hostname=HOST) as secure:
            return secure.getpeercert()["serialNumber"]


def test_a_new_certificate_is_taken_up_while_users_come(secured):
    before = serial(secured)
    secured.issue()
    deadline = time.monotonic() + 100
    while serial(secured) == before:
        assert label(secured.curl("--data", f"@{REQUEST}")) == [7]
        assert time.monotonic() < deadline, "it is taken up within ten seconds"
        time.sleep(0.2)
    assert label(secured.curl("--data", f"@{REQUEST}")) == [7]
