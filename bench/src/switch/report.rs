//! The table in the documentation and on the terminal.

use super::{
    peer::Moved,
    scene::{Pinned, Space},
};
use crate::spread::Spread;

const MIB: f64 = 1024.0 * 1024.0;
/// A second in milliseconds, as a unit of seconds.
const MILLISECOND: f64 = 1e-3;

/// All switches of one way to do it, over one number of users. Times are in seconds, sizes in bytes.
#[derive(Debug)]
pub(super) enum Row {
    Tradewind {
        users: usize,
        rounds: usize,
        committed: Spread,
        acknowledged: Spread,
        seen: Spread,
        pinned: Pinned,
        space: Space,
    },
    Peer {
        users: usize,
        batch: usize,
        rounds: usize,
        /// Absent where not even one was done in time.
        took: Option<Spread>,
        first: Moved,
        stored: u64,
        resident: u64,
    },
}

impl Row {
    pub(super) fn users(&self) -> usize {
        match self {
            Self::Tradewind { users, .. } | Self::Peer { users, .. } => *users,
        }
    }

    /// What it is called.
    pub(super) fn way(&self) -> &'static str {
        match self {
            Self::Tradewind { .. } => "Tradewind",
            Self::Peer { batch: 1, .. } => "a route each, one by one",
            Self::Peer { .. } => "a route each, by the thousand",
        }
    }

    /// Until users have it, and whether that was measured to the end.
    pub(super) fn switched(&self) -> (f64, bool) {
        match self {
            Self::Tradewind { seen, .. } => (seen.median, true),
            Self::Peer { took: Some(took), .. } => (took.median, true),
            Self::Peer { users, first, .. } => (*users as f64 / first.per_second(), false),
        }
    }

    /// Of one gateway, or of what stands in its place.
    pub(super) fn resident_mib(&self) -> f64 {
        match self {
            Self::Tradewind { space, .. } => space.gateway_resident as f64 / MIB,
            Self::Peer { resident, .. } => *resident as f64 / MIB,
        }
    }
}

pub(super) fn table(rows: &[Row]) -> String {
    let columns = [
        "users",
        "through",
        "switches",
        "written, ms",
        "every gateway has it, ms",
        "users see it everywhere, ms",
        "stored, MiB: control, each gateway",
        "memory, MiB: control, each gateway",
    ];
    let marks = format!("|--:|---|{}", "--:|".repeat(columns.len() - 2));
    let lines: Vec<String> = rows.iter().map(line).collect();
    let once = rows.iter().filter_map(|row| match row {
        Row::Tradewind { users, pinned, .. } => Some(format!("{:.2} s for {users}", pinned.known.as_secs_f64())),
        Row::Peer { .. } => None,
    });
    let once = once.collect::<Vec<_>>().join(", ");
    let look_ups = rows.iter().filter_map(|row| match row {
        Row::Tradewind { users, pinned, .. } => Some(format!("{} ns among {users}", pinned.look_up.as_nanos())),
        Row::Peer { .. } => None,
    });
    let look_ups = look_ups.collect::<Vec<_>>().join(", ");
    format!(
        "| {} |\n{marks}\n{}\n\nPinning them, once, from the upload of their table until every gateway has it: {once}. Looking a key up: {look_ups}.",
        columns.join(" | "),
        lines.join("\n")
    )
}

pub(super) fn line(row: &Row) -> String {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB);
    let ms = |spread: &Spread| spread.show(MILLISECOND, 1);
    let rest = match row {
        Row::Tradewind { rounds, committed, acknowledged, seen, space, .. } => [
            rounds.to_string(),
            ms(committed),
            ms(acknowledged),
            ms(seen),
            format!("{}, {}", mib(space.control_stored), mib(space.gateway_stored)),
            format!("{}, {}", mib(space.control_resident), mib(space.gateway_resident)),
        ],
        Row::Peer { rounds, took, first, stored, resident, .. } => {
            let took = match took {
                Some(took) => ms(took),
                None => format!(
                    "not within {:.0} s, in which {} were moved: {:.0} a second, so **{:.0} s** for all",
                    first.took.as_secs_f64(),
                    first.users,
                    first.per_second(),
                    row.switched().0
                ),
            };
            [
                rounds.to_string(),
                String::new(),
                took,
                String::new(),
                mib(*stored),
                format!("follower {}", mib(*resident)),
            ]
        }
    };
    format!("| {} | {} | {} |", row.users(), row.way(), rest.join(" | "))
}
