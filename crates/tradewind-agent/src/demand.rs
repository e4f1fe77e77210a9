//! What users of this region ask for, as its gateways tell.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tradewind_api::agent::{DemandReport, GATEWAYS_LIMIT, ModelDemand};
use tradewind_core::{ModelName, scaler};

/// A gateway tells once a second. One that is silent counts as it did last for so long; after that nobody knows.
const STALE_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Demand {
    inner: Mutex<Inner>,
    /// Whenever a gateway has told.
    told: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By their addresses.
    gateways: BTreeMap<String, Told>,
    /// How often one has fallen silent.
    gaps: u64,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    models: BTreeMap<ModelName, scaler::Demand>,
}

/// What is asked of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Asked {
    /// `None` when no gateway says.
    pub(crate) demand: Option<scaler::Demand>,
    /// How often a gateway has fallen silent.
    pub(crate) gaps: u64,
}

impl Demand {
    /// Takes in what a gateway tells; `false` when there are too many of them.
    pub(crate) fn take(&self, report: DemandReport) -> bool {
        let mut inner = self.lock();
        inner.forget_silent();
        if inner.gateways.len() >= GATEWAYS_LIMIT && !inner.gateways.contains_key(&report.gateway) {
            return false;
        }
        let of = |ModelDemand { model, in_flight, asked }| (model, scaler::Demand { in_flight, asked });
        let models = report.models.into_iter().map(of).collect();
        inner.gateways.insert(report.gateway, Told { at: Instant::now(), models });
        drop(inner);
        self.told.send_replace(());
        true
    }

    /// The sum of what the gateways say.
    pub(crate) fn of(&self, model: &ModelName) -> Asked {
        let mut inner = self.lock();
        inner.forget_silent();
        let of_model = inner.gateways.values().map(|told| told.models.get(model).copied().unwrap_or_default());
        Asked { demand: of_model.reduce(scaler::Demand::and), gaps: inner.gaps }
    }

    pub(crate) fn told(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_silent(&mut self) {
        let before = self.gateways.len();
        self.gateways.retain(|_, told| told.at.elapsed() < STALE_AFTER);
        self.gaps += u64::try_from(before - self.gateways.len()).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(gateway: &str, in_flight: f64) -> DemandReport {
        let model = ModelDemand { model: "digits".parse().unwrap(), in_flight, asked: in_flight > 0.0 };
        DemandReport { gateway: gateway.to_owned(), models: vec![model] }
    }

    fn in_flight(demand: &Demand) -> Option<f64> {
        demand.of(&"digits".parse().unwrap()).demand.map(|demand| demand.in_flight)
    }

    #[test]
    fn gateways_add_up_and_the_last_word_of_each_counts() {
        let demand = Demand::default();
        assert_eq!(in_flight(&demand), None);
        for (gateway, told, sum) in [("a:1", 2.0, 2.0), ("b:1", 3.0, 5.0), ("a:1", 0.5, 3.5)] {
            assert!(demand.take(report(gateway, told)));
            assert_eq!(in_flight(&demand), Some(sum));
        }
        assert_eq!(demand.of(&"other".parse().unwrap()).demand, Some(scaler::Demand::default()));
    }

    #[test]
    fn who_fell_silent_is_no_longer_counted_and_leaves_a_gap() {
        let demand = Demand::default();
        demand.take(report("a:1", 2.0));
        demand.take(report("b:1", 3.0));
        let long_ago = Instant::now().checked_sub(STALE_AFTER).unwrap();
        demand.lock().gateways.get_mut("a:1").unwrap().at = long_ago;
        assert_eq!((in_flight(&demand), demand.of(&"digits".parse().unwrap()).gaps), (Some(3.0), 1));
    }

    #[test]
    fn there_are_only_so_many_gateways() {
        let demand = Demand::default();
        assert!((0..GATEWAYS_LIMIT).all(|n| demand.take(report(&format!("a:{n}"), 1.0))));
        assert!(!demand.take(report("one too many:1", 1.0)));
        assert!(demand.take(report("a:1", 2.0)));
    }
}
