//! A line of the access log. Who asked is told apart, not told: only a keyed hash of the user's key is written.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tradewind_core::Timestamp;

/// What the key of the hash is derived for.
const CONTEXT: &str = "tradewind 2026 access log, hash of a user's key";
/// Hexadecimal digits of the hash.
const DIGITS: usize = 16;

#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) time: Timestamp,
    pub(crate) request_id: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Absent when the user left before there was one.
    pub(crate) status: Option<u16>,
    pub(crate) outcome: &'static str,
    /// Of who answered; absent when it was the gateway itself.
    pub(crate) region: Option<String>,
    pub(crate) slot: Option<String>,
    pub(crate) revision: Option<u64>,
    /// Absent also when another region answered.
    pub(crate) replica: Option<String>,
    /// Of the body as far as it came.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) duration_us: u64,
    pub(crate) retries: usize,
    pub(crate) spilled: bool,
    pub(crate) user: User,
}

#[derive(Debug)]
pub(crate) enum User {
    Unknown,
    /// Never written.
    Key(Vec<u8>),
    Hash(String),
}

impl From<Option<Vec<u8>>> for User {
    fn from(key: Option<Vec<u8>>) -> Self {
        key.map_or(Self::Unknown, Self::Key)
    }
}

impl User {
    /// The hash is the same at all gateways of a world, and cannot be guessed without its secret.
    pub(super) fn hide(&mut self, secret: &str) {
        if let Self::Key(key) = self {
            let hash = blake3::keyed_hash(&blake3::derive_key(CONTEXT, secret.as_bytes()), key);
            *self = Self::Hash(hash.to_hex()[..DIGITS].to_owned());
        }
    }
}

impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hash(hash) => serializer.serialize_str(hash),
            Self::Unknown | Self::Key(_) => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_apart_and_not_told() {
        let written = |user: Option<&'static str>, secret: &str| {
            let mut user = User::from(user.map(|user| user.as_bytes().to_vec()));
            user.hide(secret);
            serde_json::to_string(&user).unwrap()
        };
        let ada = written(Some("ada"), "mesh");
        assert_eq!(ada.len(), DIGITS + 2);
        assert!(!ada.contains("ada"));
        assert_eq!(ada, written(Some("ada"), "mesh"));
        assert_ne!(ada, written(Some("bob"), "mesh"));
        assert_ne!(ada, written(Some("ada"), "another world"));
        assert_eq!(written(None, "mesh"), "null");
        assert_eq!(serde_json::to_string(&User::Key(b"ada".to_vec())).unwrap(), "null");
    }
}
