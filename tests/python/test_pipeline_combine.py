"""Ready-made aggregates: models of many batches become one, and what ONNX Runtime says of it is what it should say."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pipelines import Worker
from skl2onnx import to_onnx
from sklearn.base import is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from tradewind.pipeline import Hopeless, Input, Step
from tradewind.pipeline.combine import average, best, ensemble

ROWS = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
FEATURES, CLASSES = 4, 3
LABELS = np.array([4, 7, 9])


def value(name, kind, *shape):
    return helper.make_tensor_value_info(name, kind, shape)


def save(directory, nodes, outputs, constants, opset=18, inputs=None, files=None):
    """Writes a model of these nodes with what lies beside it; gives the directory."""
    directory.mkdir()
    graph = helper.make_graph(
        [helper.make_node(operator, inputs.split(), outputs.split(), domain=domain, **attributes)
         for operator, inputs, outputs, domain, attributes in nodes],
        "test", inputs or [value("x", TensorProto.FLOAT, "N", FEATURES)], outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, directory / "model.onnx")
    for name, text in (files or {}).items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


def classifier(directory, seed, kind=np.float32, labels=LABELS, opset=18, shape=CLASSES, files=None):
    """Probabilities and a label, from weights of chance."""
    chance = np.random.default_rng(seed)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    weights = {"w": chance.normal(size=(FEATURES, CLASSES)).astype(kind), "b": chance.normal(size=CLASSES).astype(kind)}
    text = labels.dtype.kind == "U"
    nodes = [
        ("Cast", "x", "x_wide", "", {"to": element}), ("MatMul", "x_wide w", "product", "", {}),
        ("Add", "product b", "sum", "", {}), ("Softmax", "sum", "p", "", {"axis": 1}),
        ("ArgMax", "p", "place", "", {"axis": 1, "keepdims": 0}), ("Gather", "labels place", "label", "", {}),
    ]
    outputs = [
        value("label", TensorProto.STRING if text else TensorProto.INT64, "N"), value("p", element, "N", shape)
    ]
    return save(directory, nodes, outputs, {**weights, "labels": labels.astype(object) if text else labels}, opset,
                files=files)


def linear(directory, coefficients, intercepts, operator="LinearRegressor", **attributes):
    attributes = {"coefficients": coefficients, "intercepts": intercepts, **attributes}
    if operator == "LinearRegressor":
        outputs = [value("y", TensorProto.FLOAT, "N", 1)]
        return save(directory, [(operator, "x", "y", "ai.onnx.ml", attributes)], outputs, {})
    outputs = [value("label", TensorProto.INT64, "N"), value("p", TensorProto.FLOAT, "N", CLASSES)]
    return save(directory, [(operator, "x", "label p", "ai.onnx.ml", attributes)], outputs, {})


def combine(function, tmp_path, directories, rows=None, metrics=None, **parameters):
    """What comes of it, as a directory."""
    rows, metrics = rows or [None] * len(directories), metrics or [{}] * len(directories)
    given = [
        Input(f"batch {place}", directory=directory, rows=rows[place], metrics=metrics[place])
        for place, directory in enumerate(directories)
    ]
    output = tmp_path / "output"
    output.mkdir(exist_ok=True)
    step = Step("aggregate", {"train": given}, output, parameters)
    step.finish(function(step))
    return output


def ask(directory, rows=ROWS):
    model = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    [given] = model.get_inputs()
    return dict(zip([output.name for output in model.get_outputs()], model.run(None, {given.name: rows})))


def weights_of(directory):
    model = onnx.load(directory / "model.onnx")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_weights_are_averaged_by_rows(tmp_path, kind):
    models = [classifier(tmp_path / str(seed), seed, kind) for seed in range(5)]
    rows = [10, 200, 0, 31, 7]
    made = weights_of(combine(average, tmp_path, models, rows))
    parts = [weights_of(model) for model in models]
    for name in ("w", "b"):
        exact = np.average([part[name].astype(np.float64) for part in parts], axis=0, weights=rows)
        assert made[name].dtype == kind
        np.testing.assert_allclose(made[name], exact, rtol={2: 1e-3, 4: 2e-7, 8: 1e-14}[np.dtype(kind).itemsize])
    assert made["labels"].tolist() == LABELS.tolist()
    if kind == np.float32:
        answer = ask(tmp_path / "output")
        exact = ROWS @ made["w"] + made["b"]
        assert answer["label"].tolist() == LABELS[exact.argmax(axis=1)].tolist()


def test_an_average_of_equals_is_the_same_and_each_order_gives_its_own_bytes_again(tmp_path):
    models = [classifier(tmp_path / str(number), 1, np.float64) for number in range(3)]
    made, first = weights_of(combine(average, tmp_path, models, [1, 3, 7])), weights_of(models[0])
    assert all((made[name] == first[name]).all() for name in first)
    masks = [edited(classifier(tmp_path / f"mask {seed}", seed), set_weight(-np.inf)) for seed in range(2)]
    assert (weights_of(combine(average, tmp_path, masks, [1, 2]))["b"] == -np.inf).all()
    others = [classifier(tmp_path / f"other {seed}", seed) for seed in range(4)]
    written = [(combine(average, tmp_path, others, [1, 3, 7, 9]) / "model.onnx").read_bytes() for _ in range(2)]
    assert written[0] == written[1]


def test_without_rows_all_weigh_the_same_and_a_metric_may_weigh(tmp_path):
    models = [classifier(tmp_path / str(seed), seed) for seed in range(2)]
    [a, b] = [weights_of(model)["w"].astype(np.float64) for model in models]
    made = weights_of(combine(average, tmp_path, models))["w"]
    np.testing.assert_allclose(made, (a + b) / 2, rtol=2e-7)
    metrics = [{"trust": {"mean": 0.25, "weight": 8}}, {"trust": 0.75}]
    made = weights_of(combine(average, tmp_path, models, [8, 9], metrics, metric="trust"))["w"]
    np.testing.assert_allclose(made, a / 4 + b * 3 / 4, rtol=2e-6)
    for rows, metrics, metric, problem in [
        ([8, None], None, None, "the rows of batch `batch 1` are not known"),
        ([0, 0], None, None, "all models weigh nothing: rows is 0 in every batch"),
        ([8, 9], [{"trust": 1}, {"trust": -1}], "trust", "`trust` of batch `batch 1` is negative"),
        ([8, 9], [{"trust": 1}, {}], "trust", "`trust` was not measured of batch `batch 1`"),
    ]:
        with pytest.raises(Hopeless) as raised:
            combine(average, tmp_path, models, rows, metrics, **({"metric": metric} if metric else {}))
        assert problem in str(raised.value)


def test_linear_models_of_scikit_learn_are_averaged_where_their_weights_are(tmp_path):
    chance = np.random.default_rng(4)
    parts = [(chance.normal(size=(CLASSES, FEATURES)), chance.normal(size=CLASSES)) for _ in range(2)]
    models = [
        linear(tmp_path / f"classifier {place}", w.ravel().tolist(), b.tolist(), "LinearClassifier",
               post_transform="NONE", classlabels_ints=LABELS.tolist(), multi_class=1)
        for place, (w, b) in enumerate(parts)
    ]
    answer = ask(combine(average, tmp_path, models, [1, 3]))
    exact = sum(share * (ROWS @ w.T + b) for share, (w, b) in zip((0.25, 0.75), parts))
    np.testing.assert_allclose(answer["p"], exact, rtol=1e-4, atol=1e-5)
    assert answer["label"].tolist() == LABELS[exact.argmax(axis=1)].tolist()
    models = [linear(tmp_path / f"regressor {b}", [1.0, 2.0, 3.0, b], [b], targets=1) for b in (4.0, 8.0)]
    answer = ask(combine(average, tmp_path, models, [1, 1]))
    np.testing.assert_allclose(answer["y"][:, 0], ROWS @ [1, 2, 3, 6] + 6, rtol=1e-4, atol=1e-5)


def tree(directory, seed, labels=LABELS):
    """A classifier of one split."""
    chance = np.random.default_rng(seed)
    attributes = {
        "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [int(chance.integers(FEATURES)), 0, 0],
        "nodes_values": [float(chance.normal()), 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "class_treeids": [0] * 6,
        "class_nodeids": [1] * 3 + [2] * 3, "class_ids": [0, 1, 2] * 2, "post_transform": "NONE",
        "class_weights": [float(part) for part in chance.dirichlet([1] * 3, 2).ravel()],
        "classlabels_int64s": labels.tolist(),
    }
    outputs = [value("label", TensorProto.INT64, "N"), value("p", TensorProto.FLOAT, "N", CLASSES)]
    return save(directory, [("TreeEnsembleClassifier", "x", "label p", "ai.onnx.ml", attributes)], outputs, {})


def edited(directory, change):
    """The model with a change of its protobuf."""
    model = onnx.load(directory / "model.onnx")
    change(model)
    onnx.save(model, directory / "model.onnx")
    return directory


def set_weight(number):
    def change(model):
        [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == "b"]
        tensor.CopyFrom(numpy_helper.from_array(np.full(CLASSES, number, np.float32), "b"))

    return change


@pytest.mark.parametrize(
    "other, problem",
    [
        (lambda to: classifier(to, 2, labels=np.array([4, 7, 8])), "its initializer `labels` differs, and only"),
        (lambda to: classifier(to, 2, np.float64), "`to` of its Cast differs"),
        (lambda to: classifier(to, 2, opset=17), "its opsets differ"),
        (lambda to: linear(to, [1.0] * FEATURES, [1.0]), "it has other nodes"),
        (lambda to: edited(classifier(to, 2), lambda model: model.graph.output.pop()), "its structure differs"),
    ],
)
def test_models_that_differ_in_more_than_weights_have_no_average(tmp_path, other, problem):
    models = [classifier(tmp_path / "first", 1), other(tmp_path / "other")]
    with pytest.raises(Hopeless) as raised:
        combine(average, tmp_path, models, [1, 1])
    assert str(raised.value).startswith("the model of batch `batch 1` cannot be averaged with the first: ")
    assert problem in str(raised.value) and "use `ensemble`" in str(raised.value)


def test_what_has_no_average_at_all_is_refused_with_what_helps(tmp_path):
    def garbage(directory):
        directory.mkdir()
        (directory / "model.onnx").write_text("not a model")
        return directory

    for place, (models, problem) in enumerate([
        ([tree(tmp_path / "a", 1)], "has a TreeEnsembleClassifier, which has no average: use `ensemble`"),
        (
            [edited(classifier(tmp_path / "b", 1), set_weight(np.nan))],
            "`b` of batch `batch 0` is not a number everywhere",
        ),
        (
            [classifier(tmp_path / "d", 1), edited(classifier(tmp_path / "e", 1), set_weight(np.inf))],
            "a weight of batch `batch 1` or of one before it is infinite",
        ),
        ([garbage(tmp_path / "c")], "the model of batch `batch 0` is not ONNX"),
        ([], "there is no batch whose model could be combined"),
    ]):
        with pytest.raises(Hopeless) as raised:
            combine(average, tmp_path, models)
        assert problem in str(raised.value)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "weights.npy").touch()
    for function in (average, ensemble):
        with pytest.raises(Hopeless, match="of batch `batch 0` there is no model.onnx, there is weights.npy"):
            combine(function, tmp_path, [tmp_path / "empty"])
    with pytest.raises(Hopeless, match="batch `day` is data, not a model"):
        average(Step(inputs={"batch": [Input("day", files=["day.csv"])]}))


def test_the_rest_of_the_first_bundle_goes_with_the_result_but_for_its_cases(tmp_path):
    files = [
        {"tradewind.toml": f"description = '{place}'", "cases/001.json": "{}", "words/list.txt": "a"}
        for place in (0, 1)
    ]
    models = [classifier(tmp_path / str(place), place, files=files[place]) for place in (0, 1)]
    # The weights of the first lie in a file of their own.
    model = onnx.load(models[0] / "model.onnx")
    onnx.save(model, models[0] / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (models[0] / "weights.bin").exists()
    for function in (average, ensemble):
        output = combine(function, tmp_path, models, [1, 1])
        names = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
        assert names == ["model.onnx", "tradewind.toml", "words/list.txt"]
        assert (output / "tradewind.toml").read_text() == "description = '0'"
        assert ask(output)["p"].shape == (50, CLASSES)


def test_the_best_is_chosen_whole_and_of_equal_ones_the_first(tmp_path):
    models = [classifier(tmp_path / str(seed), seed, files={"cases/001.json": f"{seed}"}) for seed in range(4)]
    metrics = [{"accuracy": 0.5}, {"accuracy": {"mean": 0.75, "weight": 2}}, {"accuracy": 0.75}, {"accuracy": 0.1}]
    output = combine(best, tmp_path, models, metrics=metrics, metric="accuracy")
    assert (output / "model.onnx").read_bytes() == (models[1] / "model.onnx").read_bytes()
    assert (output / "cases" / "001.json").read_text() == "1"
    with pytest.raises(Hopeless, match="the best by which metric"):
        combine(best, tmp_path, models)
    # What another step measured of the same batch counts too.
    step = Step(
        inputs={
            "train": [Input(str(place), directory=model) for place, model in enumerate(models)],
            "check": [Input(str(place), directory=tmp_path, metrics=metrics[place]) for place in range(4)],
        },
        output=tmp_path / "output", parameters={"metric": "accuracy", "of": "train"},
    )
    best(step)
    assert (step.output / "cases" / "001.json").read_text() == "1"
    step.parameters = {"metric": "accuracy"}
    best(step)
    step.parameters = {"metric": "accuracy", "of": "tests"}
    with pytest.raises(Hopeless, match="there is no step `tests` among the inputs"):
        best(step)
    step.parameters = {"metric": "accuracy", "model": "server.py"}
    with pytest.raises(Hopeless, match="whose models are combined. say `of`"):
        best(step)


def votes(answers):
    """What most say; of as many the one whom the earliest says."""
    chosen = []
    for said in zip(*answers):
        said = list(said)
        chosen.append(max(said, key=lambda label: (said.count(label), -said.index(label))))
    return chosen


@pytest.mark.parametrize(
    "make",
    [
        classifier, tree,
        lambda to, seed: classifier(to, seed, np.float64),
        lambda to, seed: classifier(to, seed, np.float16),
        lambda to, seed: classifier(to, seed, labels=np.array(["four", "seven", "nine"]), opset=19),
        lambda to, seed: classifier(to, seed, opset=13),
    ],
    ids=["singles", "trees", "doubles", "halves", "texts", "oldest"],
)
def test_an_ensemble_answers_with_the_mean_and_the_vote(tmp_path, make):
    models = [make(tmp_path / str(seed), seed) for seed in range(6)]
    answers = [ask(model) for model in models]
    output = combine(ensemble, tmp_path, models)
    answer = ask(output)
    assert list(answer) == ["label", "p"]
    exact = np.mean([one["p"].astype(np.float64) for one in answers], axis=0)
    assert answer["p"].dtype == answers[0]["p"].dtype
    np.testing.assert_allclose(answer["p"], exact, rtol=1e-3 if answer["p"].dtype == np.float16 else 1e-5, atol=1e-6)
    expected = votes([one["label"].tolist() for one in answers])
    assert answer["label"].tolist() == expected
    ties = sum(1 for said in zip(*(one["label"].tolist() for one in answers)) if sorted(said)[2] != sorted(said)[3])
    assert ties > 0 or make is tree, "no tie was tried"
    assert ask(output, ROWS[:1])["label"].tolist() == expected[:1]
    assert ask(output, ROWS[:0])["p"].shape == (0, CLASSES)
    # One of one, and an ensemble of ensembles, are models like others.
    single = combine(ensemble, tmp_path, models[:1])
    assert ask(single)["label"].tolist() == answers[0]["label"].tolist()
    output.rename(tmp_path / "inner")
    assert ask(combine(ensemble, tmp_path, [tmp_path / "inner", models[1]]))["p"].shape == (50, CLASSES)


def branching(directory, seed):
    """A model with graphs within a node, which use names of the graph around them, and a function of its own."""
    nodes = [("ReduceSum", "x axes", "rows", "", {"keepdims": 1}), ("ReduceSum", "x", "all", "", {"keepdims": 0})]
    constants = {"axes": np.array([1]), "zero": np.float32([0])}
    save(directory, nodes, [value("y", TensorProto.FLOAT, "N", 1)], constants)

    def change(model):
        def branch(name, factor):
            nodes = [helper.make_node("Mul", ["rows", f"{name}_factor"], [f"{name}_out"])]
            outputs = [value(f"{name}_out", TensorProto.FLOAT, "N", 1)]
            constant = numpy_helper.from_array(np.float32([factor]), f"{name}_factor")
            return helper.make_graph(nodes, name, [], outputs, [constant])

        model.graph.node.extend([
            helper.make_node("Greater", ["all", "zero"], ["is_more"]),
            helper.make_node("Squeeze", ["is_more"], ["more"]),
            helper.make_node(
                "If", ["more"], ["scaled"], then_branch=branch("then", seed + 1.0), else_branch=branch("else", -seed)
            ),
            helper.make_node("Twice", ["scaled"], ["y"], domain="own"),
        ])
        nodes = [helper.make_node("Add", ["v", "v"], ["w"])]
        opsets = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("own", "Twice", ["v"], ["w"], nodes, opsets))
        model.opset_import.append(helper.make_opsetid("own", 1))

    return edited(directory, change)


def test_graphs_within_nodes_and_functions_keep_to_their_models(tmp_path):
    models = [branching(tmp_path / str(seed), seed) for seed in range(3)]
    for rows in (ROWS, -ROWS):
        exact = np.mean([ask(model, rows)["y"] for model in models], axis=0)
        np.testing.assert_allclose(ask(combine(ensemble, tmp_path, models), rows)["y"], exact, rtol=1e-5, atol=1e-6)
    rows = np.abs(ROWS)
    averaged = ask(combine(average, tmp_path, models, [1, 1, 2]), rows)["y"]
    np.testing.assert_allclose(averaged, 2 * rows.sum(axis=1, keepdims=True) * (1 + 2 + 2 * 3) / 4, rtol=1e-5)


# The converter's own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "make, function, output",
    [
        (LinearRegression, average, "variable"),
        (lambda: HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=5), ensemble, "variable"),
        (lambda: HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5), ensemble, "probabilities"),
        (LogisticRegression, ensemble, "probabilities"),
    ],
    ids=["linear", "boosted", "boosted classes", "logistic"],
)
def test_exports_of_scikit_learn_are_combined(tmp_path, make, function, output):
    chance = np.random.default_rng(6)
    models = []
    for number in range(3):
        model = make()
        truth = ROWS @ chance.normal(size=FEATURES)
        model.fit(ROWS, LABELS[np.digitize(truth, [-0.5, 0.5])] if is_classifier(model) else truth)
        directory = tmp_path / str(number)
        directory.mkdir()
        options = {"zipmap": False} if is_classifier(model) else None
        onnx.save(to_onnx(model, ROWS[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3}),
                  directory / "model.onnx")
        models.append(directory)
    exact = np.mean([ask(model)[output] for model in models], axis=0)
    np.testing.assert_allclose(ask(combine(function, tmp_path, models))[output], exact, rtol=1e-5, atol=1e-5)


def of_zipmap(directory):
    outputs = [value("label", TensorProto.INT64, "N")]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    outputs.append(helper.make_value_info("p", kind))
    return save(directory, [("Identity", "x", "p", "", {})], outputs, {})


def of_one_input(directory, name="x", *shape):
    inputs = [value(name, TensorProto.FLOAT, *(shape or ("N", FEATURES)))]
    return save(directory, [("Identity", name, "y", "", {})], [value("y", TensorProto.FLOAT, "N", FEATURES)], {},
                inputs=inputs)


def of_bytes(directory):
    nodes = [("Cast", "x", "y", "", {"to": TensorProto.UINT8})]
    return save(directory, nodes, [value("y", TensorProto.UINT8, "N", FEATURES)], {})


def test_what_cannot_be_an_ensemble_is_refused(tmp_path):
    for place, (makers, problem) in enumerate([
        ([of_zipmap], 'output `p` of batch `batch 0` is not a tensor: of scikit-learn, export it with options={"zip'),
        ([of_one_input, lambda to: of_one_input(to, "z")], "batch `batch 1` has other inputs than the first"),
        ([of_one_input, lambda to: of_one_input(to, "x", "N", 5)], "inputs than the first: ('x', 'FLOAT', [-1, 5])"),
        ([lambda to: classifier(to, 1), lambda to: classifier(to, 1, np.float64)], "has other outputs than the first"),
        ([lambda to: tree(to, 1), lambda to: tree(to, 1, LABELS + 1)], "has other classes than the first"),
        ([lambda to: classifier(to, 1), lambda to: classifier(to, 1, opset=17)], "another opset of ai.onnx than"),
        ([lambda to: classifier(to, 1, opset=12)], "the models have opset 12: export them with 13 or later"),
        ([lambda to: classifier(to, 1, labels=np.array(["a", "b", "c"]))], "output `label` is text: export with opse"),
        ([of_bytes], "output `y` is UINT8: there is neither a mean nor a vote of it"),
        ([of_one_input] * 257, "257 models, the limit of an ensemble is 256"),
    ]):
        models = [make(tmp_path / f"{place}-{number}") for number, make in enumerate(makers[:2])]
        with pytest.raises(Hopeless) as raised:
            combine(ensemble, tmp_path, (models * len(makers))[:len(makers)])
        assert problem in str(raised.value)


def test_no_model_is_larger_than_an_onnx_file_can_be(tmp_path, monkeypatch):
    models = [classifier(tmp_path / str(seed), seed) for seed in range(3)]
    size = (models[0] / "model.onnx").stat().st_size
    for limit, function, problem in [
        (size - 1, average, "the model of batch `batch 0` is larger than 2 GiB"),
        (2 * size, ensemble, "the ensemble of 3 models would be larger than 2 GiB"),
        (4 * size, ensemble, "the combined model would be larger than 2 GiB"),
    ]:
        monkeypatch.setattr("tradewind.pipeline.graphs.MODEL_BYTES_LIMIT", limit)
        with pytest.raises(Hopeless, match=problem):
            combine(function, tmp_path, models)


def test_a_worker_combines_as_it_does_any_step(tmp_path):
    models = [classifier(tmp_path / str(seed), seed) for seed in range(2)]
    given = [{"batch": str(place), "directory": str(model), "rows": 5} for place, model in enumerate(models)]
    with Worker(tmp_path) as worker:
        for function in ("average", "ensemble"):
            home = worker.send(f"tradewind.pipeline.combine:{function}", inputs={"train": given}, parameters={})
            assert worker.reply() == {"ok": True}, worker.log()
            assert ask(home / "output")["p"].shape == (50, CLASSES)
        tree(tmp_path / "tree", 1)
        given[1]["directory"] = str(tmp_path / "tree")
        reply, _, log = worker.do("tradewind.pipeline.combine:average", inputs={"train": given})
        assert reply["hopeless"] and "use `ensemble`" in reply["error"]
        assert log.count("Traceback") == 0 and json.dumps(reply)
