"""Does in one process, day after day, what the pipeline does in parallel: the same functions, the same result.

    python loop.py --out result [--held-out data/2026-01-03.parquet ...]

Writes `result/bundle` and `result/metrics.json`, and prints the metrics. Which days the pipeline holds out it says
itself; without `--held-out` it is the last tenth. The package `tradewind` is in crates/tradewind-pipeline/python.
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
from tradewind.pipeline.metrics import number

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE / "data", help="what make_data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="where the result goes")
    parser.add_argument("--held-out", nargs="*", help="the names of the batches to judge by")
    arguments = parser.parse_args()
    pipeline = tomllib.loads((HERE / "pipeline.toml").read_text())

    files = sorted(arguments.data.iterdir())
    held_out = {Path(name).name for name in arguments.held_out or [file.name for file in files[-len(files) // 10:]]}
    judged_by, days = [], []
    for file in files:
        out = arguments.out / file.stem
        clean = do(steps.clean, out, {"batch": Input(f"data/{file.name}", file.suffix[1:], [file])})
        if file.name in held_out:
            judged_by.append(clean)
        else:
            days.append(do(steps.train, out, {"clean": clean}))
    model = do(steps.merge, arguments.out, {"train": days}, pipeline["aggregate"]["parameters"])
    inputs = {"model": model, "clean": judged_by}
    judged = do(steps.evaluate, arguments.out, inputs, pipeline["evaluate"]["parameters"])
    shutil.copytree(model.directory, arguments.out / "bundle")
    shutil.copytree(judged.directory / "cases", arguments.out / "bundle" / "cases")
    (arguments.out / "metrics.json").write_text(json.dumps(judged.metrics))
    print(", ".join(f"{name} {number(metric):.4f}" for name, metric in judged.metrics.items()))


def do(function, out, inputs, parameters=None):
    """One step; what it wrote and said."""
    directory = out / function.__name__
    directory.mkdir(parents=True)
    step = Step(function.__name__, inputs, directory, parameters)
    said = step.finish(function(step))
    names = {given.batch for given in inputs.values() if isinstance(given, Input)}
    return Input(max(names, default=""), directory=directory, rows=said.get("rows"), metrics=said.get("metrics"))


if __name__ == "__main__":
    main()
