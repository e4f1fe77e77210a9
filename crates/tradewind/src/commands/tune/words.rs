//! What was found, for people.

use tradewind_api::deploy::DeployAnswer;
use tradewind_core::{
    ModelName,
    tune::{Growth, Measured, Recommendation, Setup},
};

use super::{Report, plot};
use crate::terminal::{
    Paint, Table, Tone,
    table::Cell,
    units::{count, latency, rate},
};

/// `2 replicas of 1 thread, batches of 64`
pub(super) fn setup(setup: Setup) -> String {
    let batches = match setup.max_batch_rows {
        1 => "no batches".to_owned(),
        rows => format!("batches up to {rows}"),
    };
    format!("{} of {}, {batches}", counted(setup.replicas, "replica"), counted(setup.threads, "thread"))
}

fn counted(number: u32, noun: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

/// The frontier as a drawing and as a table, and what to do.
pub(super) fn describe(report: &Report, paint: Paint) -> String {
    let mut text = format!(
        "{} version {} on {}: {} measurements, {} of them unbeaten\n\n",
        report.model,
        report.version,
        counted(report.cores, "core"),
        report.measured.len(),
        report.frontier.len()
    );
    text += &plot::terminal(report);
    text += "\n";
    text += &table(report).render(paint);
    if let Some(recommended) = &report.recommended {
        text += &format!("\n{}", advice(recommended, paint));
    }
    text.trim_end().to_owned()
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&["REPLICAS", "THREADS", "BATCH", "CLIENTS", "ANSWERS", "P50", "P99", ""]);
    for one in &report.frontier {
        let is_best = report.recommended.is_some_and(|recommended| recommended.best == *one);
        let (tone, mark) = if is_best { (Tone::Good, "recommended") } else { (Tone::Plain, "") };
        let Measured { setup: Setup { replicas, threads, max_batch_rows }, clients, throughput, p50_us, p99_us } = one;
        let numbers = [replicas, threads, max_batch_rows, clients].map(|number| Cell::new(number.to_string(), tone));
        let measured = [rate(*throughput), latency(*p50_us), latency(*p99_us), mark.to_owned()];
        table.row(numbers.into_iter().chain(measured.map(|text| Cell::new(text, tone))));
    }
    table
}

fn advice(recommended: &Recommendation, paint: Paint) -> String {
    let Recommendation { best, growth, plain, concurrency } = recommended;
    let way = match growth {
        Growth::None => "stay as small as you are",
        Growth::Up => "grow up: a replica with more threads",
        Growth::Out => "grow out: more replicas",
        Growth::Both => "grow both ways: more replicas, each with more threads",
    };
    let gain = match plain {
        Some(plain) if plain.throughput > 0.0 => {
            format!(", {:.1} x one replica of 1 thread without batches", best.throughput / plain.throughput)
        }
        _ => ", which one replica of 1 thread without batches does not do at all in that time".to_owned(),
    };
    let Setup { replicas, threads, max_batch_rows } = best.setup;
    format!(
        "{}\n  {}: {}, the slowest hundredth in {}{gain}\n\n  \
         tradewind deploy ... --replicas {replicas} --threads {threads} --max-batch-rows {max_batch_rows} --concurrency \
         {concurrency}    (or --apply)\n",
        paint.on(way, Tone::Heading),
        setup(best.setup),
        rate(best.throughput),
        latency(best.p99_us),
    )
}

pub(super) fn applied(model: &ModelName, answer: &DeployAnswer) -> String {
    match answer.rollout {
        Some(rollout) => {
            format!("\nrollout {rollout} of {model} has begun; follow it with `tradewind rollout show {model}`")
        }
        None => format!("\n{model} runs like that already"),
    }
}
