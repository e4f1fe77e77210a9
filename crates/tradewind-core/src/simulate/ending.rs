//! How a story ends: what became of the rollout, and what users get.

use serde::Serialize;

use super::{words, world::World};
use crate::{
    Epoch, RegionName, RevisionNumber,
    duration::Span,
    rollout::{RegionPhase, Rollout, RolloutState, Soak, strategy::Percent},
    route::{RouteState, Users},
};

/// Where everything stands when nothing more happens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ending {
    pub outcome: Outcome,
    /// Of the rollout that was asked for.
    pub state: RolloutState,
    pub soak: Soak,
    pub revision: RevisionNumber,
    /// Why it failed.
    pub failure: Option<String>,
    /// Why it waits for a person.
    pub waits: Option<String>,
    /// In the order of the rollout.
    pub regions: Vec<RegionEnding>,
    /// The newest epoch, which is how many routes there were.
    pub epoch: Epoch,
    /// When the last thing happened.
    pub after: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    /// Everybody has the revision, and the one before is kept warm.
    Standby,
    /// A person is to decide.
    Waits,
    Failed,
    /// Everybody had it and was taken back.
    RolledBack,
    /// The simulation was cut off at its limits.
    Unfinished,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegionEnding {
    pub region: RegionName,
    pub phase: RegionPhase,
    /// What users there get; `None`: nobody answers them.
    pub gets: Option<Gets>,
    /// The epoch that its gateway serves.
    pub epoch: Option<Epoch>,
}

/// What users of a region get, wherever it is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gets {
    pub revision: RevisionNumber,
    /// A share of them gets another one.
    pub some: Option<SomeUsers>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SomeUsers {
    pub share: Percent,
    pub revision: RevisionNumber,
}

impl Gets {
    fn of(state: &RouteState, region: &RegionName) -> Self {
        let plain = Self { revision: state.revision, some: None };
        let Some(candidate) = &state.candidate else { return plain };
        let revision = candidate.state.revision;
        match &candidate.users {
            Users::OfRegions(regions) if regions.contains(region) => Self { revision, some: None },
            Users::OfRegions(_) => plain,
            Users::Share { share, .. } => Self { some: Some(SomeUsers { share: *share, revision }), ..plain },
        }
    }
}

impl std::fmt::Display for Gets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.some {
            Some(SomeUsers { share, revision }) => {
                write!(f, "revision {revision} for {share}, else revision {}", self.revision)
            }
            None => write!(f, "revision {}", self.revision),
        }
    }
}

impl Ending {
    pub(super) fn of(world: &World<'_>, was_cut_off: bool) -> Self {
        let control = &world.control;
        let current = (&control.rollout, &control.records);
        let (rollout, records) = control.left.as_ref().map_or(current, |(rollout, records)| (rollout, records));
        let region = |region: &RegionName| {
            let record = records.iter().find(|record| record.region == *region);
            let taken = world.places.get(region).map(|place| &place.gateway.taken);
            let committed = taken.and_then(|taken| taken.committed.as_ref()).filter(|_| !world.is_down(region));
            RegionEnding {
                region: region.clone(),
                phase: record.map_or(RegionPhase::Pending, |record| record.phase),
                gets: committed.map(|state| Gets::of(state, region)),
                epoch: committed.map(|state| state.epoch),
            }
        };
        Self {
            outcome: outcome(rollout, &control.rollout, control.left.is_some(), was_cut_off),
            state: rollout.state,
            soak: rollout.soak(),
            revision: rollout.revision,
            failure: rollout.failure.as_ref().map(|failure| failure.failure.message.clone()),
            waits: rollout.course.paused.as_ref().map(|pause| pause.reason.clone()),
            regions: world.scenario.regions.iter().map(region).collect(),
            epoch: control.epoch,
            after: world.timeline.last().map_or_else(Span::default, |moment| moment.at),
        }
    }

    /// What users get at the end, in one sentence.
    pub fn sentence(&self) -> String {
        let mut kinds: Vec<(&Option<Gets>, Vec<&RegionName>)> = Vec::new();
        for region in &self.regions {
            match kinds.iter_mut().find(|(gets, _)| **gets == region.gets) {
                Some((_, regions)) => regions.push(&region.region),
                None => kinds.push((&region.gets, vec![&region.region])),
            }
        }
        let everywhere = kinds.len() == 1;
        let parts: Vec<String> = kinds
            .into_iter()
            .map(|(gets, regions)| {
                let who = match everywhere {
                    true => "users everywhere".to_owned(),
                    false => format!("users of {}", words::names(regions.into_iter())),
                };
                match gets {
                    Some(gets) => format!("{who} get {gets}"),
                    None => format!("{who} get no answer"),
                }
            })
            .collect();
        parts.join("; ")
    }
}

fn outcome(rollout: &Rollout, newest: &Rollout, was_left: bool, was_cut_off: bool) -> Outcome {
    match rollout.state {
        _ if was_cut_off => Outcome::Unfinished,
        _ if was_left => Outcome::RolledBack,
        RolloutState::Failed => Outcome::Failed,
        RolloutState::Succeeded => Outcome::Succeeded,
        _ if newest.course.paused.is_some() => Outcome::Waits,
        RolloutState::Soaking if rollout.in_last_stage() => Outcome::Standby,
        _ => Outcome::Unfinished,
    }
}
