//! A model's files on their way: read from an author's directory ([`bundle`]), kept by content in control's store
//! ([`blobs`]), installed on a region's machine ([`install`]).
//!
//! What arrives is not trusted: names are checked before they touch a disk, content is what its digest says, and
//! nothing is linked. This crate knows no HTTP; bytes come and go as streams.

pub mod blobs;
pub mod bundle;
mod disk;
pub mod install;
mod writer;

pub use blobs::BlobStore;
pub use bundle::{Bundle, LocalBundle, bundle_digest};
pub use disk::{is_full, room};
pub use install::{ByteStream, Check, Drift, Fetch, FetchError, Installer, Progress};
