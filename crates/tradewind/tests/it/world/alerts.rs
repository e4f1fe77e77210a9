//! Monitors that find real faults, alerts that fire and resolve, and receivers that are told of each once.

mod receiver;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tradewind_testkit::{Ailment, Faulty, Load, Signal, World, eventually_ok, signal};

use self::receiver::{Receiver, Temper};
use super::{SOON, event, json, ok, options, refused, serving};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];

fn stop_agent(world: &World, region: &str) -> Result<u32> {
    let agent = world.processes("agent", Some(region))?.first().context("an agent")?.pid;
    signal(agent, Signal::STOP).map(|()| agent)
}

/// Waits for an alert of this name that is in this state.
async fn alert(world: &World, kind: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually_ok(&format!("{kind} is told"), SOON, || async {
        let list = json(world, "alerts --all").await?;
        let alerts = list["alerts"].as_array().context("alerts")?;
        let found = alerts.iter().find(|alert| alert["kind"] == kind && is_so(alert));
        found.cloned().with_context(|| format!("{list}"))
    })
    .await
}

fn fires(alert: &Value) -> bool {
    alert["resolved_at"].is_null()
}

fn is_over(alert: &Value) -> bool {
    !fires(alert)
}

#[tokio::test]
async fn a_lost_region_is_told_once_to_a_receiver_that_fails_delays_and_forgets_and_so_is_its_return() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    assert_eq!(ok(&world, "alerts").await?.stdout, "no alert fires. Earlier ones: --all\n");
    let receiver = Receiver::start().await?;
    let secret = world.data_dir.with_extension("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")?;
    let add = format!("alerts receivers add pager {} --secret-file {}", receiver.url(), secret.display());
    ok(&world, &add).await?;
    let tried = ok(&world, "alerts receivers test pager").await?.stdout;
    assert_eq!(tried, "pager took a message\n");

    receiver.set(Temper::Fails);
    let agent = stop_agent(&world, "europe-west1")?;
    let down = alert(&world, "RegionDown", fires).await?;
    assert_eq!((&down["region"], &down["severity"]), (&"europe-west1".into(), &"critical".into()));
    assert!(down["detail"].as_str().is_some_and(|detail| detail.starts_with("no agent for")), "{down}");
    receiver.attempts(1).await?;
    let failing = json(&world, "alerts receivers list").await?;
    assert!(failing["receivers"][0]["failing"].as_str().is_some_and(|why| why.contains("503")), "{failing}");

    // It takes the alert, and says that it did not; meanwhile control dies.
    receiver.set(Temper::Forgets);
    receiver.taken(1).await?;
    world.kill("control", None)?;
    receiver.set(Temper::Slow);
    signal(agent, Signal::CONT)?;
    let over = alert(&world, "RegionDown", is_over).await?;
    assert_eq!(over["id"], down["id"], "one loss is one alert");
    receiver.set(Temper::Good);
    eventually_ok("the receiver is told of the end", SOON, || async {
        let told = receiver.told();
        ensure!(told.iter().any(|told| told.kind == "alert.resolved" && told.alert == down["id"]), "{told:?}");
        Ok(())
    })
    .await?;
    // What it was told more than once has one id, by which it knows that it had it.
    let told = receiver.told();
    let of = |kind: &str| told.iter().filter(|each| each.kind == kind && each.alert == down["id"]).count();
    assert_eq!((of("alert.firing"), of("alert.resolved")), (1, 1), "{told:?}");
    assert!(told.iter().all(|each| each.signed), "{told:?}");
    assert!(ok(&world, "alerts").await?.stdout.starts_with("no alert fires"));
    let shown = ok(&world, &format!("alerts show {}", over["id"].as_str().context("an id")?)).await?.stdout;
    assert!(shown.contains("told pager") && shown.contains("resolved"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn what_is_silenced_fires_and_nobody_is_told() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let receiver = Receiver::start().await?;
    ok(&world, &format!("alerts receivers add pager {}", receiver.url())).await?;
    ok(&world, "alerts silence --region europe-west1 --for 1h --comment maintenance").await?;
    let agent = stop_agent(&world, "europe-west1")?;
    let silenced = alert(&world, "RegionDown", fires).await?;
    assert_eq!(silenced["silenced"], true);
    let silences = json(&world, "alerts silences").await?;
    assert_eq!(silences["silences"][0]["comment"], "maintenance");
    assert!(receiver.told().is_empty());
    // It still fires when the silence ends.
    let id = silences["silences"][0]["id"].as_str().context("an id")?;
    ok(&world, &format!("alerts unsilence {id}")).await?;
    receiver.taken(1).await?;
    signal(agent, Signal::CONT)?;
    receiver.taken(2).await?;
    let kinds: Vec<String> = receiver.told().into_iter().map(|told| told.kind).collect();
    assert_eq!(kinds, ["alert.firing", "alert.resolved"]);

    let everything = refused(&world, "alerts silence --for 1h", 2).await?;
    assert!(everything.contains("this would silence every alert of the world"), "{everything}");
    let unknown = refused(&world, "alerts receivers rm pagr", 3).await?;
    assert!(unknown.contains("did you mean `pager`"), "{unknown}");
    Ok(())
}

#[tokio::test]
async fn servers_that_fail_are_slow_or_answer_wrongly_are_told_apart() -> Result<()> {
    let faulty = Faulty::new()?;
    let world = World::start(options(&REGIONS)).await?;
    let deployment = faulty.deployment(
        "regions = [\"us-east1\", \"europe-west1\"]\n[strategy]\nmax_parallel = \"all\"\n\
         [monitors]\ngolden_interval = \"1s\"\nlatency = { within = \"250ms\", share = 0.9 }\n",
    )?;
    ok(&world, &format!("deploy -f {}", deployment.display())).await?;
    let load = Load::start(&world.gateways()?, 2, Duration::from_millis(20), Faulty::PATH, "{}")?;
    eventually_ok("the monitors say that all is well", SOON, || async {
        let list = json(&world, "monitors --model faulty").await?;
        let monitors = list["monitors"].as_array().context("monitors")?;
        ensure!(monitors.len() == 2 && monitors.iter().all(|each| each["verdict"] == "healthy"), "{list}");
        ensure!(monitors.iter().all(|each| each["cases"]["asked"].as_u64() > Some(0)), "{list}");
        Ok(())
    })
    .await?;
    let alerts = json(&world, "alerts --all").await?;
    assert_eq!(alerts["alerts"], serde_json::json!([]), "what is well is quiet");

    let mut detected = Vec::new();
    let ailments =
        [(Ailment::Slow, "LatencyBudgetBurn"), (Ailment::Fails, "ErrorBudgetBurn"), (Ailment::Wrong, "WrongAnswers")];
    for (ailment, kind) in ailments {
        faulty.falls(ailment)?;
        let began = Instant::now();
        alert(&world, kind, |alert| fires(alert) && alert["model"] == "faulty").await?;
        detected.push((ailment, began.elapsed()));
    }
    event(&world, "wrong_answer", None).await?;
    println!("detected: {detected:?}");
    let shown = ok(&world, "monitors show faulty --region us-east1").await?.stdout;
    assert!(shown.contains("failed") && shown.contains("last wrong"), "{shown}");
    load.stop().await;
    Ok(())
}

#[tokio::test]
async fn monitors_are_part_of_a_revision() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("deployment.toml");
    std::fs::write(
        &file,
        "model = \"digits\"\n[monitors]\navailability = 0.99\n[region_monitors.us-east1]\nsaturation = 0.5\n",
    )?;
    let planned = ok(&world, &format!("deploy -f {} --dry-run", file.display())).await?.stdout;
    assert!(
        planned.contains("availability 99.9 % -> availability 99 %") && planned.contains("monitors of us-east1"),
        "{planned}"
    );
    ok(&world, &format!("deploy -f {}", file.display())).await?;
    let list = json(&world, "monitors").await?;
    let monitors = list["monitors"].as_array().context("monitors")?;
    let of = |region: &str, revision: u64| {
        monitors
            .iter()
            .find(|each| each["region"] == region && each["revision"] == revision)
            .map(|each| each["monitors"].clone())
    };
    let (us, eu) = (of("us-east1", 2).context("us")?, of("europe-west1", 2).context("eu")?);
    assert_eq!((&us["availability"], &us["saturation"]), (&0.99.into(), &0.5.into()));
    assert_eq!((&eu["availability"], &eu["saturation"]), (&0.99.into(), &0.9.into()));
    assert_eq!(of("us-east1", 1).context("the revision before")?["availability"], 0.999);

    std::fs::write(&file, "model = \"digits\"\n[monitors]\navailability = 99.9\n")?;
    let refusal = refused(&world, &format!("deploy -f {}", file.display()), 2).await?;
    assert!(refusal.contains("availability is a share between 0.5 and 0.999999, not 99.9"), "{refusal}");
    Ok(())
}
