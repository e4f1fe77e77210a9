//! Data that lies elsewhere is fetched, and not twice.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};
use futures_util::{StreamExt, stream};
use tradewind_pipeline::data::{Error, Portion, Prepared};

use super::World;

/// What a server has, and what it was asked.
#[derive(Default)]
struct Files {
    text: String,
    /// With quotes; none where the server tells no version.
    etag: Option<String>,
    /// Breaks off the next answer after so many bytes.
    breaks_after: Option<usize>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Files>>;

async fn answer(State(files): State<Shared>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let mut files = files.lock().unwrap();
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (range, known) = (text(header::RANGE), text(header::IF_NONE_MATCH));
    files.asked.push(range.clone().or_else(|| known.clone()).unwrap_or_else(|| "all".to_owned()));
    let mut builder = Response::builder();
    if let Some(etag) = &files.etag {
        builder = builder.header(header::ETAG, etag);
    }
    let plain = |status: StatusCode| Response::builder().status(status).body(Body::empty()).unwrap();
    match uri.path() {
        "/missing.csv" => return plain(StatusCode::NOT_FOUND),
        "/secret.csv" => return plain(StatusCode::FORBIDDEN),
        "/round.csv" => {
            let builder = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, "/round.csv");
            return builder.body(Body::empty()).unwrap();
        }
        "/elsewhere.csv" => {
            let builder = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, "/data.csv");
            return builder.body(Body::empty()).unwrap();
        }
        _ => {}
    }
    if known.is_some() && known == files.etag {
        return builder.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap();
    }
    let begin = range.filter(|_| text(header::IF_RANGE) == files.etag);
    let begin: usize = begin.map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    if begin > 0 {
        let range = format!("bytes {begin}-{}/{}", files.text.len() - 1, files.text.len());
        builder = builder.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let rest = Bytes::copy_from_slice(&files.text.as_bytes()[begin..]);
    builder = builder.header(header::CONTENT_LENGTH, rest.len());
    let Some(bytes) = files.breaks_after.take() else { return builder.body(rest.into()).unwrap() };
    let pieces = [Ok(rest.slice(..bytes)), Err(std::io::Error::other("the line is cut"))];
    // What comes before a pause is sent.
    let pieces = stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        piece
    });
    builder.body(Body::from_stream(pieces)).unwrap()
}

struct Server {
    world: World,
    files: Shared,
    address: SocketAddr,
}

impl Server {
    async fn new(text: &str, etag: Option<&str>) -> Self {
        let files = Files { text: text.to_owned(), etag: etag.map(str::to_owned), ..Files::default() };
        let files = Arc::new(Mutex::new(files));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(files.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world: World::new(&[]), files, address }
    }

    async fn prepared(&self, path: &str) -> Result<Prepared, Error> {
        self.world.prepared(&format!("http://{}/{path}", self.address), Portion::File).await
    }

    fn change(&self, how: impl FnOnce(&mut Files)) {
        how(&mut self.files.lock().unwrap());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.files.lock().unwrap().asked)
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_fetched_twice() {
    let server = Server::new("n\n1\n2\n", Some("\"one\"")).await;
    let first = server.prepared("data.csv?token=secret").await.unwrap();
    assert_eq!(first.batches[0].name, format!("http://{}/data.csv", server.address));
    assert_eq!(first.batches[0].rows, Some(2));
    assert_eq!(std::fs::read_to_string(&first.batches[0].files[0]).unwrap(), "n\n1\n2\n");
    assert_eq!(server.prepared("data.csv?token=secret").await.unwrap().batches, first.batches);
    assert_eq!(server.asked(), ["all", "\"one\""]);

    server.change(|files| (files.text, files.etag) = ("n\n3\n".to_owned(), Some("\"two\"".to_owned())));
    let changed = server.prepared("data.csv?token=secret").await.unwrap();
    assert_ne!(changed.batches[0].digest, first.batches[0].digest);

    std::fs::write(&changed.batches[0].files[0], "n").unwrap();
    let mended = server.prepared("data.csv?token=secret").await.unwrap();
    assert_eq!(mended.batches[0].digest, changed.batches[0].digest);
    assert_eq!(server.asked(), ["\"one\"", "all"]);
}

#[tokio::test]
async fn a_file_without_a_version_is_fetched_every_time() {
    let server = Server::new("n\n1\n", None).await;
    for _ in 0..2 {
        server.prepared("data.csv").await.unwrap();
    }
    assert_eq!(server.asked(), ["all", "all"]);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let text = format!("n\n{}", "12345\n".repeat(1000));
    let server = Server::new(&text, Some("\"one\"")).await;
    server.change(|files| files.breaks_after = Some(3001));
    let prepared = server.prepared("data.csv").await.unwrap();
    assert_eq!(prepared.batches[0].digest.as_bytes(), blake3::hash(text.as_bytes()).as_bytes());
    assert_eq!(server.asked(), ["all", "bytes=3001-"]);

    let weak = Server::new(&text, Some("W/\"one\"")).await;
    weak.change(|files| files.breaks_after = Some(3001));
    assert_eq!(weak.prepared("data.csv").await.unwrap().batches[0].digest, prepared.batches[0].digest);
    assert_eq!(weak.asked(), ["all", "all"], "a weak version may differ in its bytes");
}

#[tokio::test]
async fn two_addresses_that_differ_in_their_query_are_two_files() {
    let server = Server::new("n\n1\n", Some("\"one\"")).await;
    let address = |query: &str| format!("http://{}/data.csv?{query}", server.address);
    let data = super::data(&[&address("a"), &address("b"), &address("a")], None);
    let world = &server.world;
    let prepared = super::prepare(&data, &Portion::Rows(1), world.base.path(), &world.home(), &|_| ()).await.unwrap();
    let start = format!("http://{}/data.csv?", server.address);
    assert_eq!(prepared.batches.len(), 2);
    assert!(prepared.batches.iter().all(|batch| batch.name.starts_with(&start) && batch.name.ends_with("[0..1]")));
    assert_ne!(prepared.batches[0].name, prepared.batches[1].name);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_without_secrets() {
    let server = Server::new("n\n1\n", None).await;
    let port = server.address;
    for (path, expected) in [
        ("missing.csv?key=1", format!("cannot fetch http://{port}/missing.csv: there is nothing")),
        ("secret.csv", format!("cannot fetch http://{port}/secret.csv: the server answered with status 403")),
        ("round.csv", format!("cannot fetch http://{port}/round.csv: more than 5 redirects")),
    ] {
        let problem = server.prepared(path).await.unwrap_err().to_string();
        assert!(problem.starts_with(&expected), "{problem}");
    }
    assert_eq!(server.prepared("elsewhere.csv").await.unwrap().batches[0].rows, Some(1));
    let problem = server.world.problem("http://", Portion::File).await;
    assert!(problem.starts_with("`http://` is no source: it is no address"), "{problem}");
}
