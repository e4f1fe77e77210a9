//! All that was measured, by what it was measured of. Times are in seconds.

use std::collections::BTreeMap;

use super::{contender::Contender, program::Peak};
use crate::spread::Spread;

/// A contender with so many workers.
pub(super) type Crew = (Contender, usize);

/// A run over so many batches that are next to no work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Without start and end, where they can be told apart.
    pub work: f64,
    /// These alone.
    pub start: Option<f64>,
    /// The same run again, where what was done is kept.
    pub again: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    /// By round.
    pub samples: BTreeMap<(Crew, usize), Vec<Sample>>,
    /// Of the batches that keep a core busy, by round.
    pub busy: BTreeMap<Crew, Vec<f64>>,
    /// Of Tradewind, by the number of batches.
    pub memory: BTreeMap<usize, Peak>,
    /// Of Python by itself.
    pub start: Vec<f64>,
    /// Who is left out, and why.
    pub absent: BTreeMap<Contender, String>,
}

impl Findings {
    /// What it has shown so far goes too: it would be of fewer rounds than the others'.
    pub(super) fn leave_out(&mut self, contender: Contender, reason: String) {
        self.samples.retain(|((of, _), _), _| *of != contender);
        self.busy.retain(|(of, _), _| *of != contender);
        self.absent.insert(contender, reason);
    }

    /// Over the rounds of one number of batches.
    pub(super) fn spread(&self, crew: Crew, batches: usize, value: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        let values: Vec<f64> = self.samples.get(&(crew, batches))?.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| Spread::of(values))
    }

    /// What a batch more costs, by round: between the least and the greatest number of batches.
    fn each(&self, crew: Crew, value: impl Fn(&Sample) -> Option<f64>) -> Option<Vec<f64>> {
        let mut of_crew = self.samples.iter().filter(|((of, _), _)| *of == crew);
        let (((_, few), first), ((_, many), last)) = (of_crew.next()?, of_crew.next_back()?);
        let more = (many - few) as f64;
        first.iter().zip(last).map(|(first, last)| Some((value(last)? - value(first)?) / more)).collect()
    }

    /// What a batch more costs.
    pub(super) fn cost(&self, crew: Crew) -> Option<Spread> {
        Some(Spread::of(self.each(crew, |sample| Some(sample.work))?))
    }

    /// The same, beside what its steps cost in a plain loop.
    pub(super) fn overhead(&self, crew: Crew) -> Option<Spread> {
        let bare = self.cost((Contender::Loop, 1))?.median;
        let each = self.each(crew, |sample| Some(sample.work))?;
        Some(Spread::of(each.into_iter().map(|each| each - bare).collect()))
    }

    /// What a batch more costs where it is done already.
    pub(super) fn again(&self, crew: Crew) -> Option<Spread> {
        Some(Spread::of(self.each(crew, |sample| sample.again)?))
    }

    /// How many times as fast so many workers are as one, round by round.
    pub(super) fn speed_up(&self, (contender, workers): Crew) -> Option<Spread> {
        let (one, all) = (self.busy.get(&(contender, 1))?, self.busy.get(&(contender, workers))?);
        let ratios: Vec<f64> = one.iter().zip(all).map(|(one, all)| one / all).collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios))
    }

    /// By how much the runner's memory grows with each batch, in KiB.
    pub(super) fn growth(&self) -> Option<f64> {
        let ((few, first), (many, last)) = (self.memory.first_key_value()?, self.memory.last_key_value()?);
        (many > few).then(|| (last.first as f64 - first.first as f64) / (many - few) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(work: f64, again: Option<f64>) -> Vec<Sample> {
        vec![Sample { work, start: None, again }]
    }

    #[test]
    fn a_batch_costs_what_more_of_them_cost_more() {
        let mut found = Findings::default();
        let (bare, ours) = ((Contender::Loop, 1), (Contender::Program, 2));
        found.samples.insert((bare, 10), sample(0.5, None));
        found.samples.insert((bare, 1010), sample(1.5, None));
        found.samples.insert((ours, 10), sample(1.0, Some(0.5)));
        assert!(found.overhead(ours).is_none(), "one number of batches tells nothing");
        found.samples.insert((ours, 110), sample(1.375, Some(0.75)));
        let near = |spread: Option<Spread>, value: f64| (spread.unwrap().median - value).abs() < 1e-9;
        assert!(near(found.overhead(ours), 0.00275) && near(found.again(ours), 0.0025));
        assert!(found.again(bare).is_none());
    }

    #[test]
    fn speed_is_compared_with_that_of_one_worker() {
        let mut found = Findings::default();
        found.busy.insert((Contender::Ray, 1), vec![4.0, 6.0]);
        found.busy.insert((Contender::Ray, 2), vec![2.0, 4.0]);
        assert_eq!(found.speed_up((Contender::Ray, 2)), Some(Spread { median: 1.75, least: 1.5, greatest: 2.0 }));
        found.leave_out(Contender::Ray, "it ended".to_owned());
        assert_eq!(found.speed_up((Contender::Ray, 2)), None);
    }
}
