//! An inference, whatever its protocol: admit, read, parse, run, write. Every failure is a status and a
//! [`Reason`](crate::metrics::Reason).

use std::{
    num::NonZeroUsize,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tradewind_api::http;
use tradewind_traces::{Kind, Span};

use super::{
    Server,
    body::{self, Plan},
    failure::Failure,
    places::Place,
    served::{Target, Visit},
};
use crate::{
    engine::{Outputs, Terms},
    request::Inference,
    response::{self, Answering, Asked, ResponseError},
    stats::{Answered, Execution, Phases},
};

/// A request that costs no more than so many bytes of JSON is parsed where it was read: that takes less than handing it
/// over.
const INLINE_PARSE_LIMIT: usize = 32 << 10;
/// So is an answer written that costs no more than so many numbers in JSON.
const INLINE_WRITE_LIMIT: usize = 4 << 10;

/// Also on one core the largest request is not all that is parsed.
const LEAST_TURNS: usize = 2;

/// What differs between REST and gRPC.
pub(super) trait Protocol: Clone + Send + 'static {
    type Answer: Send + 'static;

    /// How long the answer may take.
    fn limit(&self) -> Duration;

    /// How long it takes to parse `body`, in bytes of JSON.
    fn parse_cost(&self, body: &Bytes) -> usize;

    /// What it asks, and of which model.
    fn parse(&self, server: &Server, body: Bytes, place: &mut Place) -> Result<(Target, Inference), Failure>;

    /// Whether the answer may be compressed, which takes longer than to write it.
    fn compresses(&self) -> bool;

    fn encode(&self, answering: Answering<'_>, asked: &Asked, outputs: &Outputs)
    -> Result<Self::Answer, ResponseError>;
}

/// A request that has come whole, and its place among those under way: that is taken before it is read.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) body: Bytes,
    pub(super) place: Place,
}

/// Reads a request that is all of a call.
pub(super) async fn receive(
    server: &Arc<Server>,
    headers: &HeaderMap,
    body: Body,
    plan: Plan,
) -> Result<Received, Failure> {
    let mut place = server.places.take()?;
    let body = body::read(headers, body, plan, |bytes| place.hold(bytes)).await?;
    Ok(Received { body, place })
}

/// Dropping the future cancels the inference, wherever it is. `visit` may know the model already.
pub(super) async fn infer<P: Protocol>(
    server: &Arc<Server>,
    protocol: P,
    headers: &HeaderMap,
    mut visit: Visit,
    received: impl Future<Output = Result<Received, Failure>>,
) -> Result<P::Answer, Failure> {
    let began = Instant::now();
    let mut span = tradewind_traces::child("inference", Kind::Server, http::trace(headers));
    let answer = answer(server, &protocol, &mut visit, received, &mut span).await;
    match &answer {
        Ok(_) => visit.answered(began.elapsed()),
        Err(failure) => {
            visit.failed(failure);
            if let Some(span) = &mut span {
                span.fail(failure.message.clone());
            }
        }
    }
    answer
}

async fn answer<P: Protocol>(
    server: &Arc<Server>,
    protocol: &P,
    visit: &mut Visit,
    received: impl Future<Output = Result<Received, Failure>>,
    span: &mut Option<Span>,
) -> Result<P::Answer, Failure> {
    let due = Instant::now() + protocol.limit();
    let (came, began) = (SystemTime::now(), Instant::now());
    let received = received.await?;
    let read_at = Instant::now();
    let Parsed { target, inference, place: _place } = parse(server, protocol, received).await?;
    let input = read_at.elapsed();
    visit.is_to(&target.served);
    let ran = run(&target, protocol, inference, due).await;
    let Ran { answer, queued, infer, output, batch } = ran.inspect_err(|_| {
        if let Some(served) = visit.counted() {
            served.statistics.failed(began.elapsed());
        }
    })?;
    let phases = Phases { input, infer, output };
    if let Some(served) = visit.counted() {
        served.metrics.inference(infer);
        if let Some(requests) = batch {
            served.statistics.executed(&Execution { batch_size: requests as u64, phases });
        }
        served.statistics.answered(&Answered { came, took: began.elapsed(), queued, phases });
    }
    if let Some(span) = span {
        span.set("tradewind.queue_us", micros(queued));
        span.set("tradewind.inference_us", micros(infer));
        span.set("tradewind.encode_us", micros(output));
    }
    Ok(answer)
}

/// An answer, and how long its parts took.
struct Ran<A> {
    answer: A,
    queued: Duration,
    infer: Duration,
    output: Duration,
    /// How many requests ran together, told by the first of them alone.
    batch: Option<usize>,
}

async fn run<P: Protocol>(
    target: &Target,
    protocol: &P,
    inference: Inference,
    due: Instant,
) -> Result<Ran<P::Answer>, Failure> {
    let terms = Terms { due, urgency: inference.urgency };
    let (inputs, asked) = inference.split();
    let outputs = target.engine().infer(inputs, terms).await?;
    let (queued, infer, batch, answered_at) = (outputs.queued, outputs.took, outputs.batch, Instant::now());
    let answer = encode(target, protocol, asked, outputs).await?;
    Ok(Ran { answer, queued, infer, output: answered_at.elapsed(), batch })
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// What is asked, with its place among those under way.
struct Parsed {
    target: Target,
    inference: Inference,
    place: Place,
}

async fn parse<P: Protocol>(server: &Arc<Server>, protocol: &P, received: Received) -> Result<Parsed, Failure> {
    let parse = |server: &Server, protocol: &P, Received { body, mut place }: Received| {
        let (target, inference) = protocol.parse(server, body, &mut place)?;
        Ok(Parsed { target, inference, place })
    };
    if protocol.parse_cost(&received.body) <= INLINE_PARSE_LIMIT {
        return parse(server, protocol, received);
    }
    let (server, protocol) = (Arc::clone(server), protocol.clone());
    off_the_reactor(move || parse(&server, &protocol, received)).await
}

async fn encode<P: Protocol>(
    target: &Target,
    protocol: &P,
    asked: Asked,
    outputs: Outputs,
) -> Result<P::Answer, Failure> {
    if response::cost(&asked, &outputs, protocol.compresses()) <= INLINE_WRITE_LIMIT {
        return Ok(protocol.encode(target.answering(), &asked, &outputs)?);
    }
    let (target, protocol) = (target.clone(), protocol.clone());
    Ok(off_the_reactor(move || protocol.encode(target.answering(), &asked, &outputs)).await?)
}

/// Takes turns on as many threads as there are cores: with one for each request they would take the model's time, and its
/// data out of the caches.
async fn off_the_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Arc::new(Semaphore::new(cores.max(LEAST_TURNS)))
    });
    let turn = Arc::clone(&TURNS).acquire_owned().await;
    let work = move || {
        // Also of work whose client has left meanwhile.
        let _turn = turn;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
