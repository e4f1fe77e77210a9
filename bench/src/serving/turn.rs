//! One contender's turn with one model: it starts, is asked in every way by all numbers of clients, and ends.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    BATCHES, Effort, bare,
    contender::{Contender, Model, Route},
    findings::{Findings, Setting},
    load,
    question::{MODEL, Question},
    running::{Kit, Running, check},
};
use crate::{client::Connection, cores::Cores, progress::say};

/// The loop says what is right in so long.
const ANSWERING: Duration = Duration::from_millis(1);

pub(super) async fn take(
    effort: &Effort,
    kit: &Kit,
    cores: &Cores,
    contender: Contender,
    model: Model,
    found: &mut Findings,
) -> Result<()> {
    if contender == Contender::Loop {
        return bare(effort, kit, cores, model, found).await;
    }
    let right = bare::measure(cores, &kit.models, model, 1, ANSWERING).await?.scores;
    let directory = tempfile::tempdir()?;
    let running = Running::start(kit, cores, contender, model, directory.path(), &right).await?;
    for &route in contender.routes() {
        // The small model's turn tells what there is to know of it.
        if route == Route::Health && model != Model::Small {
            continue;
        }
        for &clients in &effort.clients {
            let setting = Setting { model, contender, route, clients };
            ask(effort, cores, &running, setting, found).await?;
            check(running.address(route), contender, route, model, &right).await?;
        }
    }
    found.memory.entry((contender, model)).or_default().push(running.memory_kib()? as f64);
    Ok(())
}

async fn ask(effort: &Effort, cores: &Cores, running: &Running, setting: Setting, found: &mut Findings) -> Result<()> {
    let Setting { model, contender, route, clients } = setting;
    let question = Question::of(contender, route, model);
    let before = if contender == Contender::Tradewind { Some(Parsed::read(running).await?) } else { None };
    let label = format!("{}, {}, {}, {clients} clients", model.name(), contender.name(), route.name());
    match load::measure(cores, running.address(route), &question, clients, effort.time).await {
        Ok(sample) => {
            say(&format!(
                "{label}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} µs of the core each, {} bad",
                sample.per_second,
                sample.p50.as_secs_f64() * 1e3,
                sample.p99.as_secs_f64() * 1e3,
                sample.core_micros,
                sample.bad
            ));
            found.samples.entry(setting).or_default().push(sample);
        }
        Err(error) => {
            say(&format!("{label}: {error:#}"));
            found.silent.insert(setting, format!("{error:#}"));
        }
    }
    if let Some(before) = before {
        found.parsing.entry(setting).or_default().extend(Parsed::read(running).await?.micros_since(before));
    }
    Ok(())
}

async fn bare(effort: &Effort, kit: &Kit, cores: &Cores, model: Model, found: &mut Findings) -> Result<()> {
    for batch in BATCHES {
        let figures = bare::measure(cores, &kit.models, model, batch, effort.time).await?;
        let (name, rate) = (model.name(), figures.images_per_second);
        say(&format!("{name}, bare loop, batches of {batch}: {rate:.0} images/s, {:.1} µs each", 1e6 / rate));
        if batch == 1 {
            let memory = found.memory.entry((Contender::Loop, model)).or_default();
            memory.push(figures.memory as f64);
        }
        found.bare.entry((model, batch)).or_default().push(figures);
    }
    Ok(())
}

/// What a replica's statistics say of making tensors of requests.
#[derive(Debug, Clone, Copy)]
struct Parsed {
    requests: f64,
    nanos: f64,
}

impl Parsed {
    async fn read(running: &Running) -> Result<Self> {
        let mut connection = Connection::open(running.address(Route::Json)).await?;
        let (_, body) = connection.get(&format!("/v2/models/{MODEL}/stats")).await?;
        let said: Value = serde_json::from_slice(&body).context("statistics are no JSON")?;
        let number = |field: &str| {
            let pointer = format!("/model_stats/0/inference_stats/compute_input/{field}");
            said.pointer(&pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {said}"))
        };
        Ok(Self { requests: number("count")?, nanos: number("ns")? })
    }

    fn micros_since(self, before: Self) -> Option<f64> {
        let requests = self.requests - before.requests;
        (requests > 0.0).then(|| (self.nanos - before.nanos) / requests / 1e3)
    }
}
