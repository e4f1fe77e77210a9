//! The directory in which a pipeline keeps what it has done, and the lock that lets one run at a time into it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use tradewind_core::ModelName;

use crate::store::Store;

/// Beside the pipeline's file.
pub(crate) const TOP: &str = ".tradewind";

#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("another run of it is under way{}", pid.map(|pid| format!(", as process {pid}")).unwrap_or_default())]
    Busy { pid: Option<u32> },
    #[error("cannot {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

impl HomeError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Busy { .. } => Some("watch it with `tradewind pipeline status FILE --watch`, or wait for its end"),
            Self::Io { .. } => None,
        }
    }
}

/// What a pipeline has done. Whoever holds it with its lock may change it.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    lock: Option<File>,
}

impl Home {
    /// To look at; nothing is made.
    pub fn of(base: &Path, pipeline: &ModelName) -> Self {
        Self { directory: base.join(TOP).join("pipelines").join(pipeline.as_str()), lock: None }
    }

    /// Makes what is missing, and keeps others out until it is dropped.
    ///
    /// # Errors
    /// Another run is under way; the directory cannot be written.
    pub fn enter(mut self) -> Result<Self, HomeError> {
        let io = |attempt, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { attempt, path, source }
        };
        for directory in ["done", "work", "runs", "batches"].map(|name| self.directory.join(name)) {
            fs::create_dir_all(&directory).map_err(io("make", &directory))?;
        }
        self.keep_from_git();
        let path = self.directory.join("lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever holds it may be just writing.
                let _ = (&file).take(20).read_to_string(&mut text);
                return Err(HomeError::Busy { pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", &path)(source)),
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(io("write", &path))?;
        self.lock = Some(file);
        Ok(self)
    }

    /// What is made here is nobody's source. Whether that can be said does not matter to a run.
    fn keep_from_git(&self) {
        if let Some(top) = self.directory.parent().and_then(Path::parent).map(|top| top.join(".gitignore")) {
            let written = OpenOptions::new().write(true).create_new(true).open(top);
            let _ = written.and_then(|mut file| file.write_all(b"*\n"));
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What steps have made.
    pub fn store(&self) -> Store {
        Store::new(self.directory.join("done"))
    }

    /// What is being made, and is of no use to anybody else.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.directory.join("runs")
    }

    /// Removes what runs that were killed were making. None of them may work there any more.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clear_work(&self) -> Result<(), HomeError> {
        let work = self.work();
        let cleared = fs::remove_dir_all(&work).and_then(|()| fs::create_dir(&work));
        cleared.map_err(|source| HomeError::Io { attempt: "clear", path: work, source })
    }

    /// Removes what was cut for other data, or in another way, than what is in these directories.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn keep_batches(&self, keys: &BTreeSet<String>) -> Result<(), HomeError> {
        let batches = self.directory.join("batches");
        let failed = |source| HomeError::Io { attempt: "clear", path: batches.clone(), source };
        for entry in fs::read_dir(&batches).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_str().is_some_and(|name| keys.contains(name)) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let name: ModelName = "digits".parse().unwrap();
        let first = Home::of(base.path(), &name).enter().unwrap();
        let second = Home::of(base.path(), &name).enter().unwrap_err();
        let expected = format!("another run of it is under way, as process {}", std::process::id());
        assert_eq!(second.to_string(), expected);
        drop(first);
        Home::of(base.path(), &name).enter().unwrap();
        assert_eq!(fs::read_to_string(base.path().join(".tradewind/.gitignore")).unwrap(), "*\n");
    }
}
