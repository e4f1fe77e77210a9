"""What the scripts of all peers have in common: what they are told, where a batch's files go, and what they report."""

import argparse
import json
import time
from pathlib import Path

import steps


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="a file for each batch")
    parser.add_argument("--out", type=Path, required=True, help="where outputs go")
    parser.add_argument("--report", type=Path, required=True, help="the file with what came of it")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--burn", type=int, required=True, help="turns of a loop in each training")
    return parser.parse_args()


def sources(data):
    return sorted(data.iterdir())


def preprocess(source, out):
    """Gives the directory of what it wrote; so does `train`."""
    output = place(out, source.stem, "preprocess")
    steps.preprocess(source, output)
    return output


def train(prepared, burn):
    output = place(prepared.parent.parent, prepared.parent.name, "train")
    steps.train(prepared, output, burn)
    return output


def evaluate(prepared, trained):
    return steps.evaluate(prepared, trained)


def whole(source, out, burn):
    """All steps of a batch, one after the other."""
    prepared = preprocess(source, out)
    return evaluate(prepared, train(prepared, burn))


def place(out, batch, step):
    directory = out / batch / step
    directory.mkdir(parents=True)
    return directory


def measured(work):
    """The losses that it gives, and how long it took."""
    began = time.perf_counter()
    losses = work()
    return losses, time.perf_counter() - began


def report(path, losses, seconds=None):
    """`seconds` are those of the work alone; absent where it cannot be told from the start."""
    path.write_text(json.dumps({"batches": len(losses), "loss": sum(losses) / len(losses), "seconds": seconds}))
