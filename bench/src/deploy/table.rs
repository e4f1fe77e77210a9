//! The table in the documentation and on the terminal.

use super::Row;

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
        summary.transactions.show(1.0, 0),
        format!("{:.2}", summary.transactions.median / regions),
        summary.stored_bytes.show(1024.0 * regions, 1),
        summary.resident_bytes.show(1024.0 * regions, 1),
        summary.cpu_ms.show(regions, 2),
        summary.wall_ms.show(1000.0, 2),
    ];
    format!("| {} |", cells.join(" | "))
}
