//! A small disk in memory, which can be filled up.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

const MEGABYTES: u32 = 256;

/// Mounted until it is dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Root alone may mount.
    pub fn mount(place: &Path) -> Result<Self> {
        fs::create_dir_all(place).with_context(|| place.display().to_string())?;
        let size = format!("size={MEGABYTES}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place).output();
        let output = output.context("starting mount")?;
        ensure!(output.status.success(), "mounting a disk: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self(place.to_owned()))
    }

    /// Writes until nothing more fits.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast()).context("creating the ballast")?;
        let block = vec![0; 1 << 20];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("writing the ballast"),
            }
        }
    }

    /// Has the room again that was filled up.
    pub fn clear(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("removing the ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still works in it keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
