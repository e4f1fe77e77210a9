"""https://docs.metaflow.org/metaflow/basics#foreach: a step of a batch is a task, each in a process of its own."""

from pathlib import Path

import peer
from metaflow import FlowSpec, Parameter, step


class Batches(FlowSpec):
    data = Parameter("data")
    out = Parameter("out")
    report = Parameter("report")
    burn = Parameter("burn", type=int)

    @step
    def start(self):
        self.sources = peer.sources(Path(self.data))
        self.next(self.preprocess, foreach="sources")

    @step
    def preprocess(self):
        self.prepared = peer.preprocess(self.input, Path(self.out))
        self.next(self.train)

    @step
    def train(self):
        self.trained = peer.train(self.prepared, self.burn)
        self.next(self.evaluate)

    @step
    def evaluate(self):
        self.loss = peer.evaluate(self.prepared, self.trained)
        self.next(self.join)

    @step
    def join(self, inputs):
        peer.report(Path(self.report), [batch.loss for batch in inputs])
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Batches()
