//! What one slot should do next: from what is wanted and what is seen to a list of actions. No IO, no clock.
//!
//! It is asked again after every change, so an action that did not take effect is decided again.

use std::{collections::BTreeMap, time::Duration};

use tradewind_api::replica::INFERENCE_LIMIT;
use tradewind_core::RevisionNumber;

/// An attempt has failed when replicas ended this many times before the slot was ready.
pub(crate) const EARLY_EXITS_LIMIT: u32 = 3;
/// A replica goes on serving for this long after it was taken out of the announcements. Gateways hear of that within
/// milliseconds; one that did not is refused, and asks another replica.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(3);
/// A replica of Tradewind's own that has answered nothing for this long hangs. Far above a probe's timeout: a machine under load must not
/// kill its own replicas.
pub(crate) const HANG_LIMIT: Duration = Duration::from_secs(10);
/// A server may answer one inference at a time, and nothing else meanwhile: it hangs when that took longer than anybody
/// waits for it.
pub(crate) const SERVER_HANG_LIMIT: Duration = INFERENCE_LIMIT.saturating_add(HANG_LIMIT);
/// A replica of Tradewind's own that is not ready after this long will not be.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(600);
/// A verification that was asked for waits this long for replicas that are being replaced; then it runs, and fails.
pub(crate) const VERIFY_WAIT: Duration = Duration::from_secs(10);

/// What the assignment wants of the slot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) revision: RevisionNumber,
    pub(crate) attempt: u32,
    pub(crate) replicas: u32,
    pub(crate) verify: Option<u32>,
}

/// What the slot holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) revision: RevisionNumber,
    pub(crate) attempt: u32,
    pub(crate) bundle: Bundle,
    pub(crate) failed: bool,
    /// Its replicas are on their way out, and nothing of it comes back.
    pub(crate) releasing: bool,
    /// All replicas were ready once in this attempt.
    pub(crate) reached_ready: bool,
    pub(crate) early_exits: u32,
    /// The attempt of the newest verification, and whether it succeeded.
    pub(crate) verified: Option<(u32, bool)>,
    pub(crate) verifying: bool,
    /// It is time to ask golden cases again.
    pub(crate) golden_due: bool,
    /// How long a verification has been waiting for the replicas.
    pub(crate) verify_waits: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bundle {
    Absent,
    Fetching,
    Installed,
}

/// One replica as it is seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) place: u32,
    pub(crate) revision: RevisionNumber,
    /// It loaded a copy of the bundle that has been replaced since.
    pub(crate) stale: bool,
    pub(crate) age: Duration,
    pub(crate) patience: Patience,
    /// It says that it is ready.
    pub(crate) answering: bool,
    /// How long it has answered nothing at all; zero while it answers, ready or not.
    pub(crate) silent: Duration,
    /// It is announced to gateways.
    pub(crate) admitted: bool,
    pub(crate) check: CheckState,
    pub(crate) stage: Stage,
    /// It cannot be told to answer what it has taken before it ends, and somebody is connected to it.
    pub(crate) busy: bool,
}

/// How long a replica is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// From its start until it is ready.
    pub(crate) start: Duration,
    /// While it answers nothing.
    pub(crate) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { start: START_LIMIT, silence: HANG_LIMIT }
    }
}

/// The checks that a replica passes which comes later into a verified slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckState {
    Unchecked,
    Running,
    Passed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// Out of the announcements for so long.
    Draining(Duration),
    /// It was told to end.
    Ending,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Hold what is wanted.
    Take,
    /// Begin the wanted attempt: what failed is forgotten.
    Retry,
    Fetch,
    Start {
        place: u32,
    },
    /// Run the checks of a verified slot on a replica that came later.
    Check {
        id: String,
    },
    /// Announce it.
    Admit {
        id: String,
    },
    /// Take it out of the announcements.
    Drain {
        id: String,
    },
    /// It is needed again, and was not told to end yet.
    Recall {
        id: String,
    },
    Terminate {
        id: String,
    },
    /// It hangs.
    Kill {
        id: String,
    },
    BecomeReady,
    Verify {
        attempt: u32,
    },
    /// Ask golden cases of the replicas that serve.
    AskAgain,
    /// The attempt has failed: replicas ended too often.
    Fail,
    /// What is held is not wanted any more.
    Release,
    /// Nothing of it is left.
    Forget,
}

/// Decides. `waits` has the time that must pass until a place may start again, for places where that is so.
pub(crate) fn decide(
    wanted: Option<&Wanted>,
    held: Option<&Held>,
    replicas: &[Seen],
    waits: &BTreeMap<u32, Duration>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let Some(held) = held else {
        retire(replicas, &mut actions);
        if replicas.is_empty() && wanted.is_some() {
            actions.push(Action::Take);
        }
        return actions;
    };
    let kept = wanted.filter(|wanted| wanted.revision == held.revision && !held.releasing);
    let Some(wanted) = kept else {
        if !held.releasing {
            actions.push(Action::Release);
        }
        retire(replicas, &mut actions);
        if replicas.is_empty() {
            actions.push(Action::Forget);
        }
        return actions;
    };
    if wanted.attempt > held.attempt {
        return vec![Action::Retry];
    }
    if held.failed {
        retire(replicas, &mut actions);
        return actions;
    }
    if held.bundle == Bundle::Absent {
        actions.push(Action::Fetch);
    }
    if !held.reached_ready && held.early_exits >= EARLY_EXITS_LIMIT {
        return vec![Action::Fail];
    }
    let (belonging, foreign): (Vec<&Seen>, Vec<&Seen>) =
        replicas.iter().partition(|seen| seen.revision == held.revision && seen.place < wanted.replicas);
    // A place is taken until its process is gone, unless that one is being replaced on purpose.
    let taken: Vec<u32> = belonging.iter().filter(|seen| !seen.stale).map(|seen| seen.place).collect();
    let (running, leaving): (Vec<&Seen>, Vec<&Seen>) =
        belonging.into_iter().partition(|seen| seen.stage == Stage::Running);
    let recalled = recalled(held, &running, &leaving);
    actions.extend(recalled.iter().map(|seen| Action::Recall { id: seen.id.clone() }));
    let leaving = leaving.into_iter().filter(|seen| !recalled.iter().any(|other| other.id == seen.id));
    foreign.into_iter().chain(leaving).for_each(|seen| retire_one(seen, &mut actions));
    let is_free = |place: u32| !taken.contains(&place) && !waits.contains_key(&place);
    let retired = fill_places(wanted, held, &running, is_free, &mut actions);
    let kept = running.iter().filter(|seen| !retired.contains(&seen.id.as_str()));
    kept.for_each(|seen| tend(held, seen, &mut actions));
    conclude(wanted, held, &running, &mut actions);
    actions
}

fn retire(replicas: &[Seen], actions: &mut Vec<Action>) {
    replicas.iter().for_each(|seen| retire_one(seen, actions));
}

/// Those on their way out of a place that is wanted again and has nobody else, one of each place. What serves already
/// need not be started.
fn recalled<'a>(held: &Held, running: &[&Seen], leaving: &[&'a Seen]) -> Vec<&'a Seen> {
    let mut recalled: Vec<&Seen> = Vec::new();
    let able = |seen: &&&Seen| {
        matches!(seen.stage, Stage::Draining(_)) && seen.answering && !seen.stale && !seen.busy && held.reached_ready
    };
    for seen in leaving.iter().filter(able) {
        let is_same = |other: &&Seen| other.place == seen.place;
        if !running.iter().any(is_same) && !recalled.iter().any(is_same) {
            recalled.push(seen);
        }
    }
    recalled
}

/// Out of the announcements first, then the drain time, then the end. What no gateway knows needs no drain.
fn retire_one(seen: &Seen, actions: &mut Vec<Action>) {
    let id = seen.id.clone();
    match seen.stage {
        Stage::Running if seen.admitted => actions.push(Action::Drain { id }),
        Stage::Running => actions.push(Action::Terminate { id }),
        Stage::Draining(since) if since >= DRAIN_TIME && !seen.busy => actions.push(Action::Terminate { id }),
        Stage::Draining(_) | Stage::Ending => {}
    }
}

/// What one running replica needs for itself.
fn tend(held: &Held, seen: &Seen, actions: &mut Vec<Action>) {
    let id = seen.id.clone();
    let never_ready = !seen.admitted && !seen.answering && seen.age >= seen.patience.start;
    if (seen.admitted && seen.silent >= seen.patience.silence) || never_ready {
        return actions.push(Action::Kill { id });
    }
    if seen.admitted || !seen.answering {
        return;
    }
    let must_pass_checks = matches!(held.verified, Some((_, true)));
    match seen.check {
        CheckState::Unchecked if must_pass_checks => {
            // The checks need the golden cases.
            if held.bundle == Bundle::Installed {
                actions.push(Action::Check { id });
            }
        }
        CheckState::Running => {}
        CheckState::Unchecked | CheckState::Passed => actions.push(Action::Admit { id }),
    }
}

/// One replica in every place; on a replaced bundle, one place after the other. Returns those that have to go.
fn fill_places<'a>(
    wanted: &Wanted,
    held: &Held,
    running: &[&'a Seen],
    is_free: impl Fn(u32) -> bool,
    actions: &mut Vec<Action>,
) -> Vec<&'a str> {
    let mut retired: Vec<&Seen> = Vec::new();
    let of = |place: u32| running.iter().copied().filter(move |seen| seen.place == place);
    let is_up = |seen: &Seen| seen.admitted && seen.answering;
    // A place with both an old and a new replica is in the middle of being replaced.
    let mut replacing =
        (0..wanted.replicas).any(|place| of(place).any(|seen| seen.stale) && of(place).any(|seen| !seen.stale));
    for place in 0..wanted.replicas {
        let mut fresh: Vec<&Seen> = of(place).filter(|seen| !seen.stale).collect();
        let mut stale = of(place).filter(|seen| seen.stale).peekable();
        // Best first: a place keeps one. More than one is left behind by an agent that was killed at the wrong moment.
        fresh.sort_by_key(|seen| (!is_up(seen), !seen.admitted, std::cmp::Reverse(seen.age)));
        retired.extend(fresh.iter().skip(1));
        match fresh.first() {
            Some(best) if is_up(best) => retired.extend(stale),
            Some(_) => {}
            None => {
                let is_replacement = stale.peek().is_some();
                let may_start = held.bundle == Bundle::Installed && is_free(place);
                if may_start && !(is_replacement && replacing) {
                    replacing |= is_replacement;
                    actions.push(Action::Start { place });
                }
            }
        }
    }
    retired.iter().for_each(|seen| retire_one(seen, actions));
    retired.iter().map(|seen| seen.id.as_str()).collect()
}

/// Whether the slot as a whole has come further.
fn conclude(wanted: &Wanted, held: &Held, running: &[&Seen], actions: &mut Vec<Action>) {
    let up = |place: u32| running.iter().any(|seen| seen.place == place && seen.admitted && seen.answering);
    let all_up = held.bundle == Bundle::Installed && (0..wanted.replicas).all(up);
    if !held.reached_ready {
        if all_up {
            actions.push(Action::BecomeReady);
        }
        return;
    }
    let verified = matches!(held.verified, Some((_, true)));
    let any_up = running.iter().any(|seen| seen.admitted && seen.answering);
    if verified && held.golden_due && any_up && held.bundle == Bundle::Installed {
        actions.push(Action::AskAgain);
    }
    let Some(attempt) = wanted.verify else { return };
    let is_open = held.verified.is_none_or(|(verified, _)| verified < attempt) && !held.verifying;
    if is_open && held.bundle == Bundle::Installed && (all_up || held.verify_waits >= VERIFY_WAIT) {
        actions.push(Action::Verify { attempt });
    }
}

#[cfg(test)]
mod tests;
