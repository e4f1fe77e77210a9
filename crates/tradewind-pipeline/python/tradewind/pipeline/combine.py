"""Ready-made aggregates: of the models of all batches one is made. `average` and `ensemble` need the package `onnx`.

Each is told the batches' models as the directories that a step wrote. Parameters: `of`, that step, where there are
others; `model`, the file in its directory (default: `model.onnx`); `metric`, which weighs or chooses. What else lies
beside the first model goes with the result, but its golden cases: they say what another model answers.
"""

import shutil
from importlib import import_module
from pathlib import PurePosixPath

from .contract import Hopeless, step
from .metrics import number

MODEL_FILE = "model.onnx"
CASES_DIRECTORY = "cases"


@step
def average(step):
    """The mean of all models' weights, by the rows that each has seen, or by a metric."""
    models = _models(step)
    weights = _weights(step, models)
    graphs = _graphs()
    averaged = graphs.average((_file(step, model), weight, model.batch) for model, weight in zip(models, weights))
    _write(step, models[0], averaged, graphs)
    print(f"the average of {len(models)} models")


@step
def best(step):
    """The model with the highest metric; of equal ones the first."""
    models = _models(step)
    name = step.parameters.get("metric")
    if name is None:
        raise Hopeless("the best by which metric? say `metric`")
    values = [_metric(step, model, name) for model in models]
    first = max(range(len(models)), key=values.__getitem__)
    shutil.copytree(_directory(models[first]), step.output, dirs_exist_ok=True)
    print(f"the model of batch `{models[first].batch}` with {name} {values[first]}, the best of {len(models)}")


@step
def ensemble(step):
    """One graph that asks all models: the mean of their numbers, and what most of them say of labels."""
    models = _models(step)
    graphs = _graphs()
    made = graphs.ensemble([(_file(step, model), model.batch) for model in models])
    _write(step, models[0], made, graphs)
    print(f"an ensemble of {len(models)} models")


def _graphs():
    try:
        return import_module(".graphs", __package__)
    except ModuleNotFoundError as error:
        raise Hopeless(f"models are combined by `onnx`: put it into `requirements` of [python] ({error})") from None


def _models(step):
    """Those of all batches, in their order."""
    lists = {name: given for name, given in step.inputs.items() if isinstance(given, list) and given}
    if not lists:
        raise Hopeless("there is no batch whose model could be combined")
    of = step.parameters.get("of")
    if of is not None:
        if of not in lists:
            raise Hopeless(f"there is no step `{of}` among the inputs")
        return lists[of]
    if len(lists) > 1:
        lists = {name: given for name, given in lists.items() if given[0].directory and _path(step, given[0]).is_file()}
    if len(lists) != 1:
        raise Hopeless("whose models are combined? say `of`")
    [models] = lists.values()
    return models


def _path(step, model):
    return _directory(model) / step.parameters.get("model", MODEL_FILE)


def _directory(model):
    if model.directory is None:
        raise Hopeless(f"batch `{model.batch}` is data, not a model: combine what a step wrote")
    return model.directory


def _file(step, model):
    path = _path(step, model)
    if not path.is_file():
        there = ", ".join(sorted(entry.name for entry in model.directory.iterdir())[:10]) or "nothing"
        raise Hopeless(f"of batch `{model.batch}` there is no {path.name}, there is {there}")
    return path


def _metric(step, model, name):
    """As the model's own step measured it, or another one of the same batch."""
    lists = [given for given in step.inputs.values() if isinstance(given, list)]
    for one in (model, *(one for given in lists for one in given if one.batch == model.batch)):
        if name in one.metrics:
            value = number(one.metrics[name])
            if value is not None:
                return value
    raise Hopeless(f"`{name}` was not measured of batch `{model.batch}`")


def _weights(step, models):
    """In the order of the models. Where no rows were counted, all weigh the same."""
    name = step.parameters.get("metric")
    if name is not None:
        weights = [_metric(step, model, name) for model in models]
        if negative := [model.batch for model, weight in zip(models, weights) if weight < 0]:
            raise Hopeless(f"`{name}` of batch `{negative[0]}` is negative: it is no weight")
    else:
        rows = [model.rows for model in models]
        unknown = [model.batch for model in models if model.rows is None]
        if unknown and len(unknown) < len(rows):
            raise Hopeless(f"the rows of batch `{unknown[0]}` are not known: return Result(rows=...) from its step")
        weights = [1.0] * len(rows) if unknown else [float(count) for count in rows]
    if not sum(weights) > 0:
        raise Hopeless(f"all models weigh nothing: {name or 'rows'} is 0 in every batch")
    return weights


def _write(step, first, made, graphs):
    """The model, and what else lies beside the first one."""
    model = _path(step, first).relative_to(first.directory)
    left_out = {model, *(model.parent / name for name in graphs.data_files(first.directory / model))}
    for path in first.files():
        relative = path.relative_to(first.directory)
        if relative in left_out or PurePosixPath(relative).parts[0] == CASES_DIRECTORY:
            continue
        target = step.output / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    target = step.output / model
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(graphs.checked(made))
