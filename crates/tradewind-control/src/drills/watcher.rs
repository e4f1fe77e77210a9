//! Follows the drill that is under way, and writes down what it sees.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tradewind_core::{
    Timestamp,
    drill::{
        Drill, DrillState,
        measure::{Finding, Measuring},
    },
    region::Region,
    route::Route,
};
use tradewind_store::{Op, Txn};

use super::ended;
use crate::{
    changes::Changes,
    hub::Hub,
    keys,
    repository::{Kept, Repository, Result, put},
    view::{
        drill::view,
        sight::{Regions, Sight},
    },
};

/// While a drill is under way it is looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// So many that are done are kept.
const RETAINED: usize = 100;

#[derive(Debug)]
pub(crate) struct DrillWatcher {
    repository: Repository,
    hub: Arc<Hub>,
    since: Timestamp,
    routes: Vec<Route>,
    regions: Regions,
    measuring: Option<Measuring>,
}

impl DrillWatcher {
    pub(crate) fn new(repository: Repository, hub: Arc<Hub>) -> Self {
        let since = hub.seen().since;
        Self { repository, hub, since, routes: Vec::new(), regions: Regions::new(), measuring: None }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let prefixes = [keys::DRILL, keys::ROUTES, keys::REGIONS].map(str::to_owned);
        let mut changes = Changes::of(self.repository.store(), prefixes);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stale = true;
        loop {
            if let Err(error) = self.look(&mut stale).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a drill cannot be recorded for now");
            }
            let under_way = self.measuring.is_some();
            tokio::select! {
                () = shutdown.cancelled() => return,
                open = changes.wait() => {
                    if !open {
                        return;
                    }
                    stale = true;
                }
                _ = looks.tick(), if under_way => {}
            }
        }
    }

    async fn look(&mut self, stale: &mut bool) -> Result<()> {
        let Some(kept) = self.repository.get::<Drill>(keys::DRILL_UNDER_WAY.to_owned()).await? else {
            self.measuring = None;
            return Ok(());
        };
        if std::mem::take(stale) {
            self.routes = self.repository.list::<Route>(keys::ROUTES).await?.values();
            let regions = self.repository.list::<Region>(keys::REGIONS).await?.values();
            self.regions = regions.into_iter().map(|region| (region.name.clone(), region)).collect();
        }
        let drill = &kept.value;
        let known = self.measuring.take().filter(|known| known.drill.number == drill.number);
        let mut measuring = known.unwrap_or_else(|| Measuring::begin(drill.clone(), self.since));
        measuring.adopt(drill.state, drill.ended);
        let seen = {
            let seen = self.hub.seen();
            view(drill, &self.routes, &Sight::new(&self.regions, &seen, Timestamp::now()))
        };
        let finding = measuring.look(&seen);
        self.write(&kept, &measuring.drill, finding, seen.at).await?;
        self.measuring = Some(measuring);
        Ok(())
    }

    /// What somebody else has written meanwhile is taken up at the next look.
    async fn write(&self, kept: &Kept<Drill>, drill: &Drill, finding: Finding, now: Timestamp) -> Result<()> {
        let mut txn = Txn::new().when(kept.unchanged());
        if kept.value.state == DrillState::Running && drill.state != DrillState::Running {
            txn = txn.then(ended(drill, now));
        }
        match finding {
            Finding::Nothing => return Ok(()),
            Finding::Changed => txn = txn.then(put(&kept.key, drill)),
            Finding::Complete => {
                txn = txn.then(Op::delete(&kept.key)).then(put(keys::drill(drill.number), drill));
                let done = self.repository.list::<Drill>(keys::DRILLS).await?.items;
                let surplus = (done.len() + 1).saturating_sub(RETAINED);
                txn = done.iter().take(surplus).fold(txn, |txn, old| txn.then(Op::delete(&old.key)));
            }
        }
        self.repository.commit(txn).await?;
        Ok(())
    }
}
