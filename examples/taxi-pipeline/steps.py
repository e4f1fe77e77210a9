"""Taxi trips, day by day: rows are cleaned, and the sums are taken that a linear model is solved from.

The sums of all days are those of all trips, so the model is the one that a single fit to all of them would give;
nothing is lost by fitting in parallel.
"""

import numpy as np
import onnxruntime
import pyarrow
import pyarrow.parquet
from onnx import TensorProto, checker, helper, numpy_helper

from tradewind.pipeline import Hopeless, Result, golden, mean, quantiles, step, total

ZONES, HOURS, SATURDAY = 16, 24, 5
SECONDS_PER_DAY = 24 * 3600
COLUMNS = ["pickup_at", "from_zone", "to_zone", "distance_km", "rain_mm", "duration_s"]
FASTEST, SLOWEST = 0.4, 30.0  # minutes per kilometre, with an hour more for those who wait
# The model's weights: a constant and a pace for each hour of workdays and weekends, minutes of both zones, and rain.
SLOTS = 2 * HOURS
PLACES = {"constant": SLOTS, "pace": SLOTS, "from": ZONES, "to": ZONES, "rain": 1, "rain_pace": 1}
WEIGHTS = sum(PLACES.values())
ROWS_AT_ONCE = 10_000
INPUTS = {
    "hour": np.int64, "weekday": np.int64, "from_zone": np.int64, "to_zone": np.int64, "distance_km": np.float32,
    "rain_mm": np.float32,
}
OPSET = 18
MANIFEST = """\
name = "trips"
description = "How many minutes a taxi will take: a linear model of hour, zones, distance and rain"
"""


@step
def clean(step):
    """Leaves out rows that cannot be, and tells hour and weekday."""
    table = step.table(library="pyarrow")
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise Hopeless(f"column `{missing[0]}` is missing")
    began, from_zone, to_zone, distance, rain, duration = (table[name].to_numpy() for name in COLUMNS)
    began = began.astype("datetime64[s]").astype(np.int64)
    minutes = duration / 60
    # What is missing is neither above nor below anything.
    whole = (distance > 0) & (rain >= 0) & (minutes > FASTEST * distance) & (minutes < 60 + SLOWEST * distance)
    whole &= np.isin(from_zone, np.arange(ZONES)) & np.isin(to_zone, np.arange(ZONES))
    columns = {
        "hour": began // 3600 % HOURS,
        # The first day of 1970 was a Thursday.
        "weekday": (began // SECONDS_PER_DAY + 3) % 7,
        "from_zone": from_zone, "to_zone": to_zone, "distance_km": distance, "rain_mm": rain,
    }
    columns = {name: columns[name][whole].astype(INPUTS[name]) for name in INPUTS}
    columns["minutes"] = minutes[whole].astype(np.float32)
    pyarrow.parquet.write_table(pyarrow.table(columns), step.output / "trips.parquet")
    metrics = {"dropped": total((~whole).sum()), "minutes": quantiles(columns["minutes"])}
    return Result(rows=whole.sum(), metrics=metrics)


@step
def train(step):
    """The sums of products of all pairs of features, with the minutes as the last one."""
    columns = read(step.one())
    sums = np.zeros((WEIGHTS + 1, WEIGHTS + 1))
    for first in range(0, len(columns["minutes"]), ROWS_AT_ONCE):
        rows = features({name: column[first:first + ROWS_AT_ONCE] for name, column in columns.items()})
        sums += rows.T @ rows
    np.save(step.output / "sums.npy", sums)
    rows = len(columns["minutes"])
    own = solve(sums, 1.0)
    # How well the day explains itself.
    squares = max(0.0, sums[-1, -1] - 2 * own @ sums[:-1, -1] + own @ sums[:-1, :-1] @ own)
    return Result(rows=rows, metrics={"squared_error": mean(squares / rows, rows)})


@step
def merge(step):
    """One model of all days, as ONNX."""
    sums = np.zeros((WEIGHTS + 1, WEIGHTS + 1))
    for day in step.all():
        sums += np.load(day.directory / "sums.npy")
    weights = solve(sums, step.parameters["ridge"])
    model = graph(weights.astype(np.float32))
    checker.check_model(model)
    (step.output / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (step.output / "tradewind.toml").write_text(MANIFEST)


@step
def evaluate(step):
    """Judges the model on the days that were held out, and takes golden cases from them."""
    days = [read(day) for day in step.all()]
    columns = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
    truth = columns.pop("minutes")
    answer = ask(step.directory("model"), columns)
    off = np.abs(answer.astype(np.float64) - truth)
    # From all over the days, where the model was right to a minute.
    right = np.flatnonzero(off < 1.0)
    rows = right[np.linspace(0, len(right) - 1, min(step.parameters["cases"], len(right))).astype(np.int64)]
    requests = {name: column[rows] for name, column in columns.items()}
    golden(step, requests, {"minutes": answer[rows]}, rtol=1e-4, atol=1e-4)
    around_mean = np.square(truth - truth.mean(dtype=np.float64)).sum()
    metrics = {"r2": 1 - np.square(off).sum() / around_mean, "minutes_off": off.mean(), "off": quantiles(off)}
    return Result(rows=len(truth), metrics=metrics)


def read(day):
    table = day.table(library="pyarrow")
    return {name: table[name].to_numpy() for name in (*INPUTS, "minutes")}


def features(columns):
    """A row for each trip: what each weight is multiplied with, and the minutes."""
    rows = np.zeros((len(columns["minutes"]), WEIGHTS + 1))
    every = np.arange(len(rows))
    slot = columns["hour"] + HOURS * (columns["weekday"] >= SATURDAY)
    distance, rain = columns["distance_km"], columns["rain_mm"]
    # In the order of PLACES.
    rows[every, slot] = 1
    rows[every, SLOTS + slot] = distance
    rows[every, 2 * SLOTS + columns["from_zone"]] = 1
    rows[every, 2 * SLOTS + ZONES + columns["to_zone"]] = 1
    rows[:, -3] = rain
    rows[:, -2] = rain * distance
    rows[:, -1] = columns["minutes"]
    return rows


def solve(sums, ridge):
    """The weights with the least squared error. The ridge decides between those that are as good."""
    return np.linalg.solve(sums[:-1, :-1] + ridge * np.eye(WEIGHTS), sums[:-1, -1])


def graph(weights):
    parts = dict(zip(PLACES, np.split(weights, np.cumsum(list(PLACES.values()))[:-1])))
    constants = {**parts, "saturday": np.array(SATURDAY), "hours": np.array(HOURS)}
    nodes = [
        helper.make_node(operator, inputs.split(), [output], **attributes)
        for operator, inputs, output, attributes in [
            ("GreaterOrEqual", "weekday saturday", "is_weekend", {}),
            ("Cast", "is_weekend", "weekend", {"to": TensorProto.INT64}),
            ("Mul", "weekend hours", "weekend_hours", {}),
            ("Add", "hour weekend_hours", "slot", {}),
            ("Gather", "constant slot", "of_slot", {}),
            ("Gather", "pace slot", "pace_of_slot", {}),
            ("Mul", "pace_of_slot distance_km", "of_distance", {}),
            ("Gather", "from from_zone", "of_from_zone", {}),
            ("Gather", "to to_zone", "of_to_zone", {}),
            ("Mul", "rain rain_mm", "of_rain", {}),
            ("Mul", "rain_mm distance_km", "rain_distance", {}),
            ("Mul", "rain_pace rain_distance", "of_rain_distance", {}),
            ("Sum", "of_slot of_distance of_from_zone of_to_zone of_rain of_rain_distance", "minutes", {}),
        ]
    ]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["N"])
        for name, kind in INPUTS.items()
    ]
    outputs = [helper.make_tensor_value_info("minutes", TensorProto.FLOAT, ["N"])]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "trips", inputs, outputs, initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def ask(directory, columns):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(directory / "model.onnx", options, providers=["CPUExecutionProvider"])
    [minutes] = model.run(["minutes"], columns)
    return minutes
