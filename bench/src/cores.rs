//! The core that servers under measurement have to themselves, and how busy it was: everything else runs on the other
//! ones.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::progress::say;

/// A core that is taken away for more of the time than this measures its thief.
const STEAL_LIMIT: f64 = 0.01;

#[derive(Debug)]
pub(crate) struct Cores {
    measured: usize,
    others: CpuSet,
}

impl Cores {
    /// Takes the last core for what is measured, and moves this thread, with all threads and processes that it starts from
    /// now on, to the other ones.
    pub(crate) fn divide() -> Result<Self> {
        let all = sched_getaffinity(None).context("asking which cores there are")?;
        let measured = (0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core)).context("there is no core")?;
        ensure!(all.count() > 1, "what is measured needs a core of its own, and whatever asks it another one");
        let mut others = all;
        others.unset(measured);
        sched_setaffinity(None, &others).context("leaving the measured core")?;
        Ok(Self { measured, others })
    }

    pub(crate) fn measured(&self) -> usize {
        self.measured
    }

    /// While this lives, what this thread starts runs on the measured core and nowhere else.
    pub(crate) fn visit(&self) -> Result<Visit<'_>> {
        let mut own = CpuSet::new();
        own.set(self.measured);
        sched_setaffinity(None, &own).context("going to the measured core")?;
        Ok(Visit(self))
    }

    /// Fails if a process could run elsewhere.
    pub(crate) fn check(&self, pid: u32) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(pid)?).context("not a pid")?;
        let set = sched_getaffinity(Some(pid)).context("asking where a server runs")?;
        ensure!(set.count() == 1 && set.is_set(self.measured), "a server does not run on its core alone");
        Ok(())
    }

    pub(crate) fn read(&self) -> Result<Reading> {
        Reading::parse(&fs::read_to_string("/proc/stat").context("reading /proc/stat")?, self.measured)
    }
}

#[derive(Debug)]
pub(crate) struct Visit<'a>(&'a Cores);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.0.others).expect("this thread came from there");
    }
}

/// Time of a core since the machine started, in seconds. It counts interrupts, which no process is charged for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub busy: f64,
    idle: f64,
    /// Taken by other guests of the machine's host.
    stolen: f64,
}

impl Reading {
    fn parse(stat: &str, core: usize) -> Result<Self> {
        let label = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&label)).context("/proc/stat lacks a core")?;
        let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [user, nice, system, idle, waiting, interrupts, soft_interrupts, stolen, ..] = ticks[..] else {
            bail!("/proc/stat is of an old kernel");
        };
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Self {
            busy: seconds(user + nice + system + interrupts + soft_interrupts),
            idle: seconds(idle + waiting),
            stolen: seconds(stolen),
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { busy: self.busy - before.busy, idle: self.idle - before.idle, stolen: self.stolen - before.stolen }
    }

    /// Of the time that the core was ours.
    pub(crate) fn busy_share(self) -> f64 {
        self.busy / (self.busy + self.idle)
    }

    pub(crate) fn warn_of_steal(self) {
        let share = self.stolen / (self.busy + self.idle + self.stolen);
        if share > STEAL_LIMIT {
            say(&format!("warning: another guest of this machine's host took {:.0} % of the core", share * 100.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_with_interrupts_too() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 100 200 300 1000 10 20 30 40 0 0\n";
        let reading = Reading::parse(stat, 1).unwrap();
        let tick = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(reading, Reading { busy: 650.0 / tick, idle: 1010.0 / tick, stolen: 40.0 / tick });
        assert_eq!(Reading::parse(stat, 7).unwrap_err().to_string(), "/proc/stat lacks a core");
    }
}
