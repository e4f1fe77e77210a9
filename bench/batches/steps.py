"""What every contender does with a batch: three functions that read a small file each; two of them write one."""

import json


def preprocess(source, output):
    """The rows of a table, scaled."""
    rows = [[float(cell) for cell in line.split(",")] for line in source.read_text().splitlines()[1:]]
    greatest = max(x for x, _ in rows)
    (output / "rows.json").write_text(json.dumps([[x / greatest, y] for x, y in rows]))


def train(prepared, output, burn):
    """The slope of a line through the origin."""
    rows = read(prepared)
    keep_busy(burn)
    slope = sum(x * y for x, y in rows) / sum(x * x for x, _ in rows)
    (output / "model.json").write_text(json.dumps(slope))


def evaluate(prepared, trained):
    """How far the line is from the rows: the mean of the squares."""
    slope = json.loads((trained / "model.json").read_text())
    rows = read(prepared)
    return sum((y - slope * x) ** 2 for x, y in rows) / len(rows)


def read(prepared):
    return json.loads((prepared / "rows.json").read_text())


def keep_busy(turns):
    """As a training would that has a core to itself: the same work every time, all of it in Python."""
    state = 1
    for _ in range(turns):
        state = state * 48271 % 2147483647
    return state
