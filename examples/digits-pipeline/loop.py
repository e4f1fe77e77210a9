"""Does in one process, batch after batch, what the pipeline does in parallel: the same functions, the same result.

    python loop.py --out result [--held-out data/day-03.csv ...]

Writes `result/bundle` and `result/metrics.json`, and prints the metrics. Which batches the pipeline holds out it says
itself; without `--held-out` it is the last quarter. The package `tradewind` is in crates/tradewind-pipeline/python.
"""

import argparse
import json
import os
import shutil
import tomllib
from pathlib import Path

# As steps are run: sums are taken in one order. Read when numpy is loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import steps

from tradewind.pipeline import Input, Step
from tradewind.pipeline.combine import average
from tradewind.pipeline.metrics import number

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE / "data", help="what make_data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="where the result goes")
    parser.add_argument("--held-out", nargs="*", help="the names of the batches to judge by")
    arguments = parser.parse_args()
    pipeline = tomllib.loads((HERE / "pipeline.toml").read_text())
    parameters = {own["name"]: own.get("parameters") for own in pipeline["step"]}

    files = sorted(arguments.data.glob("*.csv"))
    held_out = {Path(name).name for name in arguments.held_out or [file.name for file in files[-len(files) // 4:]]}
    clean, models = [], []
    for file in files:
        out = arguments.out / file.stem
        batch = Input(f"data/{file.name}", "csv", [file])
        preprocessed = do(steps.preprocess, out, {"batch": batch}, parameters["preprocess"])
        if file.name in held_out:
            clean.append(preprocessed)
            continue
        models.append(do(steps.train, out, {"preprocess": preprocessed}, parameters["train"]))
        do(steps.check, out, {"train": models[-1], "preprocess": preprocessed}, parameters["check"])
    model = do(average, arguments.out, {"train": models}, {"of": "train"})
    judged = do(
        steps.evaluate, arguments.out, {"model": model, "preprocess": clean}, pipeline["evaluate"]["parameters"]
    )
    shutil.copytree(model.directory, arguments.out / "bundle")
    shutil.copytree(judged.directory / "cases", arguments.out / "bundle" / "cases")
    (arguments.out / "metrics.json").write_text(json.dumps(judged.metrics))
    print(", ".join(f"{name} {number(metric):.4f}" for name, metric in judged.metrics.items()))


def do(function, out, inputs, parameters):
    """One step; what it wrote and said."""
    directory = out / function.__name__
    directory.mkdir(parents=True)
    step = Step(function.__name__, inputs, directory, parameters)
    said = step.finish(function(step))
    names = {given.batch for given in inputs.values() if isinstance(given, Input)}
    return Input(max(names, default=""), directory=directory, rows=said.get("rows"), metrics=said.get("metrics"))


if __name__ == "__main__":
    main()
