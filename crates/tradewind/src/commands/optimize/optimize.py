"""Makes a leaner ONNX model: its graph optimised, its weights as 8-bit integers.

    python optimize.py --model model.onnx --out leaner.onnx [--graph] [--int8] [--calibrate requests.jsonl]

Calibration requests are inference requests of the Open Inference Protocol in JSON, one a line. With them activations are
quantised by scales that they give (static); without, by scales taken at run time (dynamic). Prints one line of JSON:
{"int8": "static" | "dynamic" | null, "operators": {"before": {...}, "after": {...}}}; what goes wrong is the last line of
standard error.
"""

import argparse
import collections
import json
import logging
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization

DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}
# What is worth quantising: the rest costs little, and loses accuracy.
OPERATORS = ["Conv", "Gemm", "MatMul"]
# The first operator set that has weights quantised channel by channel.
OLDEST_OPSET = 13


class Requests(quantization.CalibrationDataReader):
    def __init__(self, path):
        self.requests = (json.loads(line) for line in path.read_text().splitlines() if line.strip())

    def get_next(self):
        request = next(self.requests, None)
        if request is None:
            return None
        return {
            tensor["name"]: np.array(tensor["data"], dtype=DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
            for tensor in request["inputs"]
        }


def operators(path):
    return dict(collections.Counter(node.op_type for node in onnx.load(path).graph.node))


def optimise_graph(source, target):
    options = onnxruntime.SessionOptions()
    # Beyond that lie layouts that are good on this processor alone; replicas make those themselves.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def quantise(source, target, calibrate):
    opset = max((one.version for one in onnx.load(source).opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise SystemExit(f"the model is of operator set {opset}: export it with {OLDEST_OPSET} or later to quantise it")
    found = operators(source)
    if not any(operator in found for operator in OPERATORS):
        raise SystemExit(f"the model has nothing to quantise: none of {', '.join(OPERATORS)}")
    if calibrate is None:
        if "Conv" in found:
            raise SystemExit("a model with convolutions needs requests to calibrate it with: give some with --calibrate")
        quantization.quantize_dynamic(
            source, target, op_types_to_quantize=OPERATORS, per_channel=True, weight_type=quantization.QuantType.QInt8
        )
        return "dynamic"
    quantization.quantize_static(
        source, target, Requests(calibrate), op_types_to_quantize=OPERATORS, per_channel=True,
        quant_format=quantization.QuantFormat.QDQ, weight_type=quantization.QuantType.QInt8,
    )
    return "static"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--calibrate", type=pathlib.Path)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        current, int8 = args.model, None
        if args.int8:
            current, source = pathlib.Path(directory, "int8.onnx"), current
            int8 = quantise(source, current, args.calibrate)
        if args.graph:
            current, source = pathlib.Path(directory, "graph.onnx"), current
            optimise_graph(source, current)
        args.out.write_bytes(current.read_bytes())
        print(json.dumps({"int8": int8, "operators": {"before": operators(args.model), "after": operators(current)}}))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
