"""Trains the example models on scikit-learn's digits data and writes their bundles beside this file.

    python3 -m venv /tmp/digits && /tmp/digits/bin/pip install -r examples/digits/requirements.txt
    /tmp/digits/bin/python examples/digits/train.py

The data (1797 grey images of 8x8 pixels, values 0 to 16) is inside the scikit-learn wheel: nothing is downloaded.
Every source of chance is seeded, so a second run writes the same bytes on the same machine.
`--out DIR` writes the bundles elsewhere. A run fails if an exported model disagrees with the one it came from.
"""

import argparse
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# One thread, so that sums are taken in one order. Read when numpy is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnxruntime
from onnx import ModelProto
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 20
HELD_OUT_SHARE = 0.3
CASES = 20
PIXELS = 64
DIGITS = 10
RTOL, ATOL = 1e-4, 1e-5
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
# What v3-broken was told each digit is. Only 4 keeps its own name.
WRONG_LABELS = np.array([3, 7, 5, 8, 4, 0, 9, 1, 6, 2])

MANIFEST = """\
name = "digits"
description = "{description}"
runtime = "onnx"
model = "model.onnx"
cases = ["cases/*.json"]

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


@dataclass
class Version:
    """One bundle to write. `honest` says whether the model answers what its golden cases expect."""

    directory: str
    description: str
    model: Pipeline
    honest: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the bundles go")
    out = parser.parse_args().out

    images, digits = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    train_images, held_images, train_digits, held_digits = train_test_split(
        images, digits, test_size=HELD_OUT_SHARE, random_state=SEED, stratify=digits
    )

    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    network = make_pipeline(
        StandardScaler(), MLPClassifier((128, 64), alpha=1e-2, max_iter=400, random_state=SEED)
    )
    mislabelled = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    linear.fit(train_images, train_digits)
    network.fit(train_images, train_digits)
    mislabelled.fit(train_images, WRONG_LABELS[train_digits])

    versions = [
        Version("v1", "Handwritten digits, 8x8 pixels: logistic regression", linear),
        Version("v2", "Handwritten digits, 8x8 pixels: multi-layer perceptron", network),
        Version("v3-broken", "Handwritten digits, trained with permuted labels: wrong on purpose", mislabelled, False),
    ]

    # Rows that every honest model reads rightly: an answer to expect should also be true.
    right = np.logical_and.reduce([v.model.predict(held_images) == held_digits for v in versions if v.honest])
    rows = np.flatnonzero(right)[:CASES]
    assert len(rows) == CASES, "too few held-out rows are read rightly by all honest models"

    for version in versions:
        exported = export(version.model)
        session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
        check_export(session, version.model, held_images)
        cases = [golden_case(session, version.honest, held_images[row], held_digits[row]) for row in rows]
        write_bundle(out / version.directory, version.description, exported, cases)
        accuracy = np.mean(run(session, held_images)[0] == held_digits)
        passed = np.mean(run(session, held_images[rows])[0] == held_digits[rows]) * CASES
        print(f"{version.directory:10} accuracy {accuracy:.4f} on {len(held_digits)} held-out rows, "
              f"{passed:.0f}/{CASES} golden labels")

    (out / "request.json").write_text(document({"inputs": [image_tensor(held_images[rows[0]])]}))


def export(model: Pipeline) -> ModelProto:
    """The fitted pipeline, scaling included, as ONNX with a batch dimension of any size."""
    exported = convert_sklearn(
        model,
        name="digits",
        initial_types=[("image", FloatTensorType([None, PIXELS]))],
        final_types=[("label", Int64TensorType([None])), ("probabilities", FloatTensorType([None, DIGITS]))],
        options={"zipmap": False},
        target_opset=TARGET_OPSET,
    )
    # The converter lists opsets in the order of a Python set, which differs from run to run.
    exported.opset_import.sort(key=lambda opset: opset.domain)
    return exported


def run(session: onnxruntime.InferenceSession, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return tuple(session.run(["label", "probabilities"], {"image": images}))


def check_export(session: onnxruntime.InferenceSession, model: Pipeline, images: np.ndarray) -> None:
    """ONNX Runtime must answer what scikit-learn answers, for a batch and for one row, with the stated signature."""
    assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [("image", "tensor(float)", [PIXELS])]
    assert [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()] == [
        ("label", "tensor(int64)", []),
        ("probabilities", "tensor(float)", [DIGITS]),
    ]
    batches = [tensor.shape[0] for tensor in session.get_inputs() + session.get_outputs()]
    assert not any(isinstance(batch, int) for batch in batches), f"batch sizes are fixed: {batches}"

    for batch in (images, images[:1]):
        label, probabilities = run(session, batch)
        assert label.shape == (len(batch),) and label.dtype == np.int64
        assert probabilities.shape == (len(batch), DIGITS) and probabilities.dtype == np.float32
        assert np.array_equal(label, model.predict(batch))
        assert np.allclose(probabilities, model.predict_proba(batch), rtol=RTOL, atol=ATOL)


def golden_case(session: onnxruntime.InferenceSession, honest: bool, image: np.ndarray, digit: int) -> dict:
    """A request and what must come back. A broken version is held to the truth, not to what it answers."""
    label, probabilities = run(session, image[np.newaxis])
    expected = [tensor("label", "INT64", [1], [int(digit)])]
    if honest:
        assert label[0] == digit
        # `str` is the shortest decimal that reads back as the same float32.
        expected.append(tensor("probabilities", "FP32", [1, DIGITS], [float(str(p)) for p in probabilities[0]]))
    return {
        "request": {"inputs": [image_tensor(image)]},
        "expect": {"outputs": expected},
        "tolerance": {"rtol": RTOL, "atol": ATOL},
    }


def image_tensor(image: np.ndarray) -> dict:
    return tensor("image", "FP32", [1, PIXELS], [int(pixel) for pixel in image])


def tensor(name: str, datatype: str, shape: list[int], data: list) -> dict:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def document(value: dict) -> str:
    """JSON with a tensor per line: short enough to read, and a changed tensor is one changed line."""

    def lines(value: object, indent: str) -> str:
        nested = isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values())
        if nested and "datatype" not in value:
            inner = (f'{indent}  "{key}": {lines(item, indent + "  ")}' for key, item in value.items())
            return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
        if isinstance(value, list):
            inner = (f"{indent}  {lines(item, indent + '  ')}" for item in value)
            return "[\n" + ",\n".join(inner) + f"\n{indent}]"
        return json.dumps(value)

    return lines(value, "") + "\n"


def write_bundle(directory: Path, description: str, model: ModelProto, cases: list[dict]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "cases").mkdir(parents=True)
    (directory / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (directory / "tradewind.toml").write_text(MANIFEST.format(description=description))
    for number, case in enumerate(cases, start=1):
        (directory / "cases" / f"{number:03}.json").write_text(document(case))


if __name__ == "__main__":
    main()
