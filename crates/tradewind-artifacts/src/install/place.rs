//! Putting a bundle's directory together from its blobs and moving it to its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use rustix::fs::{CWD, RenameFlags};
use tradewind_core::{Digest, bundle::BundleIndex};

use super::{download::partial_directory, record};
use crate::disk::sync_directory;

/// Builds the directory from blobs that are whole and checked, moves it to its place, then records it.
pub(super) fn place(root: &Path, index: &BundleIndex, bundle: &Digest) -> io::Result<()> {
    // Removed at the end with what it then holds: the old directory, or nothing.
    let fresh = tempfile::TempDir::new_in(root.join("staging"))?;
    let partial = partial_directory(root, bundle);
    materialise(index, &partial, fresh.path())?;

    // Without its record the old directory no longer counts, whatever happens next.
    remove_file(&record::path(root, bundle))?;
    let bundles = root.join("bundles");
    let target = bundles.join(bundle.to_hex());
    swap(fresh.path(), &target)?;
    sync_directory(&bundles)?;
    record::write(root, bundle, index, &target)?;
    remove_directory(&partial)?;
    Ok(())
}

/// Moves each blob to its path; a blob that has more than one is copied to the others.
fn materialise(index: &BundleIndex, partial: &Path, into: &Path) -> io::Result<()> {
    let mut uses: BTreeMap<Digest, usize> = BTreeMap::new();
    for file in index.files.values() {
        *uses.entry(file.digest).or_default() += 1;
    }
    let mut directories = BTreeSet::from([into.to_owned()]);
    for (path, file) in &index.files {
        let target = into.join(path);
        let blob = partial.join(file.digest.to_hex());
        for directory in target.ancestors().skip(1).take_while(|directory| *directory != into) {
            directories.insert(directory.to_owned());
        }
        if let Some(parent) = target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let left = uses.entry(file.digest).or_default();
        *left -= 1;
        if *left == 0 {
            fs::rename(&blob, &target)?
        } else {
            fs::copy(&blob, &target).map(drop)?
        }
        // Nothing writes to it any more; whoever does so by mistake is told.
        let mode = if file.executable { 0o500 } else { 0o400 };
        fs::set_permissions(&target, Permissions::from_mode(mode))?;
        File::open(&target)?.sync_all()?;
    }
    directories.iter().try_for_each(|directory| sync_directory(directory))
}

/// Puts `fresh` where `target` is, in one step where the file system can.
fn swap(fresh: &Path, target: &Path) -> io::Result<()> {
    if fs::symlink_metadata(target).is_err() {
        return fs::rename(fresh, target);
    }
    match rustix::fs::renameat_with(CWD, fresh, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let old = fresh.with_extension("old");
            fs::rename(target, &old)?;
            fs::rename(fresh, target)?;
            fs::remove_dir_all(old)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes a bundle with everything of it: the record first, so that a half-removed one does not count.
pub(super) fn remove(root: &Path, bundle: &Digest) -> io::Result<()> {
    remove_file(&record::path(root, bundle))?;
    sync_directory(&root.join("records"))?;
    remove_directory(&root.join("bundles").join(bundle.to_hex()))?;
    remove_directory(&partial_directory(root, bundle))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
