//! All that was measured, by what it was measured of.

use std::collections::BTreeMap;

use super::{
    bare::Figures,
    contender::{Contender, Model, Route},
    load::Sample,
};
use crate::spread::Spread;

/// So many clients ask a server of a model in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    pub model: Model,
    pub contender: Contender,
    pub route: Route,
    pub clients: u64,
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    /// By round.
    pub samples: BTreeMap<Setting, Vec<Sample>>,
    /// Why a setting has no figure.
    pub silent: BTreeMap<Setting, String>,
    /// Microseconds that the replica takes to make tensors of a request, by round.
    pub parsing: BTreeMap<Setting, Vec<f64>>,
    /// Of a server's processes after its turn, in KiB, by round.
    pub memory: BTreeMap<(Contender, Model), Vec<f64>>,
    /// Of the bare loop, by the size of its batches.
    pub bare: BTreeMap<(Model, usize), Vec<Figures>>,
    /// Who is left out, and why.
    pub absent: BTreeMap<Contender, String>,
}

impl Findings {
    /// What it has shown so far goes too: it would be of fewer rounds than the others'.
    pub(super) fn leave_out(&mut self, contender: Contender, reason: String) {
        self.samples.retain(|setting, _| setting.contender != contender);
        self.silent.retain(|setting, _| setting.contender != contender);
        self.memory.retain(|(owner, _), _| *owner != contender);
        self.absent.insert(contender, reason);
    }

    /// The spread over the rounds.
    pub(super) fn spread(&self, setting: Setting, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let samples = self.samples.get(&setting)?;
        Some(Spread::of(samples.iter().map(value).collect()))
    }

    /// How many times as many requests a second Tradewind answers, round by round.
    pub(super) fn times_as_fast(&self, setting: Setting) -> Option<Spread> {
        let ours = self.samples.get(&Setting { contender: Contender::Tradewind, ..setting })?;
        let theirs = self.samples.get(&setting)?;
        let ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours.per_second / theirs.per_second).collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios))
    }

    /// Images a second of the bare loop, by round, with the batches that are best for it.
    pub(super) fn best_loop(&self, model: Model) -> Option<(usize, Vec<f64>)> {
        let of_model = self.bare.iter().filter(|((of, _), _)| *of == model);
        let rates = of_model
            .map(|((_, batch), all)| (*batch, all.iter().map(|figures| figures.images_per_second).collect::<Vec<_>>()));
        let median = |rates: &[f64]| Spread::of(rates.to_vec()).median;
        rates.max_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(per_second: f64) -> Sample {
        Sample { per_second, p50: Duration::ZERO, p99: Duration::ZERO, core_micros: 1.0, good: 1, bad: 0 }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let setting = Setting { model: Model::Small, contender: Contender::Tradewind, route: Route::Json, clients: 32 };
        let theirs = Setting { contender: Contender::Kserve, ..setting };
        let mut found = Findings::default();
        found.samples.insert(setting, vec![sample(100.0), sample(400.0), sample(300.0)]);
        found.samples.insert(theirs, vec![sample(10.0), sample(20.0), sample(20.0)]);
        assert_eq!(found.times_as_fast(theirs), Some(Spread { median: 15.0, least: 10.0, greatest: 20.0 }));
        found.leave_out(Contender::Kserve, "it ended".to_owned());
        assert_eq!(found.times_as_fast(theirs), None);
    }

    #[test]
    fn the_best_batch_is_that_of_the_greatest_median() {
        let figures = |rate| Figures {
            images_per_second: rate,
            p50: Duration::ZERO,
            p99: Duration::ZERO,
            scores: Vec::new(),
            memory: 0,
        };
        let mut found = Findings::default();
        found.bare.insert((Model::Small, 1), vec![figures(1.0), figures(99.0), figures(2.0)]);
        found.bare.insert((Model::Small, 8), vec![figures(5.0), figures(4.0), figures(6.0)]);
        assert_eq!(found.best_loop(Model::Small), Some((8, vec![5.0, 4.0, 6.0])));
        assert_eq!(found.best_loop(Model::Large), None);
    }
}
