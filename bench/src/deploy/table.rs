//! The table in the documentation and on the terminal.

use super::{Row, statistics::Spread};

pub(super) const BEGIN: &str = "<!-- deploy: begin -->";
pub(super) const END: &str = "<!-- deploy: end -->";

pub(super) fn header() -> String {
    let columns = [
        "regions",
        "at once",
        "writes",
        "writes / region",
        "stored KiB / region",
        "memory KiB / region",
        "CPU ms / region",
        "wall s",
    ];
    format!("| {} |\n|{}", columns.join(" | "), "--:|".repeat(columns.len()))
}

pub(super) fn line(row: &Row) -> String {
    let (regions, summary) = (row.regions as f64, &row.summary);
    let cells = [
        row.regions.to_string(),
        row.max_parallel.clone(),
        spread(&summary.transactions, 1.0, 0),
        format!("{:.2}", summary.transactions.median / regions),
        spread(&summary.stored_bytes, 1024.0 * regions, 1),
        spread(&summary.resident_bytes, 1024.0 * regions, 1),
        spread(&summary.cpu_ms, regions, 2),
        spread(&summary.wall_ms, 1000.0, 2),
    ];
    format!("| {} |", cells.join(" | "))
}

/// `3.2 (3.1–3.4)`, and the median alone where that is all there is.
fn spread(spread: &Spread, unit: f64, digits: usize) -> String {
    let [median, least, greatest] =
        [spread.median, spread.least, spread.greatest].map(|value| format!("{:.digits$}", value / unit));
    if least == greatest { median } else { format!("{median} ({least}–{greatest})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_told_where_there_is_one() {
        assert_eq!(spread(&Spread { median: 3200.0, least: 3100.0, greatest: 3449.0 }, 1000.0, 1), "3.2 (3.1–3.4)");
        assert_eq!(spread(&Spread { median: 4.0, least: 4.0, greatest: 4.0 }, 1.0, 0), "4");
    }
}
