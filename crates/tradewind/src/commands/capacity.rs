//! Room elsewhere, in words.

use std::collections::BTreeSet;

use tradewind_core::{
    RegionName,
    capacity::{Capacity, Failover, Fit, ModelFailover, SPARE},
};

use crate::terminal::{Table, Tone, table::Cell};

/// With more targets than this their number is told instead of their names.
const NAMED_TARGETS: usize = 2;

/// `40 %`, rounded up: what is not quite full is not told as full, and what is full not as fitting.
pub(super) fn percent(share: f64) -> String {
    // What is exact in decimals is not in binary.
    format!("{:.0} %", (share * 100.0 - 1e-9).ceil().abs())
}

/// How a region is with the users that it has: `fits: 40 % of its limit`. Nothing where no limit is declared.
pub(super) fn room(capacity: &Capacity) -> Option<String> {
    let utilisation = capacity.utilisation()?;
    let word = if utilisation <= 1.0 - SPARE { "fits" } else { "full" };
    Some(format!("{word}: {} of its limit", percent(utilisation)))
}

/// Where the users of a region would go: `europe-west1 (fits: 40 % of its limit)`.
pub(super) fn phrase(failover: &Failover) -> String {
    let Some(worst) = failover.worst() else { return "nobody, it serves no users".to_owned() };
    match failover.fit {
        Fit::Fits => {
            let full = failover.models.iter().flat_map(|model| &model.targets).filter_map(|to| to.utilisation_then);
            let places = places(failover);
            match full.max_by(f64::total_cmp) {
                Some(full) if places.contains(' ') => format!("{places} (fits: at most {} of a limit)", percent(full)),
                Some(full) => format!("{places} (fits: {} of its limit)", percent(full)),
                None => format!("{places} (fits)"),
            }
        }
        Fit::Unknown => {
            format!("{} (not known whether they fit: {} declares no concurrency)", places(failover), worst.model)
        }
        Fit::DoesNotFit if worst.targets.is_empty() => {
            format!("nobody (does not fit: no other region may serve {})", worst.model)
        }
        Fit::DoesNotFit => {
            let room = worst.share.map_or_else(|| "not for all".to_owned(), part);
            format!("{} (does not fit: there is room for {room} of those of {})", places(failover), worst.model)
        }
    }
}

/// A share that is less than all of it, rounded down.
fn part(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

fn places(failover: &Failover) -> String {
    let targets = failover.models.iter().flat_map(|model| &model.targets);
    let places: BTreeSet<&RegionName> = targets.map(|target| &target.region).collect();
    match places.len() {
        0 => "nobody".to_owned(),
        1..=NAMED_TARGETS => places.into_iter().map(RegionName::as_str).collect::<Vec<_>>().join(" and "),
        count => format!("{count} regions"),
    }
}

pub(super) fn tone(fit: Fit) -> Tone {
    match fit {
        Fit::Fits => Tone::Plain,
        Fit::Unknown => Tone::Warn,
        Fit::DoesNotFit => Tone::Bad,
    }
}

/// Model by model: who takes how much.
pub(super) fn table(failover: &Failover) -> Table {
    let mut table = Table::new(&["MODEL", "IN FLIGHT", "GO TO", "TAKES", "OF ITS LIMIT", "FITS"]);
    for model in &failover.models {
        let verdict = Cell::new(verdict(model), tone(model.fit));
        let [name, in_flight] = [model.model.to_string(), number(model.in_flight)];
        let dash = || Cell::from("-");
        if model.targets.is_empty() {
            table.row([name.into(), in_flight.into(), "nobody".into(), dash(), dash(), verdict]);
            continue;
        }
        for (line, target) in model.targets.iter().enumerate() {
            let of_limit = target.utilisation.zip(target.utilisation_then);
            let of_limit = of_limit.map(|(now, then)| format!("{} -> {}", percent(now), percent(then)));
            let first = |text: &str| Cell::from(if line == 0 { text.to_owned() } else { String::new() });
            table.row([
                first(&name),
                first(&in_flight),
                target.region.as_str().into(),
                number(target.in_flight).into(),
                of_limit.map_or_else(dash, Cell::from),
                if line == 0 { verdict.clone() } else { "".into() },
            ]);
        }
    }
    table
}

fn verdict(model: &ModelFailover) -> String {
    match (model.fit, model.share) {
        (Fit::Fits, _) => "yes".to_owned(),
        (Fit::Unknown, _) => "not known: no concurrency is declared".to_owned(),
        (Fit::DoesNotFit, _) if model.targets.is_empty() => "no: no other region may serve it".to_owned(),
        (Fit::DoesNotFit, Some(share)) => format!("no: room for {}", part(share)),
        (Fit::DoesNotFit, None) => "no".to_owned(),
    }
}

/// What a region's replicas have in flight, and may have: `9.6 of 32`.
pub(super) fn in_flight(capacity: &Capacity) -> String {
    let in_flight = number(capacity.in_flight);
    capacity.limit.map_or_else(|| in_flight.clone(), |limit| format!("{in_flight} of {limit}"))
}

/// Requests in flight, on average.
fn number(in_flight: f64) -> String {
    if in_flight < 9.95 { format!("{in_flight:.1}") } else { format!("{in_flight:.0}") }
}

#[cfg(test)]
mod tests {
    use tradewind_core::capacity::Target;

    use super::*;
    use crate::terminal::Paint;

    fn target(region: &str, utilisation: Option<(f64, f64)>) -> Target {
        let (utilisation, utilisation_then) = utilisation.unzip();
        Target { region: region.parse().unwrap(), in_flight: 6.0, utilisation, utilisation_then }
    }

    fn model(name: &str, fit: Fit, share: Option<f64>, targets: Vec<Target>) -> ModelFailover {
        ModelFailover { model: name.parse().unwrap(), fit, in_flight: 12.0, share, targets }
    }

    fn samples() -> Vec<Failover> {
        let near = || target("us-east1", Some((0.1, 0.395)));
        let far = || target("asia-northeast1", Some((0.0, 0.3)));
        vec![
            Failover::of(Vec::new()),
            Failover::of(vec![model("digits", Fit::Fits, Some(1.0), vec![near()])]),
            Failover::of(vec![model("digits", Fit::Fits, Some(1.0), vec![target("us-east1", None)])]),
            Failover::of(vec![model("digits", Fit::Fits, Some(1.0), vec![near(), far()])]),
            Failover::of(vec![model("digits", Fit::Unknown, None, vec![target("us-east1", None)])]),
            Failover::of(vec![
                model("digits", Fit::Fits, Some(1.0), vec![near()]),
                model("fraud", Fit::DoesNotFit, Some(0.608), vec![near()]),
            ]),
            Failover::of(vec![model("digits", Fit::DoesNotFit, Some(0.0), Vec::new())]),
        ]
    }

    #[test]
    fn a_phrase_says_who_takes_them_and_whether_they_fit() {
        let phrases: Vec<String> = samples().iter().map(phrase).collect();
        insta::assert_snapshot!(phrases.join("\n"), @r"
        nobody, it serves no users
        us-east1 (fits: 40 % of its limit)
        us-east1 (fits)
        asia-northeast1 and us-east1 (fits: at most 40 % of a limit)
        us-east1 (not known whether they fit: digits declares no concurrency)
        us-east1 (does not fit: there is room for 60 % of those of fraud)
        nobody (does not fit: no other region may serve digits)
        ");
    }

    #[test]
    fn a_table_says_it_of_each_model() {
        let tables: String = samples()[3..].iter().map(|sample| table(sample).render(Paint::plain())).collect();
        insta::assert_snapshot!(tables, @r"
          MODEL   IN FLIGHT  GO TO            TAKES  OF ITS LIMIT  FITS
          digits  12         us-east1         6.0    10 % -> 40 %  yes
                             asia-northeast1  6.0    0 % -> 30 %
          MODEL   IN FLIGHT  GO TO     TAKES  OF ITS LIMIT  FITS
          digits  12         us-east1  6.0    -             not known: no concurrency is declared
          MODEL   IN FLIGHT  GO TO     TAKES  OF ITS LIMIT  FITS
          digits  12         us-east1  6.0    10 % -> 40 %  yes
          fraud   12         us-east1  6.0    10 % -> 40 %  no: room for 60 %
          MODEL   IN FLIGHT  GO TO   TAKES  OF ITS LIMIT  FITS
          digits  12         nobody  -      -             no: no other region may serve it
        ");
    }

    #[test]
    fn a_region_that_has_taken_users_is_full_when_only_its_spare_room_is_left() {
        let of = |in_flight, limit| room(&Capacity { in_flight, in_flight_now: 0, limit, replicas: 1 });
        assert_eq!(of(8.0, Some(20)).as_deref(), Some("fits: 40 % of its limit"));
        assert_eq!(of(18.2, Some(20)).as_deref(), Some("full: 91 % of its limit"));
        assert_eq!(of(8.0, None), None);
    }
}
