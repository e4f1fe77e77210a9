//! Replicas that may take so much processor time and memory, and one that wants more.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tradewind_process::{Cgroups, Controller};
use tradewind_testkit::{Listed, World, eventually_ok};

use super::{SOON, event, json, ok, start};

const REGION: &str = "us-east1";
/// Holds 32 MiB from its start; `/eat/N` takes N MiB more, `/burn/N` N ms of processor time in each of two processes.
const SERVER: &str = r#"
import http.server, multiprocessing, os, time
held = [bytearray(b"x") * (32 << 20)]
def burn(ms):
    while time.process_time() < ms / 1000:
        pass
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/eat/"):
            held.append(bytearray(b"x") * (int(self.path[5:]) << 20))
        if self.path.startswith("/burn/"):
            workers = [multiprocessing.Process(target=burn, args=(int(self.path[6:]),)) for _ in range(2)]
            [worker.start() for worker in workers]
            [worker.join() for worker in workers]
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Server).serve_forever()
"#;

fn bundle() -> Result<(TempDir, PathBuf)> {
    let directory = TempDir::new()?;
    let path = directory.path().join("hungry");
    std::fs::create_dir(&path)?;
    std::fs::write(path.join("server.py"), SERVER)?;
    let manifest =
        "name = \"hungry\"\nruntime = \"command\"\n[command]\nrun = [\"python3\", \"server.py\"]\nready = \"/\"\n";
    std::fs::write(path.join("tradewind.toml"), manifest)?;
    Ok((directory, path))
}

/// Why this machine cannot limit that, if it cannot.
fn unavailable(controller: Controller) -> Option<String> {
    let cgroups = Cgroups::open(&format!("tradewind-test-world-{}", std::process::id()));
    cgroups.unavailable(controller).map(ToString::to_string)
}

async fn get(address: &str, path: &str) -> Result<String> {
    let http = tradewind_api::client::http_client().build()?;
    Ok(http.get(format!("{address}{path}")).send().await?.error_for_status()?.text().await?)
}

fn replicas(world: &World) -> Result<[Listed; 2]> {
    let replicas = world.processes("replica", Some(REGION))?;
    replicas.try_into().map_err(|replicas| anyhow::anyhow!("{replicas:?}"))
}

/// Users who ask through the gateway until they are told to stop; how many were answered, and what went wrong.
struct Users {
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: tokio::task::JoinHandle<Result<()>>,
}

impl Users {
    fn ask(gateway: String) -> Self {
        let (enough, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (Arc::clone(&enough), Arc::clone(&answered));
        let asking = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                get(&gateway, "/models/hungry/").await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { enough, answered, asking }
    }

    async fn were_all_answered(self) -> Result<u64> {
        self.enough.store(true, Ordering::Relaxed);
        self.asking.await?.context("a user was not answered")?;
        Ok(self.answered.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_replica_that_takes_more_than_its_memory_is_replaced_while_its_sibling_answers() -> Result<()> {
    let mut world = start(&[REGION]).await?;
    let (_directory, path) = bundle()?;
    let deploy = format!("deploy --regions {REGION} --replicas 2 --memory 96MiB {}", path.display());
    ok(&world, &deploy).await?;
    let [greedy, sibling] = replicas(&world)?;
    if let Some(why) = unavailable(Controller::Memory) {
        for line in ["status hungry".to_owned(), format!("regions show {REGION}")] {
            let said = ok(&world, &line).await?.stdout;
            ensure!(said.contains(&format!("the memory limit is not enforced: {why}")), "`{line}`: {said}");
        }
        return Ok(());
    }

    let users = Users::ask(world.gateway(REGION)?);
    let taken = get(&format!("http://{}", greedy.address), "/eat/256").await;
    ensure!(taken.is_err(), "it has more than it may");
    let exited = event(&world, "replica_exited", Some(REGION)).await?;
    let message = exited["message"].as_str().context("a message")?;
    ensure!(message.ends_with("ended: over its memory of 96MiB: killed"), "{message}");
    let [one, other] = eventually_ok("another has taken its place", SOON, || async {
        let now = replicas(&world)?;
        ensure!(now.iter().all(|replica| replica.pid != greedy.pid), "{now:?}");
        let status = json(&world, "status hungry").await?;
        ensure!(status["slots"]["blue"]["replicas"][REGION]["ready"] == 2, "{status}");
        Ok(now)
    })
    .await?;
    ensure!([one.pid, other.pid].contains(&sibling.pid), "the sibling was replaced too");
    for replica in [&one, &other] {
        get(&format!("http://{}", replica.address), "/").await?;
    }
    let answered = users.were_all_answered().await?;
    ensure!(answered > 0, "nobody asked");

    for line in ["status hungry".to_owned(), format!("regions show {REGION}")] {
        let said = ok(&world, &line).await?.stdout;
        let remark = "restarted once; the one before it ended: over its memory of 96MiB: killed";
        ensure!(said.contains(remark), "`{line}`: {said}");
        ensure!(!said.contains("not enforced"), "`{line}`: {said}");
    }
    let log = ok(&world, &format!("logs hungry --region {REGION}")).await?.stdout;
    ensure!(log.contains("tradewind: over its memory of 96MiB: killed"), "{log}");

    // The next revision does not fit at all.
    let line = format!("deploy --regions {REGION} --memory 24MiB hungry");
    let refused = world.cli(line.split_whitespace()).await?;
    ensure!(refused.code == Some(1), "{refused:?}");
    for said in ["over its memory of 24MiB: killed", "hint: ", "raise --memory", "--memory 48MiB"] {
        ensure!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    get(&world.gateway(REGION)?, "/models/hungry/").await?;
    world.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_replica_gets_no_more_processor_time_than_it_may() -> Result<()> {
    let mut world = start(&[REGION]).await?;
    let (_directory, path) = bundle()?;
    ok(&world, &format!("deploy --regions {REGION} --cpu 0.25 {}", path.display())).await?;
    if let Some(why) = unavailable(Controller::Cpu) {
        let said = ok(&world, "status hungry").await?.stdout;
        ensure!(said.contains(&format!("the cpu limit is not enforced: {why}")), "{said}");
        return Ok(());
    }
    let replica = world.processes("replica", Some(REGION))?.remove(0);
    let agent = world.processes("agent", Some(REGION))?.remove(0);
    let measured = async |metric: &str| -> Result<f64> {
        let page = get(&format!("http://{}", agent.address), "/metrics").await?;
        let series = page.lines().find(|line| line.starts_with(&format!("tradewind_agent_replica_cpu_{metric}{{")));
        let value = series.and_then(|series| series.rsplit_once(' ')).context(page.clone())?.1;
        Ok(value.parse()?)
    };
    let before = (measured("seconds_total").await?, measured("throttled_seconds_total").await?);
    get(&format!("http://{}", replica.address), "/burn/500").await?;
    let used = measured("seconds_total").await? - before.0;
    let throttled = measured("throttled_seconds_total").await? - before.1;
    ensure!(used >= 0.9, "{used} s of the 1 s that it burnt");
    // Two processes that share a quarter of a core stand still for most of their time, by the kernel's own count.
    ensure!(throttled > used, "{throttled} s without any, {used} s with");
    world.stop().await?;
    Ok(())
}
