//! Verification of a slot with real requests, before it gets traffic. What is right is decided by `core::verify`.

mod exchange;
mod round;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tradewind_core::{
    ModelName, Timestamp,
    assignment::{Check, CheckName, CheckResult, Verification},
    bundle::{CASE_BYTES_LIMIT, ModelVersion, Signature},
    inference::InferRequest,
    probe::Probe,
    verify::{self, Case},
};

use self::exchange::{Exchange, Trouble};
pub(crate) use self::round::Round;

/// Gives the same smoke request in every region.
const SMOKE_SEED: u64 = 0x7261_6465_7769_6e64;

/// What is verified: replicas of one version.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) http: reqwest::Client,
    pub(crate) model: ModelName,
    pub(crate) version: Arc<ModelVersion>,
    /// The installed bundle.
    pub(crate) directory: PathBuf,
    /// The replicas that are up: id and address.
    pub(crate) replicas: Vec<(String, String)>,
    /// How many there should be.
    pub(crate) wanted: u32,
}

/// What one check found: a phrase for a pass, or for a failure.
type Finding = Result<String, String>;

impl Subject {
    /// Runs all checks, in order; after the first that fails the others are skipped.
    pub(crate) async fn verify(&self, attempt: u32) -> Verification {
        let mut run = Run { checks: Vec::new(), failed: false };
        let exchanges: Vec<Exchange<'_>> =
            self.replicas.iter().map(|(id, address)| Exchange::new(&self.http, &self.model, id, address)).collect();
        let mut times = Vec::new();
        match self.version.manifest.server() {
            Some(server) => self.server(&mut run, &exchanges, &server.ready, &mut times).await,
            None => self.own(&mut run, &exchanges, &mut times).await,
        }
        if times.is_empty() && !run.failed {
            run.skip(CheckName::Latency, "nothing was asked");
        } else {
            run.check(CheckName::Latency, async { self.latency(times) }).await;
        }
        Verification { attempt, checks: run.checks, finished_at: Timestamp::now() }
    }

    /// Replicas of Tradewind's own say what they have loaded, and what they take.
    async fn own(&self, run: &mut Run, exchanges: &[Exchange<'_>], times: &mut Vec<Duration>) {
        run.check(CheckName::Digest, self.digest(exchanges)).await;
        run.check(CheckName::Ready, self.ready(exchanges, &Probe::default())).await;
        run.check(CheckName::Signature, self.signature(exchanges)).await;
        if self.version.cases.is_empty() {
            run.skip(CheckName::GoldenCases, "the bundle has none");
            run.check(CheckName::Smoke, self.smoke(exchanges, times)).await;
        } else {
            run.check(CheckName::GoldenCases, self.golden_cases(exchanges, times)).await;
        }
    }

    /// A server shows what it does, not what it is.
    async fn server(&self, run: &mut Run, exchanges: &[Exchange<'_>], ready: &Probe, times: &mut Vec<Duration>) {
        run.note(CheckName::Digest, CheckResult::Unproved, "nobody sees what a server of its own has loaded");
        run.check(CheckName::Ready, self.ready(exchanges, ready)).await;
        match &self.version.manifest.signature {
            None => run.skip(CheckName::Signature, "the manifest states none"),
            Some(_) if self.serves_metadata(exchanges).await => {
                run.check(CheckName::Signature, self.signature(exchanges)).await;
            }
            Some(_) => run.skip(CheckName::Signature, "the server does not say what it takes"),
        }
        if self.version.cases.is_empty() {
            run.skip(CheckName::GoldenCases, "the bundle has none");
        } else {
            run.check(CheckName::GoldenCases, self.golden_cases(exchanges, times)).await;
        }
    }

    async fn serves_metadata(&self, exchanges: &[Exchange<'_>]) -> bool {
        match exchanges.first() {
            Some(exchange) => exchange.metadata::<Signature>().await.is_ok(),
            None => false,
        }
    }

    async fn digest(&self, exchanges: &[Exchange<'_>]) -> Finding {
        if exchanges.is_empty() {
            return Err("no replica is up".to_owned());
        }
        for exchange in exchanges {
            let loaded = exchange.loaded().await?;
            if loaded.replica != exchange.id {
                return Err(format!("{} is answered by the replica {}", exchange.id, loaded.replica));
            }
            if loaded.version != self.version.version {
                return Err(format!(
                    "expected version {}, {} loaded {}",
                    self.version.version, exchange.id, loaded.version
                ));
            }
            if !loaded.files.contains_key(&self.version.manifest.model) {
                return Err(format!("{} does not say what it loaded as {}", exchange.id, self.version.manifest.model));
            }
            for (path, file) in &loaded.files {
                match self.version.index.files.get(path) {
                    None => return Err(format!("{} loaded {path}, which is not in the bundle", exchange.id)),
                    Some(expected) if expected.digest != file.digest => {
                        let (expected, loaded) = (expected.digest.short(), file.digest.short());
                        return Err(format!("{path}: expected {expected}, {} loaded {loaded}", exchange.id));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok("digest ok".to_owned())
    }

    async fn ready(&self, exchanges: &[Exchange<'_>], probe: &Probe) -> Finding {
        let mut ready = 0;
        for exchange in exchanges {
            ready += u32::from(exchange.is_ready(probe).await);
        }
        let summary = format!("{ready}/{} replica{} ready", self.wanted, if self.wanted == 1 { "" } else { "s" });
        if ready >= self.wanted && ready > 0 { Ok(summary) } else { Err(summary) }
    }

    async fn signature(&self, exchanges: &[Exchange<'_>]) -> Finding {
        for exchange in exchanges {
            let actual: Signature = exchange.metadata().await?;
            verify::signature_matches(&self.version.signature, &actual)?;
        }
        Ok("signature ok".to_owned())
    }

    async fn golden_cases(&self, exchanges: &[Exchange<'_>], times: &mut Vec<Duration>) -> Finding {
        let total = self.version.cases.len();
        let (mut passed, mut first) = (0, None);
        for path in &self.version.cases {
            match self.golden_case(path, exchanges, times).await {
                Ok(()) => passed += 1,
                Err(problem) => drop(first.get_or_insert_with(|| format!("{path}: {problem}"))),
            }
        }
        match first {
            None => Ok(verify::summary(passed, total)),
            Some(first) => Err(format!("golden cases {passed}/{total}: {first}")),
        }
    }

    /// One case, on every replica.
    async fn golden_case(
        &self,
        path: &str,
        exchanges: &[Exchange<'_>],
        times: &mut Vec<Duration>,
    ) -> Result<(), String> {
        let case = self.read_case(path).await?;
        for exchange in exchanges {
            times.push(ask(exchange, &case).await?);
        }
        Ok(())
    }

    async fn read_case(&self, path: &str) -> Result<Case, String> {
        let file = self.directory.join(path);
        let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
        let length = tokio::fs::metadata(&file).await.map_err(unreadable)?.len();
        if length > CASE_BYTES_LIMIT {
            return Err(format!("is larger than {CASE_BYTES_LIMIT} bytes"));
        }
        let content = tokio::fs::read(&file).await.map_err(unreadable)?;
        // What a deploy reads is what was pushed: an altered case must not pass an altered model.
        let expected = self.version.index.files.get(path).map(|file| file.digest);
        if expected.is_some_and(|expected| expected.as_bytes() != blake3::hash(&content).as_bytes()) {
            return Err("is not what its digest says".to_owned());
        }
        Case::parse(&content).map_err(|error| format!("does not parse: {error}"))
    }

    async fn smoke(&self, exchanges: &[Exchange<'_>], times: &mut Vec<Duration>) -> Finding {
        let request = self.smoke_request()?;
        for exchange in exchanges {
            times.push(self.ask_smoke(exchange, &request).await?);
        }
        Ok("smoke request ok".to_owned())
    }

    fn smoke_request(&self) -> Result<InferRequest, String> {
        verify::smoke_request(&self.version.signature, SMOKE_SEED).map_err(|problem| problem.to_string())
    }

    /// How long the answer took.
    async fn ask_smoke(&self, exchange: &Exchange<'_>, request: &InferRequest) -> Result<Duration, Trouble> {
        let (answer, took) = exchange.infer(request).await?;
        let checked = verify::check_smoke(&answer, &self.version.signature);
        checked.map_err(|mismatch| Trouble::Wrong(mismatch.to_string())).map(|()| took)
    }

    fn latency(&self, mut times: Vec<Duration>) -> Finding {
        times.sort_unstable();
        // The smallest time that at least 99 % of the requests do not exceed.
        let Some(p99) = times.get((times.len() * 99).div_ceil(100).saturating_sub(1)) else {
            return Err("no request was timed".to_owned());
        };
        let slowest = times.last().copied().unwrap_or_default();
        match self.version.manifest.verify.latency_budget {
            Some(budget) if slowest > budget.duration() => {
                Err(format!("the slowest request took {}, the budget is {budget}", millis(slowest)))
            }
            _ => Ok(format!("p99 {}", millis(*p99))),
        }
    }
}

/// Asks one case of one replica; how long the right answer took.
async fn ask(exchange: &Exchange<'_>, case: &Case) -> Result<Duration, Trouble> {
    match case {
        Case::Inference(case) => {
            let (answer, took) = exchange.infer(&case.request).await?;
            verify::compare(case, &answer).map_err(|mismatch| Trouble::Wrong(mismatch.to_string()))?;
            Ok(took)
        }
        Case::Http(case) => {
            let (status, body, took) = exchange.send(&case.http).await?;
            let trouble = if status >= 500 { Trouble::Unanswered } else { Trouble::Wrong };
            case.compare(status, &body).map_err(trouble)?;
            Ok(took)
        }
    }
}

/// The checks of one verification as they come.
struct Run {
    checks: Vec<Check>,
    failed: bool,
}

impl Run {
    async fn check(&mut self, name: CheckName, finding: impl Future<Output = Finding>) {
        if self.failed {
            return self.skip(name, "an earlier check failed");
        }
        let (result, detail) = match finding.await {
            Ok(detail) => (CheckResult::Passed, detail),
            Err(detail) => (CheckResult::Failed, detail),
        };
        self.failed = result == CheckResult::Failed;
        self.checks.push(Check { name, result, detail });
    }

    fn skip(&mut self, name: CheckName, why: &str) {
        self.note(name, CheckResult::Skipped, why);
    }

    /// Writes down a check that was not made.
    fn note(&mut self, name: CheckName, result: CheckResult, why: &str) {
        self.checks.push(Check { name, result, detail: why.to_owned() });
    }
}

/// `0.4 ms`
fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
