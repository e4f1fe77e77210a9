"""What is done with ONNX graphs: the mean of weights, and many graphs as one."""

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from .contract import Hopeless

MODEL_BYTES_LIMIT = 2**31 - 1
# A vote compares each label with each other.
ENSEMBLE_LIMIT = 256
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
LABELS = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING}
LINEAR = {"LinearClassifier", "LinearRegressor"}
# What they learn is not numbers that stay in their places.
NO_MEAN = {
    "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "SVMClassifier", "SVMRegressor", "CDist",
}
INSTEAD = "use `ensemble`, which combines models of any kind"
# Of ONNX's own operators: where axes became inputs, and where texts could be compared.
OPSET_OF_AXES, OPSET_OF_TEXTS = 13, 19


def load(file, batch):
    """A model with its external data."""
    if file.stat().st_size > MODEL_BYTES_LIMIT:
        raise Hopeless(f"the model of batch `{batch}` is larger than 2 GiB")
    try:
        return onnx.load(str(file))
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise Hopeless(f"the model of batch `{batch}` is not ONNX: {error}") from None


def data_files(file):
    """Names of the files that hold a model's external data."""
    model = onnx.load(str(file), load_external_data=False)
    tensors = [tensor for graph in _graphs(model.graph) for tensor in graph.initializer]
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


def checked(model):
    """The bytes of a model that ONNX's own checker has nothing against."""
    if model.ByteSize() > MODEL_BYTES_LIMIT:
        raise Hopeless("the combined model would be larger than 2 GiB, which no ONNX file can be")
    _sort_opsets(model)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _sort_opsets(model):
    """Converters write them in any order, and some twice."""
    opsets = sorted({(opset.domain, opset.version) for opset in model.opset_import})
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)


def average(models):
    """The weighted mean of models with the same structure: triples of file, weight and batch. One at a time is in
    memory, beside the mean, which is taken with double precision and in the order given."""
    made, means, total = None, [], 0.0
    for file, weight, batch in models:
        model = load(file, batch)
        _refuse_what_has_no_mean(model, batch)
        parts = [part.take(batch) for part in _weights(model.graph)]
        if made is None:
            made, first = model, _skeleton(model)
            means = parts
        else:
            _refuse_other_structure(first, _skeleton(model), batch)
        total += weight
        if weight > 0:
            for mean, part in zip(means, parts):
                _move(mean, part, weight / total, batch)
    for place, mean in zip(_weights(made.graph), means):
        place.put(mean)
    return made


class _Tensor:
    """An initializer."""

    def __init__(self, tensor):
        self.tensor, self.name = tensor, tensor.name

    def take(self, batch):
        """Its numbers, which are gone then."""
        numbers = numpy_helper.to_array(self.tensor).astype(np.float64)
        for field in ("raw_data", "float_data", "double_data", "int32_data", "external_data", "data_location"):
            self.tensor.ClearField(field)
        return _numbers(numbers, self.name, batch)

    def put(self, numbers):
        kind = helper.tensor_dtype_to_np_dtype(self.tensor.data_type)
        self.tensor.CopyFrom(numpy_helper.from_array(numbers.astype(kind), self.name))


class _Attribute:
    """Coefficients of a linear model."""

    def __init__(self, node, attribute):
        self.attribute, self.name = attribute, f"{node.op_type}.{attribute.name}"

    def take(self, batch):
        """Its numbers, of which only their count is left."""
        numbers = np.array(self.attribute.floats, dtype=np.float64)
        self.attribute.floats[:] = [0.0] * len(numbers)
        return _numbers(numbers, self.name, batch)

    def put(self, numbers):
        self.attribute.floats[:] = numbers.astype(np.float32).tolist()


def _numbers(numbers, name, batch):
    if np.isnan(numbers).any():
        raise Hopeless(f"`{name}` of batch `{batch}` is not a number everywhere")
    return numbers


def _move(mean, part, share, batch):
    """Moves the mean by this share of the way to a part. What is infinite, as masks are, has to be so in all models."""
    infinite = np.isinf(mean) | np.isinf(part)
    if (mean[infinite] != part[infinite]).any():
        raise Hopeless(f"a weight of batch `{batch}` or of one before it is infinite")
    with np.errstate(invalid="ignore"):
        mean += np.where(infinite, 0.0, part - mean) * share


def _graphs(graph):
    """A graph and those within its nodes."""
    yield graph
    for node in graph.node:
        for inner in _within(node):
            yield from _graphs(inner)


def _within(node):
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _weights(graph):
    for inner in _graphs(graph):
        for tensor in inner.initializer:
            if tensor.data_type in FLOATS:
                yield _Tensor(tensor)
        for node in inner.node:
            if node.domain == "ai.onnx.ml" and node.op_type in LINEAR:
                for attribute in node.attribute:
                    if attribute.name in ("coefficients", "intercepts"):
                        yield _Attribute(node, attribute)


def _refuse_what_has_no_mean(model, batch):
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.op_type in NO_MEAN:
                raise Hopeless(f"the model of batch `{batch}` has a {node.op_type}, which has no average: {INSTEAD}")


def _skeleton(model):
    """What has to be the same, without names that nothing depends on. Weights have been taken out of it."""
    bones = ModelProto()
    bones.graph.CopyFrom(model.graph)
    bones.functions.extend(model.functions)
    bones.opset_import.extend(model.opset_import)
    _sort_opsets(bones)
    for graph in _graphs(bones.graph):
        for field in ("name", "doc_string", "value_info", "metadata_props"):
            if field in graph.DESCRIPTOR.fields_by_name:
                graph.ClearField(field)
        for node in graph.node:
            node.ClearField("name")
            node.ClearField("doc_string")
        for tensor in graph.initializer:
            if tensor.data_type not in FLOATS:
                # The same numbers may be kept in several ways.
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return bones


def _refuse_other_structure(first, other, batch):
    if first == other:
        return
    what = _difference(first, other)
    raise Hopeless(f"the model of batch `{batch}` cannot be averaged with the first: {what}; {INSTEAD}")


def _difference(first, other):
    """The first one, in words."""
    if first.opset_import != other.opset_import:
        return "its opsets differ"
    for ours, theirs in zip(_graphs(first.graph), _graphs(other.graph)):
        if [node.op_type for node in ours.node] != [node.op_type for node in theirs.node]:
            return "it has other nodes"
        for one, another in zip(ours.node, theirs.node):
            attributes = {attribute.name: attribute for attribute in one.attribute}
            for attribute in another.attribute:
                if not attribute.HasField("g") and attributes.get(attribute.name) != attribute:
                    return f"`{attribute.name}` of its {one.op_type} differs"
        tensors = {tensor.name: tensor for tensor in ours.initializer}
        for tensor in theirs.initializer:
            if tensor.name not in tensors:
                return f"only it has an initializer `{tensor.name}`"
            if list(tensors[tensor.name].dims) != list(tensor.dims):
                return f"its initializer `{tensor.name}` has another shape"
            if tensors[tensor.name] != tensor:
                return f"its initializer `{tensor.name}` differs, and only floating-point weights have a mean"
    return "its structure differs"


def ensemble(models):
    """One graph of many: pairs of file and batch. Numbers are the mean of all models' numbers; a label is what most
    say, and where as many say another one, what the first model says of those."""
    if len(models) > ENSEMBLE_LIMIT:
        raise Hopeless(f"{len(models)} models, the limit of an ensemble is {ENSEMBLE_LIMIT}: cut larger batches")
    made, size, parts = None, 0, {}
    for place, (file, batch) in enumerate(models):
        model = load(file, batch)
        size += model.ByteSize()
        if size > MODEL_BYTES_LIMIT:
            raise Hopeless(f"the ensemble of {len(models)} models would be larger than 2 GiB: cut larger batches")
        signature = _Signature(model, batch)
        if made is None:
            first = signature
            made = ModelProto(ir_version=model.ir_version, producer_name="tradewind")
            made.graph.name = model.graph.name or "ensemble"
            made.graph.input.extend(signature.inputs)
            made.graph.output.extend(signature.outputs)
        signature.refuse_if_other_than(first, batch)
        _join_opsets(made, model, batch)
        made.ir_version = max(made.ir_version, model.ir_version)
        named = _rename(model, f"m{place}", {value.name for value in signature.inputs})
        made.graph.node.extend(model.graph.node)
        made.graph.initializer.extend(model.graph.initializer)
        made.graph.sparse_initializer.extend(model.graph.sparse_initializer)
        made.functions.extend(model.functions)
        for output in signature.outputs:
            parts.setdefault(output.name, []).append(named(output.name))
    _Join(made).outputs(parts)
    return made


class _Signature:
    """What models of an ensemble have in common."""

    def __init__(self, model, batch):
        constant = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [_copy(value) for value in model.graph.input if value.name not in constant]
        self.outputs = [_copy(value) for value in model.graph.output]
        self.classes = [
            attribute.SerializeToString(deterministic=True)
            for graph in _graphs(model.graph)
            for node in graph.node
            for attribute in node.attribute
            if attribute.name.startswith("classlabels")
        ]
        for output in self.outputs:
            if output.type.WhichOneof("value") != "tensor_type":
                hint = "of scikit-learn, export it with options={\"zipmap\": False}"
                raise Hopeless(f"output `{output.name}` of batch `{batch}` is not a tensor: {hint}")

    def refuse_if_other_than(self, first, batch):
        for kind, ours, theirs in (("inputs", first.inputs, self.inputs), ("outputs", first.outputs, self.outputs)):
            if sorted(map(_told, ours)) != sorted(map(_told, theirs)):
                told = "; ".join(", ".join(str(one) for one in sorted(map(_told, values))) for values in (theirs, ours))
                raise Hopeless(f"the model of batch `{batch}` has other {kind} than the first: {told}")
        if self.classes != first.classes:
            raise Hopeless(f"the model of batch `{batch}` has other classes than the first: let each know all of them")


def _copy(value):
    copied = onnx.ValueInfoProto()
    copied.CopyFrom(value)
    return copied


def _told(value):
    """Name, datatype and shape, in which -1 is any size."""
    tensor = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return value.name, TensorProto.DataType.Name(tensor.elem_type), shape


def _join_opsets(made, model, batch):
    known = {opset.domain: opset.version for opset in made.opset_import}
    for opset in model.opset_import:
        if known.setdefault(opset.domain, opset.version) != opset.version:
            domain = opset.domain or "ai.onnx"
            versions = f"{known[opset.domain]} and {opset.version}"
            raise Hopeless(f"the model of batch `{batch}` has another opset of {domain} than the first: {versions}")
    made.opset_import.extend(model.opset_import)
    _sort_opsets(made)


def _rename(model, prefix, shared):
    """Gives all names but those of shared inputs a prefix; what is given back does so with one name."""
    functions = {(function.domain, function.name) for function in model.functions}

    def named(name):
        return name if not name or name in shared else f"{prefix}/{name}"

    def called(nodes):
        for node in nodes:
            if (node.domain, node.op_type) in functions:
                node.op_type = f"{prefix}_{node.op_type}"
            for inner in _within(node):
                called(inner.node)

    for graph in _graphs(model.graph):
        _rename_in(graph, named)
    called(model.graph.node)
    for function in model.functions:
        called(function.node)
        function.name = f"{prefix}_{function.name}"
    return named


def _rename_in(graph: GraphProto, named):
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        tensor.name = named(tensor.name)
    for value in (*graph.input, *graph.output):
        value.name = named(value.name)
    for node in graph.node:
        node.name = named(node.name)
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]


class _Join:
    """Adds the nodes that make one answer of many."""

    def __init__(self, model):
        self.model, self.graph = model, model.graph
        self.opset = {opset.domain: opset.version for opset in model.opset_import}.get("", 0)
        if self.opset < OPSET_OF_AXES:
            raise Hopeless(f"the models have opset {self.opset}: export them with {OPSET_OF_AXES} or later")

    def outputs(self, parts):
        if any(output.type.tensor_type.elem_type in LABELS for output in self.graph.output):
            for axis in (0, 1):
                self.constant(f"join/axis{axis}", np.array([axis], dtype=np.int64))
        for output in self.graph.output:
            kind = output.type.tensor_type.elem_type
            if kind in FLOATS:
                self.mean(output.name, kind, parts[output.name])
            elif kind in LABELS:
                self.vote(output.name, kind, parts[output.name])
            else:
                name = TensorProto.DataType.Name(kind)
                raise Hopeless(f"output `{output.name}` is {name}: there is neither a mean nor a vote of it")

    def constant(self, name, array):
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.graph.node.append(helper.make_node(operator, inputs, [output], name=f"join/{output}", **attributes))
        return output

    def mean(self, name, kind, parts):
        # Half precision is added up as single precision: there is no other sum of it.
        wide = TensorProto.FLOAT if kind == TensorProto.FLOAT16 else kind
        if wide != kind:
            parts = [self.node("Cast", [part], f"{part}/wide", to=wide) for part in parts]
        count = np.array(len(parts), dtype=helper.tensor_dtype_to_np_dtype(wide))
        total = self.node("Sum", parts, f"join/{name}/sum")
        operands = [total, self.constant(f"join/{name}/count", count)]
        if wide == kind:
            self.node("Div", operands, name)
        else:
            self.node("Cast", [self.node("Div", operands, f"join/{name}/mean")], name, to=kind)

    def vote(self, name, kind, parts):
        if kind == TensorProto.STRING and self.opset < OPSET_OF_TEXTS:
            raise Hopeless(f"output `{name}` is text: export with opset {OPSET_OF_TEXTS} or later, or label by numbers")
        own = f"join/{name}"
        rows = [self.node("Unsqueeze", [part, "join/axis0"], f"{part}/row") for part in parts]
        table = self.node("Concat", rows, f"{own}/all", axis=0)
        ours = self.node("Unsqueeze", [table, "join/axis1"], f"{own}/ours")
        theirs = self.node("Unsqueeze", [table, "join/axis0"], f"{own}/theirs")
        equal = self.node("Equal", [ours, theirs], f"{own}/equal")
        ones = self.node("Cast", [equal], f"{own}/ones", to=TensorProto.FLOAT)
        votes = self.node("ReduceSum", [ones, "join/axis1"], f"{own}/votes", keepdims=0)
        # The first of equals.
        winner = self.node("ArgMax", [votes], f"{own}/winner", axis=0, keepdims=1)
        chosen = self.node("GatherElements", [table, winner], f"{own}/chosen", axis=0)
        self.node("Squeeze", [chosen, "join/axis0"], name)
