//! The epoch of an answer as a cookie: clients that keep cookies name it with their next request by themselves, and so
//! never go back.

use http::{HeaderValue, header};
use tradewind_core::Epoch;

use crate::headers::{Headers, name};

const NAME: &str = "tradewind-epoch";

/// The epoch that a client has seen, as its cookie says.
pub(crate) fn seen(headers: &Headers) -> Option<Epoch> {
    str::from_utf8(headers.cookie(NAME)?).ok()?.parse().ok()
}

/// Has the client keep the epoch of this answer for what it asks under `path`, unless it does so already: epochs are of a
/// model, and so is the cookie.
pub(crate) fn tell(answer: &mut Headers, seen: Option<Epoch>, path: &str) {
    let epoch = answer.text(&name::EPOCH).and_then(|epoch| epoch.parse::<Epoch>().ok());
    if let Some(epoch) = epoch.filter(|epoch| Some(*epoch) != seen)
        && let Ok(cookie) = HeaderValue::try_from(format!("{NAME}={epoch}; Path={path}; HttpOnly; SameSite=Lax"))
    {
        answer.append(&header::SET_COOKIE, cookie);
    }
}
