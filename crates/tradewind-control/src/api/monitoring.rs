//! Monitors, alerts, silences, and who is told.

use axum::{extract::State, http::StatusCode, response::Json};
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    monitoring::{
        AlertList, AlertQuery, MonitorList, MonitorQuery, ReceiverList, ReceiverRequest, ReceiverView, SilenceList,
        SilenceRequest,
    },
};
use tradewind_core::{
    ReceiverName, Slot, Timestamp,
    alert::{
        Alert,
        receiver::{RECEIVERS_LIMIT, Receiver},
        silence::Silence,
    },
    deployment::{Deployment, Revision},
    duration::Span,
    route::Route,
};
use tradewind_store::{Compare, Op, Txn};

use super::{
    Result, Shared,
    extract::{self, Path, Query},
};
use crate::{app::App, keys, monitoring::Secret, repository::put, suggest, view};

/// So many alerts that are over are shown unless more are asked for.
const DEFAULT_LIMIT: usize = 100;
/// The longest silence.
const SILENCE_LIMIT: Span = Span::from_secs(90 * 24 * 3600);
/// The most silences at a time.
const SILENCES_LIMIT: usize = 1000;
/// The longest comment, in bytes.
const COMMENT_LIMIT: usize = 1000;

/// What is watched of every revision that a slot holds, by model, region and revision.
#[utoipa::path(get, path = "/v1/monitors", tag = "monitoring",
    params(("model" = Option<String>, Query), ("region" = Option<String>, Query)),
    responses((status = 200, body = MonitorList), (status = 404, body = Problem)))]
pub(super) async fn monitors(State(app): Shared, Query(query): Query<MonitorQuery>) -> Result<Json<MonitorList>> {
    let deployments = app.repository.list::<Deployment>(keys::DEPLOYMENTS).await?.values();
    if let Some(model) = query.model.as_ref().filter(|model| !deployments.iter().any(|each| each.model == **model)) {
        let known: Vec<&str> = deployments.iter().map(|each| each.model.as_str()).collect();
        return Err(suggest::unknown("deployed model", model.as_str(), &known));
    }
    if let Some(region) = &query.region {
        super::regions::check_exists(&app, region).await?;
    }
    let regions = app.regions().await?;
    let mut monitors = Vec::new();
    for deployment in deployments.iter().filter(|each| query.model.as_ref().is_none_or(|model| *model == each.model)) {
        let route = app.repository.get::<Route>(keys::route(&deployment.model)).await?.map(|kept| kept.value);
        for slot in Slot::BOTH {
            let Some(number) = deployment.slots[slot] else { continue };
            let key = keys::revision(&deployment.model, number);
            let Some(revision) = app.repository.get::<Revision>(key).await? else { continue };
            let (revision, route) = (revision.value, route.as_ref());
            monitors.extend(app.look(&regions, |sight| {
                view::monitors::of_slot(deployment, slot, &revision, route, sight, &app.ledger)
            }));
        }
    }
    monitors.retain(|each| query.region.as_ref().is_none_or(|region| *region == each.region));
    monitors.sort_by(|a, b| (&a.model, &a.region, a.revision).cmp(&(&b.model, &b.region, b.revision)));
    Ok(Json(MonitorList { schema_version: SCHEMA_VERSION, monitors }))
}

/// The alerts that fire, the worst first, and those that are over if asked for.
#[utoipa::path(get, path = "/v1/alerts", tag = "monitoring",
    params(
        ("all" = Option<bool>, Query, description = "Also those that are over"),
        ("limit" = Option<u32>, Query, description = "Of those that are over, the newest so many; 100 unless told"),
    ),
    responses((status = 200, body = AlertList), (status = 400, body = Problem)))]
pub(super) async fn alerts(State(app): Shared, Query(query): Query<AlertQuery>) -> Result<Json<AlertList>> {
    let prefix = if query.all { keys::ALERTS } else { keys::FIRING };
    let alerts = app.repository.list::<Alert>(prefix).await?.values();
    let silences = app.repository.list::<Silence>(keys::SILENCES).await?.values();
    let limit = query.limit.map_or(DEFAULT_LIMIT, |limit| limit as usize);
    let alerts = view::alerts::view(alerts, &silences, limit, Timestamp::now());
    Ok(Json(AlertList { schema_version: SCHEMA_VERSION, alerts }))
}

/// The silences that are not over, the first to end first.
#[utoipa::path(get, path = "/v1/silences", tag = "monitoring", responses((status = 200, body = SilenceList)))]
pub(super) async fn silences(State(app): Shared) -> Result<Json<SilenceList>> {
    let mut silences = app.repository.list::<Silence>(keys::SILENCES).await?.values();
    silences.retain(|silence| silence.until > Timestamp::now());
    silences.sort_by_key(|silence| silence.until);
    Ok(Json(SilenceList { schema_version: SCHEMA_VERSION, silences }))
}

/// Silences alerts that match, for a while.
#[utoipa::path(post, path = "/v1/silences", tag = "monitoring", request_body = SilenceRequest,
    responses((status = 201, body = Silence), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn silence(
    State(app): Shared,
    extract::Json(request): extract::Json<SilenceRequest>,
) -> Result<(StatusCode, Json<Silence>)> {
    let invalid = |detail: String| Err(Problem::new(Code::Invalid, detail));
    if request.lasts.as_millis() == 0 || request.lasts > SILENCE_LIMIT {
        return invalid(format!("a silence lasts up to {SILENCE_LIMIT}, not {}", request.lasts));
    }
    if request.comment.len() > COMMENT_LIMIT || request.created_by.len() > COMMENT_LIMIT {
        return invalid(format!("a comment has at most {COMMENT_LIMIT} bytes"));
    }
    let now = Timestamp::now();
    let mut txn = Txn::new();
    let listed = app.repository.list::<Silence>(keys::SILENCES).await?;
    let (over, kept): (Vec<_>, Vec<_>) = listed.items.into_iter().partition(|kept| kept.value.until <= now);
    if kept.len() >= SILENCES_LIMIT {
        return Err(Problem::new(Code::Refused, format!("there are {SILENCES_LIMIT} silences, and that is the limit"))
            .hint("end some: tradewind alerts unsilence ID"));
    }
    // What is over goes when something new comes.
    for kept in over.iter().take(tradewind_store::MAX_TXN_OPS / 2) {
        txn = txn.then(Op::delete(&kept.key));
    }
    let silence = Silence {
        id: format!("{:08x}", rand::random::<u32>()),
        matcher: request.matcher,
        until: now.checked_add(request.lasts.duration()).unwrap_or(Timestamp::MAX),
        comment: request.comment,
        created_at: now,
        created_by: request.created_by,
    };
    let key = keys::silence(&silence.id);
    app.repository.commit(txn.when(Compare::absent(&key)).then(put(key, &silence))).await?;
    Ok((StatusCode::CREATED, Json(silence)))
}

/// Ends a silence.
#[utoipa::path(delete, path = "/v1/silences/{id}", tag = "monitoring", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn unsilence(State(app): Shared, Path(id): Path<String>) -> Result<StatusCode> {
    let key = keys::silence(&id);
    if app.repository.get::<Silence>(key.clone()).await?.is_none() {
        let known = app.repository.list::<Silence>(keys::SILENCES).await?.values();
        let known: Vec<&str> = known.iter().map(|silence| silence.id.as_str()).collect();
        return Err(suggest::unknown("silence", &id, &known));
    }
    app.repository.commit(Txn::new().then(Op::delete(key))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is told of alerts.
#[utoipa::path(get, path = "/v1/receivers", tag = "monitoring", responses((status = 200, body = ReceiverList)))]
pub(super) async fn receivers(State(app): Shared) -> Result<Json<ReceiverList>> {
    let receivers = app.repository.list::<Receiver>(keys::RECEIVERS).await?.values();
    let receivers = receivers.into_iter().map(|receiver| receiver_view(&app, receiver)).collect();
    Ok(Json(ReceiverList { schema_version: SCHEMA_VERSION, receivers }))
}

fn receiver_view(app: &App, receiver: Receiver) -> ReceiverView {
    let standing = app.couriers.standing(&receiver.name);
    ReceiverView {
        signed: receiver.secret.is_some(),
        delivered: standing.delivered,
        failing: standing.failing,
        name: receiver.name,
        url: receiver.url,
        format: receiver.format,
        created_at: receiver.created_at,
    }
}

/// Adds a receiver, or changes one.
#[utoipa::path(put, path = "/v1/receivers/{name}", tag = "monitoring", params(("name" = ReceiverName, Path)),
    request_body = ReceiverRequest,
    responses((status = 200, body = ReceiverView), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn put_receiver(
    State(app): Shared,
    Path(name): Path<ReceiverName>,
    extract::Json(request): extract::Json<ReceiverRequest>,
) -> Result<Json<ReceiverView>> {
    let is_url = reqwest::Url::parse(&request.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_url {
        return Err(Problem::new(Code::Invalid, format!("`{}` is not a URL", request.url))
            .hint("write it as https://host/path"));
    }
    if let Some(problem) = request.secret.as_deref().and_then(|secret| Secret::parse(secret).err()) {
        return Err(Problem::new(Code::Invalid, problem).hint("make one: echo whsec_$(openssl rand -base64 32)"));
    }
    let known = app.repository.list::<Receiver>(keys::RECEIVERS).await?.values();
    let before = known.iter().find(|receiver| receiver.name == name);
    if before.is_none() && known.len() >= RECEIVERS_LIMIT {
        let detail = format!("there are {RECEIVERS_LIMIT} receivers, and that is the limit");
        return Err(Problem::new(Code::Refused, detail).hint("remove one: tradewind alerts receivers rm NAME"));
    }
    let created_at = before.map_or_else(Timestamp::now, |receiver| receiver.created_at);
    let ReceiverRequest { url, format, secret } = request;
    let receiver = Receiver { name, url, format, secret, created_at };
    app.repository.commit(Txn::new().then(put(keys::receiver(&receiver.name), &receiver))).await?;
    Ok(Json(receiver_view(&app, receiver)))
}

async fn find_receiver(app: &App, name: &ReceiverName) -> Result<Receiver> {
    let known = app.repository.list::<Receiver>(keys::RECEIVERS).await?.values();
    let names: Vec<&str> = known.iter().map(|receiver| receiver.name.as_str()).collect();
    let unknown = suggest::unknown("receiver", name.as_str(), &names);
    known.into_iter().find(|receiver| receiver.name == *name).ok_or(unknown)
}

/// Removes a receiver.
#[utoipa::path(delete, path = "/v1/receivers/{name}", tag = "monitoring", params(("name" = ReceiverName, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove_receiver(State(app): Shared, Path(name): Path<ReceiverName>) -> Result<StatusCode> {
    find_receiver(&app, &name).await?;
    app.repository.commit(Txn::new().then(Op::delete(keys::receiver(&name)))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a receiver a message that is no alert.
#[utoipa::path(post, path = "/v1/receivers/{name}/test", tag = "monitoring", params(("name" = ReceiverName, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 502, body = Problem)))]
pub(super) async fn test_receiver(State(app): Shared, Path(name): Path<ReceiverName>) -> Result<StatusCode> {
    let receiver = find_receiver(&app, &name).await?;
    app.couriers.test(receiver).await.map_err(|problem| {
        Problem::new(Code::Unreachable, format!("{name} does not take what it is sent")).cause(problem)
    })?;
    Ok(StatusCode::NO_CONTENT)
}
