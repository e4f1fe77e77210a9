//! "Did you mean": the known name next to one that nobody knows.

/// The name that may have been meant: the one with the fewest wrong, missing, added or swapped letters (the distance of
/// Damerau and Levenshtein), where these are at most a third of its letters.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= (candidate.len() / 3).max(1)).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["us-east1", "europe-west1", "asia-northeast1"];
        assert_eq!(nearest("europe-wst1", &known), Some("europe-west1"));
        assert_eq!(nearest("us-esat1", &known), Some("us-east1"));
        assert_eq!(nearest("mars", &known), None);
        assert_eq!(nearest("us-east1", &[]), None);
    }
}
