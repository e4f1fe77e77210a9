//! Closed by default: tokens, file modes, loopback.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tradewind_testkit::World;

use super::{options, serving, start};

/// Routes that answer anybody.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

#[tokio::test]
async fn no_route_answers_without_its_token() -> Result<()> {
    let world = start(&["us-east1"]).await?;
    let control = world.file()?.control_url;
    let token = |path: &str| fs::read_to_string(world.data_dir.join(path)).map(|text| text.trim().to_owned());
    let admin = token("control/admin.token")?;
    let (agent, gateway) = (token("agents/us-east1/token")?, token("gateways/us-east1/token")?);
    // Of another world: well made, and worth nothing here.
    let stranger = format!("{}{}", &admin[..admin.len() - 4], "0000");
    let routes = routes(&control).await?;
    assert!(routes.len() > 25, "{routes:?}");

    for (method, path) in &routes {
        let open = OPEN.contains(&path.as_str());
        for stranger in [None, Some(stranger.as_str()), Some("")] {
            let status = call(&control, method, path, stranger).await?;
            let expected = if open { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            assert_eq!(status, expected, "{method} {path} with {stranger:?}");
        }
        for (role, token, allowed) in [
            ("agent", &agent, ["/v1/agent/", "/v1/blobs/{digest}", "/v1/models/{name}/versions/{version}"].as_slice()),
            ("gateway", &gateway, ["/v1/gateway/"].as_slice()),
        ] {
            let may = open
                || (allowed.iter().any(|start| path.starts_with(start)) && ["GET", "POST"].contains(&method.as_str()));
            let status = call(&control, method, path, Some(token)).await?;
            assert_eq!(status == StatusCode::FORBIDDEN, !may, "{method} {path} for the {role}: {status}");
        }
    }
    assert_eq!(call(&control, &Method::GET, "/v1/models", Some(&admin)).await?, StatusCode::OK);
    Ok(())
}

/// Every method and path of the document that control gives about itself.
async fn routes(control: &str) -> Result<Vec<(Method, String)>> {
    let http = tradewind_api::client::http_client().build()?;
    let document = http.get(format!("{control}/openapi.json")).send().await?.text().await?;
    let document: Value = serde_json::from_str(&document)?;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for method in ["get", "put", "post", "delete", "patch"].into_iter().filter(|method| item[method].is_object()) {
            routes.push((method.to_uppercase().parse()?, path.clone()));
        }
    }
    Ok(routes)
}

async fn call(control: &str, method: &Method, path: &str, token: Option<&str>) -> Result<StatusCode> {
    let mut url = format!("{control}{path}");
    for (name, value) in [
        ("name", "digits"),
        ("model", "digits"),
        ("version", "1"),
        ("rollout", "latest"),
        ("region", "us-east1"),
        ("digest", &"0".repeat(64)),
    ] {
        url = url.replace(&format!("{{{name}}}"), value);
    }
    let mut request = tradewind_api::client::http_client().build()?.request(method.clone(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Ok(request.send().await?.status())
}

#[tokio::test]
async fn secrets_are_private_and_everything_listens_on_loopback() -> Result<()> {
    let world = serving(options(&["us-east1"]).arg("--simulate-wan")).await?;
    let mut secrets = 0;
    for path in files(&world.data_dir)? {
        let bytes = fs::read(&path)?;
        let secret = path.ends_with("control/secret") || bytes.windows(4).any(|window| window == b"tw1.");
        if secret {
            secrets += 1;
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    assert!(secrets >= 4, "the secret, and the tokens of admin, agent and gateway; found {secrets}");

    let listening = listening()?;
    for process in listed(&world)? {
        let sockets = sockets(process.1)?;
        let addresses: BTreeSet<&String> = sockets.iter().filter_map(|inode| listening.get(inode)).collect();
        assert!(!addresses.is_empty(), "{} listens nowhere", process.0);
        assert!(addresses.iter().all(|address| is_loopback(address)), "{} listens on {addresses:?}", process.0);
    }
    Ok(())
}

fn listed(world: &World) -> Result<Vec<(String, u32)>> {
    let processes = world.file()?.processes;
    let mut listed: Vec<_> = processes.into_iter().map(|process| (process.role, process.pid)).collect();
    assert_eq!(listed.len(), 4, "{listed:?}");
    listed.push(("up".to_owned(), world.up_pid().context("up runs")?));
    Ok(listed)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The local address of every listening TCP socket of this machine, as the kernel writes it, by inode.
fn listening() -> Result<BTreeMap<String, String>> {
    const LISTEN: &str = "0A";
    let mut listening = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A machine without IPv6 has no second table.
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns.get(3) == Some(&LISTEN) {
                listening.insert(columns[9].to_owned(), columns[1].to_owned());
            }
        }
    }
    Ok(listening)
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("0100007F:") || address.starts_with("00000000000000000000000001000000:")
}

/// The inodes of a process's sockets.
fn sockets(pid: u32) -> Result<Vec<String>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may have been closed since.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.display().to_string();
        sockets.extend(target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    Ok(sockets)
}
