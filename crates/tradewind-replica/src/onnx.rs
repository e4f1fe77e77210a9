//! The few fields of an ONNX file that must be known before ONNX Runtime may load it: where its tensors keep their
//! bytes, and the kinds of its inputs and outputs. Field numbers are those of `onnx.proto`.

use prost::Message;

/// `TensorProto.DataLocation.EXTERNAL`
const EXTERNAL: i32 = 1;
const LOCATION_KEY: &str = "location";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
    #[prost(message, repeated, tag = "20")]
    training_info: Vec<TrainingInfo>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TrainingInfo {
    #[prost(message, optional, tag = "1")]
    initialization: Option<GraphProto>,
    #[prost(message, optional, tag = "2")]
    algorithm: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<GraphProto>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

/// `TypeProto`: which of its alternatives is set, without their content.
#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "4")]
    sequence: Option<Anything>,
    #[prost(message, optional, tag = "5")]
    map: Option<Anything>,
    #[prost(message, optional, tag = "7")]
    opaque: Option<Anything>,
    #[prost(message, optional, tag = "8")]
    sparse_tensor: Option<Anything>,
    #[prost(message, optional, tag = "9")]
    optional: Option<Anything>,
}

#[derive(Clone, PartialEq, Message)]
struct Anything {}

/// An input or output that is no tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotATensor {
    /// `input` or `output`
    pub(crate) role: &'static str,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
}

/// A tensor that says its bytes are elsewhere, without a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unlocated {
    pub(crate) tensor: String,
}

impl ModelProto {
    pub(crate) fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// The version of the default operator set, 0 when none is imported.
    pub(crate) fn opset(&self) -> i64 {
        let default = self.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        default.map_or(0, |set| set.version)
    }

    /// `pytorch 2.9.0`
    pub(crate) fn producer(&self) -> String {
        format!("{} {}", self.producer_name, self.producer_version).trim().to_owned()
    }

    /// The first input or output that is no dense tensor.
    pub(crate) fn not_a_tensor(&self) -> Option<NotATensor> {
        let graph = self.graph.as_ref()?;
        let inputs = graph.input.iter().map(|value| ("input", value));
        let outputs = graph.output.iter().map(|value| ("output", value));
        inputs.chain(outputs).find_map(|(role, value)| {
            let kind = value.r#type.as_ref()?.kind()?;
            Some(NotATensor { role, name: value.name.clone(), kind })
        })
    }

    /// Every location that any tensor of the model names, wherever it hides; sorted, each once.
    pub(crate) fn external_locations(&self) -> Result<Vec<String>, Unlocated> {
        let mut found = Locations::default();
        let training = self.training_info.iter().flat_map(|info| [&info.initialization, &info.algorithm]).flatten();
        for graph in self.graph.iter().chain(training) {
            found.graph(graph);
        }
        for function in &self.functions {
            function.node.iter().flat_map(|node| &node.attribute).for_each(|attribute| found.attribute(attribute));
            function.attribute_proto.iter().for_each(|attribute| found.attribute(attribute));
        }
        if let Some(tensor) = found.unlocated {
            return Err(Unlocated { tensor });
        }
        found.locations.sort_unstable();
        found.locations.dedup();
        Ok(found.locations)
    }
}

impl Type {
    fn kind(&self) -> Option<&'static str> {
        let kinds = [
            (&self.sequence, "sequence"),
            (&self.map, "map"),
            (&self.opaque, "opaque value"),
            (&self.sparse_tensor, "sparse tensor"),
            (&self.optional, "optional value"),
        ];
        kinds.into_iter().find_map(|(set, kind)| set.is_some().then_some(kind))
    }
}

/// Collects locations. The recursion is bounded: prost has refused anything nested beyond its limit of 100.
#[derive(Default)]
struct Locations {
    locations: Vec<String>,
    unlocated: Option<String>,
}

impl Locations {
    fn graph(&mut self, graph: &GraphProto) {
        graph.initializer.iter().for_each(|tensor| self.tensor(tensor));
        graph.sparse_initializer.iter().for_each(|tensor| self.sparse(tensor));
        graph.node.iter().flat_map(|node| &node.attribute).for_each(|attribute| self.attribute(attribute));
    }

    fn attribute(&mut self, attribute: &Attribute) {
        attribute.t.iter().chain(&attribute.tensors).for_each(|tensor| self.tensor(tensor));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| self.graph(graph));
        attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).for_each(|tensor| self.sparse(tensor));
    }

    fn sparse(&mut self, tensor: &SparseTensor) {
        tensor.values.iter().chain(&tensor.indices).for_each(|tensor| self.tensor(tensor));
    }

    fn tensor(&mut self, tensor: &Tensor) {
        let before = self.locations.len();
        let locations = tensor.external_data.iter().filter(|entry| entry.key == LOCATION_KEY);
        self.locations.extend(locations.map(|entry| entry.value.clone()));
        if tensor.data_location == EXTERNAL && self.locations.len() == before {
            self.unlocated.get_or_insert_with(|| tensor.name.clone());
        }
    }
}
