"""The steps as functions of Python, which a worker calls."""

import json

import steps
from tradewind.pipeline import step


@step
def preprocess(step):
    steps.preprocess(step.file, step.output)


@step
def train(step):
    steps.train(step.directory("preprocess"), step.output, step.parameters["burn"])


@step
def judge(step):
    return {"loss": steps.evaluate(step.directory("preprocess"), step.directory("train"))}


@step
def aggregate(step):
    (step.output / "batches.json").write_text(json.dumps(len(step.all())))
