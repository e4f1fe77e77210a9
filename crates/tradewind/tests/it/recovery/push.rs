//! Control is killed while a model is pushed: afterwards the version is there as a whole, or not at all.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tradewind_core::Digest;
use tradewind_testkit::{Part, Roles, eventually};

use super::{DEADLINE, DIGITS, roles};

const MEBIBYTE: usize = 1 << 20;

/// Bytes under a directory, or 0 while there is none.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

async fn versions(roles: &Roles) -> Result<usize> {
    let models = roles.cli_ok(["models", "list", "-o", "json"]).await?.json()?;
    Ok(models["models"].as_array().context("a list of models")?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_cut_short_leaves_nothing() -> Result<()> {
    let mut roles = roles()?;
    roles.start(&Part::Control).await?;
    let blobs = roles.data_dir(&Part::Control).join("blobs");
    let content = vec![7_u8; 4 * MEBIBYTE];
    let digest = Digest::from_bytes(*blake3::hash(&content).as_bytes());

    let client = roles.client()?;
    let (more, pieces) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
    let (size, body) = (content.len() as u64, reqwest::Body::wrap_stream(stream));
    let upload = tokio::spawn(async move { client.put_blob(&digest, size, body).await });
    for piece in content[..2 * MEBIBYTE].chunks(MEBIBYTE / 4) {
        more.send(Ok(piece.to_vec())).await?;
    }
    let begun = eventually("a part of it has arrived", DEADLINE, || async {
        (bytes_below(&blobs) >= MEBIBYTE as u64).then_some(())
    });
    begun.await?;

    roles.kill(&Part::Control).await?;
    assert!(upload.await?.is_err(), "half an upload is no upload");
    roles.start(&Part::Control).await?;
    assert_eq!(bytes_below(&blobs), 0, "what was not whole is gone");
    let client = roles.client()?;
    assert_eq!(client.missing_blobs(vec![digest]).await?, [digest]);
    assert_eq!(versions(&roles).await?, 0);

    client.put_blob(&digest, size, content.into()).await?;
    assert_eq!(client.missing_blobs(vec![digest]).await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_was_killed_at_any_commit_can_be_repeated() -> Result<()> {
    let digits = format!("{DIGITS}/v1");
    for commits in 1.. {
        let mut roles = roles()?;
        // So that the start itself has nothing more to write than that there was one.
        roles.start(&Part::Control).await?;
        roles.kill(&Part::Control).await?;
        roles.spawn(&Part::Control, &["--kill-after-commits", &commits.to_string()]).await?;
        let pushed =
            roles.ready(&Part::Control).await? && roles.cli(["models", "push", &digits]).await?.code == Some(0);
        if !pushed {
            roles.ended(&Part::Control).await?;
            roles.start(&Part::Control).await?;
            assert!(versions(&roles).await? <= 1);
            roles.cli_ok(["models", "push", &digits]).await?;
        }
        let model = roles.cli_ok(["models", "show", "digits", "-o", "json"]).await?.json()?;
        let versions = model["versions"].as_array().context("a list of versions")?;
        assert_eq!(versions.len(), 1, "killed after {commits} commits: {versions:?}");
        assert_eq!(versions[0]["version"], 1);
        if pushed {
            assert!(commits > 2, "the start and the push are commits of their own");
            return Ok(());
        }
    }
    unreachable!("the loop ends when nothing is killed any more")
}
