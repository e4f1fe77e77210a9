//! Errors in words: what happened, and why, down to the first cause.

use std::{error::Error, iter};

/// The error and its sources, outermost first.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (**error).source())
}

/// The error and its sources on one line, for a log.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Told {
        words: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn the_first_cause_comes_last() {
        let told = |words, source: Option<Told>| Told { words, source: source.map(Box::new) };
        let error = told("not deployed", Some(told("not installed", Some(told("the disk is full", None)))));
        assert_eq!(chain(&error), "not deployed: not installed: the disk is full");
        assert_eq!(causes(&error).last().unwrap().to_string(), "the disk is full");
    }
}
