"""The published JSON Schema of pipeline files, read by somebody else's validator: it lets through what Tradewind reads,
and refuses what Tradewind refuses, unless only the names in a file tell that it is wrong."""

import json
import pathlib
import subprocess
import tomllib

import jsonschema
import pytest

from conftest import PROGRAM

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEAST = """
name = "digits"
[data]
source = ["data/*.csv"]
[[step]]
name = "train"
function = "steps:train"
[aggregate]
use = "average"
"""
EVERYTHING = """
name = "trips"
min_success_ratio = 0.9
[data]
source = ["https://data.example/trips.parquet", "more/**/*.parquet"]
format = "parquet"
batch = { rows = 100000 }
holdout = 0.1
[parameters]
seed = 7
layers = [64, 10]
[python]
requirements = ["scikit-learn==1.8.0"]
[[step]]
name = "clean"
run = ["./clean", "--strict"]
worker = true
env = { LEVEL = "3" }
memory = "1GiB"
cpu = 1
[[step]]
name = "train"
function = "trips.steps:train"
files = ["trips/*.py"]
parameters = { rate = 0.1 }
retries = 0
timeout = "1m30s"
[[step]]
name = "evaluate-batch"
function = "trips.steps:evaluate"
inputs = ["train", "clean"]
[aggregate]
function = "trips.steps:merge"
inputs = ["train"]
[evaluate]
function = "trips.steps:judge"
[[gate]]
metric = "accuracy"
at_least = 0.9
above_live = -0.001
[publish]
model = "trips"
bundle = "model"
[deploy]
regions = ["us-east1", "europe-west1"]
"""
SOURCE = 'source = ["data/*.csv"]'
FUNCTION = 'function = "steps:train"'
USE = 'use = "average"'
# Each puts something else in a place of the least that a pipeline says.
RIGHT = [
    (SOURCE, SOURCE + '\nbatch = "auto"'),
    (SOURCE, SOURCE + '\nbatch = "file"'),
    (SOURCE, SOURCE + '\nbatch = { bytes = "64MiB" }'),
    (SOURCE, SOURCE + '\nbatch = { column = "day" }'),
    (FUNCTION, FUNCTION + "\nworker = false"),
    (USE, 'use = "best"\nmetric = "accuracy"'),
    ("[data]", '[python]\nrequirements = "requirements.txt"\n[data]'),
]
WRONG = [
    ('name = "digits"', ""),
    ('"digits"', '"digits and letters"'),
    ('name = "digits"', 'name = "digits"\nmin_success_ratio = 0.0'),
    ("source", "sources"),
    (SOURCE, "source = []"),
    (SOURCE, SOURCE + "\nholdout = 1.0"),
    (SOURCE, SOURCE + "\nholdout = 0.1"),
    (SOURCE, SOURCE + '\nformat = "xml"'),
    (SOURCE, SOURCE + "\nbatch = { rows = 0 }"),
    (SOURCE, SOURCE + '\nbatch = { rows = 10, bytes = "1MiB" }'),
    (SOURCE, SOURCE + '\nbatch = { bytes = "64" }'),
    ("[[step]]", "[step]"),
    ('name = "train"', ""),
    ('"train"', '"Train it"'),
    (FUNCTION, ""),
    (FUNCTION, 'function = "steps"'),
    (FUNCTION, "run = []"),
    (FUNCTION, 'run = ["a"]\nfunction = "a:b"'),
    (FUNCTION, FUNCTION + '\ninputs = ["batch", "batch"]'),
    (FUNCTION, FUNCTION + '\ntimeout = "soon"'),
    (FUNCTION, FUNCTION + "\nretries = 101"),
    (FUNCTION, FUNCTION + "\nworker = true"),
    (FUNCTION, FUNCTION + "\nretry = 1"),
    (FUNCTION, FUNCTION + "\ncpu = -1"),
    (USE, 'use = "mean"'),
    (USE, 'use = "best"'),
    (USE, USE + '\nfunction = "a:b"'),
    (USE, 'function = "a:b"\nname = "a"'),
    ("[aggregate]", '[evaluate]\nfunction = "a:b"\n[aggregate]'),
    ("[aggregate]", '[[gate]]\nmetric = "m"\n[aggregate]'),
    ("[aggregate]", '[deploy]\nregions = ["a"]\n[aggregate]'),
    ("[aggregate]", '[publish]\nmodel = "m"\n[deploy]\nregions = []\n[aggregate]'),
]


@pytest.fixture(scope="module")
def validator():
    printed = subprocess.run([PROGRAM, "reference", "pipeline"], check=True, capture_output=True).stdout
    schema = json.loads(printed)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def replaced(change):
    place, by = change
    assert place in LEAST
    return LEAST.replace(place, by, 1)


def problems(validator, text):
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("text", [LEAST, EVERYTHING, *map(replaced, RIGHT)])
def test_what_is_read_is_let_through(validator, text):
    assert problems(validator, text) == []


@pytest.mark.parametrize("text", [*map(replaced, WRONG)])
def test_what_is_not_read_is_refused(validator, text):
    assert problems(validator, text)


def test_the_examples_are_let_through(validator):
    for path in ROOT.glob("examples/**/pipeline.toml"):
        assert problems(validator, path.read_text()) == [], path
