//! A file of rules as YAML. Strings are written as JSON, which YAML takes; queries as blocks, which people read.

use serde_json::json;
use tradewind_core::duration::Span;

use super::{Alert, Recording};

pub(super) fn file(recordings: &[Recording], alerts: &[Alert], runbooks: &str) -> String {
    let mut text = String::from("groups:\n  - name: tradewind_ratios\n    rules:\n");
    for Recording { name, expr } in recordings {
        text += &format!("      - record: {name}\n{}", block("expr", expr));
    }
    text += "  - name: tradewind_alerts\n    rules:\n";
    for alert in alerts {
        text += &one(alert, runbooks);
    }
    text
}

/// The label `service` tells alerts of Tradewind from others.
fn one(alert: &Alert, runbooks: &str) -> String {
    let Alert { name, severity, hold, expr, summary, description, runbook } = alert;
    let runbook = json!(format!("{}/{runbook}", runbooks.trim_end_matches('/')));
    let (summary, description) = (json!(summary), json!(description));
    let expr = block("expr", expr);
    let hold = Span::from_millis(u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
    format!(
        "      - alert: {name}\n{expr}        for: {hold}\n        labels:\n          severity: {severity}\n          \
         service: tradewind\n        annotations:\n          summary: {summary}\n          description: {description}\n          \
         runbook_url: {runbook}\n"
    )
}

/// `expr: |-` and the lines below it.
fn block(key: &str, value: &str) -> String {
    let lines: Vec<String> = value.lines().map(|line| format!("          {line}\n")).collect();
    format!("        {key}: |-\n{}", lines.concat())
}
