//! The access log: one line of JSON for a part of the requests, and for all that failed on this side.
//!
//! A request never waits for it. What is known of a request is put together as it goes on, and only if there is a log;
//! lines go through a bounded queue to the thread that keeps the world, and are dropped and counted when it is full.

mod line;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use hyper::body::Body;
use tokio::sync::mpsc;
use tradewind_core::{Timestamp, trace::TraceId};

pub(crate) use line::Line;
pub(crate) use writer::Writer;

use crate::{
    body::{Answer, Meter},
    headers::{Headers, name},
    message::{Head, Response},
    metrics::Outcome,
};

/// Lines that wait to be written.
const QUEUE_LIMIT: usize = 8192;
/// The most bytes of a path that are logged.
const PATH_LIMIT: usize = 1024;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    /// Lines are added at its end; when it is moved away, a new one is begun.
    File(PathBuf),
}

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLogOptions {
    pub destination: Destination,
    /// The part of the requests that is logged, from 0 to 1. Those that failed on this side always are.
    pub sample: f64,
}

/// The side of the requests.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sample: f64,
    queue: mpsc::Sender<Line>,
    dropped: Arc<AtomicU64>,
}

/// The log, and what writes it.
pub(crate) fn open(options: AccessLogOptions) -> (AccessLog, Writer) {
    let (queue, lines) = mpsc::channel(QUEUE_LIMIT);
    let dropped = Arc::new(AtomicU64::new(0));
    let log = AccessLog { sample: options.sample, queue, dropped: Arc::clone(&dropped) };
    (log, Writer::new(options.destination, lines, dropped))
}

impl AccessLog {
    /// Whether a request is one of those that are logged however they end; `random` has 64 random bits.
    pub(crate) fn draws(&self, random: u64) -> bool {
        // 53 bits are what the fraction of a float holds.
        (random >> 11) as f64 / (1_u64 << 53) as f64 <= self.sample && self.sample > 0.0
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn write(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is known of one request.
#[derive(Debug)]
pub(crate) struct Access {
    began: Instant,
    at: Timestamp,
    pub(crate) sampled: bool,
    request_id: HeaderValue,
    pub(crate) trace: Option<TraceId>,
    method: Method,
    path: String,
    user: Option<Vec<u8>>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) received: Meter,
    pub(crate) sent_bytes: u64,
    /// How many targets were tried.
    pub(crate) tried: usize,
    pub(crate) spilled: bool,
    answered_by: AnsweredBy,
}

/// As the head of the answer says.
#[derive(Debug, Default)]
struct AnsweredBy {
    status: Option<StatusCode>,
    region: Option<String>,
    slot: Option<String>,
    revision: Option<u64>,
    replica: Option<String>,
}

impl Access {
    pub(crate) fn begin(head: &Head, id: &HeaderValue, sampled: bool) -> Self {
        let mut path = head.path.path().to_owned();
        path.truncate(path.floor_char_boundary(PATH_LIMIT));
        Self {
            began: Instant::now(),
            at: Timestamp::now(),
            sampled,
            request_id: id.clone(),
            trace: None,
            method: head.method.clone(),
            path,
            user: head.headers.get(&name::USER).map(<[u8]>::to_vec),
            model: None,
            received: Meter::default(),
            sent_bytes: 0,
            tried: 0,
            spilled: false,
            answered_by: AnsweredBy::default(),
        }
    }

    pub(crate) fn answered(&mut self, status: StatusCode, headers: &Headers, replica: Option<&str>) {
        let text = |name: &HeaderName| headers.text(name).map(str::to_owned);
        self.answered_by = AnsweredBy {
            status: Some(status),
            region: text(&name::REGION),
            slot: text(&name::SLOT),
            revision: headers.text(&name::REVISION).and_then(|revision| revision.parse().ok()),
            replica: replica.map(str::to_owned),
        };
    }

    /// A reply of the gateway's own.
    pub(crate) fn replied(&mut self, response: &Response<Answer>) {
        self.answered(response.status, &response.headers, None);
        self.sent_bytes = response.body.size_hint().exact().unwrap_or_default();
    }

    /// What it came to.
    pub(crate) fn end(self: Box<Self>, log: &AccessLog, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::ServerError | Outcome::Unavailable);
        if self.sampled || failed {
            log.write(self.line(outcome));
        }
    }

    fn line(self: Box<Self>, outcome: Outcome) -> Line {
        let AnsweredBy { status, region, slot, revision, replica } = self.answered_by;
        Line {
            time: self.at,
            request_id: self.request_id.to_str().ok().map(str::to_owned),
            trace_id: self.trace.map(|trace| trace.to_string()),
            model: self.model,
            method: self.method.as_str().to_owned(),
            path: self.path,
            status: status.map(|status| status.as_u16()),
            outcome: outcome.as_str(),
            region,
            slot,
            revision,
            replica,
            bytes_in: self.received.bytes(),
            bytes_out: self.sent_bytes,
            duration_us: micros(self.began.elapsed()),
            retries: self.tried.saturating_sub(1),
            spilled: self.spilled,
            user: self.user.into(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;

    fn log(sample: f64) -> (AccessLog, mpsc::Receiver<Line>) {
        let (queue, lines) = mpsc::channel(2);
        (AccessLog { sample, queue, dropped: Arc::default() }, lines)
    }

    fn access(sampled: bool) -> Box<Access> {
        let request = http::Request::get("/v2/models/digits/infer?x=1").body(()).unwrap();
        Box::new(Access::begin(&Request::from(request).head, &HeaderValue::from_static("id"), sampled))
    }

    #[test]
    fn a_part_is_logged_and_all_that_failed() {
        let (log, mut lines) = log(0.25);
        let drawn = (0..1000_u64).filter(|number| log.draws(number * (u64::MAX / 1000))).count();
        assert!((245..=255).contains(&drawn), "{drawn}");
        access(false).end(&log, Outcome::Ok);
        access(false).end(&log, Outcome::ClientError);
        assert!(lines.try_recv().is_err());
        access(false).end(&log, Outcome::ServerError);
        access(true).end(&log, Outcome::Ok);
        for outcome in ["server_error", "ok"] {
            assert_eq!(lines.try_recv().unwrap().outcome, outcome);
        }
    }

    #[test]
    fn all_or_nothing_is_what_it_says() {
        for (sample, expected) in [(0.0, false), (1.0, true)] {
            let (log, _lines) = log(sample);
            assert!([0, 1, u64::MAX / 2, u64::MAX].into_iter().all(|number| log.draws(number) == expected));
        }
    }

    #[test]
    fn nobody_waits_for_a_full_queue() {
        let (log, lines) = log(1.0);
        (0..5).for_each(|_| access(true).end(&log, Outcome::Ok));
        assert_eq!((lines.len(), log.dropped()), (2, 3));
    }
}
