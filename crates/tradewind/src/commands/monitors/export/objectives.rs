//! What the deployed models promise, region by region.

use std::collections::{BTreeMap, BTreeSet};

use tradewind_api::monitoring::MonitorQuery;
use tradewind_core::{ModelName, RegionName, monitor::Monitors};

use crate::{failure::Failure, session::Session};

/// How models are watched in the regions that serve them.
#[derive(Debug, Clone, Default)]
pub(super) struct Objectives {
    models: BTreeMap<ModelName, BTreeMap<RegionName, Monitors>>,
}

pub(super) async fn of(session: &Session) -> Result<Objectives, Failure> {
    let monitors = session.client.monitors(&MonitorQuery::default()).await?.monitors;
    // Of two revisions in a region, that which has users.
    let (armed, others): (Vec<_>, Vec<_>) = monitors.into_iter().partition(|each| each.armed);
    let each = others.into_iter().chain(armed);
    Ok(Objectives::new(each.map(|each| ((each.model, each.region), each.monitors))))
}

impl Objectives {
    /// The last of a model in a region counts.
    pub(super) fn new(each: impl IntoIterator<Item = ((ModelName, RegionName), Monitors)>) -> Self {
        let mut models: BTreeMap<ModelName, BTreeMap<RegionName, Monitors>> = BTreeMap::new();
        for ((model, region), monitors) in each {
            models.entry(model).or_default().insert(region, monitors);
        }
        Self { models }
    }

    /// One number of the monitors, with the matchers of Prometheus for the models and regions where it is that. The last
    /// is the default, for models that say nothing and for those that are not deployed yet.
    pub(super) fn groups<T: PartialEq + Copy>(&self, of: impl Fn(&Monitors) -> T) -> Vec<(String, T)> {
        let default = of(&Monitors::default());
        let named = self.models.iter().filter(|(_, regions)| regions.values().any(|each| of(each) != default));
        let named: BTreeMap<_, _> = named.collect();
        let mut groups = Vec::new();
        for (model, regions) in &named {
            let mut of_model: Vec<(BTreeSet<&RegionName>, T)> = Vec::new();
            for (region, value) in regions.iter().map(|(region, monitors)| (region, of(monitors))) {
                match of_model.iter_mut().find(|(_, known)| *known == value) {
                    Some((regions, _)) => drop(regions.insert(region)),
                    None => of_model.push((BTreeSet::from([region]), value)),
                }
            }
            let matchers = |regions| format!("model=\"{model}\",region=~\"{}\"", any_of(regions));
            groups.extend(of_model.into_iter().map(|(regions, value)| (matchers(regions), value)));
        }
        let others = if named.is_empty() { String::new() } else { format!("model!~\"{}\"", any_of(named.into_keys())) };
        groups.push((others, default));
        groups
    }
}

/// As a regular expression. Of what a name may have, the point alone means something there; `[.]` needs no escaping.
fn any_of(names: impl IntoIterator<Item = impl ToString>) -> String {
    names.into_iter().map(|name| name.to_string().replace('.', "[.]")).collect::<Vec<_>>().join("|")
}
