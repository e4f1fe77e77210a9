//! The group in which all others are made, one in each hierarchy.
//!
//! In version 1 it is made where this process is. In version 2 a group that passes controllers on to its children may hold
//! no process itself (but for the root of all), so it cannot simply lie beside the processes that are there already:
//!
//! - Who is root makes it at the top of what is seen of the hierarchy. On a host that is the root of all, as container
//!   engines do it; not in the unit of the service: systemd starts none again in whose group others have stayed, and
//!   what runs in these groups may outlive who started it. In a container with a namespace of its own it is the
//!   container's group, whose processes are moved into a child.
//! - Who is not root makes it in the group that was delegated, likewise.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    Controller, Hierarchy, Limits, Unavailable, Version,
    group::{Group, Part, write},
};

/// Where processes are moved that stand in the way.
const MOVED: &str = "tradewind-processes";
/// A controller is passed on in so many attempts: processes may be born while others are moved.
const ATTEMPTS: usize = 20;

#[derive(Debug)]
pub(super) struct Parent {
    controller: Controller,
    version: Version,
    /// Where it is made.
    base: PathBuf,
    directory: PathBuf,
}

impl Parent {
    pub(super) fn new(controller: Controller, hierarchy: &Hierarchy, name: &str) -> Result<Self, Unavailable> {
        let base = match hierarchy.version {
            Version::V1 => hierarchy.own.clone(),
            Version::V2 => base(hierarchy, rustix::process::geteuid().as_raw(), owner)
                .ok_or_else(|| Unavailable::NotPermitted { directory: hierarchy.own.clone() })?,
        };
        let directory = base.join(name);
        Ok(Self { controller, version: hierarchy.version, base, directory })
    }

    pub(super) fn controller(&self) -> Controller {
        self.controller
    }

    /// Makes a group, puts a process into it, and takes it away.
    pub(super) fn try_out(&self) -> Result<(), Unavailable> {
        let mut group = Group::default();
        group.add(self.controller, self.make("trial")?);
        let tried = group.limit(&Limits { cpu_milli: Some(10), memory_bytes: Some(1 << 30) });
        let joined = tried.and_then(|()| {
            let files = group.entrances().map_err(|source| Unavailable::at(&self.directory, source))?;
            crate::spawn::try_to_join(&files).map_err(|source| Unavailable::at(&self.directory, source))
        });
        // One that stays is found by its name.
        let removed = group.remove_empty();
        joined.and(removed.map_err(|source| Unavailable::at(&self.directory, source)))
    }

    /// Makes a group in it; one that is there is taken as it is.
    pub(super) fn make(&self, name: &str) -> Result<Part, Unavailable> {
        let directory = self.directory.join(name);
        for _ in 0..ATTEMPTS {
            self.prepare()?;
            match make_directory(&directory) {
                // The parent went with the last group in it, at this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Unavailable::at(&self.directory, error)),
                Ok(()) => return Ok(Part { version: self.version, directory }),
            }
        }
        Err(Unavailable::at(&self.directory, io::ErrorKind::NotFound.into()))
    }

    fn prepare(&self) -> Result<(), Unavailable> {
        make_directory(&self.directory).map_err(|error| Unavailable::at(&self.base, error))?;
        if self.version == Version::V2 && self.controller != Controller::CpuAccounting {
            pass_on(&self.base, self.controller)?;
            pass_on(&self.directory, self.controller)?;
        }
        Ok(())
    }

    /// The groups in it.
    pub(super) fn children(&self) -> impl Iterator<Item = (String, Part)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.filter_map(|entry| {
            let part = Part { version: self.version, directory: entry.path() };
            Some((entry.file_name().into_string().ok()?, part))
        })
    }
}

/// Where a group of version 2 may be made by `user`; `None` when nothing was delegated to them. What belongs to a user in
/// what does not was delegated; what lies deeper is somebody else's part of it, such as a terminal's.
fn base(hierarchy: &Hierarchy, user: u32, owner: impl Fn(&Path) -> Option<u32>) -> Option<PathBuf> {
    if user == 0 {
        return Some(hierarchy.top.clone());
    }
    // This process may have been moved before, or be the child of one that was.
    let own = match hierarchy.own.file_name() {
        Some(name) if name == MOVED && hierarchy.own != hierarchy.top => hierarchy.own.parent()?,
        _ => &hierarchy.own,
    };
    let is_outermost = own == hierarchy.top || own.parent().and_then(&owner) != Some(user);
    (owner(own) == Some(user) && is_outermost).then(|| own.to_owned())
}

fn owner(directory: &Path) -> Option<u32> {
    fs::metadata(directory).ok().map(|metadata| metadata.uid())
}

fn make_directory(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Lets the children of a group of version 2 have a controller.
fn pass_on(directory: &Path, controller: Controller) -> Result<(), Unavailable> {
    let at = |error| Unavailable::at(directory, error);
    let has = |file: &str| -> io::Result<bool> {
        let text = fs::read_to_string(directory.join(file))?;
        Ok(text.split_ascii_whitespace().any(|each| each == controller.as_str()))
    };
    if !has("cgroup.controllers").map_err(at)? {
        return Err(Unavailable::NoController { controller, directory: directory.to_owned() });
    }
    let attempt = || {
        clear(directory)?;
        if has("cgroup.subtree_control")? {
            return Ok(());
        }
        write(&directory.join("cgroup.subtree_control"), &format!("+{controller}"))
    };
    let is_in_the_way = |error: &io::Error| matches!(Errno::from_io_error(error), Some(Errno::BUSY | Errno::OPNOTSUPP));
    let mut last = attempt();
    for _ in 1..ATTEMPTS {
        if !last.as_ref().is_err_and(is_in_the_way) {
            break;
        }
        last = attempt();
    }
    last.map_err(at)
}

/// Moves the processes that are in this very group into a child of it, before anything is passed on: with `cpu` the kernel
/// would let them stay, and take the group for one whose children are threads.
fn clear(directory: &Path) -> io::Result<()> {
    let is_root_of_all = !directory.join("cgroup.type").exists();
    let processes = fs::read_to_string(directory.join("cgroup.procs"))?;
    if is_root_of_all || processes.is_empty() {
        return Ok(());
    }
    let child = directory.join(MOVED);
    make_directory(&child)?;
    for pid in processes.lines() {
        match write(&child.join("cgroup.procs"), pid) {
            // It has ended.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_version_2_are_made_where_nobody_else_rules() {
        let hierarchy = |own: &str| Hierarchy { version: Version::V2, top: "/cg".into(), own: own.into() };
        // Of user 7 are a service that was delegated, and all below the manager of their session.
        let owner =
            |path: &Path| Some(if path.starts_with("/cg/a.service") || path.starts_with("/cg/user") { 7 } else { 0 });
        for (own, user, expected) in [
            ("/cg/system/a.service", 0, Some("/cg")),
            ("/cg", 0, Some("/cg")),
            ("/cg/a.service", 7, Some("/cg/a.service")),
            ("/cg/a.service/tradewind-processes", 7, Some("/cg/a.service")),
            ("/cg/a.service/other", 7, None),
            ("/cg/user/terminal.scope", 7, None),
            ("/cg/a.service", 8, None),
            ("/cg", 7, None),
        ] {
            assert_eq!(base(&hierarchy(own), user, owner), expected.map(PathBuf::from), "{own} of {user}");
        }
        let all = |_: &Path| Some(7);
        assert_eq!(base(&hierarchy("/cg"), 7, all), Some("/cg".into()), "a container's own group");
    }
}
