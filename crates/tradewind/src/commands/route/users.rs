//! Files of users' keys, one a line, and the tables that are made of them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use tradewind_api::Code;
use tradewind_core::{
    Digest, ModelName,
    pins::{
        KEY_LIMIT, PinTable,
        table::{InvalidTable, KeyHash, TABLE_USERS_LIMIT, Table},
    },
};

use crate::failure::Failure;

/// Long enough that a line which is too long is seen to be.
const LINE_LIMIT: u64 = KEY_LIMIT as u64 + 3;

/// The table of a file's users, and its digest. The file is read once, line by line.
pub(super) fn table_of(path: &Path) -> Result<(Digest, Table), Failure> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Code::NotFound, format!("there is no file {}", path.display()))
            .hint("a file of users has the key of one user a line"),
        _ => Failure::failed(format!("cannot read {}", path.display())).cause(error.to_string()),
    };
    let table = read(BufReader::new(File::open(path).map_err(unreadable)?)).map_err(|error| match error {
        Unreadable::Io(error) => unreadable(error),
        Unreadable::Line { number, why } => Failure::usage(format!("{} is no list of users", path.display()))
            .hint(format!("see its line {number}: {why}")),
        Unreadable::Table(invalid) => Failure::new(
            if matches!(invalid, InvalidTable::Empty) { Code::Invalid } else { Code::TooLarge },
            format!("{} is no list of users", path.display()),
        )
        .cause(invalid.to_string())
        .hint(format!("it has the key of one user a line, of 1 to {TABLE_USERS_LIMIT} users")),
    })?;
    Ok((digest_of(&table), table))
}

fn digest_of(table: &Table) -> Digest {
    Digest::from_bytes(*blake3::hash(table.bytes()).as_bytes())
}

#[derive(Debug)]
enum Unreadable {
    Io(io::Error),
    Line { number: u64, why: String },
    Table(InvalidTable),
}

/// Empty lines are passed over, and so is a carriage return at a line's end.
fn read(mut source: impl BufRead) -> Result<Table, Unreadable> {
    let mut users: Vec<KeyHash> = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if source.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line).map_err(Unreadable::Io)? == 0 {
            break;
        }
        let key = line.strip_suffix(b"\n").unwrap_or(&line);
        let key = key.strip_suffix(b"\r").unwrap_or(key);
        if key.is_empty() {
            continue;
        }
        check(key).map_err(|why| Unreadable::Line { number, why })?;
        if users.len() > 2 * TABLE_USERS_LIMIT {
            users.sort_unstable();
            users.dedup();
        }
        if users.len() > 2 * TABLE_USERS_LIMIT {
            break;
        }
        users.push(KeyHash::of(key));
    }
    Table::of(users).map_err(Unreadable::Table)
}

fn check(key: &[u8]) -> Result<(), String> {
    if key.len() > KEY_LIMIT {
        return Err(format!("a user's key has at most {KEY_LIMIT} bytes"));
    }
    let text = std::str::from_utf8(key).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.starts_with('\u{feff}') || text.chars().any(char::is_control) {
        return Err("a user's key has no control characters and no byte order mark".to_owned());
    }
    Ok(())
}

/// The digest of what somebody calls a table: a file of its users, or the first digits of its digest.
pub(super) fn find(named: &str, model: &ModelName, tables: &[PinTable]) -> Result<Digest, Failure> {
    let path = Path::new(named);
    if path.exists() {
        return Ok(table_of(path)?.0);
    }
    let digits = named.strip_prefix("blake3:").unwrap_or(named);
    let mut matching = tables.iter().map(|table| table.digest).filter(|digest| digest.to_hex().starts_with(digits));
    match (matching.next(), matching.next()) {
        (Some(digest), None) if !digits.is_empty() => Ok(digest),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("several tables of {model} begin with `{named}`"))
                .hint("write more of its digits"))
        }
        _ => Err(Failure::new(Code::NotFound, format!("`{named}` is no file here, and no table of {model} begins so"))
            .hint(format!("see its tables with `tradewind route pins {model}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(content: &[u8]) -> String {
        match read(content).unwrap_err() {
            Unreadable::Io(error) => error.to_string(),
            Unreadable::Line { number, why } => format!("line {number}: {why}"),
            Unreadable::Table(invalid) => invalid.to_string(),
        }
    }

    #[test]
    fn each_line_is_a_user_once() {
        let long = "é".repeat(KEY_LIMIT / 2);
        let table = read(format!("ada\nbob\r\n\nada\n{long}\r\ncarol").as_bytes()).unwrap();
        assert_eq!(table.users(), 4);
        for user in ["ada", "bob", "carol", &long] {
            assert!(table.contains(KeyHash::of(user.as_bytes())), "{user}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        assert_eq!(error_of(b"\n\r\n"), "there is no user in it");
        assert_eq!(error_of(b"ada\n\xff\xfe\n"), "line 2: it is not UTF-8");
        let marked = "line 1: a user's key has no control characters and no byte order mark";
        assert_eq!(error_of("\u{feff}ada\n".as_bytes()), marked);
        assert_eq!(error_of(b"ada\tbob\n"), marked);
        for too_long in [KEY_LIMIT + 1, KEY_LIMIT + 2, 100_000] {
            let content = format!("ada\nbob\n{}\n", "x".repeat(too_long));
            assert_eq!(error_of(content.as_bytes()), "line 3: a user's key has at most 256 bytes", "{too_long}");
        }
    }

    #[test]
    fn tables_are_called_by_their_first_digits() {
        let named = |byte| PinTable {
            digest: Digest::from_bytes([byte; 32]),
            users: 1,
            to: "live".parse().unwrap(),
            until: tradewind_core::Timestamp::MAX,
        };
        let tables = [named(0x12), named(0x13)];
        let find =
            |name: &str| find(name, &"digits".parse().unwrap(), &tables).map_err(|failure| failure.root().to_owned());
        assert_eq!(find("12"), Ok(tables[0].digest));
        assert_eq!(find(&tables[1].digest.to_string()), Ok(tables[1].digest));
        assert_eq!(find("1").unwrap_err(), "several tables of digits begin with `1`");
        assert_eq!(find("7").unwrap_err(), "`7` is no file here, and no table of digits begins so");
        assert!(find("blake3:").is_err());
    }
}
