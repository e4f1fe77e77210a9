"""The example pipelines: steps that workers do in any order give what the loop gives, and that answers its cases."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from onnx import numpy_helper
from pipelines import PACKAGE, Worker

EXAMPLES = ROOT / "examples"
DTYPES = {"FP32": np.float32, "INT64": np.int64}


def run(example, script, *arguments):
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], cwd=EXAMPLES / example, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def looped(example, directory, *arguments):
    """What the loop makes of what the generator writes."""
    run(example, "make_data.py", "--out", directory / "data", *arguments)
    run(example, "loop.py", "--data", directory / "data", "--out", directory / "result")
    return directory / "result"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return looped("digits-pipeline", tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def trips(tmp_path_factory):
    return looped("taxi-pipeline", tmp_path_factory.mktemp("trips"), "--rows", 30_000, "--files", 12)


class Steps:
    """Does steps of an example in turn by two workers."""

    def __init__(self, directory, example):
        text = (EXAMPLES / example / "steps.py").read_text()
        homes = [directory / str(number) for number in range(2)]
        for home in homes:
            home.mkdir()
        self.workers = [Worker(home, steps=text) for home in homes]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.__exit__()

    def do(self, function, parameters=None, **inputs):
        """One step, as an input for others."""
        self.workers.reverse()
        home = self.workers[0].send(function, inputs=inputs, parameters=parameters or {})
        assert self.workers[0].reply() == {"ok": True}, self.workers[0].log()
        result = home / "result.json"
        said = json.loads(result.read_text()) if result.exists() else {}
        names = {given["batch"] for given in inputs.values() if "batch" in given}
        return {"batch": max(names, default=""), "directory": str(home / "output"), **said}


def batches(result):
    """The files' names and what a step is told of each, as a runner does that takes the last first."""
    files = sorted((result.parent / "data").iterdir())
    return {
        file.name: {"batch": f"data/{file.name}", "format": file.suffix[1:], "files": [str(file)]}
        for file in reversed(files)
    }


def assert_same(result, model, judged):
    assert read(model, "model.onnx") == (result / "bundle" / "model.onnx").read_bytes()
    assert judged["metrics"] == json.loads((result / "metrics.json").read_text())
    cases = sorted(path.name for path in (result / "bundle" / "cases").iterdir())
    assert len(cases) == 20
    for case in cases:
        assert read(judged, f"cases/{case}") == (result / "bundle" / "cases" / case).read_bytes()


def read(written, name):
    with open(os.path.join(written["directory"], name), "rb") as file:
        return file.read()


def test_digits_come_out_the_same_from_workers_in_any_order(digits, tmp_path):
    training = {"epochs": 40, "seed": 20}
    with Steps(tmp_path, "digits-pipeline") as steps:
        clean, models, own = {}, {}, []
        for name, batch in batches(digits).items():
            clean[name] = steps.do("steps:preprocess", batch=batch)
        held_out = sorted(clean)[-3:]
        for name in set(clean) - set(held_out):
            preprocess = clean[name]
            models[name] = steps.do("steps:train", training, preprocess=preprocess)
            own.append(steps.do("steps:check", train=models[name], preprocess=preprocess)["metrics"]["accuracy"])
        train = [models[name] for name in sorted(models)]
        model = steps.do("tradewind.pipeline.combine:average", {"of": "train"}, train=train)
        given = {"model": {"directory": model["directory"]}, "preprocess": [clean[name] for name in held_out]}
        judged = steps.do("steps:evaluate", {"cases_per_digit": 2}, **given)
    assert_same(digits, model, judged)
    assert sum(batch["metrics"]["dropped"]["sum"] for batch in clean.values()) == 18, "all that was spoilt, and no more"
    assert sum(batch["rows"] for batch in clean.values()) == 1797 - 18
    assert judged["metrics"]["accuracy"] > max(0.9, np.mean(own)), "the average is better than what it is made of"


def test_trips_come_out_the_same_from_workers_in_any_order(trips, tmp_path):
    with Steps(tmp_path, "taxi-pipeline") as steps:
        clean, sums = {}, {}
        for name, batch in batches(trips).items():
            clean[name] = steps.do("steps:clean", batch=batch)
        held_out = sorted(clean)[-2:]
        for name in set(clean) - set(held_out):
            sums[name] = steps.do("steps:train", clean=clean[name])
        train = [sums[name] for name in sorted(sums)]
        model = steps.do("steps:merge", {"ridge": 1.0}, train=train)
        given = {"model": {"directory": model["directory"]}, "clean": [clean[name] for name in held_out]}
        judged = steps.do("steps:evaluate", {"cases": 20}, **given)
    assert_same(trips, model, judged)
    dropped = sum(batch["metrics"]["dropped"]["sum"] for batch in clean.values())
    assert 0.005 < dropped / 30_000 < 0.015
    assert judged["metrics"]["r2"] > 0.8 and judged["metrics"]["minutes_off"] < 3


def test_the_model_of_all_days_is_that_of_one_fit_to_all_rows(trips):
    spec = importlib.util.spec_from_file_location("trips_steps", EXAMPLES / "taxi-pipeline" / "steps.py")
    steps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steps)
    days = [steps.read(steps_input(path)) for path in sorted(trips.glob("*/clean"))[:-2]]
    rows = steps.features({name: np.concatenate([day[name] for day in days]) for name in days[0]})
    # A ridge of 1 is a row for each weight that asks it to be 0.
    ridge = np.hstack([np.eye(steps.WEIGHTS), np.zeros((steps.WEIGHTS, 1))])
    everything = np.vstack([rows, ridge])
    weights, *_ = np.linalg.lstsq(everything[:, :-1], everything[:, -1], rcond=None)
    model = onnx.load(trips / "bundle" / "model.onnx")
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = np.concatenate([found[name] for name in steps.PLACES])
    np.testing.assert_allclose(found, weights, rtol=1e-4, atol=1e-5)


def steps_input(directory):
    from tradewind.pipeline import Input

    return Input(directory=directory)


def test_csv_gives_the_same_model_as_parquet(trips, tmp_path):
    result = looped("taxi-pipeline", tmp_path, "--rows", 30_000, "--files", 12, "--format", "csv")
    for name in ("bundle/model.onnx", "metrics.json"):
        assert (result / name).read_bytes() == (trips / name).read_bytes()


@pytest.mark.parametrize("example", ["digits", "trips"])
def test_the_bundle_answers_its_golden_cases(example, request):
    bundle = request.getfixturevalue(example) / "bundle"
    model = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    for path in (bundle / "cases").iterdir():
        case = json.loads(path.read_text())
        given, expected = (
            {one["name"]: np.array(one["data"], DTYPES[one["datatype"]]).reshape(one["shape"]) for one in tensors}
            for tensors in (case["request"]["inputs"], case["expect"]["outputs"])
        )
        for name, answer in zip(expected, model.run(list(expected), given)):
            np.testing.assert_allclose(answer, expected[name], **case["tolerance"])


@pytest.mark.parametrize("example, ending", [("digits-pipeline", "csv"), ("taxi-pipeline", "parquet")])
def test_generators_write_the_same_files_each_time(example, ending, tmp_path):
    small = ["--rows", 1000] if example == "taxi-pipeline" else []
    for name in ("first", "second"):
        run(example, "make_data.py", "--out", tmp_path / name, "--files", 3, *small)
    files = sorted((tmp_path / "first").iterdir())
    assert len(files) == 3 and all(file.suffix == f".{ending}" for file in files)
    assert all(file.read_bytes() == (tmp_path / "second" / file.name).read_bytes() for file in files)
