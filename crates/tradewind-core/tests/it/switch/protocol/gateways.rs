//! What gateways hear of control and of each other, and what users get from them.

use super::{Broken, Event, Gateway, Heard, Protocol, Seen, State};

impl Protocol {
    pub(super) fn happens_at_gateway(&self, state: &mut State, event: Event, at: usize) -> Option<()> {
        let (newest, is_new) = (state.store.edition, state.is_new);
        let furthest = state.gateways.iter().map(|gateway| gateway.held).max()?;
        let is_whole = state.is_whole(&state.gateways[at]);
        let gateway = &mut state.gateways[at];
        match event {
            Event::Send(_) => {
                if !gateway.linked || gateway.inbox.is_some() || gateway.held == newest {
                    return None;
                }
                gateway.inbox = Some(newest);
            }
            Event::Arrive(_) => {
                let sent = gateway.inbox.take()?;
                let is_older = sent.number < gateway.held.number;
                if !(is_older && self.rules.refuses_older) {
                    if sent.committed.epoch < gateway.held.committed.epoch {
                        state.broken = Some(Broken::WentBack);
                    }
                    gateway.held = sent;
                    gateway.late = !gateway.linked;
                }
            }
            Event::Report(_) => {
                if !gateway.linked {
                    return None;
                }
                let (committed, prepared) = (gateway.held.committed.epoch, gateway.prepared());
                gateway.missing = false;
                gateway.heard = Heard { leased: true, reported: true, committed, prepared };
            }
            Event::Expire(_) => {
                if gateway.linked || is_new {
                    return None;
                }
                gateway.heard.leased = false;
            }
            Event::Cut(_) => {
                if !gateway.linked {
                    return None;
                }
                (gateway.linked, gateway.missing, gateway.late) = (false, true, !is_whole);
                state.left.cuts = state.left.cuts.checked_sub(1)?;
            }
            Event::Mend(_) => {
                if gateway.linked {
                    return None;
                }
                (gateway.linked, gateway.late) = (true, false);
                // What was on its way when the link was cut is lost.
                gateway.inbox = None;
                state.left.mends = state.left.mends.checked_sub(1)?;
            }
            Event::Learn(_) => {
                if !self.rules.learns || furthest.number <= gateway.held.number {
                    return None;
                }
                gateway.held = furthest;
            }
            Event::Stray(_) => gateway.incredulous |= !self.rules.asks_again,
            _ => return None,
        }
        Some(())
    }

    /// Whether a user gets an answer here, who has seen that epoch.
    pub(super) fn answers(&self, gateway: &Gateway, user: Seen) -> bool {
        !self.rules.heeds_users || gateway.incredulous || gateway.held.committed.epoch >= user.epoch
    }
}

impl State {
    /// Each user asks the gateway that is furthest, if it has something newer.
    pub(super) fn users_ask(&mut self) {
        let Some(furthest) = self.gateways.iter().max_by_key(|gateway| gateway.held.committed.epoch) else { return };
        let epoch = furthest.held.committed.epoch;
        for (seen, user) in self.users.iter_mut().zip(0..).filter(|(seen, _)| epoch > seen.epoch) {
            let now = Seen { epoch, revision: furthest.gives(user) };
            let since = |epoch: u8| epoch > seen.epoch && epoch <= now.epoch;
            let is_taken_back = self.store.history.iter().any(|route| route.takes_back && since(route.epoch));
            if now.revision < seen.revision && !is_taken_back {
                self.broken = Some(Broken::MovedBack);
            }
            *seen = now;
        }
    }
}
