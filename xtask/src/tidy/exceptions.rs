//! Where a rule does not hold, and why. An entry that excuses nothing is itself a finding, so the list only shrinks.

use std::path::Path;

use super::{Finding, Rule};

#[derive(Debug)]
struct Exception {
    rule: Rule,
    /// A file, relative to the root.
    path: &'static str,
    #[expect(dead_code, reason = "for the reader: no exception without its reason")]
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: Rule::Sleep,
        path: "crates/tradewind-gateway/tests/it/replica.rs",
        reason: "its fake replica takes time to answer, as a model does; no test waits by it",
    },
    Exception {
        rule: Rule::Sleep,
        path: "crates/tradewind-gateway/src/server.rs",
        reason: "its slow client sends a byte now and then, on paused time",
    },
];

/// The findings that no exception covers.
pub(super) fn apply(findings: Vec<Finding>) -> Vec<Finding> {
    filter(findings, EXCEPTIONS)
}

fn filter(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<Finding> {
    let covers = |exception: &Exception, finding: &Finding| {
        exception.rule == finding.rule && Path::new(exception.path) == finding.path
    };
    let unused = exceptions.iter().filter(|exception| !findings.iter().any(|finding| covers(exception, finding)));
    let unused: Vec<Finding> = unused
        .map(|Exception { rule, path, .. }| Finding {
            path: file!().into(),
            line: 1,
            rule: *rule,
            message: format!("the exception from {rule:?} for {path} is no longer needed: remove it"),
        })
        .collect();
    let mut left = findings;
    left.retain(|finding| !exceptions.iter().any(|exception| covers(exception, finding)));
    left.extend(unused);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: Rule, path: &str) -> Finding {
        Finding { path: path.into(), line: 1, rule, message: String::new() }
    }

    #[test]
    fn an_exception_covers_its_rule_in_its_file_and_must_be_needed() {
        let exceptions = [
            Exception { rule: Rule::Length, path: "a.rs", reason: "one table" },
            Exception { rule: Rule::Sleep, path: "b.rs", reason: "paused time" },
        ];
        let left = filter(vec![finding(Rule::Length, "a.rs"), finding(Rule::Silenced, "a.rs")], &exceptions);
        assert_eq!(left[0], finding(Rule::Silenced, "a.rs"));
        assert_eq!(left[1].message, "the exception from Sleep for b.rs is no longer needed: remove it");
        assert_eq!(left.len(), 2);
    }
}
