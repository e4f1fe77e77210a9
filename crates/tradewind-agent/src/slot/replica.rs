//! One replica that the slot task watches.

use std::time::{Duration, Instant};

use tradewind_core::{deployment::HealthPolicy, health::Hysteresis, probe::Probe};
use tradewind_process::Process;

use crate::{
    decide::{CheckState, Patience, SERVER_HANG_LIMIT, Seen, Stage},
    launch::Launched,
    probe::{Answer, Watch},
    record::ReplicaRecord,
};

/// A copy that no bundle ever has: whoever loaded it has to be replaced.
pub(super) const WRONG_COPY: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) record: ReplicaRecord,
    pub(crate) process: Process,
    pub(super) log_start: u64,
    /// The copy of the bundle that it loaded.
    pub(super) copy: u64,
    /// Gateways are told of it.
    pub(super) admitted: bool,
    /// Why it has to end, where its exit status alone would not tell.
    pub(super) note: Option<String>,
    pub(super) check: CheckState,
    /// It answered golden cases wrongly, and is being replaced.
    suspect: bool,
    health: HealthPolicy,
    verdict: Hysteresis,
    started: Instant,
    last_answer: Instant,
    /// The status of its last answer, while it has not been ready.
    refusal: Option<u16>,
    /// Nobody is connected to it any more.
    unused: bool,
    left: Left,
}

/// Whether it is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    No,
    Draining(Instant),
    Ending,
}

impl Replica {
    pub(super) fn started(launched: Launched, copy: u64, health: HealthPolicy) -> Self {
        let Launched { record, process, log_start } = launched;
        Self { log_start, copy, ..Self::new(record, process, health, false) }
    }

    /// It serves until a probe says otherwise: its record says that it did.
    pub(super) fn adopted(record: ReplicaRecord, process: Process, health: HealthPolicy) -> Self {
        let admitted = record.admitted;
        Self::new(record, process, health, admitted)
    }

    fn new(record: ReplicaRecord, process: Process, health: HealthPolicy, admitted: bool) -> Self {
        let now = Instant::now();
        Self {
            record,
            process,
            log_start: 0,
            copy: 0,
            admitted,
            note: None,
            check: if admitted { CheckState::Passed } else { CheckState::Unchecked },
            suspect: false,
            health,
            verdict: Hysteresis::new(health, admitted),
            started: now,
            last_answer: now,
            refusal: None,
            unused: false,
            left: Left::No,
        }
    }

    pub(super) fn watch(&self, http: reqwest::Client) -> Watch {
        Watch {
            http,
            id: self.record.id.clone(),
            address: self.record.address.clone(),
            health: self.health,
            was_ready: self.admitted,
            process: self.process.clone(),
            probe: self.record.probe(),
            family: self.record.family(),
        }
    }

    pub(super) fn probed(&mut self, answer: Answer) {
        let ready = answer == Answer::Ready;
        self.refusal = if let Answer::NotReady(status) = answer { Some(status) } else { None };
        if answer != Answer::Silent {
            self.last_answer = Instant::now();
        }
        if ready && !self.admitted {
            // Its first word that it is ready is enough; hysteresis is for those who were.
            self.verdict = Hysteresis::new(self.health, true);
        } else {
            self.verdict.observe(ready);
        }
    }

    pub(super) fn pass(&mut self) {
        self.check = CheckState::Passed;
    }

    /// It answers wrongly: another one takes its place, and until then it is asked last.
    pub(super) fn suspect(&mut self) {
        self.suspect = true;
        self.copy = WRONG_COPY;
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// It must not serve. Its exit is then counted as one that should not have been.
    pub(super) fn condemn(&mut self, note: String) {
        self.note = Some(note);
        self.admitted = false;
        if let Err(error) = self.process.kill() {
            tracing::error!(id = self.record.id, %error, "cannot kill a replica");
        }
    }

    /// It has answered nothing for too long, or was not ready in time.
    pub(super) fn kill_hung(&mut self) {
        let (silent, age) = (self.last_answer.elapsed().as_secs(), self.age().as_secs());
        self.condemn(match (self.admitted, self.refusal, self.record.probe()) {
            (true, ..) => format!("it answered nothing for {silent} s and was killed"),
            (false, Some(status), probe) => {
                format!("it was not ready within {age} s and was killed: GET {probe} was answered with {status}")
            }
            (false, None, Probe::Http(path)) => format!(
                "it was not ready within {age} s and was killed: nothing answered GET {path} on {}",
                self.record.address
            ),
            (false, None, Probe::Connect) => {
                format!("it was not ready within {age} s and was killed: nothing listens on {}", self.record.address)
            }
        });
    }

    /// Nobody is connected to it any more, or has been for long enough.
    pub(super) fn be_unused(&mut self) {
        self.unused = true;
    }

    fn patience(&self) -> Patience {
        match &self.record.server {
            None => Patience::default(),
            Some(server) => Patience { start: server.startup.duration(), silence: SERVER_HANG_LIMIT },
        }
    }

    /// Whether its end has to wait for those who are connected to it.
    pub(super) fn is_busy(&self) -> bool {
        self.record.server.is_some() && !self.unused
    }

    pub(super) fn drain(&mut self) {
        self.left = Left::Draining(Instant::now());
    }

    /// It is announced again.
    pub(super) fn recall(&mut self) {
        (self.left, self.unused) = (Left::No, false);
    }

    pub(super) fn end(&mut self) {
        self.left = Left::Ending;
    }

    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn is_running(&self) -> bool {
        self.left == Left::No
    }

    pub(super) fn is_announced(&self) -> bool {
        self.admitted && self.is_running()
    }

    /// Announced, and answering its probes.
    pub(super) fn is_ready(&self) -> bool {
        self.is_announced() && self.verdict.healthy()
    }

    pub(super) fn draining_for(&self) -> Option<Duration> {
        match self.left {
            Left::Draining(since) => Some(since.elapsed()),
            Left::No | Left::Ending => None,
        }
    }

    /// `copy` is the bundle's current one; while that is not known nothing is stale.
    pub(super) fn seen(&self, copy: Option<u64>) -> Seen {
        Seen {
            id: self.record.id.clone(),
            place: self.record.place,
            revision: self.record.revision,
            stale: copy.is_some_and(|copy| copy != self.copy),
            age: self.age(),
            patience: self.patience(),
            busy: self.is_busy(),
            answering: self.verdict.healthy(),
            silent: self.last_answer.elapsed(),
            admitted: self.admitted,
            check: self.check,
            stage: match self.left {
                // It was killed for a reason and is as good as gone.
                Left::No if self.note.is_some() => Stage::Ending,
                Left::No => Stage::Running,
                Left::Draining(since) => Stage::Draining(since.elapsed()),
                Left::Ending => Stage::Ending,
            },
        }
    }
}
