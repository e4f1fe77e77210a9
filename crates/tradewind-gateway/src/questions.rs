//! Users who have seen what this gateway has not heard of, and wait for what other gateways say to it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;

/// The most users who wait at once: anybody can make an epoch up.
const WAITING_LIMIT: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Numbers them, from 1. Who is asked later than a question came answers that one too.
    newest: AtomicU64,
    waiting: AtomicUsize,
    answers: watch::Sender<()>,
}

/// Somebody waits until this is dropped.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) number: u64,
    all: &'a Questions,
}

impl Questions {
    /// One more; `None` when too many wait.
    pub(crate) fn ask(&self) -> Option<Question<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let number = self.newest.fetch_add(1, Ordering::AcqRel) + 1;
        let question = Question { number, all: self };
        (before < WAITING_LIMIT).then_some(question)
    }

    /// What is asked after this answers all questions up to this one; 0: none.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    pub(crate) fn is_any_open(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Has those who wait look whether that was what they wait for.
    pub(crate) fn answered(&self) {
        self.answers.send_replace(());
    }

    pub(crate) fn answers(&self) -> watch::Receiver<()> {
        self.answers.subscribe()
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.all.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_questions_ends_at_a_limit() {
        let questions = Questions::default();
        let mut open: Vec<Question<'_>> = std::iter::from_fn(|| questions.ask()).collect();
        assert_eq!(open.len(), WAITING_LIMIT);
        assert!(questions.ask().is_none(), "who was refused does not wait");
        open.pop();
        open.push(questions.ask().expect("one has ended"));
        assert!(open.is_sorted_by(|one, next| one.number < next.number));
        open.clear();
        assert!(!questions.is_any_open());
    }
}
