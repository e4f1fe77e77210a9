//! Something that requests are sent to: a replica, or a gateway of another region. What all threads know of it is
//! here, as atomics; connections to it belong to one thread each and are in `link`.
//!
//! Compiled a second time in `tests/it/order.rs`, so it takes atomics and waiting from the module `sync` beside it.

use std::{
    sync::{Arc, atomic},
    time::{Duration, Instant},
};

use http::uri::Authority;
use tradewind_core::{
    balance::{self, Load},
    outlier, overload,
};

use super::{
    clock::Millis,
    gate::Gate,
    sync::{AtomicBool, AtomicU32, AtomicU64, Notify, Ordering, fence},
};

/// Numbers targets, so that threads find their connections to one without comparing addresses.
static NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(0);
/// A newcomer carries a handicap for this long.
const WARM_UP: Millis = Millis(10_000);

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) id: u64,
    /// host:port
    address: String,
    authority: Option<Authority>,
    healthy: AtomicBool,
    in_flight: AtomicU32,
    capacity: Capacity,
    /// Who waits for it to have room.
    gate: Option<Arc<Gate>>,
    latency_us: AtomicU64,
    since: Millis,
    /// What a newcomer counts as having in flight at first: the median of its group.
    handicap: AtomicU32,
    suspicion: Suspicion,
    /// Somebody wants a probe at once.
    recheck: Notify,
}

/// How many requests in flight it should have at most.
#[derive(Debug)]
struct Capacity {
    /// What the deployment says; 0: nothing.
    declared: u32,
    /// What it has shown, where nothing is declared: how many requests may wait for the head of their answer. An answer
    /// that has begun may go on for minutes, and says nothing of how much more there is room for.
    shown: AtomicU32,
    /// Requests without the head of their answer; counted where nothing is declared.
    unanswered: AtomicU32,
    /// Heads of answers since the last look.
    answered: AtomicU64,
    /// The fastest of this window and of the one before, in microseconds.
    fastest_us: [AtomicU64; 2],
    /// Answers per second, as the bits of a float.
    rate: AtomicU64,
}

/// What users' answers say against a target.
#[derive(Debug, Default)]
struct Suspicion {
    consecutive: AtomicU32,
    /// Ejections without a good answer between them.
    ejections: AtomicU32,
    /// When the last one ends; 0: not ejected.
    until: AtomicU64,
    /// One request tries whether it is over.
    on_trial: AtomicBool,
    answers: AtomicU64,
    failures: AtomicU64,
}

impl Target {
    /// New targets count as healthy: whoever told of them has seen them answer, and the first failed connection says
    /// otherwise.
    pub(crate) fn new(address: String) -> Self {
        Self::limited(address, 0, None)
    }

    /// One that should have no more than `declared` requests in flight (0: not declared).
    pub(crate) fn limited(address: String, declared: u32, gate: Option<Arc<Gate>>) -> Self {
        Self {
            id: NEXT.fetch_add(1, atomic::Ordering::Relaxed),
            authority: address.parse().ok(),
            address,
            healthy: AtomicBool::new(true),
            in_flight: AtomicU32::new(0),
            capacity: Capacity {
                declared,
                shown: AtomicU32::new(overload::UNKNOWN),
                unanswered: AtomicU32::new(0),
                answered: AtomicU64::new(0),
                fastest_us: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
                rate: AtomicU64::new(0),
            },
            gate,
            latency_us: AtomicU64::new(0),
            since: Millis::now(),
            handicap: AtomicU32::new(0),
            suspicion: Suspicion::default(),
            recheck: Notify::new(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    pub(crate) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// What the deployment says; 0: nothing.
    pub(crate) fn declared_limit(&self) -> u32 {
        self.capacity.declared
    }

    pub(crate) fn limit(&self) -> u32 {
        match self.capacity.declared {
            0 => self.capacity.shown.load(Ordering::Relaxed),
            declared => declared,
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.begin_behind().0
    }

    /// Also how many counted against the limit before it.
    fn begin_behind(self: &Arc<Self>) -> (InFlight, u32) {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let before = match self.capacity.declared {
            0 => self.capacity.unanswered.fetch_add(1, Ordering::Relaxed),
            _ => before,
        };
        (InFlight { target: Arc::clone(self), began: Instant::now(), answered: false, trial: false }, before)
    }

    /// What counts against the limit.
    pub(crate) fn held(&self) -> u32 {
        match self.capacity.declared {
            0 => self.capacity.unanswered.load(Ordering::Relaxed),
            _ => self.in_flight(),
        }
    }

    /// Like [`Self::begin`], but not beyond the limit.
    pub(crate) fn begin_within_limit(self: &Arc<Self>) -> Option<InFlight> {
        let limit = self.limit();
        if self.held() >= limit {
            return None;
        }
        // Others may have begun meanwhile. Counting decides who is the last for whom there is room; who looked at the
        // sum after counting would find it too large together with others, and none of them would begin.
        let (begun, before) = self.begin_behind();
        (before < limit).then_some(begun)
    }

    /// To be called each second: what it has shown that it can do.
    pub(crate) fn measure(&self, rotate: bool) {
        let Capacity { shown, answered, fastest_us, rate, .. } = &self.capacity;
        let this_second = answered.swap(0, Ordering::Relaxed) as f64;
        let usual = overload::rate(f64::from_bits(rate.load(Ordering::Relaxed)), this_second);
        rate.store(usual.to_bits(), Ordering::Relaxed);
        let [current, last] = fastest_us;
        let fastest = current.load(Ordering::Relaxed).min(last.load(Ordering::Relaxed));
        if fastest != u64::MAX {
            shown.store(overload::limit(usual, Duration::from_micros(fastest)), Ordering::Relaxed);
        }
        if rotate {
            last.store(current.swap(u64::MAX, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// As the balancer compares it.
    pub(crate) fn load(&self, now: Millis) -> Load {
        let handicap = self.handicap.load(Ordering::Relaxed);
        let handicap = if handicap == 0 { 0 } else { fading(handicap, now.since(self.since)) };
        Load { in_flight: self.in_flight() + handicap, latency_us: self.latency_us.load(Ordering::Relaxed) }
    }

    /// Begins at the median of those it joins.
    pub(crate) fn join(&self, group: &[Load]) {
        let handicap = balance::median(group.iter().map(|load| u64::from(load.in_flight)));
        self.handicap.store(u32::try_from(handicap).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.latency_us.store(balance::median(group.iter().map(|load| load.latency_us)), Ordering::Relaxed);
    }

    /// A connection could not be made: down until probes say otherwise.
    pub(crate) fn condemn(&self) {
        if self.healthy.swap(false, Ordering::AcqRel) {
            self.recheck.notify_one();
        }
    }

    /// The verdict of the probes.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
    }

    pub(crate) fn want_probe(&self) {
        self.recheck.notify_one();
    }

    pub(crate) async fn probe_wanted(&self) {
        self.recheck.notified().await;
    }

    /// Whether bad answers keep requests away now.
    pub(crate) fn ejected(&self, now: Millis) -> bool {
        let until = self.suspicion.until.load(Ordering::Relaxed);
        until != 0 && (now.0 < until || self.suspicion.on_trial.load(Ordering::Relaxed))
    }

    /// After an ejection one request at a time tries whether it is over; whether this one may go.
    pub(crate) fn try_again(&self, begun: &mut InFlight, now: Millis) -> bool {
        let Suspicion { until, on_trial, .. } = &self.suspicion;
        if until.load(Ordering::Relaxed) == 0 {
            return true;
        }
        if on_trial.swap(true, Ordering::AcqRel) {
            return false;
        }
        // How the trial before this one ended is seen from here on.
        match until.load(Ordering::Relaxed) {
            0 => {
                on_trial.store(false, Ordering::Release);
                true
            }
            until => {
                begun.trial = true;
                until <= now.0
            }
        }
    }

    /// It answered as it should, the head of its answer after so long. Only a `trial` ends an ejection: others were sent
    /// before it, or for want of anybody else.
    pub(crate) fn succeeded(&self, head: Duration, trial: bool) {
        let latency_us = micros(head);
        let Suspicion { consecutive, ejections, until, answers, .. } = &self.suspicion;
        answers.fetch_add(1, Ordering::Relaxed);
        let before = self.latency_us.load(Ordering::Relaxed);
        self.latency_us.store(balance::smoothed(before, latency_us), Ordering::Relaxed);
        if consecutive.load(Ordering::Relaxed) != 0 {
            consecutive.store(0, Ordering::Relaxed);
        }
        if trial {
            until.store(0, Ordering::Relaxed);
            ejections.store(0, Ordering::Relaxed);
        }
    }

    /// It answered with an error of its own, or not in time; whether that is enough to leave it out. While it is, only a
    /// failed `trial` leaves it out again.
    pub(crate) fn failed(&self, trial: bool) -> bool {
        let Suspicion { consecutive, until, answers, failures, .. } = &self.suspicion;
        if until.load(Ordering::Relaxed) != 0 {
            return trial;
        }
        answers.fetch_add(1, Ordering::Relaxed);
        failures.fetch_add(1, Ordering::Relaxed);
        consecutive.fetch_add(1, Ordering::Relaxed) + 1 >= outlier::CONSECUTIVE_FAILURES
    }

    /// Whether most of its answers since the last call were failures.
    pub(crate) fn failing(&self) -> bool {
        let answers = self.suspicion.answers.swap(0, Ordering::Relaxed);
        outlier::failing(answers, self.suspicion.failures.swap(0, Ordering::Relaxed))
    }

    /// Left out for a while, longer each time; `false` if it is already. Threads that find the same failures at once
    /// count them once.
    pub(crate) fn eject(&self, now: Millis) -> bool {
        let Suspicion { consecutive, ejections, until, answers, failures, .. } = &self.suspicion;
        let before = until.load(Ordering::Relaxed);
        let times = ejections.load(Ordering::Relaxed) + 1;
        let time = outlier::ejection(times, rand::random());
        let end = now.after(time).0;
        if now.0 < before || until.compare_exchange(before, end, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        ejections.store(times, Ordering::Relaxed);
        consecutive.store(0, Ordering::Relaxed);
        // What it is left out for counts once.
        answers.store(0, Ordering::Relaxed);
        failures.store(0, Ordering::Relaxed);
        tracing::warn!(address = self.address, times, "left out for {} ms: its answers fail", time.as_millis());
        true
    }

    /// Takes an ejection back.
    fn readmit(&self) {
        self.suspicion.until.store(0, Ordering::Relaxed);
        self.suspicion.ejections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leaves one of a group out for a while, unless most of them would be; whether it does.
pub(crate) fn eject<T: AsRef<Target>>(group: &[Arc<T>], target: &Target) -> bool {
    let now = Millis::now();
    let may = || {
        let others = group.iter().map(|other| T::as_ref(other)).filter(|other| !std::ptr::eq(*other, target));
        outlier::may_eject(others.filter(|other| other.ejected(now)).count(), group.len())
    };
    if !may() || !target.eject(now) {
        return false;
    }
    // Another thread may have left out another one meanwhile: one of the two sees that here, if not both.
    fence(Ordering::SeqCst);
    let may = may();
    if !may {
        target.readmit();
    }
    may
}

fn fading(handicap: u32, age: Millis) -> u32 {
    let left = WARM_UP.0.saturating_sub(age.0);
    u32::try_from(u64::from(handicap) * left / WARM_UP.0).unwrap_or(handicap)
}

/// One request on its way; counts until dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    target: Arc<Target>,
    began: Instant,
    /// The head of its answer has come.
    answered: bool,
    trial: bool,
}

impl InFlight {
    /// Whether it tries if an ejection is over.
    pub(crate) fn is_trial(&self) -> bool {
        self.trial
    }

    /// The head of its answer has come.
    pub(crate) fn answered(&mut self) {
        let Capacity { answered, fastest_us, .. } = &self.target.capacity;
        answered.fetch_add(1, Ordering::Relaxed);
        let took = micros(self.began.elapsed());
        if took < fastest_us[0].load(Ordering::Relaxed) {
            fastest_us[0].store(took, Ordering::Relaxed);
        }
        self.answered = true;
        if self.target.capacity.declared == 0 {
            self.make_room();
        }
    }

    /// It counts against the limit no longer.
    fn make_room(&self) {
        if self.target.capacity.declared == 0 {
            self.target.capacity.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(gate) = &self.target.gate {
            gate.freed();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let target = &self.target;
        target.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.trial {
            target.suspicion.on_trial.store(false, Ordering::Release);
        }
        if !self.answered || target.capacity.declared != 0 {
            self.make_room();
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
