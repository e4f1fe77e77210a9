//! What is written down of a request as it goes on, where anybody wants it: a line of the access log, a span of its trace.
//! A request of which nothing is written down pays for looking whether it is.

use http::HeaderName;
use tradewind_traces::{KeyValue, Kind, Span};

use crate::{
    access::{Access, AccessLog},
    body::Answer,
    headers::{self, Headers, Trace, name},
    message::Response,
    metrics::Outcome,
    routing::Choice,
};

#[derive(Debug)]
pub(super) struct Notes {
    /// Only if there is a log.
    pub(super) access: Option<Box<Access>>,
    /// Only if the trace is recorded.
    span: Option<Box<Span>>,
}

impl Notes {
    /// A line of the log alone.
    pub(super) fn logged(access: Option<Box<Access>>) -> Self {
        Self { access, span: None }
    }

    /// From here on the next hop is a child of the span, if there is one.
    pub(super) fn begin(mut access: Option<Box<Access>>, headers: &mut Headers, trace: Option<Trace>) -> Self {
        if let Some(access) = &mut access {
            access.trace = trace.map(|trace| trace.parent.trace);
        }
        let span = trace.and_then(|Trace { parent, begun }| match begun {
            true => tradewind_traces::root("request", Kind::Server, Some(parent)),
            false => tradewind_traces::child("request", Kind::Server, Some(parent)),
        });
        if let Some(span) = &span {
            headers::tell_trace(headers, span.context());
        }
        Self { access, span: span.map(Box::new) }
    }

    pub(super) fn model(&mut self, model: &str) {
        if let Some(span) = &mut self.span {
            span.set("tradewind.model", model.to_owned());
        }
    }

    /// Somebody is asked.
    pub(super) fn attempt(&mut self, choice: &Choice) {
        let Some(span) = &mut self.span else { return };
        let mut told = vec![KeyValue::new("server.address", choice.target().address().to_owned())];
        if let Choice::Peer { peer, .. } = choice {
            told.push(KeyValue::new("tradewind.region", peer.region.to_string()));
        }
        span.event("attempt", told);
    }

    /// As the head of the answer says.
    pub(super) fn answered(&mut self, status: http::StatusCode, headers: &Headers) {
        let Some(span) = &mut self.span else { return };
        span.set("http.response.status_code", i64::from(status.as_u16()));
        let said: [(&HeaderName, &'static str); 4] = [
            (&name::REGION, "tradewind.region"),
            (&name::SLOT, "tradewind.slot"),
            (&name::REVISION, "tradewind.revision"),
            (&name::EPOCH, "tradewind.epoch"),
        ];
        for (name, key) in said {
            if let Some(value) = headers.text(name) {
                span.set(key, value.to_owned());
            }
        }
    }

    /// A reply of the gateway's own.
    pub(super) fn replied(&mut self, response: &Response<Answer>) {
        if let Some(access) = &mut self.access {
            access.replied(response);
        }
        self.answered(response.status, &response.headers);
    }

    /// What it came to.
    pub(super) fn end(&mut self, log: Option<&AccessLog>, outcome: Outcome) {
        if let (Some(access), Some(log)) = (self.access.take(), log) {
            access.end(log, outcome);
        }
        if let Some(mut span) = self.span.take()
            && !matches!(outcome, Outcome::Ok | Outcome::ClientError)
        {
            span.fail(outcome.as_str());
        }
    }
}
