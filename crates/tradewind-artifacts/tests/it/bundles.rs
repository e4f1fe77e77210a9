use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::TempDir;
use tradewind_artifacts::{
    Bundle, LocalBundle,
    bundle::{Error, check_contents},
    bundle_digest,
};

use crate::{ONNX_START, directory, source::digest_of, write};

const CASE: &[u8] = br#"{"inputs": [], "outputs": []}"#;

#[tokio::test]
async fn a_directory_is_read() {
    let bundle = directory(&[
        ("tradewind.toml", b"name = \"digits\"\nfiles = [\"weights/*.bin\"]\n"),
        ("model.onnx", ONNX_START),
        ("weights/a.bin", b"a"),
        ("weights/b.bin", b"b"),
        ("cases/002.json", CASE),
        ("cases/001.json", CASE),
    ]);
    let read = Bundle::read(bundle.path()).await.unwrap();
    assert_eq!(read.suggested_name.as_ref().unwrap().as_str(), "digits");
    assert_eq!(read.cases, ["cases/001.json", "cases/002.json"]);
    assert_eq!(read.index.files.len(), 6);
    assert_eq!(read.index.files["weights/a.bin"].digest, digest_of(b"a"));
    assert_eq!(read.index.files["model.onnx"].size, ONNX_START.len() as u64);
    assert_eq!(read.digest, bundle_digest(&read.index));
    assert_eq!(fs::read(read.path_of("weights/b.bin").unwrap()).unwrap(), b"b");
    assert_eq!(read.path_of("weights/c.bin"), None);
    assert_eq!(check_contents(&read.index, &read.manifest).unwrap(), read.cases);
}

#[tokio::test]
async fn a_bare_model_is_a_bundle_and_equals_a_directory_of_it() {
    let place = directory(&[("my-net.onnx", ONNX_START), ("other.txt", b"not looked at")]);
    let bare = Bundle::read(place.path().join("my-net.onnx")).await.unwrap();
    assert_eq!(bare.suggested_name.as_ref().unwrap().as_str(), "my-net");
    assert_eq!(bare.index.files.keys().collect::<Vec<_>>(), ["model.onnx"]);
    assert_eq!(bare.path_of("model.onnx").unwrap(), place.path().join("my-net.onnx"));
    let plain = directory(&[("model.onnx", ONNX_START)]);
    assert_eq!(Bundle::read(plain.path()).await.unwrap().digest, bare.digest);
}

#[test]
fn the_digest_of_a_bundle_is_pinned() {
    let (_, index) = crate::source::Source::new(&[("model.onnx", b"m"), ("cases/1.json", b"{}")]);
    let json = concat!(
        r#"{"files":{"#,
        r#""cases/1.json":{"size":2,"digest":"blake3:A"},"#,
        r#""model.onnx":{"size":1,"digest":"blake3:B"}}}"#
    );
    let json = json.replace("A", &digest_of(b"{}").to_hex()).replace("B", &digest_of(b"m").to_hex());
    assert_eq!(bundle_digest(&index), digest_of(json.as_bytes()));
}

async fn refused(path: impl AsRef<Path>) -> Error {
    let read: Result<LocalBundle, Error> = Bundle::read(path).await;
    read.expect_err("it was accepted")
}

async fn check(files: &[(&str, &[u8])], expected: &str) {
    let error = refused(directory(files).path()).await;
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "no hint: {error}");
}

#[tokio::test]
async fn what_the_manifest_does_not_list_is_refused() {
    let model = ("model.onnx", ONNX_START);
    check(&[model, ("notes.md", b"x")], "`notes.md` is in the bundle, but tradewind.toml does not list it").await;
    check(
        &[model, ("cases/deep/1.json", CASE)],
        "`cases/deep/1.json` is in the bundle, but tradewind.toml does not list it",
    )
    .await;
    check(&[("cases/1.json", CASE)], "tradewind.toml lists `model.onnx`, which is not there").await;
    check(&[model, ("tradewind.toml", b"files = [\"w.bin\"]")], "tradewind.toml lists `w.bin`, which is not there")
        .await;
    for (manifest, path, why) in [
        ("files = [\"../w.bin\"]", "../w.bin", "it leaves the bundle with `..`"),
        ("files = [\"/etc/passwd\"]", "/etc/passwd", "it is absolute"),
        ("model = \"a/../../b.onnx\"", "a/../../b.onnx", "it leaves the bundle with `..`"),
        ("cases = [\"cases\\\\*.json\"]", "cases\\*.json", "it contains a backslash"),
    ] {
        let expected = format!("the bundle may not contain `{path}`: {why}");
        check(&[model, ("tradewind.toml", manifest.as_bytes())], &expected).await;
    }
}

#[tokio::test]
async fn a_wrong_manifest_is_refused_with_its_line() {
    let manifest: (&str, &[u8]) = ("tradewind.toml", b"description = \"x\"\nmodel = 7\n");
    check(
        &[("model.onnx", ONNX_START), manifest],
        "tradewind.toml line 2: `model`: invalid type: integer `7`, expected a string",
    )
    .await;
    check(&[("tradewind.toml", b"\xff")], "tradewind.toml line 1: the file is not UTF-8 text").await;
    check(&[("tradewind.toml", &vec![b'#'; (1 << 20) + 1])], "tradewind.toml is larger than 1 MiB").await;
}

#[tokio::test]
async fn what_is_not_a_model_is_refused_by_its_first_bytes() {
    for (content, found) in [
        (&b"\x80\x04\x95\x10\0\0\0"[..], "a Python pickle"),
        (b"PK\x03\x04\x14\0", "a zip archive (PyTorch's .pt and Keras's .keras are such)"),
        (b"", "empty"),
        (b"<!doctype html>", "a text file"),
    ] {
        check(&[("model.onnx", content)], &format!("`model.onnx` is not an ONNX model: it is {found}")).await;
        let bare = directory(&[("x.onnx", content)]);
        assert!(matches!(refused(bare.path().join("x.onnx")).await, Error::Format { .. }));
    }
}

#[tokio::test]
async fn a_golden_case_is_a_json_object() {
    let model = ("model.onnx", ONNX_START);
    for content in [&b"not json"[..], b"[1]", b"{\"a\":", b"{}{}", b"\xff"] {
        let error = refused(directory(&[model, ("cases/1.json", content)]).path()).await;
        assert!(matches!(&error, Error::Case { path, .. } if path == "cases/1.json"), "{error}");
    }
    let large = directory(&[model, ("cases/1.json", b"")]);
    fs::File::create(large.path().join("cases/1.json")).unwrap().set_len((16 << 20) + 1).unwrap();
    assert_eq!(refused(large.path()).await.to_string(), "the golden case `cases/1.json` is larger than 16 MiB");
}

#[tokio::test]
async fn links_pipes_and_strange_names_are_refused() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let secret = directory(&[("secret.bin", b"s"), ("sub/secret.bin", b"s")]);
    let outside = secret.path().join("secret.bin");
    let fresh = || directory(&[("tradewind.toml", b"files = [\"w/w.bin\"]"), ("model.onnx", ONNX_START)]);

    let bundle = fresh();
    fs::create_dir(bundle.path().join("w")).unwrap();
    symlink(&outside, bundle.path().join("w/w.bin")).unwrap();
    assert_eq!(refused(bundle.path()).await.to_string(), "`w/w.bin` is a symbolic link");

    let bundle = fresh();
    symlink(secret.path().join("sub"), bundle.path().join("w")).unwrap();
    assert_eq!(refused(bundle.path()).await.to_string(), "`w` is a symbolic link");

    let bundle = fresh();
    fs::create_dir(bundle.path().join("w")).unwrap();
    fs::hard_link(&outside, bundle.path().join("w/w.bin")).unwrap();
    assert!(matches!(refused(bundle.path()).await, Error::HardLink { path } if path == "w/w.bin"));

    let bundle = fresh();
    fs::create_dir(bundle.path().join("w")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, bundle.path().join("w/w.bin"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(refused(bundle.path()).await.to_string(), "`w/w.bin` is not a regular file");

    let bundle = fresh();
    fs::write(bundle.path().join(std::ffi::OsStr::from_bytes(b"w\xff")), b"").unwrap();
    assert!(matches!(refused(bundle.path()).await, Error::NotUtf8 { .. }));

    let bundle = fresh();
    write(bundle.path(), "MODEL.onnx", ONNX_START);
    assert!(matches!(refused(bundle.path()).await, Error::Clash { .. }));
}

#[tokio::test]
async fn what_is_not_a_bundle_is_said() {
    let place = directory(&[("weights.dat", b"\x08\x08\x12")]);
    let missing = refused(place.path().join("nothing")).await;
    assert!(matches!(missing, Error::NotFound { .. }));
    assert!(missing.hint().is_some());
    assert!(matches!(refused(place.path().join("weights.dat")).await, Error::NotABundle { .. }));
    assert!(matches!(refused("/dev/null").await, Error::NotABundle { .. }));
}

const SERVER: &str = "runtime = \"command\"\n[command]\nrun = [\"./serve\", \"{port}\"]\ndirectory = \"app\"\n";

fn server(manifest: &str) -> TempDir {
    let bundle = directory(&[
        ("tradewind.toml", manifest.as_bytes()),
        ("app/serve", b"#!/bin/sh\n"),
        ("app/lib/data.txt", b"x"),
        ("cases/1.json", CASE),
    ]);
    fs::set_permissions(bundle.path().join("app/serve"), Permissions::from_mode(0o755)).unwrap();
    bundle
}

#[tokio::test]
async fn a_server_is_all_files_of_its_directory_or_those_it_lists() {
    let read = Bundle::read(server(SERVER).path()).await.unwrap();
    let names: Vec<&str> = read.index.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["app/lib/data.txt", "app/serve", "cases/1.json", "tradewind.toml"]);
    let executable: Vec<bool> = read.index.files.values().map(|file| file.executable).collect();
    assert_eq!(executable, [false, true, false, false]);
    assert_eq!(read.cases, ["cases/1.json"]);
    assert_eq!(check_contents(&read.index, &read.manifest).unwrap(), read.cases);

    let listing = format!("files = [\"app/serve\"]\n{SERVER}");
    let error = refused(server(&listing).path()).await;
    assert!(matches!(&error, Error::Unlisted { path } if path == "app/lib/data.txt"), "{error}");

    // Nothing of another runtime's can be started, whoever made the index.
    let mut onnx = Bundle::read(directory(&[("model.onnx", ONNX_START)]).path()).await.unwrap();
    onnx.index.files.get_mut("model.onnx").unwrap().executable = true;
    let error = check_contents(&onnx.index, &onnx.manifest).unwrap_err();
    assert!(matches!(&error, Error::Executable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_is_refused() {
    for (manifest, expected) in [
        ("runtime = \"command\"\n".to_owned(), "`runtime`: the runtime `command` needs `[command]` with `run`"),
        ("[command]\nrun = [\"x\"]\n".to_owned(), "`command`: it is of no use without `runtime = \"command\"`"),
        (
            format!("model = \"m.onnx\"\n{SERVER}"),
            "`model`: a bundle of the runtime `command` has no model file; all its files belong to it",
        ),
        (SERVER.replace("./serve", "./start"), "`command.run`: the bundle has no file `app/start`"),
        (
            SERVER.replace("./serve", "lib/data.txt"),
            "`command.run`: `app/lib/data.txt` is not executable: chmod +x it, or name its interpreter",
        ),
        (SERVER.replace("./serve", "../../serve"), "`command.run`: `../../serve` leads out of the bundle"),
        (SERVER.replace("\"app\"", "\"src\""), "`command.directory`: the bundle has no directory `src`"),
    ] {
        let error = refused(server(&manifest).path()).await;
        assert_eq!(error.to_string(), format!("tradewind.toml: {expected}"));
        assert!(error.hint().is_some());
    }
    let unknown = refused(server("runtime = \"command\"\n[command]\nrum = [\"x\"]\n").path()).await;
    assert!(unknown.to_string().contains("unknown field `rum`"), "{unknown}");
}
