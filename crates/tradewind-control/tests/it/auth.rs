//! Who may do what.

use http::{Method, StatusCode};
use tradewind_api::{Code, Problem, client::http_client};

use crate::control::{Control, problem};

/// A path of the API with something in the place of each parameter.
fn concrete(path: &str) -> String {
    path.replace("{digest}", &"a".repeat(64))
        .replace("{version}", "1")
        .replace("{rollout}", "latest")
        .replace("{region}", "us-east1")
        .replace("{name}", "digits")
        .replace("{model}", "digits")
}

async fn ask(control: &Control, method: &Method, path: &str, token: Option<&str>) -> reqwest::Response {
    let url = format!("{}{}", control.url, concrete(path));
    let mut request = http_client().build().unwrap().request(method.clone(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn every_route_but_the_open_ones_wants_a_token() {
    let control = Control::start().await;
    let routes = tradewind_control::routes();
    let open: Vec<&str> = routes.iter().filter(|route| route.open).map(|route| route.path.as_str()).collect();
    assert_eq!(open, ["/healthz", "/metrics", "/openapi.json", "/readyz"]);
    assert!(routes.len() > 25, "{routes:?}");
    let foreign = tradewind_api::auth::Authority::open(tempfile::tempdir().unwrap().path()).unwrap();
    let foreign = foreign.issue(&tradewind_api::auth::Scope::Admin);
    for route in routes {
        for token in [None, Some(foreign.as_str()), Some("nonsense")] {
            let response = ask(&control, &route.method, &route.path, token).await;
            if route.open {
                assert_ne!(response.status(), StatusCode::UNAUTHORIZED, "{route:?}");
                continue;
            }
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{route:?}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let problem: Problem = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert!(problem.code == Code::Unauthorized && problem.hint.is_some(), "{problem:?}");
        }
    }
    control.stop().await;
}

#[tokio::test]
async fn a_token_of_another_scope_is_refused() {
    let control = Control::start().await;
    for route in tradewind_control::routes().into_iter().filter(|route| !route.open) {
        let allowed: &[&str] = match route.path.as_str() {
            path if path.starts_with("/v1/agent/") => &["agent/us-east1"],
            path if path.starts_with("/v1/gateway/") => &["gateway/us-east1"],
            "/v1/models/{name}/versions/{version}" | "/v1/blobs/{digest}" if route.method == Method::GET => {
                &["admin", "agent/us-east1"]
            }
            "/v1/monitoring/targets" => &["admin", "monitoring"],
            _ => &["admin"],
        };
        for scope in ["admin", "monitoring", "agent/us-east1", "gateway/us-east1", "mesh"] {
            let response = ask(&control, &route.method, &route.path, Some(&control.token(scope))).await;
            let refused = response.status() == StatusCode::FORBIDDEN;
            assert_eq!(refused, !allowed.contains(&scope), "{scope} at {route:?}: {}", response.status());
        }
    }
    control.stop().await;
}

#[tokio::test]
async fn the_admin_token_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let control = Control::start().await;
    for file in ["admin.token", "secret"] {
        let mode = std::fs::metadata(control.directory().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    control.stop().await;
}

#[tokio::test]
async fn a_request_without_a_route_or_with_a_wrong_method_is_a_problem() {
    let control = Control::start().await;
    let token = control.token("admin");
    for (method, path, status) in
        [(Method::GET, "/v1/nothing", StatusCode::NOT_FOUND), (Method::DELETE, "/v1/models", StatusCode::BAD_REQUEST)]
    {
        let response = ask(&control, &method, path, Some(&token)).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    let answer = control.admin.model(&"digits".parse().unwrap()).await;
    assert_eq!(problem(answer).code, Code::NotFound);
    control.stop().await;
}
