//! How one revision replaces another: what people choose.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{RegionName, duration::Span, pins};

/// The most listed waves, and the most steps of a canary: each leaves a record in the rollout's.
pub const STAGES_LIMIT: usize = 100;

/// How one revision replaces another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    pub max_parallel: MaxParallel,
    /// Regions in turn: a wave begins when all of the one before are settled, and its regions are worked on at once.
    /// Empty: one wave of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Vec<RegionName>>,
    /// These come first, and all of them must succeed before another region begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<RegionName>,
    /// When users are moved.
    #[serde(skip_serializing_if = "Switch::is_fleet")]
    pub switch: Switch,
    /// The shares of users that get the revision in turn, growing; the last is everybody. Empty unless `switch` is `canary`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<f64>)]
    pub canary: Vec<Percent>,
    /// The keys of users who get a canary from its first step on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Further attempts for a region after its first one failed.
    pub retries: u32,
    /// A region that makes no progress for this long has failed its attempt.
    pub progress_deadline: Span,
    pub on_failure: OnFailure,
    /// With fewer than all listed, unreachable regions are deferred. Absent: all listed.
    pub min_regions: Option<u32>,
    /// After each move of users.
    pub soak: Span,
    /// The old slot stays warm for this long after the soak.
    pub standby: Span,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            max_parallel: MaxParallel::Count(1),
            waves: Vec::new(),
            first: Vec::new(),
            switch: Switch::Fleet,
            canary: Vec::new(),
            allow: Vec::new(),
            retries: 2,
            progress_deadline: Span::from_secs(600),
            on_failure: OnFailure::Stop,
            min_regions: None,
            soak: Span::from_secs(60),
            standby: Span::from_secs(600),
        }
    }
}

/// How many regions are worked on at once: a positive number, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaxParallel {
    All,
    #[serde(untagged)]
    Count(u32),
}

impl MaxParallel {
    pub fn limit(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Count(count) => count.max(1) as usize,
        }
    }
}

/// When users are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// All at one epoch, once all regions are verified.
    #[default]
    Fleet,
    /// Those of a wave's regions once the wave is verified; the next wave begins when they have soaked.
    Wave,
    /// As `wave`, but the regions of a wave first give up what they run: for those that have no room for two revisions.
    InPlace,
    /// A share of them after the other, once all regions are verified.
    Canary,
}

impl Switch {
    fn is_fleet(&self) -> bool {
        *self == Self::Fleet
    }
}

/// What a rollout does when a region has used up its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It ends: the candidate is taken down, and users who were moved to it go back.
    #[default]
    Stop,
    /// Route the regions that verified, at least `min_regions`.
    Continue,
    /// It waits for a person.
    Pause,
}

impl OnFailure {
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::Pause => "pause",
        }
    }
}

/// A share of users, from 0 to 100 %, in steps of a ten-thousandth of a percent. Written as a number: `10`, `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u32);

impl Percent {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(100 * Self::STEPS);
    const STEPS: u32 = 10_000;

    /// From 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }
}

/// The number is no share of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a share of users is a percentage from 0 to 100, not {0}")]
pub struct NoShare(String);

impl TryFrom<f64> for Percent {
    type Error = NoShare;

    fn try_from(number: f64) -> Result<Self, NoShare> {
        if !(0.0..=100.0).contains(&number) {
            return Err(NoShare(number.to_string()));
        }
        Ok(Self((number * f64::from(Self::STEPS)).round() as u32))
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.0) / Self::from(Percent::STEPS)
    }
}

impl std::str::FromStr for Percent {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        number.parse::<f64>().map_err(|_| NoShare(format!("`{text}`")))?.try_into()
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", f64::from(*self))
    }
}

impl Strategy {
    /// What makes no sense, in one phrase; `regions` are the deployment's.
    pub fn check(&self, regions: &[RegionName]) -> Result<(), String> {
        if !self.waves.is_empty() {
            self.check_waves(regions)?;
        }
        if let Some(stranger) = self.first.iter().find(|region| !regions.contains(region)) {
            return Err(format!("first names {stranger}, which is not a region of this deployment"));
        }
        if let Some(twice) = self.first.iter().enumerate().find(|(at, region)| self.first[..*at].contains(region)) {
            return Err(format!("first names {} twice", twice.1));
        }
        match (self.switch, self.canary.is_empty()) {
            (Switch::Canary, true) => return Err("a canary needs the shares of users that it takes".to_owned()),
            (Switch::Fleet | Switch::Wave | Switch::InPlace, false) => {
                return Err("shares of users are for `switch = canary`".to_owned());
            }
            (Switch::InPlace, true) if self.waves(regions.len()).len() < 2 => {
                return Err(
                    "in place, a wave's users are served elsewhere meanwhile: it takes two waves at least".to_owned()
                );
            }
            _ => {}
        }
        if self.switch != Switch::Canary && !self.allow.is_empty() {
            return Err("users are allowed for a canary: `switch = canary`".to_owned());
        }
        if self.allow.len() > pins::USERS_LIMIT || self.allow.iter().any(|user| user.len() > pins::KEY_LIMIT) {
            let (most, longest) = (pins::USERS_LIMIT, pins::KEY_LIMIT);
            return Err(format!("at most {most} users are allowed, with keys of at most {longest} bytes"));
        }
        if self.canary.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("the shares of a canary grow from step to step".to_owned());
        }
        if self.canary.len().max(self.waves.len()) > STAGES_LIMIT {
            return Err(format!("a rollout has at most {STAGES_LIMIT} waves or steps"));
        }
        if let Some(least) = self.min_regions.filter(|least| *least == 0 || *least as usize > regions.len()) {
            return Err(format!(
                "--min-regions is between 1 and the number of regions, {}, not {least}",
                regions.len()
            ));
        }
        Ok(())
    }

    /// Each region is in one wave.
    fn check_waves(&self, regions: &[RegionName]) -> Result<(), String> {
        if !self.first.is_empty() || self.max_parallel != Self::default().max_parallel {
            return Err("waves say already which regions come first and how many at once".to_owned());
        }
        if self.waves.iter().any(Vec::is_empty) {
            return Err("a wave is empty".to_owned());
        }
        let listed: Vec<&RegionName> = self.waves.iter().flatten().collect();
        if let Some(twice) = listed.iter().enumerate().find(|(at, region)| listed[..*at].contains(region)) {
            return Err(format!("waves name {} twice", twice.1));
        }
        if let Some(stranger) = listed.iter().find(|region| !regions.contains(region)) {
            return Err(format!("waves name {stranger}, which is not a region of this deployment"));
        }
        match regions.iter().find(|region| !listed.contains(region)) {
            Some(missing) => Err(format!("no wave names {missing}")),
            None => Ok(()),
        }
    }

    /// The deployment's regions in the order in which this strategy takes them.
    pub fn in_order(&self, regions: &[RegionName]) -> Vec<RegionName> {
        let named: Vec<&RegionName> = self.waves.iter().flatten().chain(&self.first).collect();
        let rest = regions.iter().filter(|region| !named.contains(region));
        named.iter().copied().chain(rest).cloned().collect()
    }

    /// Where each wave ends, as numbers of regions from the first on.
    pub fn waves(&self, total: usize) -> Vec<usize> {
        if !self.waves.is_empty() {
            let sizes = self.waves.iter().map(Vec::len);
            let ends = sizes.scan(0, |end, size| {
                *end += size;
                Some(*end)
            });
            return ends.collect();
        }
        let mut end = self.first.len();
        let mut ends = if end > 0 { vec![end] } else { Vec::new() };
        let by_waves = matches!(self.switch, Switch::Wave | Switch::InPlace);
        let size = if by_waves { self.max_parallel.limit() } else { usize::MAX };
        while end < total {
            end = end.saturating_add(size).min(total);
            ends.push(end);
        }
        ends
    }

    /// Users go back all at once, whichever way they came; in place they do so region by region.
    #[must_use]
    pub fn of_rollback(&self) -> Self {
        let in_place = self.switch == Switch::InPlace;
        Self {
            max_parallel: if in_place { Self::default().max_parallel } else { self.max_parallel },
            waves: Vec::new(),
            first: Vec::new(),
            switch: if in_place { Switch::InPlace } else { Switch::Fleet },
            canary: Vec::new(),
            allow: Vec::new(),
            ..self.clone()
        }
    }

    /// In one phrase: `regions one after the other, switch fleet, on failure stop`.
    pub fn summary(&self) -> String {
        let parallel = match self.max_parallel {
            _ if !self.waves.is_empty() => {
                let sizes: Vec<String> = self.waves.iter().map(|wave| wave.len().to_string()).collect();
                format!("waves of {} regions", sizes.join(", "))
            }
            MaxParallel::All => "all regions at once".to_owned(),
            MaxParallel::Count(0 | 1) => "regions one after the other".to_owned(),
            MaxParallel::Count(count) => format!("{count} regions at a time"),
        };
        let names: Vec<&str> = self.first.iter().map(RegionName::as_str).collect();
        let first = if names.is_empty() { String::new() } else { format!(", first {}", names.join(" and ")) };
        let least = self.min_regions.map(|least| format!(", at least {least} of them now")).unwrap_or_default();
        let switch = match self.switch {
            Switch::Fleet => "fleet".to_owned(),
            Switch::Wave => "wave by wave".to_owned(),
            Switch::InPlace => "in place, wave by wave".to_owned(),
            Switch::Canary => {
                let shares: Vec<String> = self.canary.iter().map(|share| f64::from(*share).to_string()).collect();
                format!("canary {} %", shares.join(", "))
            }
        };
        format!("{parallel}{first}{least}, switch {switch}, on failure {}", self.on_failure.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<RegionName> {
        text.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        let check = |strategy: Strategy, expected: &str| {
            let told = strategy.check(&names("a b c")).err().unwrap_or_default();
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{told:?}, not {expected:?}");
        };
        let waves =
            |waves: &[&str]| Strategy { waves: waves.iter().map(|wave| names(wave)).collect(), ..Strategy::default() };
        check(waves(&["a", "b c"]), "");
        check(waves(&["a", "b"]), "no wave names c");
        check(waves(&["a", "b c a"]), "twice");
        check(waves(&["a b c d"]), "waves name d");
        check(waves(&["a b c", ""]), "empty");
        check(Strategy { first: names("a"), ..waves(&["a b c"]) }, "come first");
        check(Strategy { max_parallel: MaxParallel::All, ..waves(&["a b c"]) }, "how many at once");
        check(Strategy { first: names("b d"), ..Strategy::default() }, "first names d");
        check(Strategy { switch: Switch::Canary, ..Strategy::default() }, "needs the shares");
        let canary = |shares: &[f64]| Strategy {
            canary: shares.iter().map(|share| (*share).try_into().unwrap()).collect(),
            switch: Switch::Canary,
            ..Strategy::default()
        };
        check(canary(&[1.0, 10.0, 100.0]), "");
        check(canary(&[10.0, 10.0]), "grow");
        check(Strategy { switch: Switch::Wave, ..canary(&[10.0]) }, "for `switch = canary`");
        let in_place = |waves: &[&str]| Strategy {
            waves: waves.iter().map(|wave| names(wave)).collect(),
            switch: Switch::InPlace,
            ..Strategy::default()
        };
        check(in_place(&[]), "");
        check(in_place(&["a", "b c"]), "");
        check(in_place(&["a b c"]), "two waves at least");
        check(Strategy { max_parallel: MaxParallel::All, ..in_place(&[]) }, "two waves at least");
        check(Strategy { min_regions: Some(4), ..Strategy::default() }, "between 1 and the number of regions, 3");
    }

    #[test]
    fn shares_are_written_as_numbers() {
        let percent = |text: &str| text.parse::<Percent>();
        assert_eq!(percent("10").unwrap().share(), 0.1);
        assert_eq!(percent("100%").unwrap(), Percent::ALL);
        assert_eq!(serde_json::to_string(&percent("0.5").unwrap()).unwrap(), "0.5");
        assert_eq!(percent("0.5").unwrap().to_string(), "0.5 %");
        assert_eq!(percent("0").unwrap(), Percent::NONE);
        for bad in ["-1", "100.1", "NaN", "ten", "", "1e300"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regions_go_in_the_order_of_waves_or_of_who_comes_first() {
        let order = |strategy: Strategy| strategy.in_order(&names("a b c"));
        assert_eq!(order(Strategy { first: names("c"), ..Strategy::default() }), names("c a b"));
        assert_eq!(order(Strategy { waves: vec![names("b"), names("c a")], ..Strategy::default() }), names("b c a"));
        assert_eq!(order(Strategy::default()), names("a b c"));
    }
}
