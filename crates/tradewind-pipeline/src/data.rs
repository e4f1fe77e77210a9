//! Finds the data of a pipeline and cuts it into batches.
//!
//! Each file is read once for its digest, its rows and its columns, which is remembered for as long as the file stays as
//! it is. A batch that is a file by itself stays where it is; what is cut out of tables is written as Parquet, and kept
//! under a key of all that it depends on. Batches of rows never span two files, so a file that changes changes its own
//! batches alone, and one that grows changes its last. The same data gives the same batches, byte by byte.
//!
//! CSV has a header, commas, and quotes as RFC 4180 has them; an empty value is none. Its types, and those of JSON, are
//! told by the first 10,000 rows of every file.

mod cut;
mod error;
mod fetch;
mod find;
mod read;
mod records;
mod schema;
mod store;
mod table;
mod work;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use arrow_schema::SchemaRef;
use tradewind_core::{
    Digest,
    pipeline::file::{Data, Format},
};
use url::Url;

use self::{
    cut::Cutter,
    find::{Files, Found},
    read::Source,
    store::Store,
    work::{Teller, blocking},
};
pub use self::{cut::Portion, error::Error};

/// One batch, ready to be read by a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The same in every run over the same data.
    pub name: String,
    pub format: Format,
    /// Absolute.
    pub files: Vec<PathBuf>,
    /// `None` where files have no rows.
    pub rows: Option<u64>,
    pub bytes: u64,
    /// Of its content.
    pub digest: Digest,
}

/// All data that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources {
    pub files: u64,
    pub bytes: u64,
    /// `None` where files have no rows.
    pub rows: Option<u64>,
    /// Over names and contents.
    pub digest: Digest,
}

/// Data as batches.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// By their source's name, then by their place in it; by value where they are cut by a column.
    pub batches: Vec<Batch>,
    pub sources: Sources,
    /// For people: what was left out.
    pub warnings: Vec<String>,
    keys: BTreeSet<Digest>,
}

impl Prepared {
    /// The directories of `batches/` that its batches lie in, by their names in hexadecimal digits.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(Digest::to_hex)
    }
}

/// How far the work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of an address are here, of so many where the server says.
    Fetching { name: String, bytes: u64, of: Option<u64> },
    /// What sources name.
    Found { files: u64, bytes: u64 },
    /// Files that are new or have changed are read.
    Reading { bytes: u64, of: u64 },
    /// Tables are cut.
    Cutting { bytes: u64, of: u64 },
}

/// Finds the data, and cuts it into batches. `base` is the directory of the pipeline's file.
///
/// # Errors
/// What is wrong with the data, by file and line.
pub async fn prepare(
    data: &Data,
    portion: &Portion,
    base: &Path,
    home: &Path,
    said: &(dyn Fn(Progress) + Sync),
) -> Result<Prepared, Error> {
    Survey::of(data, base, home, said).await?.cut(portion, said).await
}

/// Data that was found and read, and is not cut yet.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Those that have something in them, in the order of their names.
    sources: Vec<Source>,
    schema: Option<SchemaRef>,
    totals: Sources,
    warnings: Vec<String>,
    store: Store,
}

impl Survey {
    /// Finds the data, fetches what lies elsewhere, and reads what is not known yet.
    ///
    /// # Errors
    /// What is wrong with the data, by file and line.
    pub async fn of(data: &Data, base: &Path, home: &Path, said: &(dyn Fn(Progress) + Sync)) -> Result<Self, Error> {
        for directory in ["work", "batches", "downloads"].map(|name| home.join(name)) {
            tokio::fs::create_dir_all(&directory).await.map_err(Error::io("create", &directory))?;
        }
        let absolute = |path: &Path| path.canonicalize().map_err(Error::io("read", path));
        let (base, home) = (absolute(base)?, absolute(home)?);
        let (remote, local): (Vec<String>, Vec<String>) =
            data.source.iter().cloned().partition(|source| fetch::is_address(source));
        let fetched = fetch::fetch_all(addresses(remote)?, &home, said).await?;
        let format = data.format;
        blocking(said, move |teller| {
            let mut files = Files::default();
            for (name, path) in names(fetched) {
                files.add(Found::new(name, path)?)?;
            }
            for source in &local {
                find::find(source, &base, &home, &mut files)?;
            }
            Self::read(files.sorted(), format, &home, teller)
        })
        .await
    }

    fn read(found: Vec<Found>, format: Option<Format>, home: &Path, teller: &Teller) -> Result<Self, Error> {
        let bytes = found.iter().map(|found| found.stamp.size).sum();
        teller.tell(Progress::Found { files: found.len() as u64, bytes });
        let all = read::read_all(found, format, home, teller)?;
        let totals = totals(&all, bytes);
        let (empty, sources): (Vec<Source>, Vec<Source>) = all.into_iter().partition(Source::is_empty);
        let warnings = match empty.as_slice() {
            [] => Vec::new(),
            [one] => vec![format!("{} has nothing in it and is left out", one.name)],
            [first, ..] => {
                vec![format!("{} files have nothing in them and are left out: {} ..", empty.len(), first.name)]
            }
        };
        if sources.is_empty() {
            return Err(Error::Empty(warnings.concat()));
        }
        let is_table = sources[0].facts.format.is_table();
        let schema = if is_table { Some(schema::agree(&sources.iter().collect::<Vec<_>>())?) } else { None };
        Ok(Self { sources, schema, totals, warnings, store: Store::new(home) })
    }

    pub fn sources(&self) -> Sources {
        self.totals
    }

    /// Cuts the data into batches; what was cut before is not cut again.
    ///
    /// # Errors
    /// What is wrong with the data, by file and line.
    pub async fn cut(self, portion: &Portion, said: &(dyn Fn(Progress) + Sync)) -> Result<Prepared, Error> {
        let portion = portion.clone();
        blocking(said, move |teller| {
            let pieces = self.with_cutter(teller, |cutter| cutter.cut(&portion))?;
            Ok(Prepared { batches: pieces.batches, sources: self.totals, warnings: self.warnings, keys: pieces.keys })
        })
        .await
    }

    /// So many rows at the beginning of the data, or files where they have no rows, as a batch: to measure what it costs.
    ///
    /// # Errors
    /// What is wrong with the data, by file and line.
    pub async fn sample(&self, amount: u64, said: &(dyn Fn(Progress) + Sync)) -> Result<Batch, Error> {
        let survey = self.clone();
        blocking(said, move |teller| {
            let sample = survey.with_cutter(teller, |cutter| match &survey.schema {
                Some(schema) => cutter.first_rows(schema, amount),
                None => Ok(cutter.first_files(amount)),
            })?;
            sample.ok_or_else(|| Error::Empty("there is nothing to take a sample of".to_owned()))
        })
        .await
    }

    fn with_cutter<T>(&self, teller: &Teller, work: impl FnOnce(&Cutter<'_>) -> T) -> T {
        let sources: Vec<&Source> = self.sources.iter().collect();
        work(&Cutter { sources: &sources, schema: self.schema.as_ref(), store: &self.store, teller })
    }
}

/// The files that patterns name, relative to `base`, but for what pipelines keep there.
pub(crate) fn matching(base: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Files::default();
    let kept = base.join(crate::home::TOP);
    patterns.iter().try_for_each(|pattern| find::find(pattern, base, &kept, &mut files))?;
    Ok(files.sorted().into_iter().map(|found| found.path).collect())
}

fn totals(sources: &[Source], bytes: u64) -> Sources {
    let mut hasher = blake3::Hasher::new();
    for source in sources {
        hasher.update(&(source.name.len() as u64).to_le_bytes());
        hasher.update(source.name.as_bytes());
        hasher.update(source.facts.digest.as_bytes());
    }
    Sources {
        files: sources.len() as u64,
        bytes,
        rows: sources.iter().map(|source| source.facts.rows).sum(),
        digest: Digest::from_bytes(*hasher.finalize().as_bytes()),
    }
}

/// Each address once.
fn addresses(texts: Vec<String>) -> Result<Vec<Url>, Error> {
    let mut addresses: Vec<Url> = Vec::new();
    for text in texts {
        let address = Url::parse(&text)
            .map_err(|error| Error::Source { source_text: text, problem: format!("it is no address: {error}") })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Files that were fetched are called by their address without what may be secret; where two would be called the same,
/// with a digest of the rest.
fn names(fetched: Vec<fetch::Fetched>) -> Vec<(String, PathBuf)> {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for fetched in &fetched {
        *uses.entry(fetch::shown(&fetched.address)).or_default() += 1;
    }
    let name = |fetched: fetch::Fetched| {
        let name = fetch::shown(&fetched.address);
        if uses[&name] == 1 {
            return (name, fetched.path);
        }
        let digest = blake3::hash(fetched.address.as_str().as_bytes()).to_hex();
        (format!("{name}?{}", &digest[..10]), fetched.path)
    };
    fetched.into_iter().map(name).collect()
}
