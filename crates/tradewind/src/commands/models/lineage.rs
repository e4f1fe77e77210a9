//! Where a version comes from: read from a file of those who train elsewhere, and told in lines.

use std::{fs::File, io::Read, path::Path};

use serde_json::Value;
use tradewind_api::Code;
use tradewind_core::{
    ModelName,
    bundle::{
        Lineage,
        lineage::{BatchLineage, DataLineage},
    },
};

use crate::{
    failure::Failure,
    terminal::{Table, Tone, table::Cell, units},
};

/// The largest file, in bytes: what is kept of it is less, and has no spaces.
const FILE_BYTES_LIMIT: u64 = 1 << 20;
/// The longest value of a parameter that is shown whole, in characters.
const VALUE_CHARACTERS: usize = 100;

/// A lineage in a file of JSON.
pub(super) fn read(path: &Path) -> Result<Lineage, Failure> {
    let unreadable = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { Code::NotFound } else { Code::Invalid };
        Failure::new(code, format!("cannot read {}", path.display())).cause(error.to_string())
    };
    let refused = |cause: String| {
        Failure::usage(format!("{} does not say where a version comes from", path.display()))
            .cause(cause)
            .hint("docs/bundles.md describes its keys: pipeline, by, started_at, finished_at, and what else is known")
    };
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(FILE_BYTES_LIMIT + 1);
    if file.read_to_end(&mut text).map_err(unreadable)? as u64 > FILE_BYTES_LIMIT {
        return Err(refused(format!("it is larger than {FILE_BYTES_LIMIT} bytes")));
    }
    let lineage: Lineage = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    lineage.check().map_err(|problem| refused(problem.to_string()))?;
    Ok(lineage)
}

/// Adds its rows to those of a version.
pub(super) fn describe(lineage: &Lineage, model: &ModelName, table: &mut Table) {
    let run = lineage.run.map(|run| format!(", run {run}")).unwrap_or_default();
    let took = units::took(units::between(lineage.started_at, lineage.finished_at));
    rows(table, "made by", [format!("{}{run}", lineage.pipeline)]);
    rows(table, "run by", [lineage.by.clone()]);
    rows(table, "run at", [format!("{}, for {took}", units::clock(lineage.started_at))]);
    if let Some(data) = &lineage.data {
        rows(table, "data", [data_line(data)]);
        rows(table, "batches", data.batches.iter().map(batches_line));
    }
    rows(table, "code", lineage.code.map(|digest| digest.to_string()));
    rows(table, "requirements", lineage.requirements.iter().cloned());
    rows(table, "parameters", lineage.parameters.iter().map(|(name, value)| format!("{name} = {}", shown(value))));
    rows(table, "metrics", lineage.metrics.iter().map(|(name, number)| format!("{name} = {}", plain(*number))));
    rows(table, "gate", lineage.gate.iter().cloned());
    rows(table, "live then", lineage.compared_with.map(|version| format!("{model}:{version}")));
}

/// The heading stands before the first one.
fn rows(table: &mut Table, heading: &str, lines: impl IntoIterator<Item = String>) {
    for (number, line) in lines.into_iter().enumerate() {
        let heading = if number == 0 { heading } else { "" };
        table.row([Cell::new(heading, Tone::Heading), line.into()]);
    }
}

/// `3 files, 1.2 GB, 3000000 rows, blake3:5a5a5a5a5a`
fn data_line(data: &DataLineage) -> String {
    let files = format!("{} file{}", data.files, if data.files == 1 { "" } else { "s" });
    let rows = data.rows.map(|rows| format!("{rows} rows"));
    let digest = data.digest.map(|digest| digest.short());
    let parts = [Some(files), Some(units::bytes(data.bytes)), rows, digest];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `30, cut by 100000 rows, 1 failed, 3 held out`
fn batches_line(batches: &BatchLineage) -> String {
    let mut line = format!("{}, cut {}", batches.total, batches.cut);
    for (count, what) in [(batches.failed, "failed"), (batches.held_out, "held out")] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}

/// As JSON, without what a terminal would obey, and cut off where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let harmless = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    if text.chars().count() <= VALUE_CHARACTERS {
        return harmless.collect();
    }
    harmless.take(VALUE_CHARACTERS).chain("... (whole with -o json)".chars()).collect()
}

/// Counts without a point, and what is very large or very small with an exponent.
fn plain(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { format!("{number:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_do_nothing_to_a_terminal() {
        assert_eq!(shown(&json!({"a": [1, "x"]})), r#"{"a":[1,"x"]}"#);
        assert_eq!(shown(&json!("\u{1b}[31m\u{9b}31m")), "\"\\u001b[31m\u{fffd}31m\"");
        let long = shown(&json!("x".repeat(500)));
        assert!(long.starts_with("\"xxx") && long.ends_with("x... (whole with -o json)") && long.len() < 130, "{long}");
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!([3e6, 0.971, -1.0, 1e300, 2.5e-9].map(plain), ["3000000", "0.971", "-1", "1e300", "2.5e-9"]);
    }
}
