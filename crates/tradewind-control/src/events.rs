//! What has happened: the newest events, kept in memory beside the store, so that reading and following them costs the
//! store nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tradewind_core::{
    ModelName, RegionName, Timestamp,
    event::{Event, EventKind, EventRecord, Severity},
};
use tradewind_store::{KeyValue, MAX_TXN_OPS, Op, Txn, Update, list_then_watch};

use crate::{
    keys,
    repository::{self, Repository, put},
};

/// How many events are kept, at least.
pub(crate) const RETAINED: usize = 10_000;
/// So many more may gather until the oldest are removed.
const TRIM_AT: usize = RETAINED + 500;
/// The longest message, in bytes.
pub(crate) const MESSAGE_LIMIT: usize = 4096;

/// A fleet-wide event of a region or a model, as an operation of the transaction that makes it happen.
pub(crate) fn record(at: Timestamp, unique: &str, record: &EventRecord) -> Op {
    put(keys::event(at, unique), record)
}

pub(crate) fn of(kind: EventKind, severity: Severity, at: Timestamp, message: impl Into<String>) -> EventRecord {
    EventRecord { at, severity, kind, region: None, model: None, message: message.into() }
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub after: Option<u64>,
    pub model: Option<ModelName>,
    pub region: Option<RegionName>,
}

impl Filter {
    fn takes(&self, record: &EventRecord) -> bool {
        let fits = |wanted: bool, equal: bool| !wanted || equal;
        fits(self.model.is_some(), self.model == record.model)
            && fits(self.region.is_some(), self.region == record.region)
    }
}

#[derive(Debug)]
pub(crate) struct EventLog {
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By sequence.
    events: BTreeMap<u64, (String, EventRecord)>,
    sequences: HashMap<String, u64>,
    /// Those that came since the log was loaded.
    seen: HashMap<(EventKind, Severity), u64>,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// The newest `limit` events that the filter takes, oldest first.
    pub(crate) fn list(&self, filter: &Filter, limit: usize) -> Vec<Event> {
        let kept = self.kept();
        let after = filter.after.map_or(0, |after| after.saturating_add(1));
        let taken = kept.events.range(after..).rev().filter(|(_, (_, record))| filter.takes(record)).take(limit);
        let mut events: Vec<Event> =
            taken.map(|(sequence, (_, record))| Event { sequence: *sequence, record: record.clone() }).collect();
        events.reverse();
        events
    }

    pub(crate) fn count(&self) -> usize {
        self.kept().events.len()
    }

    /// How many events of each kind came since the start.
    pub(crate) fn seen(&self) -> HashMap<(EventKind, Severity), u64> {
        self.kept().seen.clone()
    }

    /// The newest event's sequence.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A reader that panicked has left the data whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the store has, so that nobody is told of an empty past.
    pub(crate) async fn load(&self, repository: &Repository) -> tradewind_store::Result<()> {
        let listing = repository.store().list(keys::EVENTS).await?;
        self.take(Update::Reset(listing));
        self.kept().seen.clear();
        Ok(())
    }

    /// Follows the store, and keeps the number of events there within bounds.
    pub(crate) async fn run(self: Arc<Self>, repository: Repository, shutdown: CancellationToken) {
        let mut updates = list_then_watch(repository.store().clone(), keys::EVENTS);
        loop {
            let update = tokio::select! {
                () = shutdown.cancelled() => return,
                update = updates.next() => update,
            };
            let Some(update) = update else { return };
            self.take(update);
            if let Err(error) = self.trim(&repository).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "old events cannot be removed for now");
            }
        }
    }

    fn take(&self, update: Update) {
        let mut kept = self.kept();
        let before = kept.newest();
        match update {
            Update::Reset(listing) => {
                *kept = Kept { seen: std::mem::take(&mut kept.seen), ..Kept::default() };
                kept.add(listing.kvs.iter());
            }
            Update::Changes(batch) => {
                let puts = batch.events.iter().filter_map(|event| match event {
                    tradewind_store::Event::Put { now, .. } => Some(now),
                    tradewind_store::Event::Delete { .. } => None,
                });
                // A second put of a key is the same event again.
                kept.add(puts.filter(|kv| kv.version == 1));
                for event in batch.events.iter().filter(|event| !event.is_put()) {
                    kept.remove(event.key());
                }
            }
        }
        kept.count_after(before);
        let newest = kept.newest();
        drop(kept);
        self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
    }

    async fn trim(&self, repository: &Repository) -> repository::Result<()> {
        for batch in self.surplus().chunks(MAX_TXN_OPS) {
            let deletes = batch.iter().map(|key| Op::delete(key.clone()));
            repository.commit(deletes.fold(Txn::new(), Txn::then)).await?;
        }
        Ok(())
    }

    /// The keys of the oldest events, once there are enough to be worth it. Events that were written together stay or
    /// go together, since their place among each other is part of their sequence.
    fn surplus(&self) -> Vec<String> {
        let kept = self.kept();
        if kept.events.len() < TRIM_AT {
            return Vec::new();
        }
        let Some(first_kept) = kept.events.keys().nth(kept.events.len() - RETAINED) else { return Vec::new() };
        let bound = first_kept - first_kept % PER_REVISION;
        kept.events.range(..bound).map(|(_, (key, _))| key.clone()).collect()
    }
}

/// A transaction writes at most so many events.
const PER_REVISION: u64 = MAX_TXN_OPS as u64;

impl Kept {
    /// The sequence is the revision that created the event, and its place among those of that revision.
    fn add<'a>(&mut self, kvs: impl Iterator<Item = &'a KeyValue>) {
        let mut places: HashMap<u64, u64> = HashMap::new();
        let mut sorted: Vec<&KeyValue> = kvs.collect();
        sorted.sort_by(|one, other| one.key.cmp(&other.key));
        for kv in sorted {
            let revision = kv.create_revision.get();
            let place = places.entry(revision).or_default();
            let sequence = revision * PER_REVISION + *place;
            *place += 1;
            match tradewind_core::stored::decode::<EventRecord>(&kv.value) {
                Ok(record) => {
                    self.events.insert(sequence, (kv.key.clone(), record));
                    self.sequences.insert(kv.key.clone(), sequence);
                }
                Err(error) => {
                    tracing::warn!(key = kv.key, error = &error as &dyn std::error::Error, "an event is unreadable");
                }
            }
        }
    }

    fn newest(&self) -> u64 {
        self.events.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    fn count_after(&mut self, sequence: u64) {
        for (_, (_, record)) in self.events.range(sequence + 1..) {
            *self.seen.entry((record.kind, record.severity)).or_default() += 1;
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(sequence) = self.sequences.remove(key) {
            self.events.remove(&sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_core::stored;
    use tradewind_store::{Batch, Listing, Revision};

    use super::*;

    fn kv(key: &str, revision: u64) -> KeyValue {
        let record = of(EventKind::ControlStarted, Severity::Info, Timestamp::UNIX_EPOCH, key);
        KeyValue {
            key: key.to_owned(),
            value: stored::encode(&record).into(),
            create_revision: Revision::new(revision),
            mod_revision: Revision::new(revision),
            version: 1,
            lease: None,
        }
    }

    fn messages(log: &EventLog, filter: &Filter, limit: usize) -> Vec<String> {
        log.list(filter, limit).into_iter().map(|event| event.record.message).collect()
    }

    #[test]
    fn events_of_one_revision_have_sequences_of_their_own_that_a_new_listing_repeats() {
        let kvs = vec![kv("events/2/b", 7), kv("events/1/a", 7), kv("events/3/c", 6)];
        let watched = EventLog::new();
        for revision in [6, 7] {
            let events = kvs.iter().filter(|kv| kv.create_revision.get() == revision);
            let events = events.map(|kv| tradewind_store::Event::Put { now: kv.clone(), prev: None }).collect();
            watched.take(Update::Changes(Batch { revision: Revision::new(revision), events }));
        }
        let listed = EventLog::new();
        listed.take(Update::Reset(Listing { revision: Revision::new(9), kvs }));
        assert_eq!(watched.seen(), HashMap::from([((EventKind::ControlStarted, Severity::Info), 3)]));
        let all = watched.list(&Filter::default(), 10);
        assert_eq!(all, listed.list(&Filter::default(), 10));
        assert_eq!(messages(&watched, &Filter::default(), 10), ["events/3/c", "events/1/a", "events/2/b"]);
        assert!(all.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
        let after = Filter { after: Some(all[1].sequence), ..Filter::default() };
        assert_eq!(messages(&watched, &after, 10), ["events/2/b"]);
        assert_eq!(messages(&watched, &Filter::default(), 1), ["events/2/b"]);
    }

    #[test]
    fn the_oldest_go_in_whole_revisions_once_there_are_enough() {
        let log = EventLog::new();
        // Three events a revision.
        let kvs = (0..TRIM_AT).map(|n| kv(&format!("events/{n:08}"), 1 + n as u64 / 3)).collect();
        log.take(Update::Reset(Listing { revision: Revision::new(90_000), kvs }));
        let surplus = log.surplus();
        assert_eq!(surplus.len() % 3, 0);
        assert!(TRIM_AT - surplus.len() >= RETAINED && surplus.len() > 400, "{}", surplus.len());
        assert_eq!(surplus[0], "events/00000000");
        let events = surplus.into_iter().map(|key| tradewind_store::Event::Delete { key, prev: None }).collect();
        log.take(Update::Changes(Batch { revision: Revision::new(90_001), events }));
        assert!(log.surplus().is_empty());
        assert!(log.count() >= RETAINED);
    }
}
