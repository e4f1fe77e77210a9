//! What the deployed models promise.

use tradewind_core::ModelName;

use crate::{failure::Failure, session::Session};

/// The objective of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Objective {
    /// The share of requests that are to be answered without an error.
    pub(super) availability: f64,
    pub(super) latency: Option<Latency>,
}

impl Default for Objective {
    fn default() -> Self {
        Self { availability: 0.999, latency: None }
    }
}

/// The share of answers that are to come within a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    /// One of the bounds of the gateways' histogram.
    pub(super) bound_seconds: f64,
    pub(super) share: f64,
}

/// Models and their objectives.
#[derive(Debug, Clone, Default)]
pub(super) struct Objectives {
    pub(super) models: Vec<(ModelName, Objective)>,
}

pub(super) async fn of(session: &Session) -> Result<Objectives, Failure> {
    let models = session.client.world().await?.models;
    Ok(Objectives { models: models.into_iter().map(|model| (model.model, Objective::default())).collect() })
}

impl Objectives {
    /// Models with the same objective together, as matchers of Prometheus; the last are those that are not deployed yet,
    /// with the objective of a model that says nothing.
    pub(super) fn groups(&self) -> Vec<(String, Objective)> {
        let mut groups: Vec<(Vec<&ModelName>, Objective)> = Vec::new();
        for (model, objective) in self.models.iter().filter(|(_, objective)| *objective != Objective::default()) {
            match groups.iter_mut().find(|(_, known)| known == objective) {
                Some((models, _)) => models.push(model),
                None => groups.push((vec![model], *objective)),
            }
        }
        let named: Vec<&ModelName> = groups.iter().flat_map(|(models, _)| models.iter().copied()).collect();
        let rest = if named.is_empty() { String::new() } else { matcher("!~", &named) };
        let mut groups: Vec<_> = groups.iter().map(|(models, objective)| (matcher("=~", models), *objective)).collect();
        groups.push((rest, Objective::default()));
        groups
    }
}

fn matcher(operator: &str, models: &[&ModelName]) -> String {
    // Of what a name may have, the point alone means something in a regular expression; `[.]` needs no escaping.
    let names: Vec<String> = models.iter().map(|model| model.as_str().replace('.', "[.]")).collect();
    format!("model{operator}\"{}\"", names.join("|"))
}
