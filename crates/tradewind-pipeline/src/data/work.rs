//! Work on files, on threads that may block.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use tokio::sync::watch;

use super::{Error, Progress};

/// The most threads that read files at once: disks gain nothing from more.
const THREADS_LIMIT: usize = 8;

/// Tells how far the work is, and hears whether anybody waits for it.
pub(super) struct Teller(watch::Sender<Progress>);

impl Teller {
    pub(super) fn tell(&self, progress: Progress) {
        self.0.send_replace(progress);
    }

    /// Fails when nobody waits for the work any more.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.0.is_closed() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Does it on a thread of its own. The work hears by its teller when the future is dropped.
pub(super) async fn blocking<T: Send + 'static>(
    said: &(dyn Fn(Progress) + Sync),
    work: impl FnOnce(&Teller) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, mut receiver) = watch::channel(Progress::Found { files: 0, bytes: 0 });
    let work = tokio::task::spawn_blocking(move || work(&Teller(sender)));
    while receiver.changed().await.is_ok() {
        let progress = receiver.borrow_and_update().clone();
        said(progress);
    }
    match work.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Stopped),
    }
}

/// Does the same with each of them on a few threads; results are in their order. After an error nothing new is begun,
/// and of several the one of the earliest is returned.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<R, Error>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(place) else { break };
            let result = work(item);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..cores.min(THREADS_LIMIT).min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_earliest_error_counts() {
        let numbers: Vec<u64> = (0..1000).collect();
        assert_eq!(each(&numbers, |number| Ok(number * 2)).unwrap()[999], 1998);
        assert!(each(&[], |(): &()| Ok(())).unwrap().is_empty());
        let odd = |number: &u64| {
            if number % 7 == 6 { Err(Error::Empty(number.to_string())) } else { Ok(()) }
        };
        for _ in 0..20 {
            assert_eq!(each(&numbers, odd).unwrap_err().to_string(), "there is no data: 6");
        }
    }

    #[tokio::test]
    async fn work_hears_that_nobody_waits() {
        let (sender, stopped) = std::sync::mpsc::channel();
        let work = blocking(&|_| (), move |teller| {
            while teller.go_on().is_ok() {
                thread::yield_now();
            }
            sender.send(()).expect("the test waits");
            Ok(())
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), work).await.is_err());
        stopped.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    }
}
