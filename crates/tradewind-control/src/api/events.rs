//! What has happened, and what happens.

use std::collections::VecDeque;

use axum::{
    extract::State,
    response::{IntoResponse, Json, Response},
};
use futures_util::stream;
use tradewind_api::{
    Problem, SCHEMA_VERSION,
    status::{EventList, EventQuery},
};
use tradewind_core::{ModelName, RegionName};

use super::{Result, Shared, extract::Query};
use crate::events::{Filter, RETAINED};

/// So many events are shown unless more are asked for.
const DEFAULT_LIMIT: usize = 100;

/// The newest events, oldest first. With `follow`, NDJSON of each event, those there are and those to come.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "Only events after the one with this sequence"),
        ("limit" = Option<u32>, Query, description = "The newest so many; 100 unless told"),
        ("model" = Option<ModelName>, Query), ("region" = Option<RegionName>, Query),
        ("follow" = Option<bool>, Query, description = "Answers with NDJSON that goes on"),
    ),
    responses((status = 200, body = EventList), (status = 400, body = Problem)))]
pub(super) async fn list(State(app): Shared, Query(query): Query<EventQuery>) -> Result<Response> {
    let filter = Filter { after: query.after, model: query.model, region: query.region };
    let limit = query.limit.map_or(DEFAULT_LIMIT, |limit| limit as usize).min(RETAINED);
    if !query.follow {
        let events = app.events.list(&filter, limit);
        return Ok(Json(EventList { schema_version: SCHEMA_VERSION, events }).into_response());
    }
    let log = app.events.clone();
    let mut newest = log.newest();
    newest.mark_changed();
    let start = (filter, Some(limit), VecDeque::new(), newest);
    let events = stream::unfold(start, move |(mut filter, mut limit, mut ready, mut newest)| {
        let log = log.clone();
        async move {
            while ready.is_empty() {
                newest.changed().await.ok()?;
                let seen = *newest.borrow_and_update();
                // Only the past is cut off.
                ready.extend(log.list(&filter, limit.take().unwrap_or(usize::MAX)));
                let last = ready.back().map(|event: &tradewind_core::event::Event| event.sequence);
                filter.after = filter.after.max(last).max(Some(seen));
            }
            ready.pop_front().map(|event| (event, (filter, limit, ready, newest)))
        }
    });
    app.stream(events)
}
