"""Digits, batch by batch: images are cleaned, a linear model is fitted to them, and tried out."""

import numpy as np
import onnxruntime
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.linear_model import SGDClassifier

from tradewind.pipeline import Result, confusion, golden, quantiles, step, total

PIXELS, BRIGHTEST = 64, 16
DIGITS = np.arange(10)
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
MANIFEST = """\
name = "digits"
description = "Handwritten digits, 8x8 pixels: the average of linear models"

[[signature.inputs]]
name = "image"
datatype = "FP32"
shape = [-1, 64]

[[signature.outputs]]
name = "label"
datatype = "INT64"
shape = [-1]

[[signature.outputs]]
name = "probabilities"
datatype = "FP32"
shape = [-1, 10]
"""


@step
def preprocess(step):
    """Leaves out rows that cannot be."""
    table = np.genfromtxt(step.file, delimiter=",", skip_header=1, dtype=np.float32)
    images, digits = table[:, :PIXELS], table[:, PIXELS]
    # What is missing is neither above nor below anything.
    whole = ((images >= 0) & (images <= BRIGHTEST)).all(axis=1) & np.isin(digits, DIGITS)
    np.save(step.output / "images.npy", images[whole])
    np.save(step.output / "digits.npy", digits[whole].astype(np.int64))
    return Result(rows=whole.sum(), metrics={"dropped": total((~whole).sum())})


@step
def train(step):
    """Fits a model to the first part of the batch, epoch by epoch, and writes it as a bundle."""
    images, digits = first_part(*load(step.directory()))
    model = SGDClassifier(loss="log_loss", alpha=1e-3, random_state=step.parameters["seed"])
    chance = np.random.default_rng(step.parameters["seed"])
    for _ in range(step.parameters["epochs"]):
        order = chance.permutation(len(images))
        model.partial_fit(images[order] / BRIGHTEST, digits[order], classes=DIGITS)
    # Users send pixels as they are.
    model.coef_ = model.coef_ / BRIGHTEST
    exported = convert_sklearn(
        model,
        name="digits",
        initial_types=[("image", FloatTensorType([None, PIXELS]))],
        final_types=[("label", Int64TensorType([None])), ("probabilities", FloatTensorType([None, len(DIGITS)]))],
        options={"zipmap": False},
        target_opset=TARGET_OPSET,
    )
    # The converter lists opsets in the order of a Python set, which differs from run to run.
    exported.opset_import.sort(key=lambda opset: opset.domain)
    (step.output / "model.onnx").write_bytes(exported.SerializeToString(deterministic=True))
    (step.output / "tradewind.toml").write_text(MANIFEST)
    return Result(rows=len(images))


@step
def check(step):
    """Tries the batch's own model on the part of the batch that it has not seen."""
    images, digits = second_part(*load(step.directory("preprocess")))
    labels, _ = ask(step.directory("train"), images)
    return Result(rows=len(images), metrics={"accuracy": (labels == digits).mean()})


@step
def evaluate(step):
    """Judges the model on the batches that were held out, and takes golden cases from them."""
    batches = [load(batch.directory) for batch in step.all()]
    images, digits = (np.concatenate(parts) for parts in zip(*batches))
    labels, probabilities = ask(step.directory("model"), images)
    right = labels == digits
    rows = [np.flatnonzero(right & (digits == digit))[:step.parameters["cases_per_digit"]] for digit in DIGITS]
    rows = np.concatenate(rows)
    golden(
        step, {"image": images[rows]}, {"label": digits[rows], "probabilities": probabilities[rows]},
        rtol=1e-4, atol=1e-5,
    )
    metrics = {
        "accuracy": right.mean(), "taken": confusion(DIGITS, digits, labels),
        "certainty": quantiles(probabilities.max(axis=1)),
    }
    return Result(rows=len(images), metrics=metrics)


def load(directory):
    return np.load(directory / "images.npy"), np.load(directory / "digits.npy")


def first_part(images, digits):
    cut = len(images) * 4 // 5
    return images[:cut], digits[:cut]


def second_part(images, digits):
    cut = len(images) * 4 // 5
    return images[cut:], digits[cut:]


def ask(directory, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(directory / "model.onnx", options, providers=["CPUExecutionProvider"])
    return model.run(["label", "probabilities"], {"image": images})
