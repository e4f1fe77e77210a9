//! "Did you mean": answers to names that nobody knows.

use tradewind_core::suggest::nearest;

use crate::{Code, Problem};

/// The most names that an answer lists.
const LISTED: usize = 20;

/// `no region is called X`, with the nearest known name and those there are.
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Problem {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    let shown = sorted.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    let rest = sorted.len().saturating_sub(LISTED);
    let listed = match (sorted.len(), rest) {
        (0, _) => format!("there is no {kind} here yet"),
        (_, 0) => format!("{kind}s here: {shown}"),
        _ => format!("{kind}s here: {shown} and {rest} more"),
    };
    let hint = match nearest(name, known) {
        Some(nearest) => format!("did you mean `{nearest}`? {listed}"),
        None => listed,
    };
    Problem::new(Code::NotFound, format!("no {kind} is called `{name}`")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_and_lists_the_rest() {
        let known = ["us-east1", "europe-west1", "asia-northeast1"];
        let problem = unknown("region", "europe-wst1", &known);
        assert_eq!(problem.detail, "no region is called `europe-wst1`");
        assert_eq!(
            problem.hint.as_deref(),
            Some("did you mean `europe-west1`? regions here: asia-northeast1, europe-west1, us-east1")
        );
        assert_eq!(unknown("model", "zzz", &[]).hint.as_deref(), Some("there is no model here yet"));
        assert!(!unknown("region", "mars", &known).hint.unwrap().contains("did you mean"));
    }
}
