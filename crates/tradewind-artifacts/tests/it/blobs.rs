use std::{collections::HashSet, fs, io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tradewind_artifacts::{BlobStore, Bundle, FetchError, Installer, blobs::Error};
use tradewind_core::{Digest, causes::chain};

use crate::{ONNX_START, directory, files_below, source::digest_of, until};

fn chunks(content: &[u8]) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
    let chunks: Vec<_> = content.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

async fn whole(store: &BlobStore, digest: &Digest, offset: u64) -> Vec<u8> {
    let stream = store.read(digest, offset..).await.unwrap().into_stream();
    stream.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn a_blob_is_kept_and_read_from_any_offset() {
    let place = directory(&[]);
    let store = BlobStore::open(place.path()).await.unwrap();
    let content = b"the content of a blob";
    let digest = digest_of(content);
    assert!(!store.has(&digest).await.unwrap());
    assert!(store.put_stream(&digest, 21, chunks(content)).await.unwrap());
    assert!(!store.put_stream(&digest, 21, chunks(content)).await.unwrap(), "it was there");

    let store = BlobStore::open(place.path()).await.unwrap();
    assert_eq!(store.size(&digest).await.unwrap(), 21);
    assert_eq!(store.bytes_stored().await.unwrap(), 21);
    assert_eq!(whole(&store, &digest, 0).await, content);
    assert_eq!(whole(&store, &digest, 15).await, b"a blob");
    assert_eq!(whole(&store, &digest, 21).await, b"");
    assert!(matches!(store.read(&digest, 22..).await, Err(Error::Range { size: 21, .. })));
    let part = store.read(&digest, 4..=10).await.unwrap();
    assert_eq!((part.size, part.offset, part.length), (21, 4, 7));
    assert_eq!(part.into_stream().try_collect::<Vec<_>>().await.unwrap().concat(), b"content");

    store.remove(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert!(matches!(store.read(&digest, ..).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_sweep_keeps_what_is_needed_and_what_is_new() {
    let place = directory(&[]);
    let store = BlobStore::open(place.path()).await.unwrap();
    let [needed, other] = [b"needed", b"other!"];
    for content in [needed, other] {
        store.put_stream(&digest_of(content), 6, chunks(content)).await.unwrap();
    }
    let keep = HashSet::from([digest_of(needed)]);
    let hour = Duration::from_secs(3600);
    assert_eq!(store.sweep(keep.clone(), hour).await.unwrap(), 0);
    let hex = digest_of(other).to_hex();
    let file = fs::File::open(place.path().join(format!("blobs/{}/{hex}", &hex[..2]))).unwrap();
    let long_ago = std::time::SystemTime::now() - 2 * hour;
    file.set_modified(long_ago).unwrap();
    assert!(!store.put_stream(&digest_of(other), 6, chunks(other)).await.unwrap(), "it was there");
    assert_eq!(store.sweep(keep.clone(), hour).await.unwrap(), 0, "it was put again");
    file.set_modified(long_ago).unwrap();
    assert_eq!(store.sweep(keep, hour).await.unwrap(), 1);
    assert!(store.has(&digest_of(needed)).await.unwrap() && !store.has(&digest_of(other)).await.unwrap());
}

#[tokio::test]
async fn whatever_goes_wrong_leaves_nothing() {
    let place = directory(&[]);
    let store = BlobStore::open(place.path()).await.unwrap();
    let content = vec![7; 3 << 20];
    let digest = digest_of(&content);
    let size = content.len() as u64;

    let other = store.put_stream(&digest_of(b"other"), size, chunks(&content)).await;
    assert!(matches!(other, Err(Error::Digest { found, .. }) if found == digest));
    let longer = store.put_stream(&digest, size - 1, chunks(&content)).await;
    assert!(matches!(longer, Err(Error::Size { .. })));
    let shorter = store.put_stream(&digest, size + 1, chunks(&content)).await;
    assert!(matches!(shorter, Err(Error::Size { .. })));
    let broken = chunks(&content).chain(stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) }));
    let broken = store.put_stream(&digest, size + 1, broken).await.unwrap_err();
    assert!(chain(&broken).contains("connection reset"), "{}", chain(&broken));
    let huge = store.put_stream(&digest, u64::MAX, chunks(b"")).await;
    assert!(matches!(huge, Err(Error::TooLarge { .. })));
    // A writer that is dropped in the middle: what it had begun is taken away by whoever ends last.
    let endless = chunks(&content).chain(stream::pending());
    let dropped = store.put_stream(&digest, size + 1, endless);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), dropped).await.is_err());
    until("the dropped upload is gone", || files_below(place.path()).is_empty()).await;

    assert_eq!(files_below(place.path()), [""; 0]);
    assert_eq!(store.bytes_stored().await.unwrap(), 0);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed_and_damage_is_mended() {
    let content = b"whole";
    let digest = digest_of(content);
    let hex = digest.to_hex();
    let damaged = format!("blobs/{}/{hex}", &hex[..2]);
    let place = directory(&[("uploads/.tmpX", b"half"), (&damaged, b"who")]);
    let store = BlobStore::open(place.path()).await.unwrap();
    assert_eq!(files_below(place.path()), [damaged.as_str()]);
    assert!(store.put_stream(&digest, 5, chunks(content)).await.unwrap());
    assert_eq!(whole(&store, &digest, 0).await, content);
}

#[tokio::test]
async fn many_may_put_the_same_blob_at_once() {
    let place = directory(&[]);
    let store = BlobStore::open(place.path()).await.unwrap();
    let content = vec![3; 100_000];
    let digest = digest_of(&content);
    let puts = (0..8).map(|_| store.put_stream(&digest, content.len() as u64, chunks(&content)));
    let results = futures_util::future::join_all(puts).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(files_below(place.path()).len(), 1);
    assert_eq!(whole(&store, &digest, 0).await, content);
}

#[tokio::test]
async fn a_pushed_bundle_is_installed_from_the_store() {
    let authors = directory(&[("model.onnx", ONNX_START), ("cases/1.json", b"{}")]);
    let place = directory(&[]);
    let bundle = Bundle::read(authors.path()).await.unwrap();
    let store = BlobStore::open(place.path().join("store")).await.unwrap();
    for (path, file) in &bundle.index.files {
        let content = std::fs::read(bundle.path_of(path).unwrap()).unwrap();
        let content = stream::iter([Ok::<_, FetchError>(Bytes::from(content))]);
        assert!(store.put_stream(&file.digest, file.size, content).await.unwrap());
    }
    let installer = Installer::open(place.path().join("agent")).await.unwrap();
    let installed = installer.install(&bundle.index, &store, &|_| {}).await.unwrap();
    assert_eq!(installed, installer.path_of(&bundle.digest));
    assert_eq!(Bundle::read(&installed).await.unwrap().digest, bundle.digest);
}
