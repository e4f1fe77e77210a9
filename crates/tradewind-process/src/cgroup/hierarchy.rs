//! Where the kernel keeps a controller: which of the cgroup hierarchies, mounted where, and where in it this process is.
//! Reads only what it is handed, in the forms of cgroups(7) and proc_pid_mountinfo(5).

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Controller, Unavailable};

/// The two interfaces of the kernel. A machine may have some controllers in one and some in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    V1,
    V2,
}

/// The hierarchy in which a controller is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted: the top of what can be seen of it.
    pub(super) top: PathBuf,
    /// The directory of the group that this process is in.
    pub(super) own: PathBuf,
}

struct Mount {
    version: Version,
    /// What of the hierarchy is mounted here.
    root: PathBuf,
    point: PathBuf,
    read_only: bool,
    options: String,
}

/// `groups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`. That a controller is in version 2 is only assumed,
/// of those that version 1 does not have: the files of its groups tell.
pub(super) fn locate(controller: Controller, groups: &str, mounts: &str) -> Result<Hierarchy, Unavailable> {
    let missing = || Unavailable::NotMounted { controller };
    let (version, path) = group_of(controller, groups).ok_or_else(missing)?;
    let fits = |mount: &Mount| {
        mount.version == version
            && (version == Version::V2 || mount.options.split(',').any(|option| option == controller.as_str()))
    };
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).filter(fits).collect();
    if mounts.is_empty() {
        return Err(missing());
    }
    let reachable = mounts.iter().filter_map(|mount| Some((mount, mount.directory_of(&path)?)));
    // Of several that do the last one, which hides those before it.
    let (mount, own) = reachable.max_by_key(|(mount, _)| !mount.read_only).ok_or(Unavailable::OutOfReach { path })?;
    if mount.read_only {
        return Err(Unavailable::ReadOnly { directory: mount.point.clone() });
    }
    Ok(Hierarchy { version, top: mount.point.clone(), own })
}

/// The line of a version 1 hierarchy with this controller, else that of version 2: `4:cpu,cpuacct:/path`, `0::/path`.
fn group_of(controller: Controller, groups: &str) -> Option<(Version, PathBuf)> {
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    let (mut v1, mut v2) = (None, None);
    for (id, controllers, path) in lines {
        if controllers.split(',').any(|each| each == controller.as_str()) {
            v1 = Some((Version::V1, PathBuf::from(path)));
        } else if id == "0" && controllers.is_empty() {
            v2 = Some((Version::V2, PathBuf::from(path)));
        }
    }
    v1.or(v2)
}

impl Mount {
    /// `36 35 98:0 /root /mount/point rw,noatime shared:1 - cgroup source rw,cpu`
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let of_file_system = after.nth(1)?;
        let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
        Some(Self {
            version,
            root: unescape(root),
            point: unescape(point),
            read_only: is_read_only(options) || is_read_only(of_file_system),
            options: of_file_system.to_owned(),
        })
    }

    /// Where the group `path` is seen under this mount.
    fn directory_of(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root).ok()?;
        // A group above the root of this process's cgroup namespace is shown as `/../other`.
        let is_below = below.components().all(|part| matches!(part, Component::Normal(_)));
        is_below.then(|| self.point.iter().chain(below).collect())
    }
}

/// Undoes `\040` and the like.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        plain.push(octal.unwrap_or(byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(version: Version, top: &str, own: &str) -> Result<Hierarchy, Unavailable> {
        Ok(Hierarchy { version, top: top.into(), own: own.into() })
    }

    #[track_caller]
    fn check(controller: Controller, groups: &str, mounts: &str, expected: Result<Hierarchy, Unavailable>) {
        let shown = |result: Result<Hierarchy, Unavailable>| format!("{result:?}");
        assert_eq!(shown(locate(controller, groups, mounts)), shown(expected));
    }

    /// Debian 12: one hierarchy.
    #[test]
    fn systemd_with_version_2_alone() {
        let groups = "0::/system.slice/tradewind-agent.service\n";
        let mounts = "22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n\
            29 22 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let own = "/sys/fs/cgroup/system.slice/tradewind-agent.service";
        for controller in [Controller::Cpu, Controller::Memory, Controller::CpuAccounting] {
            check(controller, groups, mounts, found(Version::V2, "/sys/fs/cgroup", own));
        }
    }

    /// Debian 10, Ubuntu 20.04: controllers in version 1, version 2 for systemd alone.
    #[test]
    fn systemd_with_both() {
        let groups = "12:cpu,cpuacct:/user.slice\n11:memory:/user.slice/user-1000.slice/session-2.scope\n\
            1:name=systemd:/user.slice/user-1000.slice/session-2.scope\n0::/user.slice/user-1000.slice/session-2.scope\n";
        let mounts = "24 18 0:22 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n\
            25 24 0:23 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
            26 24 0:24 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd\n\
            31 24 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,cpu,cpuacct\n\
            33 24 0:31 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:18 - cgroup cgroup rw,memory\n";
        let both = "/sys/fs/cgroup/cpu,cpuacct";
        check(Controller::Cpu, groups, mounts, found(Version::V1, both, "/sys/fs/cgroup/cpu,cpuacct/user.slice"));
        check(
            Controller::CpuAccounting,
            groups,
            mounts,
            found(Version::V1, both, "/sys/fs/cgroup/cpu,cpuacct/user.slice"),
        );
        let own = "/sys/fs/cgroup/memory/user.slice/user-1000.slice/session-2.scope";
        check(Controller::Memory, groups, mounts, found(Version::V1, "/sys/fs/cgroup/memory", own));
    }

    #[test]
    fn one_controller_in_each_version() {
        let groups = "3:memory:/\n0::/jobs/a b\n";
        let mounts =
            "1 0 0:1 / /cg/memory rw - cgroup cgroup rw,memory\n2 0 0:2 / /cg/two\\040words rw - cgroup2 none rw\n";
        check(Controller::Memory, groups, mounts, found(Version::V1, "/cg/memory", "/cg/memory"));
        check(Controller::Cpu, groups, mounts, found(Version::V2, "/cg/two words", "/cg/two words/jobs/a b"));
    }

    /// A namespace of its own: the container's group is the root of what it sees.
    #[test]
    fn docker_with_a_private_namespace() {
        let mount = |options| {
            format!(
                "1032 1031 0:28 / /sys/fs/cgroup {options},nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
            )
        };
        check(Controller::Cpu, "0::/\n", &mount("rw"), found(Version::V2, "/sys/fs/cgroup", "/sys/fs/cgroup"));
        let read_only = Err(Unavailable::ReadOnly { directory: "/sys/fs/cgroup".into() });
        check(Controller::Cpu, "0::/\n", &mount("ro"), read_only);
    }

    /// Without a namespace: `/proc/self/cgroup` tells the host's path, and only that part is mounted.
    #[test]
    fn docker_in_version_1_without_a_namespace() {
        let groups = "5:memory:/docker/93c8\n3:cpu,cpuacct:/docker/93c8\n";
        let mounts =
            "700 690 0:30 /docker/93c8 /sys/fs/cgroup/memory rw,relatime master:20 - cgroup cgroup rw,memory\n";
        let here = "/sys/fs/cgroup/memory";
        check(Controller::Memory, groups, mounts, found(Version::V1, here, here));
        check(Controller::Cpu, groups, mounts, Err(Unavailable::NotMounted { controller: Controller::Cpu }));
    }

    #[test]
    fn a_mount_that_can_be_written_is_preferred_and_of_two_the_last() {
        let mounts = "1 0 0:1 / /host rw - cgroup2 none rw\n2 0 0:1 / /twice rw - cgroup2 none rw\n\
            3 0 0:1 / /shown rw - cgroup2 none ro\n";
        check(Controller::Memory, "0::/\n", mounts, found(Version::V2, "/twice", "/twice"));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let controller = Controller::Memory;
        let missing = || Err(Unavailable::NotMounted { controller });
        check(controller, "", "", missing());
        check(controller, "0::/\n", "1 0 0:1 / / rw - ext4 /dev/vda rw\nshort\n", missing());
        check(controller, "not a line\n", "1 0 0:1 / /cg rw - cgroup2 none rw\n", missing());
        let elsewhere = "1 0 0:1 /pod/b /cg rw - cgroup2 none rw\n";
        check(controller, "0::/pod/a\n", elsewhere, Err(Unavailable::OutOfReach { path: "/pod/a".into() }));
        let above = "1 0 0:1 / /cg rw - cgroup2 none rw\n";
        check(controller, "0::/../b\n", above, Err(Unavailable::OutOfReach { path: "/../b".into() }));
    }
}
