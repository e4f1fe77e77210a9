"""The steps as a program that knows nothing of Tradewind's package: a start for each step of each batch or, with `serve`,
one for all of them."""

import json
import os
import sys
from pathlib import Path

import steps


def main():
    if sys.argv[1:] != ["serve"]:
        return do(os.environ["TRADEWIND_STEP"])
    for line in sys.stdin:
        do(json.loads(line)["step"])
        print(json.dumps({"ok": True}), flush=True)


def do(path):
    told = json.loads(Path(path).read_bytes())
    inputs, output = told["inputs"], Path(told["output"])
    directory = lambda name: Path(inputs[name]["directory"])
    match told["step"]:
        case "preprocess":
            steps.preprocess(Path(inputs["batch"]["files"][0]), output)
        case "train":
            steps.train(directory("preprocess"), output, told["parameters"]["burn"])
        case "judge":
            loss = steps.evaluate(directory("preprocess"), directory("train"))
            Path(told["result"]).write_text(json.dumps({"metrics": {"loss": loss}}))
        case "aggregate":
            (output / "batches.json").write_text(json.dumps(len(inputs["judge"])))


if __name__ == "__main__":
    main()
