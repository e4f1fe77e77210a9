//! HTTP/1 on the wire: what others may read in another way is refused (RFC 9112), and what concerns one connection
//! does not cross (RFC 9110, 7.6.1).

use std::{net::SocketAddr, time::Duration};

use axum::{Router, http::HeaderMap, routing::any};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{DEADLINE, US, World},
};

const POST: &str = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\n";
const NEXT: &str =
    "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";

fn replica() -> Replica {
    Replica::start("us", Slot::Blue, 1, Duration::ZERO)
}

/// Sends the bytes, and reads until the gateway closes the connection.
pub(crate) async fn exchange(gateway: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match timeout(DEADLINE, stream.read(&mut piece)).await {
            Ok(Ok(read @ 1..)) => answer.extend_from_slice(&piece[..read]),
            // Closed, or closed with some of the bytes unread.
            Ok(_) => return String::from_utf8(answer).unwrap(),
            Err(_) => panic!("still open after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
}

pub(crate) fn statuses(answers: &str) -> Vec<&str> {
    answers.match_indices("HTTP/1.1 ").map(|(at, begin)| &answers[at + begin.len()..][..3]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    for (rule, request) in [
        ("9112 6.1: both lengths", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("9112 6.1: both lengths", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ("9112 6.3: lengths that differ", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        ("9112 6.3: a length said twice", "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        ("9112 6.3: a list of lengths", "Content-Length: 2, 2\r\n\r\n{}"),
        ("9110 8.6: a length is digits", "Content-Length: +2\r\n\r\n{}"),
        ("9110 8.6: a length is digits", "Content-Length: 0x2\r\n\r\n{}"),
        ("9110 8.6: a length is digits", "Content-Length: -2\r\n\r\n{}"),
        ("9112 6.1: an unknown coding", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("9112 6.1: an unknown coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("9112 6.1: chunked is not the last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("9112 6.1: chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("9112 5.2: a folded line", "X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}"),
        ("9112 5.2: a folded line", "X-A: b\r\n\tc\r\nContent-Length: 2\r\n\r\n{}"),
        ("9112 2.2: a bare line feed", "X-A: b\nContent-Length: 2\r\n\r\n{}"),
        ("9112 2.2: a bare line feed at the end", "Content-Length: 2\r\n\n{}"),
        ("9112 2.2: a bare carriage return", "X-A: b\rc\r\nContent-Length: 2\r\n\r\n{}"),
        ("9112 5.1: a space before the colon", "Content-Length : 2\r\n\r\n{}"),
        ("9112 5.1: a space before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("9110 5.1: no name", ": b\r\nContent-Length: 2\r\n\r\n{}"),
        ("9110 5.5: a zero byte", "X-A: b\0c\r\nContent-Length: 2\r\n\r\n{}"),
        ("9112 7.1: a size is digits", "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n"),
        ("9112 7.1: a size is digits", "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n"),
        ("9112 7.1: a size that fits", "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("9112 7.1: no end of a chunk", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n"),
        ("9112 7.1: a bare line feed", "Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n"),
        ("9112 7.1.1: a bare line feed", "Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n"),
    ] {
        let before = us.served();
        // What follows would be the smuggled request.
        let answers = exchange(world.gateways[US].address, format!("{POST}{request}{NEXT}").as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{rule}: {request:?}: {answers}");
        assert_eq!(us.served(), before, "{rule}: {request:?}");
    }
    for (rule, request) in [
        ("9112 2.2: a bare line feed", POST.replacen("\r\n", "\n", 1) + "Content-Length: 2\r\n\r\n{}"),
        ("9112 3: two spaces", POST.replacen(' ', "  ", 1) + "Content-Length: 2\r\n\r\n{}"),
        ("9112 6.1: no codings in 1.0", POST.replacen("1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        let answers = exchange(world.gateways[US].address, format!("{request}{NEXT}").as_bytes()).await;
        assert_eq!(statuses(&answers), ["400"], "{rule}: {request:?}: {answers}");
    }
    assert_eq!(us.served(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let begin = "POST /v2/models/digits/infer HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n";
    for (hosts, status) in [("", "400"), ("Host: a\r\nHost: b\r\n", "400"), ("Host: a\r\n", "200")] {
        let answers = exchange(world.gateways[US].address, format!("{begin}{hosts}\r\n{{}}").as_bytes()).await;
        assert_eq!(statuses(&answers), [status], "{hosts:?}: {answers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_requests_pass_one_behind_the_other_however_they_are_cut() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let requests = [
        format!("{POST}Content-Length: 2\r\n\r\n{{}}"),
        format!("{POST}content-length:  002 \r\n\r\n{{}}\r\n"),
        format!("{POST}Transfer-Encoding: Chunked\r\n\r\n2;name=value\r\n{{}}\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n"),
        NEXT.to_owned(),
    ];
    let all = requests.concat();
    let answers = exchange(world.gateways[US].address, all.as_bytes()).await;
    assert_eq!(statuses(&answers), ["200"; 5], "{answers}");
    assert_eq!(answers.matches("\"size\":2").count(), 5, "{answers}");

    let mut stream = TcpStream::connect(world.gateways[US].address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in all.as_bytes().chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answers = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answers)).await.unwrap().unwrap();
    assert_eq!(statuses(&answers), ["200"; 5], "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_chunks_have_limits() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let fields = |count: usize| "X-A: b\r\n".repeat(count);
    let large = |size: usize| format!("X-A: {}\r\n", "b".repeat(size));
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for (limit, request, expected) in [
        ("fields", format!("{POST}{}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}", fields(90)), "200"),
        ("fields", format!("{POST}{}Content-Length: 2\r\n\r\n{{}}", fields(200)), "431"),
        ("head", format!("{POST}{}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}", large(16 << 10)), "200"),
        ("head", format!("{POST}{}Content-Length: 2\r\n\r\n{{}}", large(256 << 10)), "431"),
        ("path", format!("GET /v2/models/digits/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(256 << 10)), "431"),
        ("extensions", format!("{POST}{chunked}{}0\r\n\r\n", "1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(2000)), "400"),
        ("one extension", format!("{POST}{chunked}2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(64 << 10)), "400"),
        ("pieces", format!("{POST}{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(5000)), "400"),
        ("trailers", format!("{POST}{chunked}0\r\n{}\r\n", large(64 << 10)), "400"),
        ("length", format!("{POST}Content-Length: 67108865\r\n\r\n"), "413"),
    ] {
        let answers = exchange(world.gateways[US].address, request.as_bytes()).await;
        assert_eq!(statuses(&answers), [expected], "{limit}: {answers}");
    }
    assert_eq!(world.served_by(US).await, US);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_one_connection_does_not_cross() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(HeaderMap::new()));
    let to = std::sync::Arc::clone(&seen);
    let answer = move |headers: HeaderMap| async move {
        *to.lock().unwrap() = headers;
        let headers = [
            ("connection", "x-of-this-hop, close"),
            ("x-of-this-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("x-of-the-model", "1"),
            ("x-tradewind-unavailable", "not-sent"),
        ];
        (headers, "{}")
    };
    let us = Replica::serving("us", Router::new().route("/v2/models/{*rest}", any(answer)));
    let world = World::start(&[(US, &[&us])]).await;
    let fields = "Connection: X-Of-This-Hop, close\r\nConnection: x-another\r\nX-Of-This-Hop: 1\r\nX-Another: 1\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: Basic abc\r\nTE: trailers\r\n\
        Trailer: x\r\nUpgrade: h2c\r\nX-Of-The-User: 1\r\nX-Tradewind-Slot: green\r\nX-Tradewind-Peer: guess\r\n\
        X-Tradewind-Spill: 1\r\nX-Tradewind-User: ada\r\nContent-Length: 2\r\n\r\n{}";
    let answer = exchange(world.gateways[US].address, format!("{POST}{fields}").as_bytes()).await;
    assert_eq!(statuses(&answer), ["200"], "{answer}");
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut names: Vec<&str> = head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    names.sort_unstable();
    let marks = ["x-request-id", "x-tradewind-epoch", "x-tradewind-region", "x-tradewind-revision", "x-tradewind-slot"];
    assert_eq!(
        names,
        [&["connection", "content-length", "content-type", "date", "x-of-the-model"][..], &marks].concat()
    );
    let mut names: Vec<String> = seen.lock().unwrap().keys().map(ToString::to_string).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "x-of-the-user", "x-request-id", "x-tradewind-user"]);
}
