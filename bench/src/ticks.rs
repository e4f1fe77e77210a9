//! A timer that is finer than the runtime's own.

use std::{os::fd::OwnedFd, time::Duration};

use anyhow::{Context, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Rings at a fixed interval.
#[derive(Debug)]
pub(crate) struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    pub(crate) fn every(interval: Duration) -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let interval = Timespec { tv_sec: interval.as_secs().cast_signed(), tv_nsec: interval.subsec_nanos().into() };
        let timer_spec = Itimerspec { it_interval: interval, it_value: interval };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &timer_spec)?;
        // SAFETY: the descriptor is owned by what is registered, which never replaces it and closes it when dropped.
        #[expect(unsafe_code, reason = "tokio cannot see that an `OwnedFd` keeps its descriptor")]
        let timer = unsafe { AsyncFd::register(timer) };
        Ok(Self(timer.map_err(std::io::Error::from)?))
    }

    /// How many ticks have passed since the last call; at least one.
    pub(crate) async fn wait(&self) -> Result<u64> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut ticks = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut ticks)?));
            if let Ok(read) = read {
                read.context("reading a timer")?;
                return Ok(u64::from_ne_bytes(ticks));
            }
        }
    }
}
