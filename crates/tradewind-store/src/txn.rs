//! Writing: flat transactions, all compares and then all operations.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{Error, LeaseId, Result, Revision, Selector, range::check_key};

/// etcd's `--max-txn-ops`: the most compares, and the most operations.
pub const MAX_TXN_OPS: usize = 128;
/// etcd's `--max-request-bytes`, 1.5 MiB, less what framing takes; keys and values together. It bounds a value too.
pub const MAX_TXN_BYTES: usize = 3 * 512 * 1024 - MAX_TXN_OPS * 2 * FRAMING_BYTES;
/// More than the encoding of one compare or operation takes besides its key and value.
const FRAMING_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    Greater,
}

impl Relation {
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::Greater => left > right,
        }
    }
}

/// What of a key is compared. A key that does not exist has revisions and version zero, and no comparison of its
/// value holds, not even [`Relation::NotEqual`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    CreateRevision(Revision),
    ModRevision(Revision),
    Version(u64),
    Value(Bytes),
}

/// The key's own `target` on the left, the one given on the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: String,
    pub relation: Relation,
    pub target: Target,
}

impl Compare {
    pub fn new(key: impl Into<String>, relation: Relation, target: Target) -> Self {
        Self { key: key.into(), relation, target }
    }

    /// The key does not exist.
    pub fn absent(key: impl Into<String>) -> Self {
        Self::create_revision(key, Revision::NONE)
    }

    /// The key exists.
    pub fn exists(key: impl Into<String>) -> Self {
        Self::new(key, Relation::Greater, Target::Version(0))
    }

    /// The key is still the one that this revision created.
    pub fn create_revision(key: impl Into<String>, revision: Revision) -> Self {
        Self::new(key, Relation::Equal, Target::CreateRevision(revision))
    }

    /// Nobody has changed the key since this revision.
    pub fn mod_revision(key: impl Into<String>, revision: Revision) -> Self {
        Self::new(key, Relation::Equal, Target::ModRevision(revision))
    }

    pub fn version(key: impl Into<String>, version: u64) -> Self {
        Self::new(key, Relation::Equal, Target::Version(version))
    }

    pub fn value(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::new(key, Relation::Equal, Target::Value(value.into()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Without a lease, the key is detached from the one it had.
    Put {
        key: String,
        value: Bytes,
        lease: Option<LeaseId>,
    },
    Delete(Selector),
}

impl Op {
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    pub fn put_leased(key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete(Selector::Key(key.into()))
    }

    pub fn delete_prefix(prefix: impl Into<String>) -> Self {
        Self::Delete(Selector::Prefix(prefix.into()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub ops: Vec<Op>,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds an operation.
    pub fn then(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Refuses what no backend takes. Backends call it before anything else, so that they all refuse alike.
    pub fn check(&self) -> Result<()> {
        let count = self.compares.len().max(self.ops.len());
        if count > MAX_TXN_OPS {
            return Err(Error::TooManyOps { count });
        }
        for compare in &self.compares {
            check_key(&compare.key)?;
        }
        for op in &self.ops {
            match op {
                Op::Put { key, .. } => check_key(key)?,
                Op::Delete(selector) => selector.check()?,
            }
        }
        let bytes = self.bytes();
        if bytes > MAX_TXN_BYTES {
            return Err(Error::TxnTooLarge { bytes });
        }
        self.check_duplicates()
    }

    fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(|compare| {
            compare.key.len() + if let Target::Value(value) = &compare.target { value.len() } else { 0 }
        });
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete(selector) => selector.text().len(),
        });
        compares.chain(ops).sum()
    }

    /// As etcd: a key is put at most once, and not also deleted; deletes may overlap.
    fn check_duplicates(&self) -> Result<()> {
        let mut puts = HashSet::new();
        for op in &self.ops {
            let Op::Put { key, .. } = op else { continue };
            let deleted = self.ops.iter().any(|op| matches!(op, Op::Delete(selector) if selector.contains(key)));
            if deleted || !puts.insert(key.as_str()) {
                return Err(Error::DuplicateKey { key: key.clone() });
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether all compares held. If not, nothing was changed.
    pub succeeded: bool,
    /// The transaction's own revision, or the newest one if it changed nothing.
    pub revision: Revision,
    /// How many keys it deleted.
    pub deleted: u64,
}
