//! The registry: what may come in, from where, and what stays out.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;
use tradewind_testkit::World;

use super::{digits, example, json, ok, options, refused, start};

#[tokio::test]
async fn models_come_from_directories_files_and_urls() -> Result<()> {
    let world = start(&["us-east1"]).await?;
    let directory = TempDir::new()?;
    let model = directory.path().join("tiny.onnx");
    fs::copy(digits().join("v1/model.onnx"), &model)?;

    let first = json(&world, &format!("models push {}", example("v1"))).await?;
    assert_eq!((&first["name"], &first["version"], &first["created"]), (&json!("digits"), &json!(1), &json!(true)));
    let again = json(&world, &format!("models push {}", example("v1"))).await?;
    assert_eq!((&again["version"], &again["created"]), (&json!(1), &json!(false)));
    assert_eq!(again["digest"], first["digest"]);
    let second = json(&world, &format!("models push {}", example("v2"))).await?;
    assert_eq!((&second["version"], &second["created"]), (&json!(2), &json!(true)));

    let bare = json(&world, &format!("models push {}", model.display())).await?;
    assert_eq!((&bare["name"], &bare["version"]), (&json!("tiny"), &json!(1)));
    let inputs = json!([{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]);
    assert_eq!(bare["signature"]["inputs"], inputs, "read from the model itself");

    let (_server, address) = file_server(fs::read(&model)?).await?;
    let fetched = json(&world, &format!("models push http://{address}/hub/fetched.onnx?token=secret")).await?;
    assert_eq!((&fetched["name"], &fetched["digest"]), (&json!("fetched"), &bare["digest"]));
    let missing = refused(&world, &format!("models push http://{address}/hub/missing.onnx"), 3).await?;
    assert!(missing.contains(&format!("there is nothing at http://{address}/hub/missing.onnx")), "{missing}");

    let list = json(&world, "models list").await?;
    assert_eq!(list["schema_version"], 1);
    let models: Vec<_> = list["models"].as_array().context("a list")?.iter().map(brief).collect();
    assert_eq!(models, [json!(["digits", 2, 2]), json!(["fetched", 1, 1]), json!(["tiny", 1, 1])]);
    let shown = json(&world, "models show digits").await?;
    let versions: Vec<_> = shown["versions"].as_array().context("a list")?.iter().map(|v| &v["version"]).collect();
    assert_eq!(versions, [2, 1], "newest first");
    let one = json(&world, "models show digits:1").await?;
    assert_eq!((&one["schema_version"], &one["digest"]), (&json!(1), &first["digest"]));
    assert_eq!(one["cases"].as_array().map(Vec::len), Some(20));
    Ok(())
}

fn brief(model: &Value) -> Value {
    json!([model["name"], model["latest"], model["versions"]])
}

#[tokio::test]
async fn what_cannot_be_served_stays_out() -> Result<()> {
    let world = start(&["us-east1"]).await?;
    ok(&world, &format!("models push {}", example("v1"))).await?;
    let before = json(&world, "models list").await?;
    let directory = TempDir::new()?;
    let at = |name: &str| directory.path().join(name);

    fs::write(at("corrupt.onnx"), [0xff_u8; 500])?;
    fs::write(at("pickle.onnx"), b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.")?;
    let huge = fs::File::create(at("huge.onnx"))?;
    // A plausible beginning, then a hole: it takes no room on the disk.
    std::io::Write::write_all(&mut &huge, &fs::read(digits().join("v1/model.onnx"))?)?;
    huge.set_len(5 << 30)?;
    let dots = altered(&at("dots"), "tradewind.toml", "\"model.onnx\"", "\"../v1/model.onnx\"")?;
    let wrong_case = altered(&at("wrong"), "cases/001.json", "\"image\"", "\"imagine\"")?;
    let wrong_signature = altered(&at("signature"), "tradewind.toml", "[-1, 64]", "[-1, 65]")?;
    let unlisted = copied(&at("unlisted"))?;
    fs::write(unlisted.join("notes.txt"), "nobody asked for these")?;
    let link = copied(&at("link"))?;
    std::os::unix::fs::symlink("/etc/passwd", link.join("weights.bin"))?;

    for (path, code, sentence) in [
        (at("corrupt.onnx"), 5, "is not an ONNX model"),
        (at("pickle.onnx"), 5, "is not an ONNX model: it is a Python pickle"),
        (at("huge.onnx"), 5, "an ONNX file has at most"),
        (dots, 5, "the bundle may not contain `../v1/model.onnx`"),
        (wrong_case, 5, "golden case cases/001.json cannot hold"),
        (wrong_signature, 5, "states another signature than the model has"),
        (unlisted, 5, "`notes.txt` is in the bundle, but tradewind.toml does not list it"),
        (link, 5, "`weights.bin`"),
        (at("nothing.onnx"), 3, "there is no "),
    ] {
        let said = refused(&world, &format!("models push {}", path.display()), code).await?;
        assert!(said.lines().next().is_some_and(|line| line.contains(sentence)), "{}: {said}", path.display());
    }
    // A deploy of such a thing is refused in the same words, and deploys nothing.
    let said = refused(&world, &format!("deploy --regions us-east1 {}", at("pickle.onnx").display()), 5).await?;
    assert!(said.contains("it is a Python pickle"), "{said}");
    assert_eq!(json(&world, "models list").await?, before);
    assert_eq!(json(&world, "status").await?["models"], json!([]));
    Ok(())
}

/// The registry's blobs lie on a file system of their own, which has little more room than what is always kept free.
#[tokio::test]
async fn a_full_disk_is_named_and_changes_nothing() -> Result<()> {
    let directory = TempDir::new()?;
    let mut options = options(&["us-east1"]);
    options.data_dir = Some(directory.path().join("world"));
    let blobs = directory.path().join("world/control/blobs");
    fs::create_dir_all(&blobs)?;
    options.program = on_small_disk(&options.program, directory.path(), &blobs)?;
    let world = World::start(options).await?;
    ok(&world, &format!("models push {}", example("v1"))).await?;
    let before = json(&world, "models list").await?;

    let large =
        altered(&directory.path().join("large"), "tradewind.toml", "cases = ", "files = [\"ballast\"]\ncases = ")?;
    fs::write(large.join("ballast"), vec![7; 8 << 20])?;
    let said = refused(&world, &format!("models push {}", large.display()), 1).await?;
    assert!(said.contains("disk is full; nothing was changed") && said.contains("make room"), "{said}");
    assert_eq!(json(&world, "models list").await?, before);
    ok(&world, "deploy --regions us-east1 digits").await?;
    assert_eq!(super::ask(&world, "us-east1").await?.revision, "1", "what is there can still be deployed");
    Ok(())
}

/// A program that is `tradewind`, but runs `up` where `blobs` is a file system of 36 MiB: in mount namespaces of its
/// own, so that nothing stays mounted.
fn on_small_disk(tradewind: &Path, directory: &Path, blobs: &Path) -> Result<PathBuf> {
    let script = directory.join("tradewind-on-small-disk");
    let text = format!(
        "#!/bin/sh\n\
         [ \"$1\" = up ] || exec '{tradewind}' \"$@\"\n\
         exec unshare --user --map-root-user --mount sh -c \
         'mount -t tmpfs -o size=36m tmpfs \"{blobs}\" && exec \"{tradewind}\" \"$@\"' sh \"$@\"\n",
        tradewind = tradewind.display(),
        blobs = blobs.display(),
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// A copy of the bundle of version 1.
fn copied(to: &Path) -> Result<PathBuf> {
    fs::create_dir_all(to.join("cases"))?;
    for place in ["", "cases"] {
        for entry in fs::read_dir(digits().join("v1").join(place))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(place).join(entry.file_name()))?;
            }
        }
    }
    Ok(to.to_owned())
}

fn altered(to: &Path, file: &str, from: &str, into: &str) -> Result<PathBuf> {
    let bundle = copied(to)?;
    let text = fs::read_to_string(bundle.join(file))?;
    assert!(text.contains(from), "{text}");
    fs::write(bundle.join(file), text.replacen(from, into, 1))?;
    Ok(bundle)
}

/// Serves one file at `/hub/fetched.onnx`.
async fn file_server(content: Vec<u8>) -> Result<(AbortOnDropHandle<()>, std::net::SocketAddr)> {
    let routes = axum::Router::new().route("/hub/fetched.onnx", axum::routing::get(async move || content));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("the server runs") });
    Ok((AbortOnDropHandle::new(server), address))
}
