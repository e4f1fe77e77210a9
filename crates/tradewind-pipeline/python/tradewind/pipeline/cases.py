"""Golden cases of a bundle: requests with what the model must answer, checked before a version gets any user."""

import json
import math

CASES_LIMIT = 999
# As tradewind_core reads them in JSON.
DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float32": "FP32", "float64": "FP64",
}


def golden(step, inputs, outputs, rtol=None, atol=None):
    """Writes a case for each row into `cases` of the step's output: arrays by the names of the model's inputs, and what
    it must answer by those of its outputs. Rows that the model answers rightly, as is known of them, are worth most.

    Floating-point elements may differ by `atol + rtol * |expected|`. Gives the paths.
    """
    inputs, outputs = _arrays("input", inputs), _arrays("output", outputs)
    rows = {len(array) for array in (*inputs.values(), *outputs.values())}
    if len(rows) != 1:
        raise ValueError(f"the arrays differ in their rows: {', '.join(map(str, sorted(rows)))}")
    directory = step.output / "cases"
    directory.mkdir(parents=True, exist_ok=True)
    there, [count] = len(list(directory.glob("*.json"))), rows
    if there + count > CASES_LIMIT:
        raise ValueError(f"{there + count} golden cases, the limit is {CASES_LIMIT}: a few of each kind are enough")
    tolerance = {key: float(value) for key, value in (("rtol", rtol), ("atol", atol)) if value is not None}
    paths = []
    for row in range(count):
        case = {
            "request": {"inputs": [_tensor(name, array[row:row + 1]) for name, array in inputs.items()]},
            "expect": {"outputs": [_tensor(name, array[row:row + 1]) for name, array in outputs.items()]},
        }
        if tolerance:
            case["tolerance"] = tolerance
        path = directory / f"{there + row + 1:03}.json"
        path.write_text(json.dumps(case, allow_nan=False) + "\n")
        paths.append(path)
    return paths


def _arrays(kind, given):
    import numpy

    arrays = {name: numpy.asarray(values) for name, values in given.items()}
    if not arrays:
        raise ValueError(f"a golden case has at least one {kind}")
    for name, array in arrays.items():
        if array.ndim == 0:
            raise ValueError(f"{kind} `{name}` has no rows")
        if array.dtype.kind not in "SUO" and array.dtype.name not in DATATYPES:
            raise ValueError(f"{kind} `{name}` is {array.dtype}, which JSON cannot carry")
        if array.dtype.kind == "f" and not numpy.isfinite(array).all():
            raise ValueError(f"{kind} `{name}` is not finite everywhere")
    return arrays


def _tensor(name, array):
    flat = array.ravel()
    datatype = DATATYPES.get(array.dtype.name, "BYTES")
    if array.dtype.kind == "f":
        # `str` is the shortest decimal that reads back as the same number of this type.
        data = [_plain(float(str(number))) for number in flat]
    else:
        data = [_text(value) for value in flat] if datatype == "BYTES" else flat.tolist()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def _plain(number):
    """Whole numbers without a point, as people write them."""
    return int(number) if number == math.floor(number) and abs(number) < 2**53 else number


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
