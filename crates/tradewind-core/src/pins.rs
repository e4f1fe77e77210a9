//! Users who get what somebody has chosen for them, whatever all others get.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::table::{KeyHash, Table};
use crate::{Digest, RevisionNumber, Timestamp, duration::Span};

pub mod table;

/// The most users that are pinned one by one: they travel with the route.
pub const USERS_LIMIT: usize = 1000;
/// The most tables of users of a model.
pub const TABLES_LIMIT: usize = 16;
/// The longest key of a user, in bytes.
pub const KEY_LIMIT: usize = 256;
/// A pin lasts so long unless told otherwise.
pub const USUAL_TIME: Span = Span::from_secs(7 * 24 * 3600);
/// The longest that a pin may last.
pub const LONGEST_TIME: Span = Span::from_secs(366 * 24 * 3600);

/// The pins of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Pins {
    /// By the user's key.
    pub users: BTreeMap<String, Pin>,
    /// Users who were pinned together, newest first. Who is in several gets what the newest says, and who is pinned
    /// alone gets that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<PinTable>,
}

/// What all users of a table get until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinTable {
    /// Of the table's content.
    pub digest: Digest,
    /// How many users it has.
    pub users: u64,
    #[schema(value_type = String)]
    pub to: PinTarget,
    #[schema(value_type = String)]
    pub until: Timestamp,
}

/// What a user gets until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    #[schema(value_type = String)]
    pub to: PinTarget,
    #[schema(value_type = String)]
    pub until: Timestamp,
}

/// What a pin names: `live`, `candidate`, or the number of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PinTarget {
    Live,
    Candidate,
    Revision(RevisionNumber),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing to pin users to: write live, candidate, or the number of a revision")]
pub struct NoTarget(String);

impl std::str::FromStr for PinTarget {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        match text {
            "live" => Ok(Self::Live),
            "candidate" => Ok(Self::Candidate),
            _ => text.parse().map(Self::Revision).map_err(|_| NoTarget(text.to_owned())),
        }
    }
}

impl TryFrom<String> for PinTarget {
    type Error = NoTarget;

    fn try_from(text: String) -> Result<Self, NoTarget> {
        text.parse()
    }
}

impl From<PinTarget> for String {
    fn from(target: PinTarget) -> Self {
        target.to_string()
    }
}

impl std::fmt::Display for PinTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Candidate => f.write_str("candidate"),
            Self::Revision(number) => write!(f, "{number}"),
        }
    }
}

impl Pins {
    /// What somebody has chosen for this user alone.
    fn of(&self, user: &[u8], now: Timestamp) -> Option<PinTarget> {
        let pin = self.users.get(std::str::from_utf8(user).ok()?)?;
        (pin.until > now).then_some(pin.to)
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.tables.is_empty()
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, now: Timestamp) {
        self.users.retain(|_, pin| pin.until > now);
        self.tables.retain(|table| table.until > now);
    }

    /// Puts a table before all others; it is named once.
    pub fn put_table(&mut self, table: PinTable) {
        self.tables.retain(|known| known.digest != table.digest);
        self.tables.insert(0, table);
    }

    /// Whether somebody is pinned to that revision.
    pub fn name(&self, revision: RevisionNumber) -> bool {
        let mut targets = self.users.values().map(|pin| pin.to).chain(self.tables.iter().map(|table| table.to));
        targets.any(|to| to == PinTarget::Revision(revision))
    }
}

/// Pins together with the tables that they name.
#[derive(Debug, Default)]
pub struct Lookup {
    pins: Arc<Pins>,
    tables: Vec<(PinTable, Arc<Table>)>,
}

impl Lookup {
    /// Tables that `find` does not have are left out.
    pub fn new(pins: Arc<Pins>, find: impl Fn(&Digest) -> Option<Arc<Table>>) -> Self {
        let tables = pins.tables.iter().filter_map(|named| Some((*named, find(&named.digest)?))).collect();
        Self { pins, tables }
    }

    pub fn is_empty(&self) -> bool {
        self.pins.users.is_empty() && self.tables.is_empty()
    }

    /// What somebody has chosen for a user. Neither waits nor allocates.
    pub fn of(&self, user: &[u8], now: Timestamp) -> Option<PinTarget> {
        let alone = if self.pins.users.is_empty() { None } else { self.pins.of(user, now) };
        alone.or_else(|| {
            let hash = if self.tables.is_empty() { return None } else { KeyHash::of(user) };
            let mut lasting = self.tables.iter().filter(|(named, _)| named.until > now);
            lasting.find(|(_, table)| table.contains(hash)).map(|(named, _)| named.to)
        })
    }
}

impl PinTarget {
    /// Which kind of target it is.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Candidate => "candidate",
            Self::Revision(_) => "revision",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_last_until_their_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let pin = Pin { to: PinTarget::Candidate, until: at(10) };
        let mut pins = Pins { users: [("ada".to_owned(), pin)].into(), ..Pins::default() };
        assert_eq!(pins.of(b"ada", at(9)), Some(PinTarget::Candidate));
        assert_eq!(pins.of(b"ada", at(10)), None);
        assert_eq!((pins.of(b"bob", at(9)), pins.of(b"\xff", at(9))), (None, None));
        pins.expire(at(9));
        assert!(!pins.is_empty());
        pins.expire(at(10));
        assert!(pins.is_empty());
    }

    #[test]
    fn one_pinned_alone_comes_before_tables_and_the_newest_table_before_others() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let table = |users: &[&str]| {
            Arc::new(Table::of(users.iter().map(|user| KeyHash::of(user.as_bytes())).collect()).unwrap())
        };
        let held = [table(&["ada", "bob", "carol"]), table(&["bob", "carol"]), table(&["dave"])];
        let digest = |number: usize| Digest::from_bytes([number as u8; 32]);
        let named = |number: usize, to: &str, until| PinTable {
            digest: digest(number),
            users: held[number].users() as u64,
            to: to.parse().unwrap(),
            until: at(until),
        };
        let pin = Pin { to: PinTarget::Live, until: at(10) };
        let mut pins = Pins { users: [("carol".to_owned(), pin)].into(), ..Pins::default() };
        for table in [named(1, "2", 20), named(0, "candidate", 30), named(1, "7", 20), named(2, "3", 30)] {
            pins.put_table(table);
        }
        assert_eq!(pins.tables.iter().map(|table| table.digest).collect::<Vec<_>>(), [2, 1, 0].map(digest));
        assert!(pins.name(RevisionNumber(7)) && !pins.name(RevisionNumber(2)));
        // The last one is not held.
        let find =
            |wanted: &Digest| (0..2).find(|number| digest(*number) == *wanted).map(|number| held[number].clone());
        let lookup = Lookup::new(Arc::new(pins.clone()), find);
        let said = |user: &str, second| lookup.of(user.as_bytes(), at(second)).map(|to| to.to_string());
        let said_at = |second| ["ada", "bob", "carol", "dave"].map(|user| said(user, second).unwrap_or_default());
        assert_eq!(said_at(9), ["candidate", "7", "live", ""]);
        assert_eq!(said_at(10), ["candidate", "7", "7", ""]);
        assert_eq!(said_at(20), ["candidate", "candidate", "candidate", ""]);
        assert_eq!(said_at(30), ["", "", "", ""]);
        pins.expire(at(20));
        assert_eq!((pins.users.len(), pins.tables.len()), (0, 2));
    }

    #[test]
    fn what_names_no_table_is_written_as_before_there_were_any() {
        let text = r#"{"users":{"ada":{"to":"live","until":"2026-01-02T03:04:05Z"}}}"#;
        let pins: Pins = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&pins).unwrap(), text);
    }

    #[test]
    fn targets_are_written_as_people_say_them() {
        for text in ["live", "candidate", "7"] {
            let target: PinTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(serde_json::to_value(target).unwrap(), text);
        }
        let error = "blue".parse::<PinTarget>().unwrap_err().to_string();
        assert_eq!(error, "`blue` is nothing to pin users to: write live, candidate, or the number of a revision");
    }
}
