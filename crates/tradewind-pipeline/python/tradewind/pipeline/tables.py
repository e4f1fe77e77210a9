"""Tables of batches, read by what the user's environment has: nothing is imported before it is asked for."""

from importlib import import_module
from pathlib import Path

# What files are, by their endings: as `Format::of` in tradewind_core.
FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def format_of(file):
    """`None` where it is no table."""
    return FORMATS.get(Path(file).suffix.lower())


def read(files, format=None, library=None):
    """All files as one table, of `pandas` or `pyarrow`.

    Raises ImportError that names what is missing in the environment.
    """
    if library not in (None, "pandas", "pyarrow"):
        raise ValueError(f"tables are those of pandas or pyarrow, not of {library!r}")
    formats = {format or format_of(file) for file in files}
    if len(formats) != 1 or not formats <= set(FORMATS.values()):
        raise ValueError(f"these are no tables of one format: {', '.join(str(file) for file in files)}")
    [format] = formats
    for name, reader in (("pandas", _with_pandas), ("pyarrow", _with_pyarrow)):
        if library in (None, name) and _optional(name) is not None:
            return reader(files, format)
    raise ImportError(_missing("a table", f"`{library}`" if library else "`pandas`, or `pyarrow`,"))


def _with_pandas(files, format):
    pandas = import_module("pandas")
    if format == "parquet" and _optional("pyarrow") is None and _optional("fastparquet") is None:
        raise ImportError(_missing("Parquet", "`pyarrow` beside `pandas`"))
    readers = {
        "csv": pandas.read_csv, "parquet": pandas.read_parquet, "jsonl": lambda file: pandas.read_json(file, lines=True)
    }
    tables = [readers[format](file) for file in files]
    return tables[0] if len(tables) == 1 else pandas.concat(tables, ignore_index=True)


def _with_pyarrow(files, format):
    module, function = {
        "csv": ("pyarrow.csv", "read_csv"), "parquet": ("pyarrow.parquet", "read_table"),
        "jsonl": ("pyarrow.json", "read_json"),
    }[format]
    reader = getattr(import_module(module), function)
    tables = [reader(str(file)) for file in files]
    return tables[0] if len(tables) == 1 else import_module("pyarrow").concat_tables(tables)


def _optional(module):
    try:
        return import_module(module)
    except ModuleNotFoundError:
        return None


def _missing(what, packages):
    return f"to read {what}, put {packages} into `requirements` of [python]"
