"""curl against gateways: every way in which it speaks HTTP."""

import json
import pathlib
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUEST = ROOT / "examples" / "digits" / "request.json"
INFER = "/v2/models/digits/infer"
EVERY_WAY = [
    pytest.param([], "1.1", id="http1"),
    pytest.param(["--http1.0"], "1.1", id="http1.0"),
    pytest.param(["--http2-prior-knowledge"], "2", id="http2"),
    # An upgrade need not be taken up; the request that asks for it is answered all the same.
    pytest.param(["--http2"], "1.1", id="upgrade"),
]


class Answer:
    def __init__(self, done):
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        head, _, written = done.stdout.rpartition("\n")
        self.status, self.version, self.connections = written.split()
        self.text = head

    def json(self):
        return json.loads(self.text)


def curl(*arguments, stdin=None):
    command = ["curl", "--silent", "--show-error", "--max-time", "60"]
    command += ["--write-out", "\n%{http_code} %{http_version} %{num_connects}", *map(str, arguments)]
    return Answer(subprocess.run(command, input=stdin, capture_output=True, text=True))


@pytest.fixture(scope="module")
def gateway(world):
    return f"http://{world.gateway('us-east1')}"


def label(answer):
    assert answer.status == "200", answer.text
    return next(output["data"] for output in answer.json()["outputs"] if output["name"] == "label")


@pytest.mark.parametrize("way, version", EVERY_WAY)
def test_an_inference(gateway, way, version):
    answer = curl(*way, "--data", f"@{REQUEST}", gateway + INFER)
    assert label(answer) == [7]
    assert answer.version == version or (way == ["--http1.0"] and answer.version == "1")


@pytest.mark.parametrize("way, version", EVERY_WAY)
def test_a_chunked_upload(gateway, way, version):
    if way == ["--http1.0"]:
        way = []
    answer = curl(*way, "--request", "POST", "--upload-file", "-", gateway + INFER, stdin=REQUEST.read_text())
    assert label(answer) == [7]


def test_a_client_that_waits_for_100_continue_is_told_to(gateway):
    began = time.monotonic()
    answer = curl(
        "--verbose", "--expect100-timeout", 50, "--header", "Expect: 100-continue", "--data", f"@{REQUEST}",
        gateway + INFER,
    )
    assert label(answer) == [7]
    assert time.monotonic() - began < 25, "curl sent the body unasked"
    assert "< HTTP/1.1 100 Continue" in answer.said, answer.said


def test_on_http2_nobody_is_told_to_continue_and_the_body_is_taken(gateway):
    answer = curl("--http2-prior-knowledge", "--header", "Expect: 100-continue", "--data", f"@{REQUEST}", gateway + INFER)
    assert label(answer) == [7]


def test_who_is_refused_need_not_send_the_body(gateway, tmp_path):
    too_large = tmp_path / "too-large"
    with open(too_large, "wb") as file:
        file.truncate(1 << 30)
    answer = curl(
        "--verbose", "--expect100-timeout", 50, "--header", "Expect: 100-continue", "--request", "POST",
        "--upload-file", too_large, gateway + INFER,
    )
    assert answer.status == "413", answer.text
    assert "100 Continue" not in answer.said, answer.said


@pytest.mark.parametrize("way, version", EVERY_WAY)
@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/models/digits"])
def test_a_head_has_no_body(gateway, way, version, path):
    answer = curl(*way, "--head", "--include", gateway + path)
    assert answer.status == "200", answer.text
    assert answer.text.rstrip().lower().startswith("http/") and "{" not in answer.text, answer.text


# Not over HTTP/2: this curl cannot use such a connection again that it was told of beforehand. h2load does.
def test_a_connection_serves_many_requests_good_and_bad(gateway):
    bad = [gateway + path for path in ["/v2/models/nobody/infer", "/nothing", "/v2/health/live"]]
    done = subprocess.run(
        ["curl", "--silent", "--max-time", "60", "--output", "/dev/null", "--output", "/dev/null", "--output",
         "/dev/null", "--write-out", "%{http_code} %{num_connects}\n", *bad],
        capture_output=True, text=True,
    )
    assert done.stdout.splitlines() == ["404 1", "404 0", "200 0"], done


@pytest.fixture(scope="module")
def tokens(world):
    world.cli("deploy", "--regions", "europe-west1", str(ROOT / "examples" / "tokens" / "v1"))
    yield world
    world.cli("undeploy", "tokens", "--yes")


@pytest.mark.parametrize("way", [["--http1.1"], ["--http2-prior-knowledge"]])
@pytest.mark.parametrize("region", ["europe-west1", "us-east1"])
def test_server_sent_events_come_one_by_one(tokens, region, way):
    body = json.dumps({"prompt": "over the", "max_tokens": 10, "delay_ms": 100, "stream": True})
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "60", *way, "--data", body]
    url = f"http://{tokens.gateway(region)}/models/tokens/v1/completions"
    times = []
    with subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            if line.startswith("data: {"):
                times.append(time.monotonic())
        last = line
    assert running.returncode == 0 and len(times) == 10, (running.returncode, times)
    assert times[-1] - times[0] > 0.7, f"they came together: {times}"
    assert last == "\n"
