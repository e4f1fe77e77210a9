//! Taking up configurations: from disk at the start, then as they come.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;
use tradewind_api::gateway::{
    GatewaySnapshot, acceptance,
    config::{ConfigMessage, Edition},
};
use tradewind_core::{Digest, Timestamp, causes::chain};

use super::{Director, Fit};
use crate::{
    disk,
    tables::{self, Tables},
};

impl Director {
    /// Begins with what was known last. Damage on disk is told and otherwise like a first start.
    pub(crate) fn recall(&mut self) {
        match self.disk.load_endpoints() {
            Ok(known) => self.endpoints = known.unwrap_or_default(),
            Err(error) => tracing::warn!(error = chain(&error), "starting without the last endpoints"),
        }
        let mut lacking = None;
        match self.disk.load_snapshot() {
            Ok(None) => {}
            Ok(Some(snapshot)) => match acceptance::check(None, &snapshot) {
                Ok(()) => {
                    lacking = self.recall_tables(&snapshot);
                    self.adopt(Edition::new(snapshot));
                }
                Err(refusal) => tracing::warn!(%refusal, "starting without the last snapshot"),
            },
            Err(error) => tracing::warn!(error = chain(&error), "starting without the last snapshot"),
        }
        self.acknowledge(lacking);
    }

    /// Without a table its users get what all others get, until control sends it again: better than nobody served.
    fn recall_tables(&mut self, snapshot: &GatewaySnapshot) -> Option<String> {
        let mut lacking = None;
        for digest in tables::named(&snapshot.routes, Timestamp::now()) {
            match self.disk.load_table(&digest) {
                Ok(table) => drop(self.tables.insert(digest, Arc::new(table))),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "starting without a table of pinned users");
                    lacking = Some(chain(&error));
                }
            }
        }
        lacking
    }

    pub(super) async fn take_message(&mut self, message: ConfigMessage, tables: Tables) -> Fit {
        match message.onto(self.held.as_ref()) {
            Ok(offered) => {
                self.take_edition(offered, tables).await;
                Fit::Fits
            }
            Err(mismatch) => {
                tracing::info!(%mismatch, "asking control for everything anew");
                self.gateway.metrics.relists.fetch_add(1, Ordering::Relaxed);
                Fit::Unfit
            }
        }
    }

    async fn take_edition(&mut self, offered: Edition, new_tables: Tables) {
        if let Err(refusal) = acceptance::check(self.snapshot().map(|known| &**known), &offered.snapshot) {
            return self.refuse(&refusal);
        }
        let named = tables::named(&offered.snapshot.routes, Timestamp::now());
        let is_there = |digest: &&Digest| self.tables.contains_key(*digest) || new_tables.contains_key(*digest);
        if let Some(missing) = named.iter().find(|digest| !is_there(digest)) {
            return self.refuse(&format!("the table {} of pinned users is not here", missing.short()));
        }
        self.tables.extend(new_tables.clone());
        self.tables.retain(|digest, _| named.contains(digest));
        let own = offered.snapshot.regions.iter().find(|members| members.name == self.gateway.region);
        let staged = self.drill.hear(own.and_then(|members| members.drill), Instant::now());
        if self.snapshot() != Some(&offered.snapshot) || !new_tables.is_empty() {
            let snapshot = Arc::clone(&offered.snapshot);
            self.adopt(offered);
            // Served at once, but told only when it outlives this process: control retires the old slot on our word.
            let disk = self.disk.clone();
            self.save(move || {
                new_tables.iter().try_for_each(|(digest, table)| disk.save_table(digest, table))?;
                disk.save_snapshot(&snapshot)?;
                disk.keep_tables(&named)
            })
            .await;
        } else {
            self.held = Some(offered);
            if staged {
                self.compose();
            }
        }
        self.acknowledge(None);
    }

    /// The last good one stays.
    pub(super) fn refuse(&self, reason: &dyn std::fmt::Display) {
        tracing::warn!(%reason, "refused what control sent");
        self.gateway.metrics.configs_refused.fetch_add(1, Ordering::Relaxed);
        self.acknowledge(Some(reason.to_string()));
    }

    pub(super) async fn save(&self, save: impl FnOnce() -> Result<(), disk::Error> + Send + 'static) {
        match tokio::task::spawn_blocking(save).await {
            Ok(Ok(())) => {}
            // A full disk must not hold up a switch of the fleet.
            Ok(Err(error)) => tracing::error!(error = chain(&error), "cannot save the last state"),
            Err(error) => tracing::error!(%error, "saving the last state failed"),
        }
    }
}
