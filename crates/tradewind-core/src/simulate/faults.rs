//! Faults as people write them: `region-down:europe-west1@30s-2m, slow:us-east1`. Times are since the rollout began.

use std::fmt;

use crate::{RegionName, duration::Span, suggest};

/// Something that goes wrong in a simulated world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The region's agent and gateway are gone.
    RegionDown { region: RegionName, during: Period },
    /// Whatever the region does takes so many times as long.
    Slow { region: RegionName, factor: u32 },
    /// So many attempts fail to start; `None`: all of them.
    Fails { region: RegionName, attempts: Option<u32> },
    /// Golden cases are answered wrongly.
    Wrong { region: RegionName },
    /// So long after its users were moved the monitors have proved that they are worse off.
    Bad { region: RegionName, after: Span },
    /// Monitors have too little to judge by, everywhere.
    Unclear,
    /// The region's gateway is heard, and takes up nothing.
    GatewayDeaf { region: RegionName, during: Period },
    /// Control and the region do not hear each other; its users are served on.
    Cut { region: RegionName, during: Period },
    /// Nothing is planned, and nobody is heard.
    ControlDown { during: Period },
}

/// From when to when; `until` absent: for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub from: Span,
    pub until: Option<Span>,
}

/// Why something that people wrote is no fault, or no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Misunderstood {
    pub problem: String,
    /// One line: what would be right.
    pub hint: String,
}

/// How each fault is written.
const FORMS: [(&str, &str); 9] = [
    ("region-down", "region-down:REGION@30s, or region-down:REGION@30s-2m if it returns"),
    ("slow", "slow:REGION, or slow:REGIONx20 for twenty times as long"),
    ("fails", "fails:REGION, or fails:REGION#1 if only the first attempt fails"),
    ("wrong", "wrong:REGION"),
    ("bad", "bad:REGION, or bad:REGION@1m for a minute after its users were moved"),
    ("unclear", "unclear"),
    ("gateway-deaf", "gateway-deaf:REGION@30s, or gateway-deaf:REGION@30s-2m"),
    ("cut", "cut:REGION@30s-2m"),
    ("control-down", "control-down@30s-2m"),
];

/// How many times as long it takes in a slow region unless it is said.
const USUAL_FACTOR: u32 = 10;
const FACTOR_LIMIT: u32 = 10_000;
/// When monitors have their proof unless it is said.
const USUAL_PROOF: Span = Span::from_secs(10);

/// Reads faults that are separated by commas. Regions are those of the deployment.
pub fn parse(text: &str, regions: &[RegionName]) -> Result<Vec<Fault>, Misunderstood> {
    text.split(',').map(|written| Reader { written: written.trim(), regions }.read()).collect()
}

impl Period {
    pub(super) fn covers(self, elapsed: Span) -> bool {
        self.from <= elapsed && self.until.is_none_or(|until| elapsed < until)
    }
}

impl Fault {
    /// When it begins and ends, if it does so at a time of its own.
    pub(super) fn during(&self) -> Option<Period> {
        match self {
            Self::RegionDown { during, .. }
            | Self::GatewayDeaf { during, .. }
            | Self::Cut { during, .. }
            | Self::ControlDown { during } => Some(*during),
            Self::Slow { .. } | Self::Fails { .. } | Self::Wrong { .. } | Self::Bad { .. } | Self::Unclear => None,
        }
    }
}

/// One fault, taken apart.
struct Reader<'a> {
    written: &'a str,
    regions: &'a [RegionName],
}

impl Reader<'_> {
    fn read(&self) -> Result<Fault, Misunderstood> {
        let (head, times) = split(self.written, '@');
        let (name, target) = split(head, ':');
        if !FORMS.iter().any(|(known, _)| *known == name) {
            return Err(unknown("fault", name, &FORMS.map(|(known, _)| known)));
        }
        let timeless = |fault| if times.is_some() { Err(self.wrong("it holds all the time")) } else { Ok(fault) };
        match name {
            "region-down" => Ok(Fault::RegionDown { region: self.region(target)?, during: self.period(times)? }),
            "gateway-deaf" => Ok(Fault::GatewayDeaf { region: self.region(target)?, during: self.period(times)? }),
            "cut" => Ok(Fault::Cut { region: self.region(target)?, during: self.period(times)? }),
            "slow" => timeless(self.slow(target)?),
            "fails" => timeless(self.fails(target)?),
            "wrong" => timeless(Fault::Wrong { region: self.region(target)? }),
            "bad" => {
                let after = times.map_or(Ok(USUAL_PROOF), |time| self.time(time))?;
                Ok(Fault::Bad { region: self.region(target)?, after })
            }
            "control-down" => match (target, self.period(times)?) {
                (Some(_), _) => Err(self.wrong("it concerns no region")),
                (None, Period { until: None, .. }) => Err(self.wrong("it does not say when control is back")),
                (None, during) => Ok(Fault::ControlDown { during }),
            },
            _ if target.is_some() => Err(self.wrong("it concerns all regions")),
            _ => timeless(Fault::Unclear),
        }
    }

    /// What stands after the fault's name, a region of the deployment.
    fn region(&self, target: Option<&str>) -> Result<RegionName, Misunderstood> {
        let name = target.filter(|name| !name.is_empty()).ok_or_else(|| self.wrong("it names no region"))?;
        self.known(name).ok_or_else(|| {
            let names: Vec<&str> = self.regions.iter().map(RegionName::as_str).collect();
            unknown("region of this deployment", name, &names)
        })
    }

    fn known(&self, name: &str) -> Option<RegionName> {
        self.regions.iter().find(|region| region.as_str() == name).cloned()
    }

    /// `REGIONx20`, where a region may have an x in its name.
    fn slow(&self, target: Option<&str>) -> Result<Fault, Misunderstood> {
        let parted = target.filter(|name| self.known(name).is_none()).and_then(|name| name.rsplit_once('x'));
        let factor = parted.and_then(|(name, factor)| Some((self.known(name)?, factor)));
        let Some((region, factor)) = factor else {
            return Ok(Fault::Slow { region: self.region(target)?, factor: USUAL_FACTOR });
        };
        match factor.parse() {
            Ok(factor @ 1..=FACTOR_LIMIT) => Ok(Fault::Slow { region, factor }),
            _ => Err(self.wrong(&format!("`{factor}` is not a number from 1 to {FACTOR_LIMIT}"))),
        }
    }

    fn fails(&self, target: Option<&str>) -> Result<Fault, Misunderstood> {
        let Some((name, attempts)) = target.and_then(|name| name.split_once('#')) else {
            return Ok(Fault::Fails { region: self.region(target)?, attempts: None });
        };
        match attempts.parse() {
            Ok(attempts @ 1..) => Ok(Fault::Fails { region: self.region(Some(name))?, attempts: Some(attempts) }),
            _ => Err(self.wrong(&format!("`{attempts}` is no number of attempts"))),
        }
    }

    fn period(&self, times: Option<&str>) -> Result<Period, Misunderstood> {
        let times = times.ok_or_else(|| self.wrong("it does not say when"))?;
        let (from, until) = split(times, '-');
        let period = Period { from: self.time(from)?, until: until.map(|until| self.time(until)).transpose()? };
        if period.until.is_some_and(|until| until <= period.from) {
            return Err(self.wrong("it ends before it begins"));
        }
        Ok(period)
    }

    fn time(&self, text: &str) -> Result<Span, Misunderstood> {
        text.parse().map_err(|error| self.wrong(&format!("{error}")))
    }

    fn wrong(&self, why: &str) -> Misunderstood {
        let (name, _) = split(split(self.written, '@').0, ':');
        let form = FORMS.iter().find(|(known, _)| *known == name).map_or("", |(_, form)| form);
        Misunderstood { problem: format!("`{}` is not understood: {why}", self.written), hint: form.to_owned() }
    }
}

/// The parts before and after the first `separator`.
pub(super) fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> Misunderstood {
    let meant = suggest::nearest(name, known).map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    Misunderstood {
        problem: format!("no {what} is called `{name}`"),
        hint: format!("{meant}there are {}", known.join(", ")),
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.from)?;
        self.until.map_or(Ok(()), |until| write!(f, "-{until}"))
    }
}

/// As it is written.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegionDown { region, during } => write!(f, "region-down:{region}{during}"),
            Self::Slow { region, factor } => write!(f, "slow:{region}x{factor}"),
            Self::Fails { region, attempts: None } => write!(f, "fails:{region}"),
            Self::Fails { region, attempts: Some(attempts) } => write!(f, "fails:{region}#{attempts}"),
            Self::Wrong { region } => write!(f, "wrong:{region}"),
            Self::Bad { region, after } => write!(f, "bad:{region}@{after}"),
            Self::Unclear => f.write_str("unclear"),
            Self::GatewayDeaf { region, during } => write!(f, "gateway-deaf:{region}{during}"),
            Self::Cut { region, during } => write!(f, "cut:{region}{during}"),
            Self::ControlDown { during } => write!(f, "control-down{during}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Vec<RegionName> {
        ["us-east1", "europe-west1", "box2x4"].map(|name| name.parse().unwrap()).into()
    }

    #[test]
    fn what_people_write_is_read_and_written_again() {
        for written in [
            "region-down:europe-west1@30s",
            "region-down:europe-west1@30s-2m",
            "slow:box2x4x20",
            "fails:us-east1",
            "fails:us-east1#1",
            "wrong:us-east1",
            "bad:us-east1@1m30s",
            "unclear",
            "gateway-deaf:us-east1@0s-2m",
            "cut:us-east1@30s-2m",
            "control-down@30s-2m",
        ] {
            let read = parse(written, &regions()).unwrap();
            assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), [written]);
        }
        let usual = parse("slow:box2x4, bad:us-east1", &regions()).unwrap();
        assert_eq!(usual.iter().map(ToString::to_string).collect::<Vec<_>>(), ["slow:box2x4x10", "bad:us-east1@10s"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let told: Vec<String> = [
            "",
            "regon-down:us-east1@30s",
            "region-down@30s",
            "region-down:us-east1",
            "region-down:us-esat1@30s",
            "region-down:us-east1@2m-30s",
            "region-down:us-east1@soon",
            "slow:us-east1x0",
            "slow:us-east1@30s",
            "slow:mars",
            "fails:us-east1#none",
            "unclear:us-east1",
            "control-down@30s",
            "control-down:us-east1@1s-2s",
        ]
        .into_iter()
        .map(|text| match parse(text, &regions()) {
            Err(Misunderstood { problem, hint }) => format!("{problem}\n    {hint}"),
            Ok(read) => format!("{text} is read as {read:?}"),
        })
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
