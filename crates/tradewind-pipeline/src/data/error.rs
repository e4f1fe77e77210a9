//! What is wrong with data, by the file and the line.

use std::{
    io,
    path::{Path, PathBuf},
};

use tradewind_core::pipeline::file::Format;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{source_text}` is no source: {problem}")]
    Source { source_text: String, problem: String },
    #[error("no file matches `{pattern}` under {}: give the path relative to the pipeline's file", base.display())]
    NothingFound { pattern: String, base: PathBuf },
    #[error("cannot {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("the disk is full: cannot {attempt} {}", path.display())]
    DiskFull { attempt: &'static str, path: PathBuf },
    #[error("{} is a link to {}, which it lies in: take one of them away", path.display(), ancestor.display())]
    Loop { path: PathBuf, ancestor: PathBuf },
    #[error("{} cannot be named: {problem}", path.display())]
    Name { path: PathBuf, problem: &'static str },
    #[error("{} changed while it was read: run again when it is whole", path.display())]
    Changed { path: PathBuf },
    #[error("there are more than {limit} {what}: {help}")]
    TooMany { what: &'static str, limit: u64, help: &'static str },
    #[error(
        "`{first}` is {}, `{second}` is {}: name files of one format in `source`, or say `format`",
        named(*first_format), named(*second_format)
    )]
    MixedFormats { first: String, first_format: Format, second: String, second_format: Format },
    #[error("{file}: column `{column}` is {found}, in `{first}` it is {expected}")]
    Type { file: String, column: String, found: String, first: String, expected: String },
    #[error("{file} has no column `{column}`, which `{first}` has")]
    MissingColumn { file: String, column: String, first: String },
    #[error("{file}:{line}: {problem}")]
    Line { file: String, line: u64, problem: String },
    #[error("{file}: {problem}")]
    Table { file: String, problem: String },
    #[error("there is no column `{column}` to cut by: there are {columns}")]
    NoColumn { column: String, columns: String },
    #[error("`{portion}` needs tables, and `{file}` is none: cut files by \"file\" or bytes")]
    NoTable { portion: &'static str, file: String },
    #[error("there is no data: {0}")]
    Empty(String),
    #[error("cannot fetch {address}: {problem}")]
    Fetch { address: String, problem: String },
    #[error("the work was given up")]
    Stopped,
}

fn named(format: Format) -> &'static str {
    match format {
        Format::Csv => "CSV",
        Format::Parquet => "Parquet",
        Format::Jsonl => "JSON lines",
        Format::Files => "none of CSV, Parquet and JSON lines",
    }
}

impl Error {
    /// Of something done to a path.
    pub(super) fn io(attempt: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| {
            let path = path.clone();
            if tradewind_artifacts::is_full(&source) {
                Self::DiskFull { attempt, path }
            } else {
                Self::Io { attempt, path, source }
            }
        }
    }

    /// Of a table as a whole.
    pub(super) fn table(file: &str, problem: impl ToString) -> Self {
        Self::Table { file: file.to_owned(), problem: problem.to_string() }
    }
}
