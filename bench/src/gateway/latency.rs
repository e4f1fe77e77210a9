//! Latency at a rate that every contender can well keep up with, and what of it the proxy added.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    open_loop::{Plan, run},
    report::{Better, Row},
    saturation::CONNECTIONS,
    scene::Scene,
};
use crate::{
    contender::{Contender, turns},
    spread::quantile,
};

const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Half of what the slowest proxy can, by its row of requests per second.
pub(super) fn half_load(rates: &Row) -> u32 {
    let slowest =
        Contender::PROXIES.into_iter().filter_map(|contender| rates.median(contender)).fold(f64::MAX, f64::min);
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a rate")]
    let hundreds = (slowest / 200.0) as u32;
    hundreds.max(1) * 100
}

pub(super) async fn measure(
    scene: &Scene<'_>,
    label: &str,
    per_second: u32,
    rounds: usize,
    time: Duration,
) -> Result<Vec<Row>> {
    let mut rows = SHARES
        .map(|(name, _)| Row::new(&format!("{label}, {per_second} requests/s: {name} µs"), Better::Less, 0))
        .to_vec();
    for round in 0..rounds {
        for contender in turns(&Contender::ALL, round) {
            let (address, question) = (scene.door(contender)?, scene.question.clone());
            let plan = Plan { address, question, per_second, time, connections: CONNECTIONS };
            let latencies = tokio::task::spawn_blocking(move || run(&plan)).await?.with_context(|| contender.name())?;
            let micros = SHARES.map(|(_, share)| quantile(&latencies, share).as_secs_f64() * 1e6);
            for (row, micros) in rows.iter_mut().zip(micros) {
                row.add(contender, micros);
            }
            let [p50, p99, p999] = micros;
            let name = contender.name();
            crate::progress::say(&format!("{label}, round {}: {name} {p50:.0}, {p99:.0}, {p999:.0} µs", round + 1));
        }
    }
    let added: Vec<Row> = rows[..2].iter().map(|row| row.beyond_direct("added by the proxy")).collect();
    rows.extend(added);
    Ok(rows)
}
