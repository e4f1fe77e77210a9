//! Machines that stand still for a while, as virtual ones do: what was taken meanwhile says nothing of a proxy.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::progress::say;

/// Users who ask at a fixed rate are never this late by themselves.
const LIMIT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 3;

/// Takes something again while the machine stood still; `late` says by how much users were late at most.
pub(crate) async fn retake<T>(mut take: impl AsyncFnMut() -> Result<T>, late: impl Fn(&T) -> Duration) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let taken = take().await?;
        let late = late(&taken);
        if late <= LIMIT {
            return Ok(taken);
        }
        say(&format!("the machine stood still for {late:.1?}: once more"));
    }
    bail!("the machine keeps standing still")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_disturbed_is_taken_again_but_not_for_ever() {
        let mut taken = 0;
        let mut seconds = [9, 0].into_iter();
        let take = async || {
            taken += 1;
            Ok(Duration::from_secs(seconds.next().unwrap()))
        };
        assert_eq!(retake(take, |late| *late).await.unwrap(), Duration::ZERO);
        assert_eq!(taken, 2);
        let never = retake(async || Ok(Duration::from_secs(9)), |late| *late).await;
        assert_eq!(never.unwrap_err().to_string(), "the machine keeps standing still");
    }
}
