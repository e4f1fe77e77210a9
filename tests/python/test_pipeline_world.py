"""The example pipelines as people run them: from data to a model that serves in three regions, the same as the loop's."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import PROGRAM, ROOT, World
from pipelines import PACKAGE

REGIONS = ("us-east1", "europe-west1", "asia-northeast1")


@pytest.fixture(scope="module")
def wide_world(tmp_path_factory):
    world = World(PROGRAM, tmp_path_factory.mktemp("wide"), regions=REGIONS)
    yield world
    world.stop()


class Project:
    """A copy of an example, with its data, whose steps run in the environment of these tests."""

    def __init__(self, world, example, directory, *generated):
        self.world, self.directory = world, directory / example
        shutil.copytree(ROOT / "examples" / example, self.directory, ignore=shutil.ignore_patterns(".tradewind", "data"))
        self.file = self.directory / "pipeline.toml"
        text = self.file.read_text()
        assert '[python]\nrequirements = "requirements.txt"\n' in text
        self.file.write_text(text.replace('[python]\nrequirements = "requirements.txt"\n', ""))
        self.script("make_data.py", *generated)

    def script(self, name, *arguments):
        subprocess.run(
            [sys.executable, name, *map(str, arguments)], cwd=self.directory, check=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )

    def run(self, *arguments):
        said = self.world.cli(
            "pipeline", "run", str(self.file), "--python", sys.executable, "-o", "json", *arguments,
            XDG_CACHE_HOME=str(ROOT / "target" / "tmp" / "cache"),
        )
        return json.loads(said)

    def held_out(self):
        """The batches that the newest run held out."""
        [journal] = sorted(self.directory.glob(".tradewind/pipelines/*/runs/*/journal.ndjson"))[-1:]
        [planned] = [line for line in map(json.loads, journal.read_text().splitlines()) if line["event"] == "planned"]
        return [batch["name"] for batch in planned["batches"] if batch.get("held_out")]

    def assert_same_as_loop(self, report):
        result = self.directory / "result"
        self.script("loop.py", "--data", self.directory / "data", "--out", result, "--held-out", *self.held_out())
        with open(os.path.join(report["output"], "model.onnx"), "rb") as model:
            assert model.read() == (result / "bundle" / "model.onnx").read_bytes()
        return result


def assert_serves(world, model, case):
    """Each region answers the case as it must."""
    for region in REGIONS:
        url = f"http://{world.gateway(region)}/v2/models/{model}/infer"
        request = urllib.request.Request(url, json.dumps(case["request"]).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            outputs = {output["name"]: output for output in json.load(answer)["outputs"]}
        for expected in case["expect"]["outputs"]:
            assert outputs[expected["name"]]["data"] == pytest.approx(expected["data"], rel=1e-3, abs=1e-4)


def test_digits_go_from_data_to_three_regions_by_one_command(wide_world, tmp_path):
    project = Project(wide_world, "digits-pipeline", tmp_path)
    report = project.run("--deploy", ",".join(REGIONS))
    assert (report["batches"], report["held_out"], report["failed"]) == (12, 3, 0)
    assert report["published"] == {"model": "digits", "version": 1, "created": True}
    result = project.assert_same_as_loop(report)
    case = json.loads(sorted((result / "bundle" / "cases").iterdir())[0].read_text())
    assert_serves(wide_world, "digits", case)

    lineage = json.loads(wide_world.cli("models", "show", "digits:1", "-o", "json"))["lineage"]
    assert lineage["data"]["rows"] == 1797 and lineage["data"]["batches"]["held_out"] == 3
    assert lineage["metrics"]["accuracy"] == pytest.approx(report["metrics"]["accuracy"])
    shown = wide_world.cli("models", "show", "digits:1")
    assert "made by       digits, run 1" in shown and "12 files" in shown

    # Nothing has changed: nothing is done again, and the version is the one that is there.
    again = project.run("--deploy", ",".join(REGIONS))
    assert again["published"] == {"model": "digits", "version": 1, "created": False}
    assert all(step["reused"] == step["done"] for name, step in again["steps"].items() if name != "evaluate")

    # Worse than what is live is not published.
    text = project.file.read_text()
    project.file.write_text(text.replace("epochs = 40", "epochs = 1").replace("above_live = -0.005", "above_live = 0.5"))
    with pytest.raises(AssertionError, match="the model is not good enough: accuracy .*live "):
        project.run()
    assert len(json.loads(wide_world.cli("models", "show", "digits", "-o", "json"))["versions"]) == 1


def test_trips_of_days_in_batches_of_rows_go_to_three_regions(wide_world, tmp_path):
    project = Project(wide_world, "taxi-pipeline", tmp_path, "--rows", 30_000, "--files", 12)
    report = project.run("--deploy", ",".join(REGIONS), "--workers", "2")
    result = project.assert_same_as_loop(report)
    case = json.loads(sorted((result / "bundle" / "cases").iterdir())[0].read_text())
    assert_serves(wide_world, "trips", case)

    # Cut otherwise, the sums are those of other batches, and the model is the same but for the last digits.
    text = project.file.read_text()
    project.file.write_text(text.replace('batch = "file"', "batch = { rows = 1000 }"))
    rows = project.run("--no-publish")
    assert rows["batches"] >= 30
    assert rows["metrics"]["r2"] == pytest.approx(report["metrics"]["r2"], abs=0.02)
