//! Reading `pipeline.toml`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tradewind_api::Code;
use tradewind_core::pipeline::file::{FILE_BYTES_LIMIT, PIPELINE_FILE, Pipeline};

use crate::{failure::Failure, settings};

/// The pipeline, and the directory that its paths are relative to. `path` may be that directory.
pub(super) fn read(path: &Path) -> Result<(Pipeline, PathBuf), Failure> {
    let path = if path.is_dir() { path.join(PIPELINE_FILE) } else { path.to_owned() };
    let unread = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Invalid };
        Failure::new(code, format!("cannot read {}", path.display())).cause(error.to_string())
    };
    let mut text = String::new();
    let file = File::open(&path).map_err(unread)?;
    file.take(FILE_BYTES_LIMIT + 1).read_to_string(&mut text).map_err(unread)?;
    if text.len() as u64 > FILE_BYTES_LIMIT {
        let message = format!("{} is larger than {} MiB", path.display(), FILE_BYTES_LIMIT >> 20);
        return Err(Failure::new(Code::TooLarge, message));
    }
    let pipeline: Pipeline = settings::parse_toml(&text, &path)?;
    pipeline.check().map_err(|problem| Failure::usage(format!("{}: {problem}", path.display())))?;
    let absolute = std::path::absolute(&path).map_err(unread)?;
    let base = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((pipeline, base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PIPELINE_FILE);
        let problem = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(directory.path()).unwrap_err().to_string().replace(&directory.path().display().to_string(), "D")
        };
        let unknown = problem("name = \"a\"\nepochs = 1");
        assert!(
            unknown.starts_with("D/pipeline.toml, line 2: unknown key `epochs`, expected one of `name`"),
            "{unknown}"
        );
        let unchecked = problem("name = \"a\"\nstep = []\n[data]\nsource = [\"a\"]\n[aggregate]\nuse = \"best\"");
        assert_eq!(unchecked, "D/pipeline.toml: `step`: a pipeline has 1 to 32 steps");
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().is_not_found());
    }
}
