//! The labels of all metrics. Nothing that a user of a model says becomes a label, so their values are bounded.

/// A label, and what keeps the number of its values small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    pub name: &'static str,
    pub meaning: &'static str,
    pub bound: &'static str,
}

const fn label(name: &'static str, meaning: &'static str, bound: &'static str) -> Label {
    Label { name, meaning, bound }
}

pub const LABELS: &[Label] = &[
    label("kind", "what happened", "kinds of events, as in `tradewind events -o json`"),
    label("method", "the method of a request to control", "`GET`, `PUT`, `POST`, `DELETE`, `other`"),
    label("model", "a model", "models that are deployed"),
    label("outcome", "how a request ended", "five words: see docs/serving.md"),
    label("reason", "why a replica did not answer", "ten words"),
    label("region", "the region that the number is about", "regions of the world"),
    label("replica", "which of a slot's replicas, from 0", "replicas of a slot"),
    label("result", "how a golden case was answered", "`right`, `wrong`, `unanswered`"),
    label("role", "what the process is", "`control`, `agent`, `gateway`, `replica`"),
    label("route", "the route of control that was asked", "routes in /openapi.json, and `none`"),
    label("severity", "how bad an event is", "`info`, `warning`, `error`"),
    label("slot", "one of a model's two environments", "`blue`, `green`"),
    label("state", "how a rollout, a slot or a replica stands", "a few words each"),
    label("status", "the status of control's answer", "statuses of HTTP that control answers with"),
    label("version", "the version of Tradewind or of a model", "one per process"),
];
