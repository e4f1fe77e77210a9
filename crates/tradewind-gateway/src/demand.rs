//! What users ask of the own region, as its agents need it to decide how many replicas there should be: what is in
//! flight, what waits, and what is elsewhere because there was no room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    Client,
    agent::{DemandReport, ModelDemand},
};

use crate::{gateway::Gateway, world::World};

/// What is under way is looked at this often: requests are not timed on their way.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Agents are told after so many looks, and at once when somebody waits for a replica, but not twice between two looks.
const LOOKS: u32 = 10;

/// What agents are told.
#[derive(Debug)]
pub(crate) struct Demand {
    told: watch::Sender<Arc<Vec<ModelDemand>>>,
    woken: Notify,
}

impl Default for Demand {
    fn default() -> Self {
        Self { told: watch::Sender::default(), woken: Notify::new() }
    }
}

impl Demand {
    /// Somebody waits, because there is no replica or none that has room.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }
}

/// Looks until told to stop.
pub(crate) async fn run(gateway: &Gateway, over: &CancellationToken) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut looks, mut urgent, mut told) = (Looks::default(), false, false);
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            _ = ticks.tick() => told = false,
            () = gateway.demand.woken.notified() => urgent = true,
        }
        if urgent && told {
            continue;
        }
        if let Some(world) = gateway.world.load().as_ref() {
            looks.look(world);
        }
        if urgent || looks.count >= LOOKS {
            gateway.demand.told.send_replace(Arc::new(looks.take()));
            (urgent, told) = (false, true);
        }
    }
}

/// Tells one agent until told to stop. What it does not take is told anew a second later.
pub(crate) async fn tell(gateway: Arc<Gateway>, agent: String, mesh_token: String, shutdown: CancellationToken) {
    let client = Client::new(&format!("http://{agent}"), Some(mesh_token));
    let mut told = gateway.demand.told.subscribe();
    let telling = async {
        while told.changed().await.is_ok() {
            let models = Vec::clone(&told.borrow_and_update());
            let report = DemandReport { gateway: gateway.address.clone(), models };
            if let Err(error) = client.report_demand(&report).await {
                tracing::debug!(agent, %error, "the agent takes no demand");
            }
        }
    };
    shutdown.run_until_cancelled(telling).await;
}

/// What was under way since the last report.
#[derive(Debug, Default)]
struct Looks {
    count: u32,
    models: HashMap<Arc<str>, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    under_way: u64,
    asked: bool,
}

impl Looks {
    fn look(&mut self, world: &World) {
        self.count += 1;
        for (name, model) in &world.models {
            let (under_way, asked) = (model.lane.of_own(), model.lane.take_asked());
            if under_way > 0 || asked {
                let sum = self.models.entry(Arc::clone(name)).or_default();
                sum.under_way += u64::from(under_way);
                sum.asked |= asked || under_way > 0;
            }
        }
    }

    /// The means, and begins anew.
    fn take(&mut self) -> Vec<ModelDemand> {
        let Self { count, models } = std::mem::take(self);
        let of = |(name, sum): (Arc<str>, Sum)| ModelDemand {
            model: name.parse().expect("a routed model's name was checked"),
            in_flight: sum.under_way as f64 / f64::from(count.max(1)),
            asked: sum.asked,
        };
        models.into_iter().map(of).collect()
    }
}
