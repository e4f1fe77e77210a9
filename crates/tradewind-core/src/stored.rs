//! Stored forms: every value in the store names its kind and version, so that a later release can read it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a stored {expected} does not parse")]
    Parse { expected: &'static str, source: serde_json::Error },
    #[error("expected a stored {expected}, found a {found}")]
    Kind { expected: &'static str, found: String },
    #[error(
        "a stored {kind} has version {found}, this program reads up to {newest}: it was written by a newer release"
    )]
    Newer { kind: &'static str, found: u32, newest: u32 },
}

/// A type that is kept in the store. Fixtures under `fixtures/stored/` pin what is on disk.
pub trait StoredForm: Serialize + DeserializeOwned {
    const KIND: &'static str;
    const VERSION: u32 = 1;

    /// Turns the data of an older version into the current one's.
    fn upgrade(_from: u32, data: Value) -> Value {
        data
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    kind: String,
    v: u32,
    data: T,
}

pub fn encode<T: StoredForm>(value: &T) -> Vec<u8> {
    let envelope = Envelope { kind: T::KIND.to_owned(), v: T::VERSION, data: value };
    serde_json::to_vec(&envelope).expect("stored forms have string keys and finite numbers")
}

pub fn decode<T: StoredForm>(bytes: &[u8]) -> Result<T, Error> {
    let parse = |source| Error::Parse { expected: T::KIND, source };
    let envelope: Envelope<Value> = serde_json::from_slice(bytes).map_err(parse)?;
    if envelope.kind != T::KIND {
        return Err(Error::Kind { expected: T::KIND, found: envelope.kind });
    }
    if envelope.v > T::VERSION {
        return Err(Error::Newer { kind: T::KIND, found: envelope.v, newest: T::VERSION });
    }
    let data = if envelope.v < T::VERSION { T::upgrade(envelope.v, envelope.data) } else { envelope.data };
    serde_json::from_value(data).map_err(parse)
}

macro_rules! stored {
    ($($type:ty = $kind:literal),* $(,)?) => {
        $(impl StoredForm for $type {
            const KIND: &'static str = $kind;
        })*
    };
}

stored! {
    crate::alert::Alert = "alert",
    crate::alert::receiver::Receiver = "receiver",
    crate::alert::silence::Silence = "silence",
    crate::assignment::Assignment = "assignment",
    crate::bundle::ModelVersion = "model_version",
    crate::bundle::ModelHead = "model_head",
    crate::deployment::Deployment = "deployment",
    crate::deployment::Revision = "revision",
    crate::drill::Drill = "drill",
    crate::event::EventRecord = "event",
    crate::region::Region = "region",
    crate::region::Member = "member",
    crate::rollout::RegionRecord = "region_record",
    crate::rollout::Rollout = "rollout",
    crate::route::Route = "route",
}
