"""h2load against a gateway: thousands of requests over many streams, of which none may fail."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUEST = ROOT / "examples" / "digits" / "request.json"
REQUESTS = 5000


@pytest.mark.parametrize("region", ["us-east1", "europe-west1"])
@pytest.mark.parametrize("way", [["--max-concurrent-streams=50"], ["--h1"]], ids=["http2", "http1"])
@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/health/live"])
def test_no_request_fails(world, region, way, path):
    body = [f"--data={REQUEST}"] if path.endswith("infer") else []
    command = ["h2load", f"--requests={REQUESTS}", "--clients=4", *way, *body, f"http://{world.gateway(region)}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done
    requests = re.search(r"^requests: .*$", done.stdout, re.M).group()
    codes = re.search(r"^status codes: .*$", done.stdout, re.M).group()
    assert f"{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout" in requests, done.stdout
    assert codes.startswith(f"status codes: {REQUESTS} 2xx"), done.stdout
