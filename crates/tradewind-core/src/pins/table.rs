//! Users who are pinned together: one immutable table of their keys' hashes, whatever number of them.
//!
//! | bytes | are |
//! |---|---|
//! | 0 to 5 | `TWPINS` |
//! | 6 and 7 | the version of the form, 1 |
//! | 8 to 15 | how many users |
//! | then 8 for each | their hashes, ascending, none of them twice |
//!
//! Numbers are little-endian. A key is kept as its xxh3 of 64 bits, so that ten million of them take 80 MB: of a
//! billion other users one is taken for a pinned one with a probability of `1e9 * 1e7 / 2^64`, one in 1800. Hashes of
//! 128 bits would take twice the room on every gateway to prevent that. They would not keep out who means harm either:
//! the key is what a client says it is.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// The most users of a table.
pub const TABLE_USERS_LIMIT: usize = 16_000_000;
/// The most users of all tables of a model together, so that a large one can take another's place.
pub const TABLES_USERS_LIMIT: usize = 2 * TABLE_USERS_LIMIT;
/// The largest table, in bytes.
pub const TABLE_BYTES_LIMIT: u64 = (HEADER_BYTES + TABLE_USERS_LIMIT * HASH_BYTES) as u64;

const MAGIC: [u8; 6] = *b"TWPINS";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const HASH_BYTES: usize = 8;
/// Evenly spread hashes are found by fewer guesses; whatever else a table holds is then searched by halves.
const GUESSES: usize = 8;

/// What a table keeps of a user's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    pub fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTable {
    #[error("it is no table of users")]
    Magic,
    #[error("it has the form {0}, and this program knows form {VERSION}")]
    Version(u16),
    #[error("it has {bytes} bytes, which {users} users do not have")]
    Size { users: u64, bytes: usize },
    #[error("there is no user in it")]
    Empty,
    #[error("it has {0} users, and {TABLE_USERS_LIMIT} are the most")]
    TooMany(u64),
    #[error("user {0} of it is not in order")]
    Order(usize),
}

/// A table that has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    bytes: Vec<u8>,
}

impl Table {
    /// Of users in any order, some of them maybe named twice.
    pub fn of(mut users: Vec<KeyHash>) -> Result<Self, InvalidTable> {
        users.sort_unstable();
        users.dedup();
        check_count(users.len() as u64)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + users.len() * HASH_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(users.len() as u64).to_le_bytes());
        users.iter().for_each(|KeyHash(hash)| bytes.extend_from_slice(&hash.to_le_bytes()));
        Ok(Self { bytes })
    }

    /// What [`bytes`](Self::bytes) gave, after a look at all of it.
    pub fn read(bytes: Vec<u8>) -> Result<Self, InvalidTable> {
        let magic = bytes.first_chunk().is_some_and(|magic: &[u8; 6]| *magic == MAGIC);
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>().filter(|_| magic) else {
            return Err(InvalidTable::Magic);
        };
        let [.., low, high, a, b, c, d, e, f, g, h] = *header;
        let version = u16::from_le_bytes([low, high]);
        if version != VERSION {
            return Err(InvalidTable::Version(version));
        }
        let users = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        check_count(users)?;
        let (hashes, rest) = bytes[HEADER_BYTES..].as_chunks::<HASH_BYTES>();
        if hashes.len() as u64 != users || !rest.is_empty() {
            return Err(InvalidTable::Size { users, bytes: bytes.len() });
        }
        let ascends = |pair: &[[u8; HASH_BYTES]]| u64::from_le_bytes(pair[0]) < u64::from_le_bytes(pair[1]);
        if let Some(at) = hashes.windows(2).position(|pair| !ascends(pair)) {
            return Err(InvalidTable::Order(at + 2));
        }
        Ok(Self { bytes })
    }

    /// The table as it is stored and sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn users(&self) -> usize {
        self.hashes().len()
    }

    fn hashes(&self) -> &[[u8; HASH_BYTES]] {
        self.bytes[HEADER_BYTES..].as_chunks().0
    }

    /// Whether it is one of them. Neither waits nor allocates: some five places are looked at in a table of ten million.
    pub fn contains(&self, KeyHash(wanted): KeyHash) -> bool {
        let mut hashes = self.hashes();
        let (mut least, mut greatest) = (0, u64::MAX);
        for _ in 0..GUESSES {
            if hashes.is_empty() {
                return false;
            }
            let share = (wanted - least) as f64 / ((greatest - least) as f64).max(1.0);
            // The cast saturates.
            let guess = ((share * hashes.len() as f64) as usize).min(hashes.len() - 1);
            let found = u64::from_le_bytes(hashes[guess]);
            match found.cmp(&wanted) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => (least, hashes) = (found, &hashes[guess + 1..]),
                std::cmp::Ordering::Greater => (greatest, hashes) = (found, &hashes[..guess]),
            }
        }
        hashes.binary_search_by_key(&wanted, |hash| u64::from_le_bytes(*hash)).is_ok()
    }
}

fn check_count(users: u64) -> Result<(), InvalidTable> {
    match users {
        0 => Err(InvalidTable::Empty),
        _ if users > TABLE_USERS_LIMIT as u64 => Err(InvalidTable::TooMany(users)),
        _ => Ok(()),
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} users)", self.users())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn of(hashes: &[u64]) -> Table {
        Table::of(hashes.iter().copied().map(KeyHash).collect()).unwrap()
    }

    #[test]
    fn its_form_stays_what_it_is() {
        let table = of(&[0x0201, 1, 0x0201]);
        let expected = b"TWPINS\x01\x00\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0";
        assert_eq!(table.bytes(), expected);
        assert_eq!(KeyHash::of(b"ada"), KeyHash(7_574_285_342_802_214_959), "gateways of different builds must agree");
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let good = of(&[1, 2, 3]).bytes;
        let check = |spoil: fn(&mut Vec<u8>), expected| {
            let mut bytes = good.clone();
            spoil(&mut bytes);
            assert_eq!(Table::read(bytes), Err(expected));
        };
        check(|bytes| bytes.clear(), InvalidTable::Magic);
        check(|bytes| bytes.truncate(15), InvalidTable::Magic);
        check(|bytes| bytes[0] = b'X', InvalidTable::Magic);
        check(|bytes| bytes[6] = 2, InvalidTable::Version(2));
        check(|bytes| bytes[8] = 0, InvalidTable::Empty);
        check(|bytes| bytes[8..16].fill(0xff), InvalidTable::TooMany(u64::MAX));
        check(|bytes| bytes[8] = 4, InvalidTable::Size { users: 4, bytes: 40 });
        check(|bytes| bytes.push(0), InvalidTable::Size { users: 3, bytes: 41 });
        check(|bytes| bytes.swap(24, 32), InvalidTable::Order(3));
        check(|bytes| bytes[24] = 1, InvalidTable::Order(2));
        assert_eq!(Table::of(Vec::new()), Err(InvalidTable::Empty));
    }

    #[test]
    fn everybody_in_a_large_table_is_found_and_nobody_else() {
        let hash = |number: u32| KeyHash::of(format!("user-{number}").as_bytes());
        let table = Table::of((0..200_000).map(hash).collect()).unwrap();
        assert_eq!(table.users(), 200_000);
        assert!((0..200_000).all(|number| table.contains(hash(number))));
        assert!(!(200_000..400_000).any(|number| table.contains(hash(number))));
    }

    proptest! {
        /// Hashes close together, far apart, and at the ends of what there is.
        #[test]
        fn it_holds_what_a_set_holds(
            hashes in vec(prop_oneof![0..50_u64, any::<u64>(), Just(u64::MAX), u64::MAX - 50..u64::MAX], 1..200),
            others in vec(prop_oneof![0..50_u64, any::<u64>(), u64::MAX - 50..=u64::MAX], 0..200),
        ) {
            let set: HashSet<u64> = hashes.iter().copied().collect();
            let table = of(&hashes);
            prop_assert_eq!(table.users(), set.len());
            prop_assert_eq!(Table::read(table.bytes().to_vec()).unwrap(), table.clone());
            for hash in hashes.into_iter().chain(others) {
                prop_assert_eq!(table.contains(KeyHash(hash)), set.contains(&hash));
            }
        }
    }
}
