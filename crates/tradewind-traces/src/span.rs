//! One span while its work goes on.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Event, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tradewind_core::{Timestamp, trace::TraceParent};

use crate::Outlet;

/// More is not recorded of one span: an attempt each, at most.
const EVENTS_LIMIT: usize = 32;

/// The side of an exchange that a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It asks another process.
    Client,
    /// It answers one.
    Server,
    Internal,
}

/// Handed over when it is dropped.
#[derive(Debug)]
pub struct Span {
    outlet: &'static Outlet,
    name: Cow<'static, str>,
    kind: Kind,
    context: TraceParent,
    parent: Option<TraceParent>,
    start: SystemTime,
    end: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
    failure: Option<String>,
}

impl Span {
    pub(crate) fn new(
        outlet: &'static Outlet,
        name: &'static str,
        kind: Kind,
        context: TraceParent,
        parent: Option<TraceParent>,
    ) -> Self {
        Self {
            outlet,
            name: Cow::Borrowed(name),
            kind,
            context,
            parent,
            start: SystemTime::now(),
            end: None,
            attributes: Vec::new(),
            events: Vec::new(),
            failure: None,
        }
    }

    /// What is passed on, so that others become its children.
    pub fn context(&self) -> TraceParent {
        self.context
    }

    /// It took place at another time than between now and its drop.
    #[must_use]
    pub fn between(mut self, start: Timestamp, end: Timestamp) -> Self {
        (self.start, self.end) = (start.into(), Some(end.into()));
        self
    }

    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    /// Something that happened at this moment.
    pub fn event(&mut self, name: &'static str, attributes: Vec<KeyValue>) {
        if self.events.len() < EVENTS_LIMIT {
            self.events.push(Event::new(name, SystemTime::now(), attributes, 0));
        }
    }

    /// What it was for did not come about.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.failure = Some(why.into());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let mut events = SpanEvents::default();
        events.events = std::mem::take(&mut self.events);
        let ids = |parent: TraceParent| SpanId::from_bytes(parent.span().to_be_bytes());
        let context = SpanContext::new(
            TraceId::from_bytes(self.context.trace.as_u128().to_be_bytes()),
            ids(self.context),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        self.outlet.send(SpanData {
            span_context: context,
            parent_span_id: self.parent.map_or(SpanId::INVALID, ids),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: match self.kind {
                Kind::Client => SpanKind::Client,
                Kind::Server => SpanKind::Server,
                Kind::Internal => SpanKind::Internal,
            },
            name: std::mem::take(&mut self.name),
            start_time: self.start,
            end_time: self.end.unwrap_or_else(SystemTime::now),
            attributes: std::mem::take(&mut self.attributes),
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: self.failure.take().map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("tradewind")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        });
    }
}
