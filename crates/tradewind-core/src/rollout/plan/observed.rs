//! What the planner looks at beside the record.

use crate::{RegionName, Timestamp, assignment::SlotStatus, monitor::verdict::Verdict};

/// A region whose agent has not reported for longer than this is taken for unreachable.
pub const SILENCE_LIMIT: std::time::Duration = std::time::Duration::from_secs(3);

/// A gateway that has not reported for longer than this is not waited for.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(10);

/// What is observed at the time of planning.
pub trait Observed {
    fn region(&self, region: &RegionName) -> RegionObservation<'_>;
    /// The gateways, with respect to the newest epoch of the rollout.
    fn gateways(&self) -> GatewayObservation;
    /// What users of a region have in flight, and what the rollout's replicas there may have.
    fn room(&self, region: &RegionName) -> Room;
    /// The regions where users get what everybody gets who does not get the rollout's revision: what they have in flight
    /// there, and what the replicas may have.
    fn live(&self) -> Vec<(RegionName, Room)>;
    /// Whether gateways have taken up what is committed, as [`GatewayObservation::have_moved_on`] says.
    fn everybody_knows(&self) -> bool;
    /// What the monitors say of the rollout's revision in a region since users were moved, beside the one before it.
    fn verdict(&self, region: &RegionName) -> Verdict;
}

/// Whether the users of a region fit on the replicas that they are to be moved to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    /// Requests of the model in the region, whatever revision answers them, smoothed over some seconds.
    pub in_flight: f64,
    /// So many requests the ready replicas may have in flight together; `None` where no concurrency is declared.
    pub limit: Option<u32>,
    /// Replicas that demand asks for and that are not ready yet, where their number follows it.
    pub missing: u32,
}

/// What is known of a region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionObservation<'a> {
    pub reach: Reach,
    /// The rollout's slot as the region's agent reports it.
    pub slot: Option<&'a SlotStatus>,
    /// When that slot last made progress that is not in the record, such as bytes fetched.
    pub progress_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Reachable,
    /// Nobody has listened for long enough to know.
    Unknown,
    /// Silent for so many seconds; `None`: never heard of.
    Unreachable {
        silent_secs: Option<u64>,
    },
}

/// How far gateways are with an epoch. Only gateways with a live lease count, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GatewayObservation {
    pub gateways: u32,
    pub prepared: u32,
    pub committed: u32,
    /// All that there are, with a lease or without.
    pub known: u32,
    /// Those among all who were heard to have committed it.
    pub taken_up: u32,
    /// A gateway that refused what it was sent, and why.
    pub refusal: Option<String>,
}

impl GatewayObservation {
    /// Whether what users no longer get at this epoch may be taken away: every gateway with a lease has taken the epoch
    /// up, and somebody has. As long as nobody has who could tell the others, those that are cut off send all users
    /// to what was before. A world without any gateway waits for nobody.
    pub fn have_moved_on(&self) -> bool {
        self.committed >= self.gateways && (self.taken_up > 0 || self.known == 0)
    }
}
