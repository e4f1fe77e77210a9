//! Random scenarios: the same seed always gives the same one.

use std::collections::BTreeSet;

use super::{
    Durations, Scenario,
    faults::{Fault, Period},
    people::{Told, Word},
};
use crate::{
    ModelName, RegionName,
    duration::Span,
    rollout::strategy::{MaxParallel, OnFailure, Percent, Strategy, Switch},
    traffic::Sequence,
};

/// The regions of random scenarios, the first so many of them.
const REGIONS: [&str; 8] = [
    "us-east1",
    "europe-west1",
    "asia-northeast1",
    "us-west1",
    "southamerica-east1",
    "europe-north1",
    "asia-south1",
    "africa-south1",
];

/// Faults begin, and people decide, by then.
const LATEST_SECS: u64 = 400;

impl Scenario {
    /// The random scenario of a seed: any strategy, for one to eight regions, and up to five things that go wrong.
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice(Sequence::new(seed));
        let count = 1 + dice.below(REGIONS.len() as u64) as usize;
        let named = |name: &&str| name.parse().expect("the names of regions here are right");
        let regions: Vec<RegionName> = REGIONS[..count].iter().map(named).collect();
        let strategy = dice.strategy(&regions);
        let faults = dice.faults(&regions);
        let mut decisions: Vec<Told> = (0..dice.below(5)).map(|_| dice.decision()).collect();
        decisions.sort_by_key(|told| told.at);
        let model: ModelName = "digits".parse().expect("it is a name");
        Self {
            replaces: !dice.one_in(6),
            gateways_per_region: 1 + dice.below(3) as u32,
            durations: Durations {
                deploy: Span::from_secs(1 + dice.below(30)),
                take_up: Span::from_millis(10 + dice.below(3000)),
                ..Durations::default()
            },
            faults,
            decisions,
            ..Self::new(model, strategy.in_order(&regions), strategy)
        }
    }
}

/// What goes wrong in these regions at random, with that seed.
pub fn faults(seed: u64, regions: &[RegionName]) -> Vec<Fault> {
    Dice(Sequence::new(seed)).faults(regions)
}

struct Dice(Sequence);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    fn strategy(&mut self, regions: &[RegionName]) -> Strategy {
        let total = regions.len() as u64;
        let switch = self.one_of(&[Switch::Fleet, Switch::Wave, Switch::InPlace, Switch::Canary]);
        let shares = self.one_of(&[vec![1.0, 10.0, 50.0, 100.0], vec![10.0], vec![5.0, 100.0]]);
        let shares: Vec<Percent> = shares.into_iter().filter_map(|share| Percent::try_from(share).ok()).collect();
        let waves = if self.one_in(4) { self.waves(regions) } else { Vec::new() };
        let plain = waves.is_empty();
        let strategy = Strategy {
            max_parallel: match self.below(4) {
                count @ 1..=2 if plain => MaxParallel::Count(1 + count as u32),
                3 if plain => MaxParallel::All,
                _ => Strategy::default().max_parallel,
            },
            waves,
            first: if plain && self.one_in(3) { vec![self.one_of(regions)] } else { Vec::new() },
            switch,
            canary: if switch == Switch::Canary { shares } else { Vec::new() },
            allow: Vec::new(),
            retries: self.below(3) as u32,
            progress_deadline: Span::from_secs(30 + self.below(90)),
            on_failure: self.one_of(&[OnFailure::Stop, OnFailure::Continue, OnFailure::Pause]),
            min_regions: self.one_in(2).then(|| 1 + self.below(total) as u32),
            soak: self.one_of(&[Span::from_secs(0), Span::from_secs(20), Span::from_secs(60)]),
            standby: self.one_of(&[Span::from_secs(0), Span::from_secs(30), Span::from_secs(600)]),
        };
        match strategy.check(regions) {
            Ok(()) => strategy,
            Err(_) => Strategy { switch: Switch::Wave, ..strategy },
        }
    }

    /// Regions in any order, cut anywhere.
    fn waves(&mut self, regions: &[RegionName]) -> Vec<Vec<RegionName>> {
        let mut left = regions.to_vec();
        let mut waves: Vec<Vec<RegionName>> = vec![Vec::new()];
        while !left.is_empty() {
            let region = left.remove(self.below(left.len() as u64) as usize);
            match waves.last_mut() {
                Some(wave) if wave.is_empty() || self.one_in(2) => wave.push(region),
                _ => waves.push(vec![region]),
            }
        }
        waves
    }

    fn faults(&mut self, regions: &[RegionName]) -> Vec<Fault> {
        let mut faults: Vec<Fault> = (0..self.below(6)).map(|_| self.fault(regions)).collect();
        // What is slow twice takes longer than a simulation goes on.
        let mut slow = BTreeSet::new();
        faults.retain(|fault| !matches!(fault, Fault::Slow { region, .. } if !slow.insert(region.clone())));
        faults
    }

    fn fault(&mut self, regions: &[RegionName]) -> Fault {
        let region = self.one_of(regions);
        match self.below(12) {
            0 | 1 => Fault::RegionDown { region, during: self.period() },
            2 => Fault::Slow { region, factor: self.one_of(&[2, 10, 100]) },
            3 => Fault::Fails { region, attempts: self.one_of(&[Some(1), Some(2), None]) },
            4 => Fault::Wrong { region },
            5 | 6 => Fault::Bad { region, after: Span::from_secs(self.below(100)) },
            7 => Fault::Unclear,
            8 => Fault::GatewayDeaf { region, during: self.period() },
            9 | 10 => Fault::Cut { region, during: self.period() },
            _ => {
                let from = self.time();
                Fault::ControlDown { during: Period { from, until: Some(self.after(from)) } }
            }
        }
    }

    fn period(&mut self) -> Period {
        let from = self.time();
        let until = self.after(from);
        Period { from, until: (!self.one_in(4)).then_some(until) }
    }

    fn time(&mut self) -> Span {
        Span::from_millis(self.below(LATEST_SECS * 1000))
    }

    fn after(&mut self, from: Span) -> Span {
        let length = self.one_of(&[2000, 20_000, 200_000]);
        Span::from_millis(from.as_millis() + 1 + self.below(length))
    }

    fn decision(&mut self) -> Told {
        let what =
            self.one_of(&[Word::Pause, Word::Resume, Word::Resume, Word::Promote, Word::PromoteFull, Word::Abort]);
        Told { at: self.time(), what }
    }
}
