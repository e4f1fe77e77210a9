//! The nouns of Tradewind and every decision about them, without IO, clock, randomness or async runtime.
//!
//! A decision is a function from what was observed, and the time it is told, to what should be done. Roles
//! observe and act; this crate decides.

pub mod alert;
pub mod assignment;
pub mod backoff;
pub mod balance;
pub mod batch;
pub mod bundle;
pub mod capacity;
pub mod catalogue;
pub mod causes;
pub mod deployment;
pub mod drill;
pub mod duration;
pub mod event;
pub mod health;
pub mod histogram;
pub mod inference;
pub mod locality;
pub mod monitor;
pub mod names;
pub mod outlier;
pub mod overload;
pub mod pins;
pub mod pipeline;
pub mod probe;
pub mod region;
pub mod resources;
pub mod retry;
pub mod rollout;
pub mod route;
pub mod scale;
pub mod scaler;
pub mod simulate;
pub mod stored;
pub mod suggest;
pub mod trace;
pub mod traffic;
pub mod tune;
pub mod verify;

pub use jiff::Timestamp;
pub use names::{
    Digest, DrillNumber, Epoch, Generation, ModelName, ReceiverName, RegionName, RevisionNumber, RolloutNumber, Slot,
    VersionNumber,
};
