"""A server of LitServe, from its bundle to its answers through gateways: it starts processes of its own."""

import json
import pathlib
import time
import urllib.request

import pytest

BUNDLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "litserve" / "v1"
GONE_LIMIT_SECONDS = 60


def ask(world, region, text):
    url = f"http://{world.gateway(region)}/models/mood/predict"
    request = urllib.request.Request(url, json.dumps({"text": text}).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.headers["x-tradewind-region"], json.load(response)


def processes_of(mark):
    """The processes that have this variable in their environment."""
    found = []
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            variables = (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in variables:
            found.append(int(directory.name))
    return found


def replicas(world):
    listed = json.loads((world.directory / "world" / "world.json").read_text())["processes"]
    marks = []
    for process in listed:
        if process["role"] == "replica":
            variables = pathlib.Path(f"/proc/{process['pid']}/environ").read_bytes().split(b"\0")
            marks += [each for each in variables if each.startswith(b"TRADEWIND_REPLICA_ID=mood-")]
    return marks


@pytest.fixture(scope="module")
def mood(world):
    output = world.cli("deploy", "--max-parallel", "all", "--regions", "us-east1,europe-west1", str(BUNDLE))
    assert "2/2 golden cases" in output and "digest unproved" in output, output
    yield world


@pytest.mark.parametrize("region", ["us-east1", "europe-west1"])
def test_it_answers_through_every_gateway(mood, region):
    assert ask(mood, region, "A fair wind") == (region, {"score": 1.0, "mood": "glad"})


def test_its_processes_go_with_it(mood):
    marks = replicas(mood)
    assert len(marks) == 2
    assert all(len(processes_of(mark)) > 1 for mark in marks), "it starts workers"
    mood.cli("undeploy", "mood", "--yes")
    deadline = time.monotonic() + GONE_LIMIT_SECONDS
    while left := [pid for mark in marks for pid in processes_of(mark)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)
