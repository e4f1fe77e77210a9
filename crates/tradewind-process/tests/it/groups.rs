//! Groups in which real processes are held to limits. Where this machine lets nobody make groups, that is what has to
//! be said, and processes run without.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tradewind_process::{Cgroups, Controller, Exit, Group, Limits, Process, Spawn};

use crate::{DEADLINE, Ended, in_time, sh, until};

const MIB: u64 = 1 << 20;

/// Groups of one test, which go with it.
struct Held {
    cgroups: Cgroups,
    name: String,
}

impl Held {
    fn new(test: &str) -> Self {
        let name = format!("tradewind-test-{test}-{}", std::process::id());
        Self { cgroups: Cgroups::open(&name), name }
    }

    /// Whether both can be limited here. If not, it says why, and makes no group that limits less than it should.
    #[expect(clippy::print_stderr, reason = "what was not tried belongs into the log")]
    fn limits(&self, controllers: &[Controller]) -> bool {
        let reasons: Vec<_> = controllers.iter().filter_map(|each| self.cgroups.unavailable(*each)).collect();
        for reason in &reasons {
            assert!(!reason.hint().is_empty());
            eprintln!("not limited here: {reason}: {:?}", std::error::Error::source(reason).map(ToString::to_string));
        }
        if self.cgroups.unavailable(Controller::Cpu).and(self.cgroups.unavailable(Controller::Memory)).is_some() {
            assert_eq!(self.cgroups.create("none", &Limits::default()).unwrap(), None, "nothing can be limited");
        }
        reasons.is_empty()
    }

    fn group(&self, name: &str, limits: Limits) -> Group {
        self.cgroups.create(name, &limits).unwrap().expect("groups can be made")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let begun = Instant::now();
        while !self.cgroups.groups().is_empty() && begun.elapsed() < DEADLINE {
            for (_, group) in self.cgroups.groups() {
                for pid in group.pids().into_iter().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
                {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                let _ = group.remove_empty();
            }
        }
        assert!(directories(&self.name).is_empty() || std::thread::panicking(), "groups are left of {}", self.name);
    }
}

/// The directories of that name directly below the groups of this process and the tops of hierarchies.
fn directories(name: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let paths: Vec<&str> = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).chain(["/"]).collect();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let candidates = points.flat_map(|point| paths.iter().map(move |path| PathBuf::from(format!("{point}{path}"))));
    candidates.map(|place| place.join(name)).filter(|place| place.is_dir()).collect()
}

/// Takes so much memory and holds it.
fn eater(bytes: u64) -> Spawn {
    // `tail` keeps a line until it ends.
    sh(&format!("(head -c {bytes} /dev/zero; exec sleep 1000) | tail"))
}

async fn ended(group: &Group, process: &Process) {
    process.kill().unwrap();
    in_time(process.exited()).await;
    in_time(group.remove()).await.unwrap();
    assert!(group.pids().is_empty());
}

#[tokio::test]
async fn what_goes_over_its_memory_is_killed_and_its_sibling_is_not() {
    let held = Held::new("memory");
    if !held.limits(&[Controller::Memory]) {
        return;
    }
    let limits = Limits { memory_bytes: Some(32 * MIB), cpu_milli: None };
    let (group, sibling) = (held.group("one", limits), held.group("other", limits));
    let other = sh("exec sleep 1000").group(sibling.clone()).spawn().unwrap();
    let _ended = Ended(other.clone());
    let greedy = sh(&format!("head -c {} /dev/zero | tail", 256 * MIB)).group(group.clone()).spawn().unwrap();
    let exit = in_time(greedy.exited()).await;
    assert_ne!(exit, Exit::Code(0), "it got all that it asked for");

    let usage = group.usage();
    assert!(usage.oom_kills >= Some(1) && usage.reached_memory_limit == Some(true), "{usage:?}");
    if let Some(peak) = usage.memory_peak_bytes {
        assert!((16 * MIB..=33 * MIB).contains(&peak), "{peak}");
    }
    assert_eq!(sibling.usage().oom_kills, Some(0));
    assert!(other.identity().is_alive());
    in_time(group.remove()).await.unwrap();
    ended(&sibling, &other).await;
}

#[tokio::test]
async fn what_stays_within_its_memory_lives() {
    let held = Held::new("within");
    if !held.limits(&[Controller::Memory]) {
        return;
    }
    let group = held.group("one", Limits { memory_bytes: Some(128 * MIB), cpu_milli: None });
    let process = eater(16 * MIB).group(group.clone()).spawn().unwrap();
    let _ended = Ended(process.clone());
    until("it has its memory", || group.usage().memory_bytes > Some(16 * MIB)).await;
    assert_eq!((group.usage().oom_kills, group.usage().reached_memory_limit), (Some(0), Some(false)));
    // What a shell starts is in its group too.
    assert!(group.pids().len() >= 2, "{:?}", group.pids());
    ended(&group, &process).await;
}

#[tokio::test]
async fn a_quota_bounds_processor_time_by_the_kernels_own_count() {
    let held = Held::new("cpu");
    if !held.limits(&[Controller::Cpu, Controller::CpuAccounting]) {
        return;
    }
    let group = held.group("one", Limits { cpu_milli: Some(200), memory_bytes: None });
    let process = sh("while :; do :; done & while :; do :; done").group(group.clone()).spawn().unwrap();
    let _ended = Ended(process.clone());
    let enough = Duration::from_millis(600);
    until("it has worked", || group.usage().cpu > Some(enough)).await;
    // Two loops that want a processor each and have a fifth of one stand still for nine tenths of their time, as long as
    // the machine has as much for them: nine times what they worked. Where it has less, they are held up less.
    let usage = group.usage();
    let ratio = usage.throttled.unwrap().as_secs_f64() / usage.cpu.unwrap().as_secs_f64();
    assert!(ratio > 1.0, "they stood still {ratio:.2} times as long as they worked: {usage:?}");
    ended(&group, &process).await;
}

#[tokio::test]
async fn a_group_is_found_again_and_ends_with_all_that_is_in_it() {
    let held = Held::new("found");
    if !held.limits(&[Controller::Memory]) {
        return;
    }
    let group = held.group("one", Limits::default());
    // It leaves its session and its parent, and clears its environment.
    let process = sh("env -i setsid sleep 1000 & exec sleep 1000").group(group.clone()).spawn().unwrap();
    until("both run", || group.pids().len() == 2).await;
    let written = serde_json::to_string(&group).unwrap();
    let found: Group = serde_json::from_str(&written).unwrap();
    assert_eq!(found, group);
    let (name, listed) = held.cgroups.groups().into_iter().next().unwrap();
    assert_eq!((name.as_str(), &listed), ("one", &group));
    assert!(group.remove_empty().is_err(), "it has processes");

    in_time(found.remove()).await.unwrap();
    assert_eq!(in_time(process.exited()).await, Exit::Signal(9));
    assert!(held.cgroups.groups().is_empty());
    in_time(found.remove()).await.expect("removed again");
    assert_eq!(found.usage(), tradewind_process::Usage::default());
    assert!(sh("true").group(found).spawn().is_err(), "started outside a group that is gone");
}

#[tokio::test]
async fn groups_under_two_names_do_not_meet() {
    let (one, other) = (Held::new("name-a"), Held::new("name-b"));
    if !one.limits(&[Controller::Memory]) {
        return;
    }
    let group = one.group("same", Limits::default());
    assert!(other.cgroups.groups().is_empty());
    let same = other.group("same", Limits::default());
    assert_ne!(group, same);
    in_time(same.remove()).await.unwrap();
    assert_eq!(one.cgroups.groups().len(), 1);
    in_time(group.remove()).await.unwrap();
}
