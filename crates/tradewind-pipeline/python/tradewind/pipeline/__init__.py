"""What steps of a Tradewind pipeline are written with. Needs nothing but Python.

    from tradewind.pipeline import confusion, step

    @step
    def train(step):
        table = step.table()
        ...
        model.save(step.output / "model.onnx")
        return {"accuracy": 0.97, "taken": confusion(range(10), truth, predicted)}

A pipeline names it `function = "steps:train"`. What is returned are its metrics: a number is a mean over the rows of
its batch; `mean`, `total`, `least`, `greatest`, `confusion` and `quantiles` say how others add up.
"""

from .cases import golden
from .contract import Hopeless, Input, Result, Step, main, step
from .metrics import confusion, greatest, least, mean, quantiles, total

__all__ = [
    "Hopeless", "Input", "Result", "Step", "confusion", "golden", "greatest", "least", "main", "mean", "quantiles",
    "step", "total",
]
