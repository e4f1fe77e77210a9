"""Steps in Python: the worker that does them, what they are told, and what they say."""

import json
import math
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pandas
import pytest
from pipelines import PACKAGE, Worker, environment, told, until_exists

from tradewind.pipeline import (
    Hopeless, Input, Result, Step, confusion, golden, greatest, least, mean, quantiles, step, total,
)
from tradewind.pipeline import metrics as measured
from tradewind.pipeline.contract import said_of

STEPS = """
import ctypes, os, random, signal, subprocess, sys, threading, time
from tradewind.pipeline import Hopeless, Result, confusion, mean, step, total

print("loaded")

@step
def count(step):
    print("counting", step.file.name)
    rows = len(step.file.read_text().splitlines())
    (step.output / "rows").write_text(str(rows))
    return Result(rows=rows, metrics={"loss": mean(0.5, rows), "seen": total(rows)})

@step
def chance(step):
    return {"number": random.random()}

@step
def loud(step):
    os.write(1, b"from os\\n")
    ctypes.CDLL(None).printf(b"from C\\n")
    subprocess.run(["echo", "from a child"])
    print("from Python \\udcff")
    return {"read": len(sys.stdin.read()) + len(os.read(0, 10))}

@step
def wrong(step):
    values = []
    return values[step.parameters["place"]]

@step
def hopeless(step):
    raise Hopeless("column `day` is missing")

@step
def exits(step):
    sys.exit(step.parameters["code"])

@step
def a_list(step):
    return [1]

@step
def nan(step):
    return {"accuracy": 0.5, "loss": float("nan")}

@step
def messy(step):
    os.chdir("/")
    sys.stdout = None
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

@step
def place(step):
    print(os.getcwd())

@step
def forks(step):
    child = os.fork()
    if child == 0:
        if step.parameters["returns"]:
            return {"of": 1}
        time.sleep(1000)
    (step.output / "child").write_text(str(child))
    if step.parameters["returns"]:
        os.waitpid(child, 0)

@step
def starts(step):
    child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    (step.output / "child").write_text(str(child.pid))

@step
def waits(step):
    (step.output / "begun").touch()
    time.sleep(1000)

@step
def leaves_a_thread(step):
    threading.Thread(target=time.sleep, args=(1000,)).start()

def plain(step):
    pass
"""


def batch(directory, rows=3):
    file = directory / "day.csv"
    file.write_text("x\n" * rows)
    return {"batch": {"batch": "data/day.csv", "format": "csv", "files": [str(file)], "rows": rows}}


def test_steps_are_done_one_after_the_other_by_functions_that_are_loaded_once(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        for rows in (3, 5):
            reply, said, log = worker.do("steps:count", inputs=batch(tmp_path, rows))
            metrics = {"loss": {"mean": 0.5, "weight": float(rows)}, "seen": {"sum": float(rows)}}
            assert (reply, said) == ({"ok": True}, {"rows": rows, "metrics": metrics})
            assert log == ("loaded\n" if rows == 3 else "") + "counting day.csv\n"
        assert [file.read_text() for file in sorted(tmp_path.glob("step-*/output/rows"))] == ["3", "5"]
        assert worker.end() == 0
        assert worker.line() == b""


def test_chance_is_the_same_for_the_same_seed(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        said = [worker.do("steps:chance", seed=seed)[1] for seed in (2**53 - 1, 8, 2**53 - 1)]
        assert said[0] == said[2] != said[1]


def test_what_a_step_writes_is_its_log_and_there_is_nothing_to_read(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        reply, said, log = worker.do("steps:loud")
        assert (reply, said) == ({"ok": True}, {"metrics": {"read": 0.0}})
        assert sorted(log.splitlines()) == ["from C", "from Python \\udcff", "from a child", "from os", "loaded"]


def test_an_error_is_its_last_line_and_the_log_has_where_it_was(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        reply, said, log = worker.do("steps:wrong", parameters={"place": 4})
        assert (reply, said) == ({"ok": False, "error": "IndexError: list index out of range"}, None)
        assert 'steps.py", line ' in log and "return values[step.parameters" in log
        assert "worker.py" not in log and "contract.py" not in log
        assert worker.do("steps:count", inputs=batch(tmp_path))[0] == {"ok": True}


@pytest.mark.parametrize(
    "function, error",
    [
        ("steps:hopeless", "column `day` is missing"),
        ("steps:nan", "metric `loss`: it is nan, not a finite number"),
        ("steps:a_list", "a step returns its metrics as a dict, a Result, or nothing, and not a value of type list"),
        ("steps:plain", "`steps:plain` is not a step: write @step before the function"),
        ("steps:conut", "module `steps` has no function `conut`; its steps are `count`, `chance`, "),
        ("stepz:count", "there is no module `stepz` beside the pipeline's file"),
        ("needs:train", "put the package that has `absent_package` into `requirements` of [python]"),
        ("broken:train", "SyntaxError: "),
        ("fails:train", "cannot import `fails`: ValueError: no such thing"),
        ("ends:train", "`ends` calls sys.exit while it is imported"),
        (None, "this order names no step and function"),
    ],
)
def test_what_would_go_wrong_every_time_is_said_to(tmp_path, function, error):
    modules = {
        "needs": "import absent_package.inner", "broken": "def train(:\n",
        "fails": "raise ValueError('no\\nsuch thing')", "ends": "import sys\nsys.exit(0)",
    }
    with Worker(tmp_path, steps=STEPS, **modules) as worker:
        reply, said, _ = worker.do(function)
        assert (reply["ok"], reply["hopeless"], said) == (False, True, None)
        assert error in reply["error"]
        assert worker.do("steps:count", inputs=batch(tmp_path))[0] == {"ok": True}


def test_a_step_does_not_end_its_worker(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        for code, hopeless in ((0, False), (3, False), (65, True)):
            reply, _, log = worker.do("steps:exits", parameters={"code": code})
            assert reply == {"ok": False, "error": f"the step called sys.exit({code})", "hopeless": hopeless}
            assert "sys.exit(step.parameters" in log
        assert worker.do("steps:count", inputs=batch(tmp_path))[0] == {"ok": True}


def test_what_a_step_changes_is_put_right_before_the_next(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        assert worker.do("steps:messy")[0] == {"ok": True}
        _, _, log = worker.do("steps:place")
        assert log == f"{tmp_path}\n"
        home = worker.send("steps:waits")
        until_exists(home / "output" / "begun")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended() == -signal.SIGTERM


@pytest.mark.parametrize("function", ["steps:forks", "steps:starts"])
def test_processes_that_a_step_leaves_do_not_hold_the_replies(tmp_path, function):
    with Worker(tmp_path, steps=STEPS) as worker:
        home = worker.send(function, parameters={"returns": False})
        assert worker.reply() == {"ok": True}
        child = int((home / "output" / "child").read_text())
        try:
            assert worker.end() == 0
            assert worker.line() == b"", "the child would hold it"
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_comes_back_replies_nothing(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        home = worker.send("steps:forks", parameters={"returns": True})
        assert worker.reply() == {"ok": True}
        assert (home / "output" / "child").exists()
        assert worker.do("steps:count", inputs=batch(tmp_path))[0] == {"ok": True}
        assert (worker.end(), worker.line()) == (0, b"")


def test_threads_that_a_step_leaves_do_not_hold_the_end(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        assert worker.do("steps:leaves_a_thread")[0] == {"ok": True}
        assert worker.end() == 0


def test_an_order_that_is_none_and_a_runner_of_another_age(tmp_path):
    with Worker(tmp_path, steps=STEPS) as worker:
        worker.process.stdin.write(b"not json\n")
        worker.process.stdin.flush()
        assert worker.reply()["hopeless"]
        reply, _, _ = worker.do("steps:chance", schema_version=2)
        assert reply["hopeless"] and "has schema version 2; this package reads 1" in reply["error"]


COMMAND = """
from tradewind.pipeline import Hopeless, main, step

@step
def train(step):
    if step.parameters.get("hopeless"):
        raise Hopeless("no such column")
    return {"accuracy": 1}

if __name__ == "__main__":
    main()
"""


def run_command(directory, *arguments, **variables):
    (directory / "command.py").write_text(COMMAND)
    return subprocess.run(
        [sys.executable, "command.py", *arguments], cwd=directory, capture_output=True, text=True,
        env={**environment(directory), **variables},
    )


def test_a_step_runs_by_hand_and_as_a_command(tmp_path):
    path = told(tmp_path)
    for arguments, variables in ((["train", str(path)], {}), (["train"], {"TRADEWIND_STEP": str(path)})):
        done = run_command(tmp_path, *arguments, **variables)
        assert done.returncode == 0, done.stderr
        assert json.loads((path.parent / "result.json").read_text()) == {"metrics": {"accuracy": 1.0}}
        (path.parent / "result.json").unlink()
    done = run_command(tmp_path, "train", str(told(tmp_path, parameters={"hopeless": True})))
    assert (done.returncode, done.stderr) == (65, "error: no such column\n")
    assert "TRADEWIND_STEP names no file" in run_command(tmp_path, "train").stderr
    done = run_command(tmp_path, "tarin")
    assert (done.returncode, done.stderr) == (2, "usage: command.py {train} [TOLD.json]\n")


def test_the_package_needs_nothing_but_python():
    code = "import sys; sys.modules.update(dict.fromkeys(['numpy', 'pandas', 'pyarrow', 'onnx'])); " \
        "import tradewind.pipeline, tradewind.pipeline.worker, tradewind.pipeline.combine; " \
        "print(tradewind.pipeline.quantiles([1.0]))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "{'quantiles': {'zeros': 0, 'positive': {'0': 1}}}\n"), done.stderr


def test_inputs_are_found_by_name_or_as_the_only_one(tmp_path):
    clean = tmp_path / "clean"
    (clean / "inner").mkdir(parents=True)
    for name in ("b.bin", "inner/a.bin"):
        (clean / name).write_bytes(b"")
    one = Step(inputs={"clean": Input("day", directory=clean, rows=9)})
    assert (one.directory(), one.directory("clean"), one.rows) == (clean, clean, 9)
    assert one.files() == [clean / "b.bin", clean / "inner" / "a.bin"]
    for call, problem in [
        (lambda: one.file, "has 2 files: read them by `files()`"),
        (lambda: one.files("batch"), "there is no input `batch`, there is `clean`"),
        (lambda: one.all("clean"), "`clean` is a single input: use step.one(...)"),
        (lambda: one.table(), "has no table: none of its files ends in .csv"),
        (lambda: Step(inputs={"batch": Input("day", files=["day.csv"])}).directory(), "`batch` is files"),
        (lambda: Step().files(), "which of its inputs? there is none"),
    ]:
        with pytest.raises(ValueError) as raised:
            call()
        assert problem in str(raised.value)
    both = Step(inputs={"clean": Input(directory=clean, rows=9), "batch": Input(files=["day.csv"], rows=10)})
    assert (both.rows, both.file.name) == (10, "day.csv")
    everything = Step(inputs={"model": Input(directory=clean), "batch": [Input("a", rows=2), Input("b", rows=3)]})
    assert ([given.batch for given in everything.all()], everything.rows) == (["a", "b"], 5)
    assert everything.directory("model") == clean


def write_tables(directory):
    """The same two rows in each format, in two files."""
    paths = {}
    for format, texts in {
        "csv": ("a,b\n1,x\n", "a,b\n2,y\n"), "jsonl": ('{"a": 1, "b": "x"}\n', '{"a": 2, "b": "y"}\n'),
    }.items():
        paths[format] = [directory / f"{number}.{format}" for number in (1, 2)]
        for path, text in zip(paths[format], texts):
            path.write_text(text)
    import pyarrow
    import pyarrow.parquet

    paths["parquet"] = [directory / f"{number}.parquet" for number in (1, 2)]
    for path, row in zip(paths["parquet"], ({"a": 1, "b": "x"}, {"a": 2, "b": "y"})):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    return paths


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_tables_are_those_of_pandas_or_else_of_pyarrow(tmp_path, format, monkeypatch):
    files = write_tables(tmp_path)[format]
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    step = Step(inputs={"batch": Input("day", format=format, files=files)})
    assert step.table().to_dict("records") == rows
    assert step.table(library="pyarrow").to_pylist() == rows
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert step.table().to_pylist() == rows
    if format == "parquet":
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(Hopeless, match="to read Parquet, put `pyarrow` beside `pandas` into `requirements`"):
            step.table()
        monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for library, named in ((None, "`pandas`, or `pyarrow`,"), ("pandas", "`pandas`")):
        with pytest.raises(Hopeless, match=f"put {named} into `requirements` of .python."):
            step.table(library=library)
    with pytest.raises(ValueError, match="tables are those of pandas or pyarrow, not of 'polars'"):
        step.table(library="polars")


def test_each_metric_says_how_it_adds_up():
    taken = confusion(["a", 3], np.array(["a", "a", "3"]), ["a", "3", "3"])
    said = said_of({
        "accuracy": np.float32(0.5), "loss": mean(np.float64(2), 4), "seen": total(3), "worst": greatest(np.int64(4)),
        "best": least(-1), "taken": taken, "same": True,
    })
    assert json.loads(json.dumps(said)) == {
        "metrics": {
            "accuracy": 0.5, "loss": {"mean": 2.0, "weight": 4.0}, "seen": {"sum": 3.0}, "worst": {"max": 4.0},
            "best": {"min": -1.0}, "taken": {"labels": ["a", "3"], "counts": [[1, 1], [0, 1]]}, "same": 1.0,
        }
    }
    assert [measured.number(metric) for metric in said["metrics"].values()] == [0.5, 2.0, 3.0, 4.0, -1.0, 2 / 3, 1.0]
    assert said_of(Result(rows=np.int64(5))) == {"rows": 5}
    assert quantiles(pandas.Series([1.0, math.nan])) == quantiles([1.0])
    assert confusion([0, 1], np.array([0, 1, 1]), np.array([1, 1, 0]))["counts"] == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    "metric, problem",
    [
        (math.inf, "it is inf, not a finite number"),
        (10**400, "it is inf, not a finite number"),
        ("0.5", "'0.5' is not a number"),
        (None, "None is not a number"),
        ([0.5], "[0.5] is not a number"),
        (np.array([1.0, 2.0]), "can only convert an array of size 1"),
        (mean(1, -1), "its weight is negative"),
        (total(math.nan), "it is nan, not a finite number"),
        ({"avg": 1}, "none has the keys avg: make it by `mean`, `total` and the like"),
        ({"labels": ["a"], "counts": [[1, 2]]}, "its counts are not a square of its 1 labels"),
        ({"labels": ["a", "a"], "counts": [[1, 2], [1, 2]]}, "a label is there twice"),
        ({"labels": ["a"], "counts": [[-1]]}, "a count is not one"),
        ({"labels": list(range(1001)), "counts": []}, "it has more than 1000 labels"),
        ({"quantiles": {"positive": dict.fromkeys(range(8193), 1)}}, "its sketch has more than 8192 cells"),
    ],
)
def test_what_is_no_metric_is_refused_by_its_name(metric, problem):
    with pytest.raises(Hopeless) as raised:
        said_of({"loss": metric})
    assert str(raised.value).startswith("metric `loss`: ") and problem in str(raised.value)


def test_results_are_refused_as_a_whole():
    for said, problem in [
        ({"": 1}, "`` is not a metric's name"), ({"m" * 201: 1}, "is not a metric's name"),
        ({str(number): 1 for number in range(1001)}, "1001 metrics, the limit is 1000"),
        (Result(rows=-1), "`rows` is a number of rows, not -1"),
        (Result(rows=1.5), "`rows` is a number of rows, not 1.5"),
    ]:
        with pytest.raises(Hopeless) as raised:
            said_of(said)
        assert problem in str(raised.value)
    for labels, truth, problem in [
        (["a"], ["b"], "`b` is none of the labels a"), (["a", "a"], ["a"], "a label is there twice"),
        (["a"], ["a", "a"], "2 true labels, but 1 predicted ones"),
    ]:
        with pytest.raises(ValueError) as raised:
            confusion(labels, truth, ["a"])
        assert problem in str(raised.value)


def of_rust(numbers):
    """As `Sketch::add` counts, number by number."""
    sketch = {"zeros": 0, "positive": {}, "negative": {}}
    for number in numbers:
        if not math.isfinite(number):
            continue
        if abs(number) < 1e-12:
            sketch["zeros"] += 1
            continue
        cells = sketch["positive" if number > 0 else "negative"]
        cell = str(math.ceil(math.log(abs(number)) / math.log((1.0 + 0.01) / (1.0 - 0.01))))
        cells[cell] = cells.get(cell, 0) + 1
    return {"quantiles": {name: cells for name, cells in sketch.items() if cells or name == "zeros"}}


def test_sketches_have_the_cells_that_rust_gives_them():
    chance = random.Random(5)
    growth = (1.0 + 0.01) / (1.0 - 0.01)
    bounds = [growth**cell for cell in range(-500, 500, 7)]
    bounds += [math.nextafter(bound, way) for bound in bounds for way in (0.0, math.inf)]
    for _ in range(50):
        numbers = [chance.choice((-1, 1)) * 10 ** chance.uniform(-14, 12) for _ in range(chance.randrange(300))]
        numbers += chance.sample(bounds, 100) + [0.0, -0.0, math.nan, math.inf, -math.inf]
        expected = of_rust(numbers)
        assert quantiles(numbers) == expected
        assert quantiles(np.array(numbers)) == expected
    narrow = np.array(numbers, dtype=np.float32)
    assert quantiles(narrow) == of_rust(narrow.tolist())
    pinned = {"zeros": 1, "positive": {"-34": 1, "0": 2}, "negative": {"55": 1}}
    assert quantiles([-3.0, 0.0, 0.5, 1.0, 1.0]) == {"quantiles": pinned}, "as a test of tradewind_core has it"
    assert quantiles(range(5)) == quantiles(np.arange(5)) == of_rust([0.0, 1.0, 2.0, 3.0, 4.0])


def test_a_median_is_read_from_a_sketch():
    for numbers in ([-3.0, 1.0, 5.0], [2.0], [-1.0, -2.0, -3.0, 8.0], [0.0, 0.0, 1.0]):
        exact = sorted(numbers)[math.floor((len(numbers) - 1) / 2 + 0.5)]
        assert measured.number(quantiles(numbers)) == pytest.approx(exact, rel=0.0101)
    assert measured.number(quantiles([])) is None


def test_golden_cases_are_a_row_each(tmp_path):
    directory = Step(output=tmp_path)
    images = np.array([[0, 1.5], [2, 3]], dtype=np.float32)
    paths = golden(
        directory,
        {"image": images, "name": np.array(["a", "b"])},
        {"label": np.array([7, 8]), "odd": np.array([True, False]), "p": np.array([[0.1], [0.25]], np.float32)},
        rtol=1e-3,
    )
    assert [str(path.relative_to(tmp_path)) for path in paths] == ["cases/001.json", "cases/002.json"]
    assert json.loads(paths[0].read_text()) == {
        "request": {
            "inputs": [
                {"name": "image", "datatype": "FP32", "shape": [1, 2], "data": [0, 1.5]},
                {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["a"]},
            ]
        },
        "expect": {
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [1], "data": [7]},
                {"name": "odd", "datatype": "BOOL", "shape": [1], "data": [True]},
                {"name": "p", "datatype": "FP32", "shape": [1, 1], "data": [0.1]},
            ]
        },
        "tolerance": {"rtol": 1e-3},
    }
    [third] = golden(directory, {"image": images[:1]}, {"label": [1]})
    assert third.name == "003.json" and "tolerance" not in json.loads(third.read_text())
    for inputs, outputs, problem in [
        ({"image": images}, {"label": [1]}, "the arrays differ in their rows: 1, 2"),
        ({"image": images}, {}, "a golden case has at least one output"),
        ({"image": images.astype(np.float16)}, {"label": [1, 2]}, "input `image` is float16, which JSON cannot carry"),
        ({"image": images}, {"p": [1.0, math.nan]}, "output `p` is not finite everywhere"),
        ({"image": np.zeros((997, 1))}, {"p": np.zeros(997)}, "1000 golden cases, the limit is 999"),
    ]:
        with pytest.raises(ValueError) as raised:
            golden(directory, inputs, outputs)
        assert problem in str(raised.value)


def test_a_step_is_called_as_a_function():
    @step
    def train(step):
        return step.parameters["x"]

    assert train(Step(parameters={"x": 5})) == 5
