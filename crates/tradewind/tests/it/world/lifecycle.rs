//! A world starts, restarts what ends, is adopted, serves again, and stops.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tradewind_testkit::{Options, Output, Ports, World, eventually_ok};

use super::{answered_by, ask, check_refusal, ok, options, pid, ready, serving, start, successor};

const STOP_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_world_tells_what_runs_where() -> Result<()> {
    let mut world = start(&["us-east1", "europe-west1"]).await?;
    let base = world.port_base;
    let text = std::fs::read_to_string(world.data_dir.join("world.json"))?;
    let file: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(file["control_url"], format!("http://127.0.0.1:{base}"));
    let token_file = std::path::Path::new(file["token_file"].as_str().context("a path")?);
    assert!(token_file.is_absolute() && token_file.is_file(), "{}", token_file.display());
    let mut places = Vec::new();
    for process in file["processes"].as_array().context("a list")? {
        process["started_at"].as_str().context("a time")?.parse::<jiff::Timestamp>()?;
        assert!(process["pid"].as_u64().is_some_and(|pid| pid > 1), "{process}");
        places.push(format!("{} {} {}", process["role"], process["region"], process["address"]).replace('"', ""));
    }
    places.sort_unstable();
    let expected = [
        format!("agent europe-west1 127.0.0.1:{}", base + 111),
        format!("agent us-east1 127.0.0.1:{}", base + 110),
        format!("control null 127.0.0.1:{base}"),
        format!("gateway europe-west1 127.0.0.1:{}", base + 11),
        format!("gateway us-east1 127.0.0.1:{}", base + 10),
    ];
    assert_eq!(places, expected);

    let output = stop(&mut world).await?;
    assert_eq!(output.code, Some(0), "{output:?}");
    for (name, port) in [("control", base), ("us-east1", base + 10), ("europe-west1", base + 11)] {
        let line = output.stdout.lines().find(|line| line.trim_start().starts_with(name)).context(name)?;
        assert!(line.contains(&format!("http://127.0.0.1:{port}")), "{line}");
    }
    assert!(output.stdout.contains("ready in "), "{}", output.stdout);
    assert!(output.stdout.contains("tradewind deploy --regions us-east1,europe-west1 "), "{}", output.stdout);
    Ok(())
}

#[tokio::test]
async fn what_ends_is_started_again() -> Result<()> {
    let mut world = serving(options(&["us-east1"])).await?;
    let region = Some("us-east1");
    let replica = pid(&world, "replica", region)?;

    let agent = pid(&world, "agent", region)?;
    world.kill("agent", region)?;
    successor(&world, "agent", region, agent).await?;
    ready(&world, "agent", region).await?;
    super::event(&world, "replica_adopted", region).await?;
    assert_eq!(pid(&world, "replica", region)?, replica, "the replica outlives its agent and is adopted");

    let door = Door::watch(world.port_base + 10);
    let gateway = pid(&world, "gateway", region)?;
    world.kill("gateway", region)?;
    successor(&world, "gateway", region, gateway).await?;
    answered_by(&world, "us-east1", "us-east1").await?;
    assert!(door.close().await? > 0);

    let control = pid(&world, "control", None)?;
    world.kill("control", None)?;
    successor(&world, "control", None, control).await?;
    ready(&world, "control", None).await?;
    ok(&world, "status digits").await?;
    assert_eq!(ask(&world, "us-east1").await?.revision, "1");
    stop(&mut world).await?;
    Ok(())
}

#[tokio::test]
async fn a_world_is_adopted_and_serves_again() -> Result<()> {
    let mut world = serving(options(&["us-east1"])).await?;
    let other = Ports::claim(1)?;
    let second = up(&world.options, &world.data_dir.display().to_string(), other.base).await?;
    check_refusal("a second up", &second, 5)?;
    assert!(second.stderr.contains("another `tradewind up` runs on "), "{}", second.stderr);

    let before = world.file()?.processes;
    assert_eq!(before.len(), 4, "{before:?}");
    world.kill_up().await?;
    assert_eq!(ask(&world, "us-east1").await?.region, "us-east1", "users notice nothing");
    world.restart().await?;
    let mut after = world.file()?.processes;
    after.sort_by_key(|process| before.iter().position(|known| known == process));
    assert_eq!(after, before, "every process is adopted");
    stop(&mut world).await?;

    world.restart().await?;
    let reply = answered_by(&world, "us-east1", "us-east1").await?;
    assert_eq!(reply.revision, "1");
    let replica = pid(&world, "replica", Some("us-east1"))?;
    assert!(!before.iter().any(|process| process.pid == replica));
    Ok(())
}

#[tokio::test]
async fn with_restart_never_what_is_dead_stays_dead() -> Result<()> {
    let mut world = World::start(options(&["us-east1"]).arg("--restart").arg("never")).await?;
    let gateway = world.processes("gateway", None)?.remove(0);
    world.kill("gateway", None)?;
    let refused = eventually_ok("the gateway's socket is closed", super::SOON, || async {
        ensure!(TcpStream::connect(&gateway.address).await.is_err(), "somebody listens");
        ensure!(world.processes("gateway", None)?.is_empty(), "it is still listed");
        Ok(())
    });
    refused.await?;
    // What was restarted by then would be listed: the others are asked, and they are the same as ever.
    ok(&world, "regions list").await?;
    let output = stop(&mut world).await?;
    assert!(output.stderr.contains("gateway us-east1 ended: "), "{}", output.stderr);
    assert!(!output.stderr.contains("again in"), "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn a_busy_port_is_named_and_nothing_is_changed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = options(&["us-east1"]);
    for offset in [0, 10, 110] {
        let ports = Ports::claim(1)?;
        let _taken = TcpListener::bind(("127.0.0.1", ports.base + offset))?;
        let data = directory.path().join(offset.to_string()).display().to_string();
        let output = up(&options, &data, ports.base).await?;
        check_refusal("up on a busy port", &output, 1)?;
        assert!(!std::path::Path::new(&data).exists(), "something was left behind");
        // A directory that is there stays as it is.
        std::fs::create_dir(&data)?;
        let output = up(&options, &data, ports.base).await?;
        assert_eq!(std::fs::read_dir(&data)?.count(), 0, "something was left behind");
        let sentence = format!("error: cannot listen on 127.0.0.1:{}: the port is in use", ports.base + offset);
        assert!(output.stderr.contains(&sentence), "{}", output.stderr);
        assert!(output.stderr.contains("--port-base"), "{}", output.stderr);
        assert_eq!(tradewind_testkit::processes_below(&data), [], "something still runs");
    }
    Ok(())
}

#[tokio::test]
async fn ctrl_c_while_a_world_starts_leaves_nothing_behind() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("world").display().to_string();
    let ports = Ports::claim(1)?;
    let options = options(&["us-east1"]);
    let running = up(&options, &data, ports.base);
    let interrupting = eventually_ok("something was started", super::SOON, || async {
        // The first process that is started is noted here.
        ensure!(std::path::Path::new(&data).join("roster.json").exists(), "nothing yet");
        let up = tradewind_process::find_by_argument(&data);
        let up = up.first().context("up has ended")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(up.pid)?).context("a pid")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::INT)?)
    });
    let (output, interrupted) = tokio::join!(running, interrupting);
    interrupted?;
    let output = output?;
    assert!(matches!(output.code, Some(0 | 1)), "{output:?}");
    assert_eq!(tradewind_testkit::processes_below(&data), [], "something still runs");
    Ok(())
}

/// A run of `up` that is expected to end by itself.
async fn up(options: &Options, data_dir: &str, port_base: u16) -> Result<Output> {
    let output = tokio::process::Command::new(&options.program)
        .args(["up", "--regions", "us-east1", "--data-dir", data_dir, "--port-base", &port_base.to_string()])
        .env("XDG_STATE_HOME", format!("{data_dir}.state"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(super::SOON, output).await.context("up goes on")??;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

async fn stop(world: &mut World) -> Result<Output> {
    let began = Instant::now();
    let output = world.stop().await?;
    assert!(began.elapsed() < STOP_LIMIT, "stopping took {:?}", began.elapsed());
    assert_eq!(world.remains(), [], "something still runs");
    Ok(output)
}

/// Somebody who knocks again and again, and is always let in.
struct Door {
    closing: CancellationToken,
    knocking: AbortOnDropHandle<Result<usize>>,
}

impl Door {
    fn watch(port: u16) -> Self {
        let closing = CancellationToken::new();
        let closed = closing.clone();
        let knocking = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut knocks = 0;
            while !closed.is_cancelled() {
                TcpStream::connect(("127.0.0.1", port)).await.context("the door was closed")?;
                knocks += 1;
                tokio::task::yield_now().await;
            }
            Ok(knocks)
        }));
        Self { closing, knocking }
    }

    async fn close(self) -> Result<usize> {
        self.closing.cancel();
        self.knocking.await?
    }
}
