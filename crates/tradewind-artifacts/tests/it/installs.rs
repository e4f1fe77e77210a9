use std::{
    fs,
    sync::{Mutex, atomic::AtomicUsize},
};

use tradewind_artifacts::{Bundle, Check, Drift, Installer, Progress, bundle_digest, install::Error};
use tradewind_core::causes::chain;

use crate::{ONNX_START, directory, files_below, source::Source, write};

#[tokio::test]
async fn a_bundle_is_installed_whole_once() {
    let place = directory(&[]);
    let installer = Installer::open(place.path()).await.unwrap();
    let large = vec![1; 2_500_000];
    let (source, index) =
        Source::new(&[("model.onnx", ONNX_START), ("cases/1.json", b"{}"), ("cases/2.json", b"{}"), ("w", &large)]);
    let seen = Mutex::new(Vec::new());
    let path = installer.install(&index, &source, &|progress| seen.lock().unwrap().push(progress)).await.unwrap();

    assert_eq!(files_below(&path), ["cases/1.json", "cases/2.json", "model.onnx", "w"]);
    assert_eq!(fs::read(path.join("w")).unwrap(), large);
    assert_eq!(source.offsets(), [0, 0, 0], "equal content is fetched once");
    let seen = seen.into_inner().unwrap();
    let unique = (ONNX_START.len() + 2 + large.len()) as u64;
    assert_eq!(seen.last(), Some(&Progress { done: unique, total: unique }));
    assert!(seen.is_sorted_by_key(|progress| progress.done));

    assert_eq!(installer.check(&index, Check::Full).await.unwrap(), []);
    assert_eq!(installer.installed().await.unwrap(), [bundle_digest(&index)]);
    assert_eq!(installer.install(&index, &source, &|_| {}).await.unwrap(), path);
    let again = Installer::open(place.path()).await.unwrap();
    assert_eq!(again.install(&index, &source, &|_| {}).await.unwrap(), path);
    assert_eq!(source.offsets(), [0; 0], "what is installed is not fetched");
    let hex = bundle_digest(&index).to_hex();
    assert!(
        files_below(place.path())
            .iter()
            .all(|file| file.starts_with("bundles") || *file == format!("records/{hex}.json"))
    );
}

#[tokio::test]
async fn a_transfer_that_breaks_goes_on_where_it_broke_also_after_a_restart() {
    let place = directory(&[]);
    let content: Vec<u8> = (0..25_000_u32).map(|n| n as u8).collect();
    let (source, index) = Source::new(&[("model.onnx", &content)]);
    let source = source.breaking_after(10_000);
    for expected in [0, 10_000] {
        let installer = Installer::open(place.path()).await.unwrap();
        let error = installer.install(&index, &source, &|_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Fetch { .. }) && error.is_retryable(), "{error:?}");
        assert!(chain(&error).ends_with("the link was cut"), "{}", chain(&error));
        assert_eq!(source.offsets(), [expected]);
        assert!(!installer.path_of(&bundle_digest(&index)).exists());
        assert_eq!(
            installer.check(&index, Check::Quick).await.unwrap(),
            [Drift::Missing { path: "model.onnx".to_owned() }, Drift::Unrecorded]
        );
    }
    let installer = Installer::open(place.path()).await.unwrap();
    let path = installer.install(&index, &source, &|_| {}).await.unwrap();
    assert_eq!(source.offsets(), [20_000]);
    assert_eq!(fs::read(path.join("model.onnx")).unwrap(), content);
}

#[tokio::test]
async fn a_damaged_partial_file_is_fetched_anew_once() {
    let place = directory(&[]);
    let content = vec![5; 25_000];
    let (source, index) = Source::new(&[("model.onnx", &content)]);
    let installer = Installer::open(place.path()).await.unwrap();
    let partial = format!("partial/{}/{}", bundle_digest(&index).to_hex(), index.files["model.onnx"].digest.to_hex());
    for damage in [&b"garbage"[..], &[6; 25_000], &[5; 25_001], &[5; 24_999]] {
        write(place.path(), &partial, damage);
        let path = installer.install(&index, &source, &|_| {}).await.unwrap();
        assert_eq!(fs::read(path.join("model.onnx")).unwrap(), content);
        let expected = match damage.len() {
            7 => &[7, 0][..],
            24_999 => &[24_999],
            _ => &[0],
        };
        assert_eq!(source.offsets(), expected);
        installer.remove_unused(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_gives_something_else_is_believed_never() {
    let place = directory(&[]);
    let (mut source, index) = Source::new(&[("model.onnx", &[5; 25_000])]);
    let installer = Installer::open(place.path()).await.unwrap();
    source.lies = AtomicUsize::new(2);
    let error = installer.install(&index, &source, &|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::WrongContent { .. }), "{error:?}");
    assert_eq!(files_below(place.path()), [""; 0]);
    source.lies = AtomicUsize::new(1);
    installer.install(&index, &source, &|_| {}).await.unwrap();
    assert_eq!(installer.check(&index, Check::Full).await.unwrap(), []);
}

#[tokio::test]
async fn a_stream_that_ends_early_is_not_taken_for_whole() {
    let place = directory(&[]);
    let (_, mut index) = Source::new(&[("model.onnx", &[5; 2000])]);
    let (source, _) = Source::new(&[("model.onnx", &[5; 2000])]);
    index.files.get_mut("model.onnx").unwrap().size = 3000;
    let installer = Installer::open(place.path()).await.unwrap();
    let error = installer.install(&index, &source, &|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Short { received: 2000, size: 3000, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_falls_silent_is_given_up() {
    #[derive(Debug)]
    struct Silent;
    impl tradewind_artifacts::Fetch for Silent {
        async fn fetch(
            &self,
            _: &tradewind_core::Digest,
            _: u64,
        ) -> Result<tradewind_artifacts::ByteStream, tradewind_artifacts::FetchError> {
            Ok(Box::pin(futures_util::stream::pending()))
        }
    }
    let place = directory(&[]);
    let (_, index) = Source::new(&[("model.onnx", ONNX_START)]);
    let installer = Installer::open(place.path()).await.unwrap();
    let error = installer.install(&index, &Silent, &|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { offset: 0, .. }), "{error:?}");
}

#[tokio::test]
async fn no_room_is_said_before_anything_is_fetched() {
    let place = directory(&[]);
    let (source, mut index) = Source::new(&[("model.onnx", ONNX_START)]);
    let disk = rustix::fs::statvfs(place.path()).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    // As many bundles' worth as it takes would break the limit of a bundle: on a larger disk the limit is what refuses.
    index.files.get_mut("model.onnx").unwrap().size = free;
    let installer = Installer::open(place.path()).await.unwrap();
    let error = installer.install(&index, &source, &|_| {}).await.unwrap_err();
    if free <= tradewind_core::bundle::BUNDLE_BYTES_LIMIT {
        assert!(matches!(error, Error::NoRoom { needed, .. } if needed == free), "{error:?}");
    } else {
        assert!(matches!(error, Error::Bundle(_)), "{error:?}");
    }
    assert!(source.offsets().is_empty());
}

#[tokio::test]
async fn many_may_ask_for_the_same_bundle_at_once() {
    let place = directory(&[]);
    let installer = Installer::open(place.path()).await.unwrap();
    let (source, index) = Source::new(&[("model.onnx", &[5; 50_000])]);
    let asks = (0..8).map(|_| installer.install(&index, &source, &|_| {}));
    let results = futures_util::future::join_all(asks).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(source.offsets(), [0]);
}

#[tokio::test]
async fn a_crash_before_the_record_costs_no_transfer() {
    let place = directory(&[("staging/.tmpY/model.onnx", b"half")]);
    let (source, index) = Source::new(&[("model.onnx", ONNX_START)]);
    let installer = Installer::open(place.path()).await.unwrap();
    let path = installer.install(&index, &source, &|_| {}).await.unwrap();
    fs::remove_file(place.path().join(format!("records/{}.json", bundle_digest(&index).to_hex()))).unwrap();
    source.offsets();

    let installer = Installer::open(place.path()).await.unwrap();
    assert_eq!(installer.installed().await.unwrap(), []);
    assert_eq!(installer.check(&index, Check::Quick).await.unwrap(), [Drift::Unrecorded]);
    installer.install(&index, &source, &|_| {}).await.unwrap();
    assert_eq!(source.offsets(), [0; 0]);
    assert_eq!(installer.check(&index, Check::Full).await.unwrap(), []);
    assert_eq!(files_below(&place.path().join("staging")), [""; 0]);
    assert!(Bundle::read(&path).await.is_ok());
}
