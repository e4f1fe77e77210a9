//! Which files a bundle consists of: exactly those that its manifest lists.

use std::collections::{BTreeMap, BTreeSet};

use tradewind_core::bundle::{
    BUNDLE_BYTES_LIMIT, BUNDLE_FILES_LIMIT, BundleIndex, CASE_BYTES_LIMIT, MANIFEST_BYTES_LIMIT, MANIFEST_FILE,
    Manifest,
};

use super::{
    Error,
    path::{check_path, check_pattern, matches},
};

/// Checks an index that came over a wire: its names, number and sizes. Nothing of it may touch a disk before.
pub fn check_index(index: &BundleIndex) -> Result<(), Error> {
    if index.bytes() > BUNDLE_BYTES_LIMIT {
        return Err(Error::TooLarge);
    }
    if index.files.get(MANIFEST_FILE).is_some_and(|file| file.size > MANIFEST_BYTES_LIMIT) {
        return Err(Error::ManifestTooLarge);
    }
    check_names(index.files.keys().map(String::as_str))
}

/// Checks that an index holds what the manifest lists and nothing else, and that the manifest can be followed. Returns
/// the paths of the golden cases, sorted.
pub fn check_contents(index: &BundleIndex, manifest: &Manifest) -> Result<Vec<String>, Error> {
    let names = index.files.keys().map(String::as_str).collect();
    let cases = select(&names, manifest)?;
    if let Some(command) = manifest.server() {
        command.check_files(index)?;
    } else if let Some((path, _)) = index.files.iter().find(|(_, file)| file.executable) {
        return Err(Error::Executable { path: path.clone() });
    }
    match cases.iter().find(|case| index.files[*case].size > CASE_BYTES_LIMIT) {
        Some(path) => Err(Error::CaseTooLarge { path: path.clone() }),
        None => Ok(cases),
    }
}

/// Checks the names of all files of a bundle, each and against each other.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    // Two names that differ in case only are one file on some file systems; a name cannot be file and directory.
    let mut folded = BTreeMap::new();
    for name in names {
        if folded.len() == BUNDLE_FILES_LIMIT {
            return Err(Error::TooManyFiles);
        }
        check_path(name).map_err(|problem| Error::Path { path: name.to_owned(), problem })?;
        if let Some(first) = folded.insert(name.to_lowercase(), name) {
            return Err(Error::Clash { first: first.to_owned(), second: name.to_owned() });
        }
    }
    for (lower, name) in &folded {
        let mut parents = lower.match_indices('/').map(|(at, _)| &lower[..at]);
        if let Some(first) = parents.find_map(|parent| folded.get(parent)) {
            return Err(Error::Clash { first: (*first).to_owned(), second: (*name).to_owned() });
        }
    }
    Ok(())
}

/// Compares what is there with what the manifest lists. Returns the golden cases, sorted.
pub(super) fn select(names: &BTreeSet<&str>, manifest: &Manifest) -> Result<Vec<String>, Error> {
    manifest.check()?;
    let mut listed = BTreeSet::from([MANIFEST_FILE]);
    let mut cases = BTreeSet::new();
    match manifest.server() {
        // A server may need anything, and its author has chosen what lies there.
        Some(_) if manifest.files.is_empty() => listed.extend(names.iter().copied()),
        Some(_) => {}
        None => {
            let path = &manifest.model;
            check_path(path).map_err(|problem| Error::Path { path: path.clone(), problem })?;
            listed.extend(find(names, path)?);
        }
    }
    for pattern in &manifest.files {
        listed.extend(find(names, pattern)?);
    }
    for pattern in &manifest.cases {
        cases.extend(find(names, pattern)?);
    }
    match names.iter().find(|name| !listed.contains(*name) && !cases.contains(*name)) {
        Some(path) => Err(Error::Unlisted { path: (*path).to_owned() }),
        None => Ok(cases.into_iter().map(str::to_owned).collect()),
    }
}

fn find<'a>(names: &BTreeSet<&'a str>, pattern: &str) -> Result<Vec<&'a str>, Error> {
    check_pattern(pattern).map_err(|problem| Error::Path { path: pattern.to_owned(), problem })?;
    let found: Vec<_> = names.iter().copied().filter(|name| matches(pattern, name)).collect();
    if found.is_empty() && !pattern.contains('*') {
        return Err(Error::Missing { path: pattern.to_owned() });
    }
    Ok(found)
}
