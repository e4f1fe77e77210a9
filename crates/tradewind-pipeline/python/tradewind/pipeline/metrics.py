"""Metrics that add up over batches, each in its own way, as `tradewind_core::pipeline::metric` reads them."""

import math
import sys
from collections import Counter

# As in tradewind_core.
METRICS_LIMIT = 1000
LABELS_LIMIT = 1000
NAME_BYTES_LIMIT = 200
COUNT_LIMIT = 2**64 - 1
CELLS_LIMIT = 8192
ACCURACY = 0.01
ZERO = 1e-12
GROWTH = (1.0 + ACCURACY) / (1.0 - ACCURACY)
# A logarithm of numpy may differ from that of the C library in the last bits: so near to a bound the latter decides.
NEAR_A_BOUND = 1e-6


def mean(value, weight=None):
    """A mean over so many things; without a weight over the rows of the result."""
    return value if weight is None else {"mean": value, "weight": weight}


def total(value):
    """What is simply added up."""
    return {"sum": value}


def least(value):
    """The least of all batches counts."""
    return {"min": value}


def greatest(value):
    """The greatest of all batches counts."""
    return {"max": value}


def confusion(labels, truth, predicted):
    """How often what is one label was taken for another: `counts[i][j]` of label `i` were taken for label `j`."""
    names = [_label(label) for label in labels]
    place = {name: at for at, name in enumerate(names)}
    if len(place) != len(names):
        raise ValueError("a label is there twice")
    truth, predicted = _plain(truth), _plain(predicted)
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true labels, but {len(predicted)} predicted ones")
    counts = [[0] * len(names) for _ in names]
    for pair, count in Counter(zip(truth, predicted)).items():
        true, taken = (_label(label) for label in pair)
        for label in (true, taken):
            if label not in place:
                raise ValueError(f"`{label}` is none of the labels {', '.join(names)}")
        counts[place[true]][place[taken]] += count
    return {"labels": names, "counts": counts}


def quantiles(numbers):
    """A sketch from which quantiles are read, good to 1 % of themselves. What is not finite is left out."""
    positive, negative, zeros = Counter(), Counter(), 0
    numpy = sys.modules.get("numpy")
    if hasattr(numbers, "to_numpy"):
        numbers = numbers.to_numpy()
    if numpy is not None and isinstance(numbers, numpy.ndarray):
        numbers = numbers.astype(numpy.float64, copy=False).ravel()
        numbers = numbers[numpy.isfinite(numbers)]
        magnitudes = numpy.abs(numbers)
        zeros = int((magnitudes < ZERO).sum())
        for cells, signed in ((positive, numbers > 0.0), (negative, numbers < 0.0)):
            _count_array(numpy, cells, magnitudes[signed & (magnitudes >= ZERO)])
    else:
        for number in map(float, numbers):
            if not math.isfinite(number):
                continue
            if abs(number) < ZERO:
                zeros += 1
            else:
                (positive if number > 0.0 else negative)[cell(abs(number))] += 1
    sketch = {"zeros": zeros}
    for name, cells in (("positive", positive), ("negative", negative)):
        if cells:
            sketch[name] = {str(at): cells[at] for at in sorted(cells)}
    return {"quantiles": sketch}


def cell(magnitude):
    """Which one counts a number: cell `i` those from `GROWTH**(i - 1)` exclusive to `GROWTH**i` inclusive."""
    return math.ceil(math.log(magnitude) / math.log(GROWTH))


def _count_array(numpy, cells, magnitudes):
    places = numpy.log(magnitudes) / math.log(GROWTH)
    near = numpy.abs(places - numpy.rint(places)) < NEAR_A_BOUND
    for at, count in zip(*numpy.unique(numpy.ceil(places[~near]), return_counts=True)):
        cells[int(at)] += int(count)
    for magnitude in magnitudes[near].tolist():
        cells[cell(magnitude)] += 1


def _plain(values):
    """A list of what Python itself has."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _label(label):
    return str(label.item() if hasattr(label, "item") else label)


def number(metric):
    """The one number that a metric comes to, `None` where there is nothing to say it of."""
    if not isinstance(metric, dict):
        return float(metric)
    if "mean" in metric:
        return float(metric["mean"]) if metric["weight"] > 0 else None
    if "counts" in metric:
        counts = metric["counts"]
        everything = sum(map(sum, counts))
        return sum(row[at] for at, row in enumerate(counts)) / everything if everything else None
    if "quantiles" in metric:
        return _median(metric["quantiles"])
    [value] = metric.values()
    return float(value)


def _median(sketch):
    def value(at):
        return GROWTH**at * (1.0 - ACCURACY)

    sides = [{int(at): count for at, count in sketch.get(name, {}).items()} for name in ("negative", "positive")]
    counted = [(-value(at), sides[0][at]) for at in sorted(sides[0], reverse=True)]
    counted.append((0.0, sketch.get("zeros", 0)))
    counted += [(value(at), sides[1][at]) for at in sorted(sides[1])]
    count = sum(count for _, count in counted)
    # Half a rank is rounded up, as in Rust.
    rank, passed = math.floor(0.5 * max(count - 1, 0) + 0.5), 0
    for found, count in counted:
        passed += count
        if passed > rank:
            return found
    return None


def checked(metrics):
    """The metrics as JSON has them.

    Raises ValueError or TypeError that names the first one that is none.
    """
    if len(metrics) > METRICS_LIMIT:
        raise ValueError(f"{len(metrics)} metrics, the limit is {METRICS_LIMIT}")
    said = {}
    for name, metric in metrics.items():
        if not isinstance(name, str) or not name or len(name.encode()) > NAME_BYTES_LIMIT:
            raise ValueError(f"`{name}` is not a metric's name: it is a text of 1 to {NAME_BYTES_LIMIT} bytes")
        try:
            said[name] = _checked(metric)
        except (TypeError, ValueError) as error:
            raise type(error)(f"metric `{name}`: {error}") from None
    return said


def _checked(metric):
    if not isinstance(metric, dict):
        return _finite(metric)
    keys = set(metric)
    if keys == {"mean", "weight"}:
        said = {key: _finite(metric[key]) for key in ("mean", "weight")}
        if said["weight"] < 0:
            raise ValueError("its weight is negative")
        return said
    if keys in ({"sum"}, {"min"}, {"max"}):
        [(key, value)] = metric.items()
        return {key: _finite(value)}
    if keys == {"labels", "counts"}:
        return _square(metric["labels"], metric["counts"])
    if keys == {"quantiles"}:
        sketch = metric["quantiles"]
        if len(sketch.get("positive", ())) + len(sketch.get("negative", ())) > CELLS_LIMIT:
            raise ValueError(f"its sketch has more than {CELLS_LIMIT} cells")
        return metric
    raise ValueError(f"none has the keys {', '.join(sorted(map(str, keys)))}: make it by `mean`, `total` and the like")


def _square(labels, counts):
    labels = [_label(label) for label in labels]
    if len(labels) > LABELS_LIMIT:
        raise ValueError(f"it has more than {LABELS_LIMIT} labels")
    if len(set(labels)) != len(labels):
        raise ValueError("a label is there twice")
    if any(len(label.encode()) > NAME_BYTES_LIMIT for label in labels):
        raise ValueError(f"a label has more than {NAME_BYTES_LIMIT} bytes")
    counts = [[int(count) for count in row] for row in counts]
    if len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
        raise ValueError(f"its counts are not a square of its {len(labels)} labels")
    if any(not 0 <= count <= COUNT_LIMIT for row in counts for count in row):
        raise ValueError("a count is not one")
    return {"labels": labels, "counts": counts}


def _finite(value):
    """A number of Python, numpy or any framework that gives one."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{value!r} is not a number")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"it is {value}, not a finite number")
    return value
