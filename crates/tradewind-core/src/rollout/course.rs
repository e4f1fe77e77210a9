//! The stages of a rollout: which regions are brought up in turn, and which users are moved then.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Action, RegionPhase, RegionRecord, Rollout, RolloutState, Soak, Step,
    strategy::{Percent, Strategy, Switch},
};
use crate::{
    Epoch, RegionName, Timestamp,
    deployment::Revision,
    pins::Pins,
    route::{Candidate, RouteState, Users},
    traffic,
};

/// A stage: so many regions are up, and then these users are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// So many of the rollout's regions, from the first on, are settled before users are moved.
    pub regions: usize,
    pub users: Audience,
}

/// The users who get a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    Everyone,
    /// Those of the regions that are up.
    OfRegions,
    Share(Percent),
}

/// How far a rollout is in its stages, and what people have told it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Course {
    /// From 0.
    pub stage: u32,
    /// What was done in the stages before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<PassedStage>,
    /// Nothing new is begun until somebody decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Waves that were too large end here too, as numbers of regions from the first on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<usize>,
    /// The newest decision of a person about what had failed until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
    /// The next stage is the last one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// Its users were taken back at this epoch before everybody had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<Epoch>,
}

impl Stage {
    fn reaches_everyone(self, total: usize) -> bool {
        match self.users {
            Audience::Everyone => true,
            Audience::OfRegions => self.regions == total,
            Audience::Share(share) => share == Percent::ALL,
        }
    }
}

impl Course {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The record of a stage that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PassedStage {
    pub route: Option<Step>,
    pub arm: Option<Step>,
    pub soak: Soak,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// `user@host`; absent: the rollout itself, which asks a person.
    pub by: Option<String>,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decided {
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub what: Decision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// What has failed is tried once more.
    Resume,
    /// It goes on without what has failed, and waits for nothing.
    Promote,
}

/// Why a rollout does not do what a person tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has ended")]
    Ended,
    #[error("it is paused already")]
    Paused,
    #[error("it is not paused")]
    NotPaused,
    #[error("it waits for nobody: what is promoted is a soak or a pause, never a verification")]
    WaitsForNobody,
    #[error("only a canary goes to everybody at once: each wave must be verified")]
    NotACanary,
}

/// The stages of a rollout to so many regions, whose waves end there. The first revision of a model takes all users at once:
/// there is nothing that others could go on getting.
pub fn stages(strategy: &Strategy, waves: &[usize], total: usize, is_first: bool) -> Vec<Stage> {
    let of_regions = |end: &usize| Stage { regions: *end, users: Audience::OfRegions };
    let mut stages: Vec<Stage> = match strategy.switch {
        Switch::Wave if !is_first => waves.iter().map(of_regions).collect(),
        // What the last wave's regions run is wanted until everybody can be served without it.
        Switch::InPlace if !is_first && waves.len() > 1 => {
            let mut stages: Vec<Stage> = waves[..waves.len() - 1].iter().map(of_regions).collect();
            let regions = stages.last().map_or(total, |stage| stage.regions);
            stages.push(Stage { regions, users: Audience::Everyone });
            return stages;
        }
        Switch::Canary if !is_first => {
            let shares = strategy.canary.iter();
            shares.map(|share| Stage { regions: total, users: Audience::Share(*share) }).collect()
        }
        Switch::Fleet | Switch::Wave | Switch::InPlace | Switch::Canary => Vec::new(),
    };
    if stages.last().is_some_and(|stage| stage.reaches_everyone(total)) {
        stages.pop();
    }
    stages.push(Stage { regions: total, users: Audience::Everyone });
    stages
}

/// A step as it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub action: Action,
    /// Which of the rollout's regions; `None` for a step of the fleet.
    pub region: Option<usize>,
    /// From 0.
    pub stage: usize,
}

/// All steps in the order in which they are taken: in each stage its regions, then its users; last the regions that are
/// brought up when everybody is served without them.
pub fn outline(stages: &[Stage], total: usize, replaces: bool) -> Vec<Planned> {
    let fleet = |action, stage| Planned { action, region: None, stage };
    let regions = |from: usize, to: usize, stage| {
        let actions = [Action::Deploy, Action::ConfigureMonitoring, Action::Verify];
        let steps = move |region| actions.map(|action| Planned { action, region: Some(region), stage });
        (from..to).flat_map(steps)
    };
    let last = stages.len() - 1;
    let mut steps = vec![fleet(Action::SelectRegions, 0)];
    let mut listed = 0;
    for (number, stage) in stages.iter().enumerate() {
        steps.extend(regions(listed, stage.regions, number));
        listed = stage.regions;
        steps.push(fleet(Action::Route, number));
        if number == last {
            steps.extend(regions(listed, total, last));
        }
        steps.push(fleet(Action::ArmMonitoring, number));
    }
    steps.extend(replaces.then(|| fleet(Action::Retire, last)));
    steps
}

impl Rollout {
    /// Where each wave ends, as numbers of regions from the first on. Regions of a wave begin when all before it are settled.
    pub fn waves(&self) -> Vec<usize> {
        let mut ends = self.strategy.waves(self.regions.len());
        ends.extend(&self.course.cuts);
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    pub fn stages(&self) -> Vec<Stage> {
        stages(&self.strategy, &self.waves(), self.regions.len(), self.from.is_none())
    }

    /// Its regions give up what they run before they are brought up.
    pub fn is_in_place(&self) -> bool {
        self.strategy.switch == Switch::InPlace && self.from.is_some()
    }

    pub fn stage(&self) -> Stage {
        let everyone = Stage { regions: self.regions.len(), users: Audience::Everyone };
        self.stages().get(self.course.stage as usize).copied().unwrap_or(everyone)
    }

    /// Everybody is moved in this one.
    pub fn in_last_stage(&self) -> bool {
        self.stage().users == Audience::Everyone
    }

    /// Everybody has got its revision.
    pub fn has_served(&self) -> bool {
        self.in_last_stage() && self.committed_at.is_some()
    }

    /// Since when the users who get its revision now are the same; none: nobody has got it.
    pub fn users_since(&self) -> Option<Timestamp> {
        let before = || self.course.passed.last()?.route.as_ref().map(|route| route.started_at);
        self.committed_at.or_else(before)
    }

    /// Users get it, and it is not cleared: the monitors may still condemn it.
    pub fn is_on_trial(&self) -> bool {
        match self.state {
            RolloutState::Soaking if self.in_last_stage() => self.soak == Soak::Running,
            RolloutState::Regions | RolloutState::Preparing | RolloutState::Soaking => self.users_since().is_some(),
            // The last regions are brought up while everybody has it.
            RolloutState::Arming => self.is_in_place(),
            _ => false,
        }
    }

    /// The route that is offered at `epoch`: the users of this stage get the revision, in all regions that are verified, and
    /// the others what is served now.
    pub fn offered(
        &self,
        records: &[RegionRecord],
        revision: &Revision,
        served: Option<&RouteState>,
        pins: &Pins,
        epoch: Epoch,
    ) -> RouteState {
        let verified = records.iter().filter(|record| record.phase == RegionPhase::Verified);
        let regions: Vec<RegionName> = verified.map(|record| record.region.clone()).collect();
        let users = match self.stage().users {
            Audience::Everyone => None,
            Audience::OfRegions => Some(Users::OfRegions(regions.iter().cloned().collect())),
            Audience::Share(share) => {
                let allow = self.strategy.allow.iter().cloned().collect();
                Some(Users::Share { share, salt: self.salt(), allow })
            }
        };
        let state = RouteState::of(revision, epoch, self.slot, regions);
        match (users, served) {
            (Some(users), Some(live)) => {
                RouteState { candidate: Some(Box::new(Candidate { users, state })), ..live.without_candidate(epoch) }
            }
            // Those who are pinned to what served before get it as long as it is there.
            (None, Some(before))
                if !self.is_in_place() && before.revision != state.revision && pins.name(before.revision) =>
            {
                let before = before.without_candidate(epoch);
                RouteState { candidate: Some(Box::new(Candidate::of_pinned(before))), ..state }
            }
            _ => state,
        }
    }

    /// What spreads its canary's shares over users: the same through one rollout, another one in the next.
    pub fn salt(&self) -> u64 {
        traffic::salt(&self.model, self.number)
    }

    /// What a person says: nothing new is begun. What soaks goes on being judged.
    pub fn pause(&mut self, by: &str, now: Timestamp) -> Result<(), Refusal> {
        match () {
            () if self.state.is_final() => Err(Refusal::Ended),
            () if self.course.paused.is_some() => Err(Refusal::Paused),
            () => {
                let reason = format!("paused by {by}");
                self.course.paused = Some(Pause { at: now, by: Some(by.to_owned()), reason });
                Ok(())
            }
        }
    }

    /// What a person says: it goes on, and tries once more what has failed. What the monitors could not judge soaks again.
    pub fn resume(&mut self, now: Timestamp) -> Result<(), Refusal> {
        match () {
            () if self.state.is_final() => Err(Refusal::Ended),
            () if self.course.paused.is_none() => Err(Refusal::NotPaused),
            () => {
                if self.soak == Soak::Inconclusive && !self.in_last_stage() {
                    self.soak = Soak::Running;
                    self.soak_until = now.checked_add(self.strategy.soak.duration()).ok();
                }
                self.decide(Decision::Resume, now);
                Ok(())
            }
        }
    }

    /// What a person says: it goes on without what has failed, and does not wait for the end of the soak. With `full`, the
    /// next users of a canary are all of them.
    pub fn promote(&mut self, full: bool, now: Timestamp) -> Result<(), Refusal> {
        let soaks = self.state == RolloutState::Soaking && self.soak == Soak::Running;
        match () {
            () if self.state.is_final() => Err(Refusal::Ended),
            () if full && self.strategy.switch != Switch::Canary => Err(Refusal::NotACanary),
            () if !soaks && self.course.paused.is_none() => Err(Refusal::WaitsForNobody),
            () => {
                if soaks {
                    self.soak = Soak::Skipped;
                    self.soak_until = Some(now);
                }
                self.course.full |= full;
                self.decide(Decision::Promote, now);
                Ok(())
            }
        }
    }

    fn decide(&mut self, what: Decision, now: Timestamp) {
        // What it asked about failed before it asked, whatever the clock of whoever takes the answer says.
        let at = self.course.paused.take().map_or(now, |pause| now.max(pause.at));
        self.course.decided = Some(Decided { at, what });
    }

    /// On to the next users.
    pub(super) fn advance(&mut self) {
        let last = u32::try_from(self.stages().len()).unwrap_or(u32::MAX) - 1;
        let (route, arm) = (self.steps.route.take(), self.steps.arm.take());
        self.course.passed.push(PassedStage { route, arm, soak: self.soak });
        self.course.stage = if self.course.full { last } else { (self.course.stage + 1).min(last) };
        (self.state, self.soak) = (RolloutState::Regions, Soak::Pending);
        (self.committed_at, self.soak_until) = (None, None);
    }
}
