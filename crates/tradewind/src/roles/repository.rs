//! The bundles in a directory, as the models of one replica.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use tradewind_artifacts::{Bundle, LocalBundle};
use tradewind_core::{ModelName, VersionNumber, batch::BatchOptions, causes::chain};
use tradewind_replica::ModelOptions;

use crate::failure::Failure;

/// The most models of one replica.
const MODELS_LIMIT: usize = 1000;
/// Nothing in the directory says which version it is.
const VERSION: VersionNumber = VersionNumber(1);

/// How models are run that say nothing of it themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    pub(super) threads: NonZeroUsize,
    pub(super) instances: NonZeroUsize,
    pub(super) batching: BatchOptions,
}

/// Every bundle directory and every `.onnx` file in it, hidden ones left out.
pub(super) async fn read(directory: &Path, usual: Usual) -> Result<Vec<ModelOptions>, Failure> {
    let entries = entries(directory)
        .map_err(|error| Failure::usage(format!("cannot read {}", directory.display())).cause(error.to_string()))?;
    let mut models: BTreeMap<ModelName, ModelOptions> = BTreeMap::new();
    for path in entries {
        let unfit = |why: String| Failure::usage(format!("{} cannot be served", path.display())).cause(why);
        let bundle = Bundle::read(&path).await.map_err(|error| unfit(chain(&error)))?;
        let options = options(bundle, usual).map_err(unfit)?;
        if let Some(twice) = models.insert(options.model.clone(), options) {
            return Err(unfit(format!("there is another model named {}", twice.model)));
        }
    }
    if models.is_empty() {
        return Err(Failure::usage(format!("there is no bundle in {}", directory.display()))
            .hint("it is a directory of bundles, each in a directory of its own, or of .onnx files"));
    }
    Ok(models.into_values().collect())
}

fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_model = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "onnx");
    let paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<std::io::Result<_>>()?;
    paths.retain(|path| is_model(path) && !is_hidden(path));
    paths.sort();
    if paths.len() > MODELS_LIMIT {
        return Err(std::io::Error::other(format!("it has more than {MODELS_LIMIT} models")));
    }
    Ok(paths)
}

fn options(bundle: LocalBundle, usual: Usual) -> Result<ModelOptions, String> {
    let LocalBundle { source, suggested_name, manifest, cases, .. } = bundle;
    if manifest.server().is_some() {
        return Err("it is a server of its own, and a replica of several models runs ONNX Runtime alone".to_owned());
    }
    // A bare file is all of its bundle.
    let (directory, model_file) = match source.is_dir() {
        true => (source, manifest.model),
        false => {
            let file = source.file_name().and_then(|name| name.to_str()).ok_or("its name is not UTF-8")?.to_owned();
            (source.parent().unwrap_or(Path::new(".")).to_owned(), file)
        }
    };
    Ok(ModelOptions {
        model: suggested_name.ok_or("its name cannot be a model's; say `name` in its tradewind.toml")?,
        version: VERSION,
        bundle: directory,
        model_file,
        cases,
        threads: usual.threads,
        instances: usual.instances,
        batching: manifest.batching.unwrap_or(usual.batching),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Usual {
        Usual { threads: NonZeroUsize::MIN, instances: NonZeroUsize::MIN, batching: BatchOptions::default() }
    }

    #[tokio::test]
    async fn bundles_and_bare_files_are_models() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let model = "\u{8}\u{a}:\u{2}\u{12}\u{0}";
        write("bare.onnx", model);
        write("notes.txt", "not a model");
        write(".hidden/model.onnx", model);
        write("b/weights.onnx", model);
        write("b/tradewind.toml", "name = \"other\"\nmodel = \"weights.onnx\"\n[batching]\nmax_rows = 4\n");
        let models = read(directory.path(), usual()).await.unwrap();
        let found: Vec<_> = models.iter().map(|model| (model.model.as_str(), model.model_file.as_str())).collect();
        assert_eq!(found, [("bare", "bare.onnx"), ("other", "weights.onnx")]);
        assert_eq!(models[0].bundle, directory.path());
        assert_eq!((models[0].batching, models[1].batching.max_rows), (usual().batching, 4));

        write("again/tradewind.toml", "name = \"bare\"\n");
        write("again/model.onnx", model);
        let twice = read(directory.path(), usual()).await.unwrap_err();
        assert!(format!("{twice:?}").contains("another model named bare"), "{twice:?}");
        write("again/tradewind.toml", "runtime = \"command\"\n[command]\nrun = [\"python3\"]\n");
        let server = read(directory.path(), usual()).await.unwrap_err();
        assert!(format!("{server:?}").contains("ONNX Runtime alone"), "{server:?}");
        let empty = tempfile::tempdir().unwrap();
        assert!(format!("{:?}", read(empty.path(), usual()).await.unwrap_err()).contains("there is no bundle in"));
    }
}
