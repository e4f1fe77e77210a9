//! Waiting for a condition, with a deadline.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`; says what was waited for when the deadline passes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let asking = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(answer) => Ok(answer),
        Err(_) => bail!("{what}: not within {} s", deadline.as_secs_f32()),
    }
}

/// Tries until it succeeds; the last error is shown when the deadline passes.
pub async fn eventually_ok<T, F: Future<Output = Result<T>>>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let last = std::cell::RefCell::new(None);
    let result = eventually(what, deadline, || {
        let attempt = attempt();
        let last = &last;
        async move { attempt.await.map_err(|error| *last.borrow_mut() = Some(format!("{error:#}"))).ok() }
    })
    .await;
    result.with_context(|| format!("last: {}", last.into_inner().unwrap_or_else(|| "never answered".to_owned())))
}
