//! Golden cases asked again of replicas that serve users: a model that answered rightly once may not for ever.

use std::{collections::BTreeMap, time::Duration};

use tradewind_core::{inference::InferRequest, verify::Case};

use super::{Subject, Trouble, ask, exchange::Exchange};

/// So many cases are asked in one round; the next round goes on where this one ended.
const ROUND_LIMIT: usize = 20;

/// What one round found.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) asked: u64,
    pub(crate) unanswered: u64,
    pub(crate) wrong: u64,
    /// The replicas that answered wrongly, each with its first wrong answer.
    pub(crate) suspects: BTreeMap<String, String>,
    /// The case that the next round begins with.
    pub(crate) next: usize,
}

enum Question {
    Case(Case),
    /// For bundles without golden cases.
    Smoke(InferRequest),
}

impl Subject {
    /// Asks every replica some cases, from the case with this number on.
    pub(crate) async fn ask_again(&self, first: usize) -> Round {
        let mut round = Round::default();
        let total = self.version.cases.len();
        for number in (first..).take(total.min(ROUND_LIMIT)) {
            let path = &self.version.cases[number % total];
            round.next = (number + 1) % total;
            // A file that cannot be read says nothing about the replicas; what was altered is repaired elsewhere.
            if let Ok(case) = self.read_case(path).await {
                self.ask_all(path, &Question::Case(case), &mut round).await;
            }
        }
        if total == 0
            && self.version.manifest.server().is_none()
            && let Ok(request) = self.smoke_request()
        {
            self.ask_all("the smoke request", &Question::Smoke(request), &mut round).await;
        }
        round
    }

    async fn ask_all(&self, name: &str, question: &Question, round: &mut Round) {
        for (id, address) in &self.replicas {
            let exchange = Exchange::new(&self.http, &self.model, id, address);
            round.asked += 1;
            match self.ask_twice(&exchange, question).await {
                Ok(_) => {}
                Err(Trouble::Unanswered(_)) => round.unanswered += 1,
                Err(Trouble::Wrong(problem)) => {
                    round.wrong += 1;
                    round.suspects.entry(id.clone()).or_insert_with(|| format!("{name}: {problem}"));
                }
            }
        }
    }

    /// One wrong answer may be an accident; two in a row are a verdict.
    async fn ask_twice(&self, exchange: &Exchange<'_>, question: &Question) -> Result<Duration, Trouble> {
        match self.ask_once(exchange, question).await {
            Err(Trouble::Wrong(_)) => self.ask_once(exchange, question).await,
            other => other,
        }
    }

    async fn ask_once(&self, exchange: &Exchange<'_>, question: &Question) -> Result<Duration, Trouble> {
        match question {
            Question::Case(case) => ask(exchange, case).await,
            Question::Smoke(request) => self.ask_smoke(exchange, request).await,
        }
    }
}
