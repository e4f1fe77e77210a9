//! Tests only: whether a query asks for what there is.

use tradewind_api::metrics::definition;

/// Labels that targets have, and bounds of histograms.
const OTHERS: [&str; 4] = ["le", "tradewind_region", "tradewind_role", "instance"];

/// Every metric is defined, and has the labels that are matched.
///
/// # Panics
/// When that is not so.
pub(super) fn check(query: &str) {
    let mut rest = query;
    let mut found = 0;
    while let Some(start) = rest.find("tradewind_").into_iter().chain(rest.find("process_")).min() {
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if OTHERS.contains(&name) {
            continue;
        }
        found += 1;
        let metric = definition(name).unwrap_or_else(|| panic!("there is no {name}: {query}"));
        let matchers = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |(inside, _)| inside);
        for matcher in matchers.split("\",").filter(|matcher| !matcher.is_empty()) {
            let label = matcher.split(['=', '!']).next().unwrap_or_default();
            assert!(metric.labels.contains(&label) || OTHERS.contains(&label), "{name} has no {label}: {query}");
        }
    }
    assert!(found > 0 || query.contains("ALERTS") || query.contains("tradewind:"), "{query} asks for nothing of ours");
}
