"""What a step is told and what it says: `tradewind_core::pipeline::contract`, for functions of Python."""

import json
import os
import random
import sys
from pathlib import Path

from . import metrics as measured
from .tables import FORMATS, format_of, read

# As in tradewind_core.
SCHEMA_VERSION = 1
TOLD_VARIABLE = "TRADEWIND_STEP"
HOPELESS_EXIT = 65
SAID_BYTES_LIMIT = 16 << 20
MARK = "tradewind_step"


class Hopeless(Exception):
    """It would go wrong every time: the step is not tried again."""


class Result:
    """What a step says of its work: of how many rows its metrics are means, and the metrics."""

    def __init__(self, rows=None, metrics=None):
        self.rows, self.metrics = rows, metrics or {}

    def said(self):
        """As JSON has it, checked."""
        said = {}
        if self.rows is not None:
            rows = int(self.rows)
            if rows != self.rows or not 0 <= rows < 2**64:
                raise ValueError(f"`rows` is a number of rows, not {self.rows!r}")
            said["rows"] = rows
        if self.metrics:
            said["metrics"] = measured.checked(self.metrics)
        return said


class Input:
    """Either a batch's own files, or the directory of what a step wrote."""

    def __init__(self, batch="", format=None, files=(), directory=None, rows=None, metrics=None):
        self.batch, self.format, self.rows = batch, format, rows
        self.directory = None if directory is None else Path(directory)
        self._files = [Path(file) for file in files]
        self.metrics = metrics or {}

    def __repr__(self):
        return f"Input({self.batch!r}, {self.directory or self._files})"

    def files(self):
        """Those of the batch, or all that the step wrote, sorted."""
        if self.directory is None:
            return list(self._files)
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    @property
    def file(self):
        """The only one."""
        files = self.files()
        if len(files) != 1:
            raise ValueError(f"{self._place()} has {len(files)} files: read them by `files()`")
        return files[0]

    def table(self, library=None):
        """A DataFrame of pandas, or a Table of pyarrow where pandas is not installed; or what is asked for."""
        files = self.files()
        if self.directory is not None:
            files = [file for file in files if format_of(file)]
        if not files:
            raise ValueError(f"{self._place()} has no table: none of its files ends in {', '.join(FORMATS)}")
        try:
            return read(files, self.format, library)
        except ImportError as error:
            raise Hopeless(str(error)) from None

    def _place(self):
        return f"{self.directory}" if self.directory else f"batch `{self.batch}`"


class Step:
    """What a step is told. Inputs are named `batch`, `model` or by the step that wrote them; where there is only one,
    it need not be named."""

    def __init__(self, name="", inputs=None, output=".", parameters=None, seed=0, pipeline="", result=None):
        self.name, self.pipeline, self.seed = name, pipeline, seed
        self.parameters = parameters or {}
        self.inputs = inputs or {}
        self.output = Path(output)
        self.result = None if result is None else Path(result)

    @classmethod
    def read(cls, path):
        """What the file says that a runner wrote."""
        told = json.loads(Path(path).read_bytes())
        version = told.get("schema_version")
        if version != SCHEMA_VERSION:
            raise Hopeless(f"{path} has schema version {version}; this package reads {SCHEMA_VERSION}")
        inputs = {name: _inputs(given) for name, given in told.get("inputs", {}).items()}
        return cls(
            name=told.get("step", ""), inputs=inputs, output=told["output"], parameters=told.get("parameters"),
            seed=told.get("seed", 0), pipeline=told.get("pipeline", ""), result=told.get("result"),
        )

    @classmethod
    def from_environment(cls):
        """For commands: what the file says that TRADEWIND_STEP names."""
        path = os.environ.get(TOLD_VARIABLE)
        if not path:
            raise Hopeless(f"{TOLD_VARIABLE} names no file: this is run by a pipeline, or with such a file by hand")
        return cls.read(path)

    def __repr__(self):
        return f"Step({self.name!r}, inputs={self.inputs!r})"

    def files(self, name=None):
        """Of the batch, or what the named step wrote."""
        return self.one(name).files()

    @property
    def file(self):
        """The only file of the step's only input."""
        return self.one().file

    def directory(self, name=None):
        """Where the named step wrote, or the model lies."""
        name = self._named(name, single=True)
        directory = self.inputs[name].directory
        if directory is None:
            raise ValueError(f"`{name}` is files, not a directory: read them by `files()`")
        return directory

    def table(self, name=None, library=None):
        """See `Input.table`."""
        return self.one(name).table(library)

    @property
    def rows(self):
        """Of its batch, as far as they were counted; of all batches where it is given all of them."""
        single = [given for given in self.inputs.values() if isinstance(given, Input)]
        single.sort(key=lambda given: given.directory is not None)
        if known := [given.rows for given in single if given.rows is not None]:
            return known[0]
        for given in self.inputs.values():
            rows = [one.rows for one in given] if isinstance(given, list) else [None]
            if None not in rows:
                return sum(rows)
        return None

    def one(self, name=None):
        """The input of the step's own batch."""
        return self.inputs[self._named(name, single=True)]

    def all(self, name=None):
        """Of all batches, in their order: what is aggregated, or was held out."""
        return self.inputs[self._named(name, single=False)]

    def finish(self, said=None):
        """Writes what the step says of its work: metrics, a `Result`, or nothing. Gives it as JSON has it."""
        said = said_of(said)
        if said and self.result is not None:
            text = json.dumps(said, allow_nan=False, separators=(",", ":")).encode()
            if len(text) > SAID_BYTES_LIMIT:
                raise ValueError(f"the metrics take {len(text)} bytes, the limit is {SAID_BYTES_LIMIT}")
            draft = self.result.with_name(f"{self.result.name}.draft")
            draft.write_bytes(text)
            os.replace(draft, self.result)
        return said

    def _named(self, name, single):
        fitting = [key for key, given in self.inputs.items() if isinstance(given, Input) == single]
        if name is not None:
            if name in fitting:
                return name
            if name in self.inputs:
                use = "all(...)" if single else "one(...)"
                raise ValueError(f"`{name}` is {'of all batches' if single else 'a single input'}: use step.{use}")
            raise ValueError(f"there is no input `{name}`, there is {_listed(self.inputs)}")
        if len(fitting) == 1:
            return fitting[0]
        if single and "batch" in fitting:
            return "batch"
        raise ValueError(f"which of its inputs? there is {_listed(self.inputs)}")


def _listed(names):
    return ", ".join(f"`{name}`" for name in names) or "none"


def _inputs(given):
    return [Input(**one) for one in given] if isinstance(given, list) else Input(**given)


def step(function):
    """Makes a function a step, which is handed a `Step`. It is called as before."""
    setattr(function, MARK, True)
    return function


def is_step(function):
    return callable(function) and getattr(function, MARK, False) is True


def said_of(returned):
    """What a function returned, as JSON has it."""
    if returned is None:
        return {}
    if isinstance(returned, dict):
        returned = Result(metrics=returned)
    if not isinstance(returned, Result):
        kind = type(returned).__name__
        raise Hopeless(f"a step returns its metrics as a dict, a Result, or nothing, and not a value of type {kind}")
    try:
        return returned.said()
    except (TypeError, ValueError) as error:
        raise Hopeless(str(error)) from None


def run(function, step):
    """Runs a step to its end. What is left to chance is the same for the same seed."""
    random.seed(step.seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(step.seed % 2**32)
    return step.finish(function(step))


def main(arguments=None):
    """`python steps.py train [told.json]`: runs one step by hand, or as a command of a pipeline."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    name, rest = given[0] if given else "", given[1:]
    functions = {key: value for key, value in vars(sys.modules["__main__"]).items() if is_step(value)}
    if name not in functions or len(rest) > 1:
        print(f"usage: {sys.argv[0]} {{{','.join(functions)}}} [TOLD.json]", file=sys.stderr)
        raise SystemExit(2)
    try:
        run(functions[name], Step.read(rest[0]) if rest else Step.from_environment())
    except Hopeless as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(HOPELESS_EXIT) from error
