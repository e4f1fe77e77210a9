//! The agents and gateways that the store knows by address.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tradewind_core::{
    RegionName, Timestamp,
    region::{Member, MemberRole},
};
use tradewind_store::{Op, Txn};

use crate::{
    hub::{Hub, elapsed},
    keys,
    repository::{Repository, Result, put},
};

/// A gateway that has been silent for so long is forgotten, as long as its region has another one that is not.
const GATEWAY_FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// How often silent gateways are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Members {
    repository: Repository,
    hub: Arc<Hub>,
    /// What the store has, by key.
    known: Mutex<BTreeMap<String, Member>>,
}

impl Members {
    /// Reads what the store has, and tells the hub of the gateways that it should hear from.
    pub(crate) async fn load(repository: Repository, hub: Arc<Hub>) -> Result<Self> {
        let listed = repository.list::<Member>(keys::MEMBERS).await?;
        for member in listed.items.iter().map(|kept| &kept.value) {
            if member.role == MemberRole::Gateway {
                hub.know_gateway(member.region.clone(), member.address.clone());
            }
        }
        let known = listed.items.into_iter().map(|kept| (kept.key, kept.value)).collect();
        Ok(Self { repository, hub, known: Mutex::new(known) })
    }

    pub(crate) fn all(&self) -> Vec<Member> {
        self.known().values().cloned().collect()
    }

    pub(crate) fn agent_address(&self, region: &RegionName) -> Option<String> {
        let known = self.known();
        let mut agents = known.values().filter(|member| member.role == MemberRole::Agent && member.region == *region);
        agents.next().map(|member| member.address.clone())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        // Whoever panicked has left the data whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a member whose address is new. A region has one agent: a new address replaces the old one.
    pub(crate) async fn note(&self, region: &RegionName, role: MemberRole, address: &str) -> Result<()> {
        let key = keys::member(region, role, address);
        let replaced: Vec<String> = {
            let known = self.known();
            if known.contains_key(&key) {
                return Ok(());
            }
            let same = known.iter().filter(|(_, member)| member.role == role && member.region == *region);
            same.filter(|_| role == MemberRole::Agent).map(|(key, _)| key.clone()).collect()
        };
        let member = Member { region: region.clone(), role, address: address.to_owned() };
        let deletes = replaced.iter().map(Op::delete);
        self.repository.commit(deletes.fold(Txn::new().then(put(&key, &member)), Txn::then)).await?;
        let mut known = self.known();
        known.retain(|key, _| !replaced.contains(key));
        known.insert(key, member);
        Ok(())
    }

    /// Forgets gateways that are gone for good.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = sweep.tick() => {}
            }
            for member in self.forgettable(Timestamp::now()) {
                if let Err(error) = self.forget(&member).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a silent gateway stays on the list");
                }
            }
        }
    }

    fn forgettable(&self, now: Timestamp) -> Vec<Member> {
        let known = self.known();
        let seen = self.hub.seen();
        let silence = |member: &Member| {
            let at = seen.gateways.get(&member.address).and_then(|gateway| gateway.at);
            elapsed(at.unwrap_or(seen.since), now)
        };
        let gateways = || known.values().filter(|member| member.role == MemberRole::Gateway);
        let forgotten = gateways().filter(|member| silence(member) > GATEWAY_FORGOTTEN_AFTER);
        let others_live = |gone: &Member| {
            let same_region = gateways().filter(|other| other.region == gone.region && other.address != gone.address);
            same_region.into_iter().any(|other| silence(other) <= tradewind_api::agent::SILENCE_LIMIT)
        };
        forgotten.filter(|member| others_live(member)).cloned().collect()
    }

    async fn forget(&self, member: &Member) -> Result<()> {
        let key = keys::member(&member.region, member.role, &member.address);
        self.repository.commit(Txn::new().then(Op::delete(&key))).await?;
        // In this order: a report in between finds it unknown and writes it again.
        self.known().remove(&key);
        self.hub.forget_gateway(&member.address);
        tracing::info!(region = %member.region, address = member.address, "forgot a gateway that is gone");
        Ok(())
    }
}
