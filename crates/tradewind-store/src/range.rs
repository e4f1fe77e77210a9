//! Reading: one key, or a prefix page by page, now or at a pinned revision.

use bytes::Bytes;

use crate::{Error, LeaseId, Result, Revision};

/// The longest key.
pub const MAX_KEY_BYTES: usize = 1024;
/// The most keys in one page.
pub const MAX_PAGE_KEYS: usize = 1000;
/// A page ends with the key that takes it past this many bytes of keys and values.
pub const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A key and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    /// Empty in an answer to [`Want::Keys`].
    pub value: Bytes,
    /// The revision that created the key; a key that is deleted and put again is created again.
    pub create_revision: Revision,
    /// The revision that last put the key.
    pub mod_revision: Revision,
    /// How many times the key was put since it was created: 1 for a new key.
    pub version: u64,
    /// The lease of the last put.
    pub lease: Option<LeaseId>,
}

/// Which keys: exactly one, or all that begin with a prefix (the empty prefix is every key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    Key(String),
    Prefix(String),
}

impl Selector {
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => wanted == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }

    /// The keys as a half-open interval of bytes, which is how backends look them up.
    pub fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Key(key) => (key.clone().into_bytes(), successor(key)),
            Self::Prefix(prefix) => {
                let mut end = prefix.clone().into_bytes();
                match end.last_mut() {
                    // No byte of UTF-8 is above 0xf4, so this neither overflows nor skips a key.
                    Some(last) => *last += 1,
                    None => end.push(0xff),
                }
                (prefix.clone().into_bytes(), end)
            }
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Prefix(text) => text,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Key(key) => check_key(key),
            Self::Prefix(prefix) => check_length(prefix),
        }
    }
}

/// The smallest key after this one.
pub(crate) fn successor(key: &str) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() { Err(Error::EmptyKey) } else { check_length(key) }
}

fn check_length(key: &str) -> Result<()> {
    if key.len() > MAX_KEY_BYTES { Err(Error::KeyTooLong { bytes: key.len() }) } else { Ok(()) }
}

/// How much to say of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Want {
    #[default]
    Values,
    /// Everything but the values.
    Keys,
    /// Only how many there are in all, whatever the limit.
    Count,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub selector: Selector,
    /// The revision to read at; none is now.
    pub at: Option<Revision>,
    /// Begin behind this key.
    pub after: Option<String>,
    /// At most so many keys, between 1 and [`MAX_PAGE_KEYS`]. A page may hold fewer although more are left.
    pub limit: usize,
    pub want: Want,
}

impl Range {
    pub fn key(key: impl Into<String>) -> Self {
        Self::new(Selector::Key(key.into()))
    }

    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(Selector::Prefix(prefix.into()))
    }

    pub fn new(selector: Selector) -> Self {
        Self { selector, at: None, after: None, limit: MAX_PAGE_KEYS, want: Want::Values }
    }

    pub fn at(mut self, revision: Revision) -> Self {
        self.at = Some(revision);
        self
    }

    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }

    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub fn keys_only(mut self) -> Self {
        self.want = Want::Keys;
        self
    }

    pub fn count_only(mut self) -> Self {
        self.want = Want::Count;
        self
    }

    /// Refuses what no backend takes. Backends call it before anything else.
    pub fn check(&self) -> Result<()> {
        self.selector.check()?;
        self.after.as_deref().map_or(Ok(()), check_length)
    }

    /// The limit that holds.
    pub fn page_keys(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE_KEYS)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResponse {
    /// The revision that was read: the one asked for, or else the newest.
    pub revision: Revision,
    /// In the order of the keys' bytes.
    pub kvs: Vec<KeyValue>,
    /// Keys are left behind the last one: ask again with [`Range::after`], at this revision.
    pub more: bool,
    /// For [`Want::Count`] how many keys there are, otherwise how many are in this page.
    pub count: u64,
}

/// Keys as they all were at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub revision: Revision,
    pub kvs: Vec<KeyValue>,
}
