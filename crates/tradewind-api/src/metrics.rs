//! The metrics of every role: defined here as data, once, and written by one writer.
//!
//! A role asks a [`Page`] for a metric of its module ([`control`], [`agent`], [`gateway`], [`replica`]) and adds its
//! series. The compiler sees to it that a metric is defined, that each series has exactly its labels, and that names
//! keep to the scheme: `tradewind_ROLE_...`, base units at the end, `_total` for counters. The reference in
//! `docs/metrics.md` is made from the same definitions.

pub mod agent;
mod buckets;
pub mod control;
mod definition;
pub mod gateway;
mod labels;
mod page;
pub mod process;
mod reference;
pub mod replica;
mod targets;

pub use buckets::{Buckets, Distribution, SECONDS};
pub use definition::{Counter, Definition, Gauge, Histogram, Kind, Metric, Single};
pub use labels::{LABELS, Label};
pub use page::{Format, Page, Series, Value};
pub use reference::reference;
pub use targets::{TARGETS_PATH, TargetGroup};

/// Who has which metrics, in the order of the reference.
pub fn roles() -> [(&'static str, &'static [Definition]); 5] {
    [
        ("every role", process::ALL),
        ("control", control::ALL),
        ("agent", agent::ALL),
        ("gateway", gateway::ALL),
        ("replica", replica::ALL),
    ]
}

/// The metric that a series belongs to: its name without what a histogram's series end in.
pub fn definition(series: &str) -> Option<&'static Definition> {
    let all = || roles().into_iter().flat_map(|(_, definitions)| definitions);
    let exact = all().find(|each| each.name == series && each.kind != Histogram::NAME);
    exact.or_else(|| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end))?;
        all().find(|each| each.name == base && each.kind == Histogram::NAME)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_metrics_can_be_taken_for_each_other() {
        let mut taken = BTreeSet::new();
        for (role, definitions) in roles() {
            for metric in definitions {
                // OpenMetrics names a counter without `_total`, and histograms have series of other names.
                let family = metric.name.strip_suffix("_total").unwrap_or(metric.name);
                let ends: &[&str] =
                    if metric.kind == Histogram::NAME { &["", "_bucket", "_sum", "_count"] } else { &[""] };
                for end in ends {
                    assert!(taken.insert(format!("{family}{end}")), "{role}: {} is taken", metric.name);
                }
            }
        }
    }

    #[test]
    fn names_carry_base_units_and_help_is_a_sentence() {
        for metric in roles().into_iter().flat_map(|(_, definitions)| definitions) {
            let odd = ["_ms", "_us", "milli", "micro", "_kb", "_mb", "minute", "percent"];
            assert!(!odd.iter().any(|unit| metric.name.contains(unit)), "{}: not a base unit", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}: {}", metric.name, metric.help);
        }
    }

    #[test]
    fn every_label_says_what_bounds_it() {
        let used = roles().into_iter().flat_map(|(_, all)| all).flat_map(|metric| metric.labels.iter().copied());
        let used: BTreeSet<&str> = used.collect();
        let known: BTreeSet<&str> = LABELS.iter().map(|label| label.name).collect();
        assert_eq!(used, known);
        let boundless = ["user", "request", "id", "path", "revision", "address"];
        assert!(!boundless.iter().any(|name| used.contains(name)));
    }

    #[test]
    fn a_series_finds_its_metric() {
        let name = |series| definition(series).map(|metric| metric.name);
        assert_eq!(name("tradewind_gateway_requests_total"), Some("tradewind_gateway_requests_total"));
        assert_eq!(
            name("tradewind_gateway_request_duration_seconds_bucket"),
            Some("tradewind_gateway_request_duration_seconds")
        );
        assert_eq!(name("tradewind_gateway_request_duration_seconds"), None);
        assert_eq!(name("tradewind_gateway_requests_total_sum"), None);
    }
}
