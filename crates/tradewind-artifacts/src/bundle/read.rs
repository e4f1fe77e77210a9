//! Reading a bundle from a disk that may hold anything: links, pipes, names that lead elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::{Mode, OFlags};
use tradewind_core::{
    Digest, ModelName,
    bundle::{
        BUNDLE_BYTES_LIMIT, BUNDLE_FILES_LIMIT, BundleFile, BundleIndex, CASE_BYTES_LIMIT, MANIFEST_BYTES_LIMIT,
        MANIFEST_FILE, MODEL_BYTES_LIMIT,
    },
};

use super::{
    BARE_MODEL_FILE, Error, LocalBundle, bundle_digest, check_model_start, contents, default_manifest,
    format::START_BYTES,
    parse_manifest,
    path::{DEPTH_LIMIT, PathProblem},
};

/// How much of a file is in memory at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

pub(super) fn read(path: &Path) -> Result<LocalBundle, Error> {
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { path: path.to_owned() },
        _ => Error::Read { path: path.to_owned(), source },
    })?;
    if metadata.is_dir() { read_directory(path) } else { read_bare_model(path) }
}

fn read_bare_model(path: &Path) -> Result<LocalBundle, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let shown = path.display().to_string();
    // Not NOFOLLOW: the user named this very path. NONBLOCK, so that a pipe does not hold the door.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?);
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::NotABundle { path: path.to_owned() });
    }
    let mut reader = Reading { path: &shown, left: BUNDLE_BYTES_LIMIT };
    let start = reader.start(&mut file)?;
    check_model_start(&shown, &start)?;
    reader.check_model_size(&file)?;
    if path.extension() != Some(OsStr::new("onnx")) {
        return Err(Error::NotABundle { path: path.to_owned() });
    }
    let hashed = reader.hash(start, &mut file)?;
    let index = BundleIndex { files: BTreeMap::from([(BARE_MODEL_FILE.to_owned(), hashed)]) };
    Ok(LocalBundle {
        source: path.to_owned(),
        suggested_name: name_from(path.file_stem()),
        manifest: default_manifest(),
        digest: bundle_digest(&index),
        index,
        cases: Vec::new(),
    })
}

fn read_directory(path: &Path) -> Result<LocalBundle, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let root = File::open(path).map_err(failed)?;
    let names = list(path)?;
    contents::check_names(names.iter().map(String::as_str))?;
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();

    let manifest = if names.contains(MANIFEST_FILE) {
        let bytes = read_whole(&root, MANIFEST_FILE, MANIFEST_BYTES_LIMIT)?.ok_or(Error::ManifestTooLarge)?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Error::Manifest { line: 1, message: "the file is not UTF-8 text".to_owned() })?;
        parse_manifest(&text)?
    } else {
        default_manifest()
    };
    let cases = contents::select(&names, &manifest)?;
    for case in &cases {
        check_case(&root, case)?;
    }

    let mut index = BundleIndex::default();
    let mut left = BUNDLE_BYTES_LIMIT;
    for name in names {
        let mut file = open_beneath(&root, name)?;
        let mut reader = Reading { path: name, left };
        let start = reader.start(&mut file)?;
        let is_server = manifest.server().is_some();
        if name == manifest.model && !is_server {
            check_model_start(name, &start)?;
            reader.check_model_size(&file)?;
        }
        let mut hashed = reader.hash(start, &mut file)?;
        hashed.executable = is_server && is_executable(&file).map_err(|source| reader.failed(source))?;
        left -= hashed.size;
        index.files.insert(name.to_owned(), hashed);
    }
    if let Some(command) = manifest.server() {
        command.check_files(&index)?;
    }
    let directory_name = path.canonicalize().map_err(failed)?;
    Ok(LocalBundle {
        source: path.to_owned(),
        suggested_name: manifest.name.clone().or_else(|| name_from(directory_name.file_name())),
        manifest,
        digest: bundle_digest(&index),
        index,
        cases,
    })
}

fn is_executable(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.mode() & 0o111 != 0)
}

fn name_from(name: Option<&OsStr>) -> Option<ModelName> {
    name?.to_str()?.parse().ok()
}

/// All files below `root`, relative to it. What is neither a file nor a directory is refused.
fn list(root: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut directories = vec![(root.to_owned(), String::new(), 1)];
    // Directories count too, so that a tree of empty ones is no way around the limit.
    let mut seen = 0;
    while let Some((directory, prefix, depth)) = directories.pop() {
        let failed = |source| Error::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            seen += 1;
            if seen > 2 * BUNDLE_FILES_LIMIT {
                return Err(Error::TooManyFiles);
            }
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::NotUtf8 { path: format!("{prefix}{}", entry.file_name().to_string_lossy()) });
            };
            let name = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() {
                return Err(Error::Symlink { path: name });
            } else if kind.is_dir() && depth == DEPTH_LIMIT {
                return Err(Error::Path { path: name, problem: PathProblem::TooDeep });
            } else if kind.is_dir() {
                directories.push((entry.path(), format!("{name}/"), depth + 1));
            } else if kind.is_file() {
                names.push(name);
            } else {
                return Err(Error::NotRegular { path: name });
            }
        }
    }
    Ok(names)
}

/// Opens a regular file below `root` without following any link on the way, whatever was listed a moment ago.
fn open_beneath(root: &File, name: &str) -> Result<File, Error> {
    let failed = |errno: rustix::io::Errno| match errno {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => Error::Symlink { path: name.to_owned() },
        errno => Error::Read { path: name.into(), source: errno.into() },
    };
    let common = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (directories, last) =
        name.rsplit_once('/').map_or((None, name), |(directories, last)| (Some(directories), last));
    let mut directory = None;
    for component in directories.into_iter().flat_map(|directories| directories.split('/')) {
        let parent = directory.as_ref().unwrap_or(root);
        let next = rustix::fs::openat(parent, component, common | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
        directory = Some(File::from(next));
    }
    let parent = directory.as_ref().unwrap_or(root);
    // NONBLOCK: opening a pipe would wait for its writer.
    let file = rustix::fs::openat(parent, last, common | OFlags::NONBLOCK, Mode::empty()).map_err(failed)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(|source| Error::Read { path: name.into(), source })?;
    if !metadata.is_file() {
        return Err(Error::NotRegular { path: name.to_owned() });
    }
    if metadata.nlink() > 1 {
        return Err(Error::HardLink { path: name.to_owned() });
    }
    Ok(file)
}

/// The whole of a small file, or `None` when it is larger than `limit`.
fn read_whole(root: &File, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::new();
    let file = open_beneath(root, name)?;
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read { path: name.into(), source })?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// What a golden case says is checked where verification is; here only that it can be read at all.
fn check_case(root: &File, name: &str) -> Result<(), Error> {
    let bytes = read_whole(root, name, CASE_BYTES_LIMIT)?;
    let bytes = bytes.ok_or_else(|| Error::CaseTooLarge { path: name.to_owned() })?;
    match serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(&bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Case { path: name.to_owned(), message: error.to_string() }),
    }
}

/// One file on its way through the hasher.
struct Reading<'a> {
    path: &'a str,
    /// How many bytes it may have.
    left: u64,
}

impl Reading<'_> {
    fn failed(&self, source: io::Error) -> Error {
        Error::Read { path: self.path.into(), source }
    }

    fn start(&self, file: &mut File) -> Result<Vec<u8>, Error> {
        let mut start = Vec::with_capacity(START_BYTES);
        file.take(START_BYTES as u64).read_to_end(&mut start).map_err(|source| self.failed(source))?;
        Ok(start)
    }

    /// Before it is hashed, which takes a while for a large one.
    fn check_model_size(&self, file: &File) -> Result<(), Error> {
        let bytes = file.metadata().map_err(|source| self.failed(source))?.len();
        match bytes > MODEL_BYTES_LIMIT {
            true => Err(Error::ModelTooLarge { path: self.path.to_owned(), bytes }),
            false => Ok(()),
        }
    }

    fn hash(&mut self, start: Vec<u8>, file: &mut File) -> Result<BundleFile, Error> {
        let expected = file.metadata().map_err(|source| self.failed(source))?.len();
        if expected > self.left {
            return Err(Error::TooLarge);
        }
        let mut hasher = blake3::Hasher::new();
        let mut size = start.len() as u64;
        hasher.update(&start);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    size += read as u64;
                    hasher.update(&piece[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
            if size > expected {
                break;
            }
        }
        if size != expected {
            return Err(Error::Changed { path: self.path.to_owned() });
        }
        Ok(BundleFile { size, digest: Digest::from_bytes(*hasher.finalize().as_bytes()), executable: false })
    }
}
