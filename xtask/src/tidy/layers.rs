//! The directions of dependencies: core <- api <- the roles <- the binary. Roles meet in `api`, never in each other;
//! only control opens the store; only the replica touches ONNX Runtime.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{Finding, Rule};
use crate::workspace::{Package, Workspace};

/// What every role may stand on.
const SHARED: &[&str] =
    &["tradewind-core", "tradewind-api", "tradewind-artifacts", "tradewind-process", "tradewind-traces"];
const CONTROL: &[&str] = &[
    "tradewind-core",
    "tradewind-api",
    "tradewind-artifacts",
    "tradewind-process",
    "tradewind-traces",
    "tradewind-store",
];
const BINARY: &[&str] = &[
    "tradewind-core",
    "tradewind-drawing",
    "tradewind-api",
    "tradewind-artifacts",
    "tradewind-process",
    "tradewind-traces",
    "tradewind-control",
    "tradewind-agent",
    "tradewind-gateway",
    "tradewind-replica",
    "tradewind-pipeline",
];

/// Which of our crates each of our crates may use. Development tools are not listed: they may use any.
const LAYERS: &[(&str, &[&str])] = &[
    ("tradewind-core", &[]),
    ("tradewind-drawing", &[]),
    ("tradewind-process", &[]),
    ("tradewind-api", &["tradewind-core"]),
    ("tradewind-traces", &["tradewind-core", "tradewind-api"]),
    ("tradewind-store", &["tradewind-core"]),
    ("tradewind-artifacts", &["tradewind-core", "tradewind-api"]),
    ("tradewind-control", CONTROL),
    ("tradewind-agent", SHARED),
    ("tradewind-gateway", SHARED),
    ("tradewind-replica", SHARED),
    ("tradewind-pipeline", SHARED),
    ("tradewind", BINARY),
];
/// Used by tests and chores alone: never by what is shipped.
const DEV_TOOLS: &[&str] = &["tradewind-bench", "tradewind-fuzz", "tradewind-testkit", "xtask"];

/// Crates from outside that belong to one of ours.
const OWNED: &[(&str, &str)] = &[("ort", "tradewind-replica"), ("rusqlite", "tradewind-store")];
/// What the core must do without: its decisions are synchronous and pure.
const IMPURE: &[&str] = &["tokio", "tokio-util", "tokio-stream", "futures-util", "reqwest", "hyper", "axum", "rand"];

pub(super) fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in workspace.metadata(false)?.packages {
        let faults = faults(&package);
        if faults.is_empty() {
            continue;
        }
        let manifest = &package.manifest_path;
        let text = fs::read_to_string(manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let path = manifest.strip_prefix(workspace.root()).unwrap_or(manifest);
        findings.extend(faults.into_iter().map(|fault| fault.at(path, &text)));
    }
    Ok(findings)
}

#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// The dependency at fault, or the crate itself.
    name: String,
    message: String,
}

impl Fault {
    fn at(self, path: &Path, manifest: &str) -> Finding {
        let names = |line: &str| {
            line.trim_start().strip_prefix(&self.name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
                || line.contains(&format!("name = \"{}\"", self.name))
        };
        let line = manifest.lines().position(names).map_or(1, |index| index + 1);
        Finding { path: path.to_owned(), line, rule: Rule::Layer, message: self.message }
    }
}

fn faults(package: &Package) -> Vec<Fault> {
    let name = package.name.as_str();
    if DEV_TOOLS.contains(&name) {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        let message = format!("`{name}` has no place among the layers: give it one in xtask/src/tidy/layers.rs");
        return vec![Fault { name: name.to_owned(), message }];
    };
    let shipped = package.dependencies.iter().filter(|dependency| !dependency.is_dev());
    let mut faults: Vec<Fault> = Vec::new();
    for dependency in shipped {
        if let Some(message) = refusal(name, &dependency.name, allowed) {
            faults.push(Fault { name: dependency.name.clone(), message });
        }
    }
    faults
}

/// Why `user` may not depend on `used`, and what to do instead.
fn refusal(user: &str, used: &str, allowed: &[&str]) -> Option<String> {
    if DEV_TOOLS.contains(&used) {
        return Some(format!("`{used}` is for tests: move it to [dev-dependencies]"));
    }
    if let Some((_, owner)) = OWNED.iter().find(|(owned, owner)| *owned == used && *owner != user) {
        return Some(format!("only {owner} may depend on `{used}`: ask it through its interface"));
    }
    if user == "tradewind-core" && IMPURE.contains(&used) {
        return Some(format!("the core may not depend on `{used}`: decide here, act in the crate that asks"));
    }
    if used == "tradewind-store" && !allowed.contains(&used) {
        return Some("only tradewind-control may open the store: ask control through tradewind-api".to_owned());
    }
    let ours = LAYERS.iter().any(|(layer, _)| *layer == used);
    (ours && !allowed.contains(&used)).then(|| {
        let below = if allowed.is_empty() { "none of our crates".to_owned() } else { allowed.join(", ") };
        format!("`{user}` may not depend on `{used}`, only on {below}: move what both need down a layer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    #[track_caller]
    fn check(user: &str, used: &str, kind: Option<&str>, expected: &[&str]) {
        let package = Package {
            name: user.to_owned(),
            version: String::new(),
            license: None,
            source: None,
            manifest_path: "Cargo.toml".into(),
            dependencies: vec![Dependency { name: used.to_owned(), kind: kind.map(str::to_owned) }],
        };
        let messages: Vec<String> = faults(&package).into_iter().map(|fault| fault.message).collect();
        assert_eq!(messages, expected, "{user} -> {used}");
    }

    #[test]
    fn dependencies_run_down_the_layers() {
        check("tradewind-api", "tradewind-core", None, &[]);
        check("tradewind-control", "tradewind-store", None, &[]);
        check("tradewind", "tradewind-gateway", None, &[]);
        check(
            "tradewind-core",
            "tradewind-api",
            None,
            &[
                "`tradewind-core` may not depend on `tradewind-api`, only on none of our crates: move what both need down a layer",
            ],
        );
        check(
            "tradewind-artifacts",
            "tradewind-process",
            Some("build"),
            &[
                "`tradewind-artifacts` may not depend on `tradewind-process`, only on tradewind-core, tradewind-api: move what both need down a layer",
            ],
        );
    }

    #[test]
    fn roles_never_depend_on_each_other() {
        let roles = ["tradewind-control", "tradewind-agent", "tradewind-gateway", "tradewind-replica"];
        for user in roles {
            for used in roles.into_iter().filter(|used| *used != user) {
                let allowed = LAYERS.iter().find(|(layer, _)| *layer == user).unwrap().1;
                assert!(refusal(user, used, allowed).is_some(), "{user} -> {used}");
            }
        }
    }

    #[test]
    fn the_store_and_onnx_runtime_have_one_user_each() {
        check(
            "tradewind",
            "tradewind-store",
            None,
            &["only tradewind-control may open the store: ask control through tradewind-api"],
        );
        check("tradewind-replica", "ort", None, &[]);
        check(
            "tradewind-agent",
            "ort",
            None,
            &["only tradewind-replica may depend on `ort`: ask it through its interface"],
        );
    }

    #[test]
    fn the_core_is_pure() {
        check(
            "tradewind-core",
            "tokio",
            None,
            &["the core may not depend on `tokio`: decide here, act in the crate that asks"],
        );
    }

    #[test]
    fn test_tools_stay_in_tests() {
        check("tradewind-control", "tradewind-testkit", Some("dev"), &[]);
        check("xtask", "tradewind-testkit", None, &[]);
        check(
            "tradewind-control",
            "tradewind-testkit",
            None,
            &["`tradewind-testkit` is for tests: move it to [dev-dependencies]"],
        );
    }

    #[test]
    fn a_new_crate_must_be_placed() {
        check(
            "tradewind-new",
            "serde",
            None,
            &["`tradewind-new` has no place among the layers: give it one in xtask/src/tidy/layers.rs"],
        );
    }

    #[test]
    fn a_fault_points_at_its_line() {
        let fault = Fault { name: "tradewind-api".to_owned(), message: "no".to_owned() };
        let manifest = "[dependencies]\ntradewind-api-more.workspace = true\ntradewind-api.workspace = true\n";
        assert_eq!(fault.at(Path::new("a/Cargo.toml"), manifest).to_string(), "a/Cargo.toml:3: no");
    }
}
