//! Where each resource lies in the key-value space.

use tradewind_core::{
    Digest, DrillNumber, ModelName, ReceiverName, RegionName, RevisionNumber, RolloutNumber, Timestamp, VersionNumber,
    alert::AlertKey, region::MemberRole,
};

pub const LEADER: &str = "leader";
pub const MODELS: &str = "models/";
pub const REGIONS: &str = "regions/";
pub const ASSIGNMENTS: &str = "assignments/";
pub const MEMBERS: &str = "members/";
pub const DEPLOYMENTS: &str = "deployments/";
pub const ROUTES: &str = "routes/";
pub const EVENTS: &str = "events/";
pub const ROLLOUTS: &str = "rollouts/";
pub const REVISIONS: &str = "revisions/";
pub const ALERTS: &str = "alerts/";
pub const FIRING: &str = "alerts/firing/";
pub const RESOLVED: &str = "alerts/resolved/";
pub const SILENCES: &str = "silences/";
pub const RECEIVERS: &str = "receivers/";
/// Of the one [`tradewind_core::drill::Drill`] that is under way.
pub const DRILL: &str = "drill/";
pub const DRILL_UNDER_WAY: &str = "drill/now";
/// Of those that are done.
pub const DRILLS: &str = "drills/";

/// [`tradewind_core::bundle::ModelHead`]
pub fn model(name: &ModelName) -> String {
    format!("{MODELS}{name}")
}

/// Of [`tradewind_core::bundle::ModelVersion`]s.
pub fn versions(name: &ModelName) -> String {
    format!("versions/{name}/")
}

pub fn version(name: &ModelName, version: VersionNumber) -> String {
    format!("versions/{name}/{:010}", version.0)
}

/// The number of the version that has this content, as decimal text.
pub fn version_by_digest(name: &ModelName, digest: &Digest) -> String {
    format!("digests/{name}/{}", digest.to_hex())
}

pub fn region(name: &RegionName) -> String {
    format!("{REGIONS}{name}")
}

pub fn member(region: &RegionName, role: MemberRole, address: &str) -> String {
    format!("{MEMBERS}{region}/{}/{address}", role.as_str())
}

pub fn deployment(model: &ModelName) -> String {
    format!("{DEPLOYMENTS}{model}")
}

/// The last [`tradewind_core::deployment::Deployment`] of a model that was undeployed: its numbers go on from there,
/// since a gateway that missed the removal refuses epochs that go back.
pub fn undeployed(model: &ModelName) -> String {
    format!("undeployed/{model}")
}

pub fn revisions(model: &ModelName) -> String {
    format!("{REVISIONS}{model}/")
}

pub fn revision(model: &ModelName, revision: RevisionNumber) -> String {
    format!("{REVISIONS}{model}/{:010}", revision.0)
}

pub fn rollouts(model: &ModelName) -> String {
    format!("{ROLLOUTS}{model}/")
}

pub fn rollout(model: &ModelName, rollout: RolloutNumber) -> String {
    format!("{ROLLOUTS}{model}/{:010}", rollout.0)
}

/// Of [`tradewind_core::rollout::RegionRecord`]s. A region without a record has not been begun.
pub fn records(model: &ModelName, rollout: RolloutNumber) -> String {
    format!("records/{model}/{:010}/", rollout.0)
}

pub fn record(model: &ModelName, rollout: RolloutNumber, region: &RegionName) -> String {
    format!("records/{model}/{:010}/{region}", rollout.0)
}

pub fn assignments(region: &RegionName) -> String {
    format!("{ASSIGNMENTS}{region}/")
}

pub fn assignment(region: &RegionName, model: &ModelName) -> String {
    format!("{ASSIGNMENTS}{region}/{model}")
}

pub fn route(model: &ModelName) -> String {
    format!("{ROUTES}{model}")
}

/// Sorted by time; `unique` tells events of one millisecond apart. Writing one twice is writing it once.
pub fn event(at: Timestamp, unique: &str) -> String {
    format!("{EVENTS}{:015}/{unique}", at.as_millisecond())
}

/// At most one alert fires for each key.
pub fn firing(key: &AlertKey) -> String {
    let model = key.model.as_ref().map_or("-", ModelName::as_str);
    let region = key.region.as_ref().map_or("-", RegionName::as_str);
    format!("{FIRING}{}/{model}/{region}", key.kind)
}

/// Sorted by the time at which they fired.
pub fn resolved(id: &str) -> String {
    format!("{RESOLVED}{id}")
}

pub fn silence(id: &str) -> String {
    format!("{SILENCES}{id}")
}

pub fn receiver(name: &ReceiverName) -> String {
    format!("{RECEIVERS}{name}")
}

/// The records of all rollouts of a model.
pub fn all_records(model: &ModelName) -> String {
    format!("records/{model}/")
}

pub fn drill(number: DrillNumber) -> String {
    format!("{DRILLS}{:010}", number.0)
}
