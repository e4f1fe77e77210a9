//! Streams of tokens as server-sent events: how many a core carries, and how late they come.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tradewind_testkit::eventually_ok;

use super::{
    report::{Better, Row},
    scene::{ROUTE_LIMIT, Scene, TOKENS},
    upstreams::{TOKENS_PER_SECOND, Token, Wanted, now},
    world::Kit,
};
use crate::{
    client::Connection,
    contender::{Contender, turns},
    spread::quantile,
};

/// Streams at once.
const STREAMS: u64 = 200;

pub(super) async fn measure(scene: &Scene<'_>, kit: &Kit, rounds: usize, time: Duration) -> Result<Vec<Row>> {
    let load = format!("{STREAMS} streams of {TOKENS_PER_SECOND} tokens/s");
    let mut carried = Row::new(&format!("{load}: tokens per second of core"), Better::More, 0);
    let mut busy_row = Row::new(&format!("{load}: the core's busy share, %"), Better::Neither, 0);
    let mut late = Row::new(&format!("{load}: p99 of a token's delay, µs"), Better::Less, 0);
    let events = time.as_secs() * u64::from(TOKENS_PER_SECOND);
    for round in 0..rounds {
        for contender in turns(&Contender::ALL, round) {
            let address = scene.address(contender, TOKENS)?;
            // A route of its own, that nothing has been asked of yet.
            let answered = || async move { follow(address, 0).await };
            eventually_ok(contender.name(), ROUTE_LIMIT, answered).await?;
            let before = scene.cores.read()?;
            // On the runtime of many threads, where there are more than two cores.
            let delays = kit.servers.spawn(follow_all(address, events)).await?.with_context(|| contender.name())?;
            let busy = scene.cores.read()?.since(before);
            busy.warn_of_steal();
            let delay = quantile(&delays, 0.99).as_secs_f64() * 1e6;
            late.add(contender, delay);
            let per_core_second = (events * STREAMS) as f64 / busy.busy;
            let name = contender.name();
            crate::progress::say(&format!(
                "tokens, round {}: {name} {per_core_second:.0} per second of core, p99 late by {delay:.0} µs",
                round + 1
            ));
            if contender != Contender::Direct {
                carried.add(contender, per_core_second);
                busy_row.add(contender, busy.busy_share() * 100.0);
            }
        }
    }
    Ok(vec![carried, busy_row, late])
}

/// Reads all streams to their ends, and gives the delays of all tokens, sorted.
async fn follow_all(address: SocketAddr, events: u64) -> Result<Vec<Duration>> {
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(follow(address, events));
    }
    let mut delays = Vec::new();
    while let Some(ended) = streams.join_next().await {
        delays.append(&mut ended??);
    }
    delays.sort_unstable();
    Ok(delays)
}

async fn follow(address: SocketAddr, events: u64) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(address).await?;
    let wanted = Bytes::from(serde_json::to_vec(&Wanted { events })?);
    let response = connection.send(&format!("/v2/models/{TOKENS}/generate_stream"), wanted).await?;
    if response.status() != StatusCode::OK {
        let (status, said) = (response.status(), response.into_body().collect().await?.to_bytes());
        bail!("a stream was answered with {status}: {}", String::from_utf8_lossy(&said));
    }
    let (mut body, mut parser, mut delays) = (response.into_body(), Parser::default(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("a stream broke off")?.into_data() else { continue };
        parser.take(&data, &mut delays)?;
    }
    ensure!(parser.next == events, "a stream ended after {} of {events} tokens", parser.next);
    Ok(delays)
}

/// Reads events in the order in which they were sent.
#[derive(Debug, Default)]
struct Parser {
    next: u64,
    rest: Vec<u8>,
}

impl Parser {
    fn take(&mut self, data: &[u8], delays: &mut Vec<Duration>) -> Result<()> {
        let now = now();
        self.rest.extend_from_slice(data);
        let mut done = 0;
        while let Some(length) = self.rest[done..].windows(2).position(|two| two == b"\n\n") {
            let event = self.rest[done..done + length].strip_prefix(b"data: ").context("what came is no event")?;
            let token: Token = serde_json::from_slice(event).context("an event is no token")?;
            ensure!(token.number == self.next, "token {} came in the place of {}", token.number, self.next);
            delays.push(Duration::from_nanos(now.saturating_sub(token.sent)));
            (self.next, done) = (self.next + 1, done + length + 2);
        }
        self.rest.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_however_they_are_cut() {
        let text = "data: {\"number\":0,\"sent\":1}\n\ndata: {\"number\":1,\"sent\":1}\n\n";
        for size in 1..text.len() {
            let (mut parser, mut delays) = (Parser::default(), Vec::new());
            text.as_bytes().chunks(size).for_each(|data| parser.take(data, &mut delays).unwrap());
            assert_eq!((parser.next, delays.len()), (2, 2));
        }
    }

    #[test]
    fn a_token_that_is_missing_is_an_error() {
        let taken = Parser::default().take(b"data: {\"number\":3,\"sent\":1}\n\n", &mut Vec::new());
        assert_eq!(taken.unwrap_err().to_string(), "token 3 came in the place of 0");
    }
}
