//! A file of rules as YAML. Strings are written as JSON, which YAML takes; queries as blocks, which people read.

use serde_json::json;

use super::{Alert, Recording};

pub(super) fn file(recordings: &[Recording], alerts: &[Alert]) -> String {
    let mut text = String::from("groups:\n  - name: tradewind_ratios\n    rules:\n");
    for Recording { name, expr } in recordings {
        text += &format!("      - record: {name}\n{}", block("expr", expr));
    }
    text += "  - name: tradewind_alerts\n    rules:\n";
    for alert in alerts {
        text += &one(alert);
    }
    text
}

fn one(alert: &Alert) -> String {
    let Alert { name, severity, hold, expr, summary, description } = alert;
    let runbook = format!("{}#{}", super::RUNBOOKS, name.to_lowercase());
    let (summary, description, runbook) = (json!(summary), json!(description), json!(runbook));
    let expr = block("expr", expr);
    format!(
        "      - alert: {name}\n{expr}        for: {hold}\n        labels:\n          severity: {severity}\n        \
         annotations:\n          summary: {summary}\n          description: {description}\n          \
         runbook_url: {runbook}\n"
    )
}

/// `expr: |-` and the lines below it.
fn block(key: &str, value: &str) -> String {
    let lines: Vec<String> = value.lines().map(|line| format!("          {line}\n")).collect();
    format!("        {key}: |-\n{}", lines.concat())
}
