//! Model servers that are not Tradewind's: started from a bundle, verified with their own requests, reached through
//! gateways, streaming.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tradewind_testkit::{World, eventually_ok};

use super::{SOON, digits, json, ok, start};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];

pub(super) fn tokens() -> PathBuf {
    digits().join("../tokens/v1")
}

/// A stream of tokens through a region's gateway.
pub(super) struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub(super) async fn open(world: &World, region: &str, tokens: u32, delay_ms: u32) -> Result<Self> {
        let url = format!("{}/models/tokens/v1/completions", world.gateway(region)?);
        let body = json!({"prompt": "over the", "max_tokens": tokens, "delay_ms": delay_ms, "stream": true});
        let http = tradewind_api::client::http_client().build()?;
        let response = http.post(url).body(body.to_string()).send().await?.error_for_status()?;
        Ok(Self { response, text: String::new() })
    }

    fn revision(&self) -> Option<&str> {
        self.response.headers().get("x-tradewind-revision")?.to_str().ok()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn tokens(&self) -> usize {
        self.text.matches("\"token\"").count()
    }

    /// Reads on until `count` tokens have come, or the end.
    pub(super) async fn read(&mut self, count: usize) -> Result<()> {
        while self.tokens() < count {
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.context("no token comes")??;
            let Some(chunk) = chunk else { return Ok(()) };
            self.text += std::str::from_utf8(&chunk)?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_token_server_is_deployed_and_its_tokens_come_one_by_one() -> Result<()> {
    let world = start(&REGIONS).await?;
    let pushed = ok(&world, &format!("models push {}", tokens().display())).await?.stdout;
    assert!(pushed.contains("command  python3 server.py --host {host} --port {port}"), "{pushed}");
    let shown = ok(&world, "models show tokens:1").await?.stdout;
    assert!(shown.contains("/health within 30s"), "{shown}");

    let deployed = ok(&world, &format!("deploy --regions {} tokens", REGIONS.join(","))).await?.stdout;
    assert!(deployed.contains("digest unproved") && deployed.contains("3/3 golden cases"), "{deployed}");
    assert!(deployed.contains("/models/tokens/health\n"), "{deployed}");
    for region in REGIONS {
        let mut stream = Stream::open(&world, region, 10, 100).await?;
        assert_eq!(stream.response.headers()["x-tradewind-region"], region);
        stream.read(1).await?;
        let first = Instant::now();
        assert_eq!(stream.tokens(), 1, "no token waits for the next: {}", stream.text);
        stream.read(usize::MAX).await?;
        // The server makes one every 100 ms: had they been held back, they would have come at once.
        assert!(first.elapsed().as_millis() >= 800, "{:?}", first.elapsed());
        assert!(stream.text.ends_with("data: [DONE]\n\n"), "{}", stream.text);
        assert_eq!(stream.tokens(), 10);
    }

    // Its other paths and its refusals are its own, and who asks for what it has not hears so from it.
    let gateway = world.gateway("us-east1")?;
    let http = tradewind_api::client::http_client().build()?;
    let health: Value = http.get(format!("{gateway}/models/tokens/health")).send().await?.json().await?;
    assert_eq!(health, json!({"status": "ready"}));
    let refused = http.post(format!("{gateway}/models/tokens/v1/completions")).body("{}").send().await?;
    assert_eq!((refused.status().as_u16(), refused.text().await?), (400, r#"{"error": "a prompt is wanted"}"#.into()));
    Ok(())
}

#[tokio::test]
async fn a_stream_survives_the_deploy_of_a_new_version_and_the_end_of_the_old_one() -> Result<()> {
    let world = start(&REGIONS).await?;
    let regions = REGIONS.join(",");
    ok(&world, &format!("deploy --max-parallel all --regions {regions} {}", tokens().display())).await?;
    let before = world.processes("replica", Some("us-east1"))?;
    let mut old = Stream::open(&world, "us-east1", 10_000, 50).await?;
    old.read(1).await?;
    assert_eq!(old.revision(), Some("1"));

    let changed = changed_copy()?;
    let path = changed.path().join("tokens");
    let line = format!("deploy --wait --soak 0s --standby 0s --max-parallel all {}", path.display());
    ok(&world, &line).await?;
    let mut new = Stream::open(&world, "us-east1", 2, 0).await?;
    new.read(usize::MAX).await?;
    assert_eq!((new.revision(), new.text.contains("calm")), (Some("2"), true), "{}", new.text);

    // The other region's old server has nobody to wait for.
    eventually_ok("the unused one has ended", SOON, || async {
        let left = world.processes("replica", Some("europe-west1"))?;
        ensure!(left.len() == 1, "{left:?}");
        Ok(())
    })
    .await?;
    let read = old.tokens();
    old.read(read + 50).await?;
    assert!(old.tokens() >= read + 50, "the old stream goes on: {}", old.tokens());
    let now = world.processes("replica", Some("us-east1"))?;
    assert!(now.iter().any(|replica| replica.pid == before[0].pid), "{now:?}");

    drop(old);
    eventually_ok("nobody is left to wait for", SOON, || async {
        let left = world.processes("replica", Some("us-east1"))?;
        ensure!(left.len() == 1 && left[0].pid != before[0].pid, "{left:?}");
        Ok(())
    })
    .await?;
    let status = json(&world, "status tokens").await?;
    assert_eq!((&status["revision"], &status["live_slot"]), (&json!(2), &json!("green")), "{status}");
    Ok(())
}

/// The example, with another word after `over the`.
pub(super) fn changed_copy() -> Result<TempDir> {
    let directory = TempDir::new()?;
    let target = directory.path().join("tokens");
    std::fs::create_dir(&target)?;
    let server = std::fs::read_to_string(tokens().join("server.py"))?;
    let changed = server.replace("with the wind toward", "with the calm wind toward");
    ensure!(changed != server, "the text of the example is another");
    std::fs::write(target.join("server.py"), changed)?;
    std::fs::copy(tokens().join("tradewind.toml"), target.join("tradewind.toml"))?;
    Ok(directory)
}
