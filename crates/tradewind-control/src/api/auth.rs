//! Who may use a route.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tradewind_api::{Code, Problem, auth::Scope, http::bearer};
use tradewind_core::RegionName;

use crate::app::App;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Everyone,
    People,
    PeopleAndAgents,
    Monitoring,
    Agents,
    Gateways,
}

impl Audience {
    fn admits(self, scope: &Scope) -> bool {
        match self {
            Self::Everyone => true,
            Self::People => *scope == Scope::Admin,
            Self::PeopleAndAgents => matches!(scope, Scope::Admin | Scope::Agent(_)),
            Self::Monitoring => matches!(scope, Scope::Admin | Scope::Monitoring),
            Self::Agents => matches!(scope, Scope::Agent(_)),
            Self::Gateways => matches!(scope, Scope::Gateway(_)),
        }
    }
}

pub(super) async fn guard(
    State((app, audience)): State<(Arc<App>, Audience)>,
    mut request: Request,
    next: Next,
) -> Response {
    if audience == Audience::Everyone {
        return next.run(request).await;
    }
    let Some(token) = bearer(request.headers()) else { return unauthorized("a token is needed") };
    let Some(scope) = app.authority.check(token) else { return unauthorized("the token is not one of this world") };
    if !audience.admits(&scope) {
        return Problem::new(Code::Forbidden, format!("a token of scope `{scope}` does not allow this"))
            .hint("people use the admin token; agents and gateways have tokens of their own region")
            .into_response();
    }
    request.extensions_mut().insert(scope);
    next.run(request).await
}

fn unauthorized(detail: &str) -> Response {
    let problem = Problem::new(Code::Unauthorized, detail)
        .hint("give the token that the control plane wrote to admin.token in its data directory, in TRADEWIND_TOKEN");
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The region whose agent or gateway asks.
#[derive(Debug)]
pub(super) struct MemberRegion(pub(super) RegionName);

impl<S: Sync> FromRequestParts<S> for MemberRegion {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<Scope>() {
            Some(Scope::Agent(region) | Scope::Gateway(region)) => Ok(Self(region.clone())),
            _ => Err(Problem::new(Code::Forbidden, "only an agent or a gateway does this")),
        }
    }
}
