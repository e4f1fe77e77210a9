//! HTTP/2 on the wire: floods are cut off, and malformed requests go nowhere (RFC 9113).

use std::{net::SocketAddr, time::Duration};

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

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &str = "/v2/models/digits/infer";

// Types of frames, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field, without Huffman and without the dynamic table (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127, "longer ones need more bytes");
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

const REQUEST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "a")];

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn connect(gateway: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream
}

/// `None` when the gateway has closed the connection.
async fn next(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    timeout(DEADLINE, stream.read_exact(&mut head)).await.expect("an answer in time").ok()?;
    let [a, b, c, kind, flags, stream_id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    timeout(DEADLINE, stream.read_exact(&mut payload)).await.expect("an answer in time").ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(stream_id), payload })
}

/// How the gateway ends a connection: the code that it says, if it comes through.
async fn goaway(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<u32> {
    while let Some(frame) = next(stream).await {
        if frame.kind == GOAWAY {
            return Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
    }
    None
}

fn replica() -> Replica {
    Replica::start("us", Slot::Blue, 1, Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_and_resets_streams_without_end_is_cut_off() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let stream = connect(world.gateways[US].address).await;
    let (mut read, mut write) = stream.into_split();
    let writer = tokio::spawn(async move {
        for stream in (1..200_001).step_by(2) {
            let open = frame(HEADERS, END_HEADERS, stream, &head(&REQUEST));
            let reset = frame(RST_STREAM, 0, stream, &CANCEL);
            if write.write_all(&[open, reset].concat()).await.is_err() {
                return stream / 2;
            }
        }
        100_000
    });
    let code = goaway(&mut read).await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    drop(read);
    let opened = timeout(DEADLINE, writer).await.unwrap().unwrap();
    assert!(opened < 100_000, "nothing stopped it");
    assert_eq!(world.served_by(US).await, US);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_is_cut_off() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let stream = connect(world.gateways[US].address).await;
    let (mut read, mut write) = stream.into_split();
    let writer = tokio::spawn(async move {
        let begin = frame(HEADERS, 0, 1, &head(&REQUEST));
        let more = frame(CONTINUATION, 0, 1, &field("x-a", &"b".repeat(100)).repeat(100));
        let empty = frame(CONTINUATION, 0, 1, &[]);
        if write.write_all(&begin).await.is_err() {
            return 0;
        }
        for sent in 0..20_000 {
            if write.write_all(if sent % 2 == 0 { &more } else { &empty }).await.is_err() {
                return sent;
            }
        }
        20_000
    });
    while next(&mut read).await.is_some() {}
    drop(read);
    let sent = timeout(DEADLINE, writer).await.unwrap().unwrap();
    assert!(sent < 20_000, "nothing stopped it");
    assert_eq!((us.served(), world.served_by(US).await.as_str()), (0, US));
}

/// What becomes of the first stream: its status, or that it was reset, or that the whole connection was closed.
async fn outcome(gateway: SocketAddr, fields: &[(&str, &str)], data: &[u8]) -> &'static str {
    let mut stream = connect(gateway).await;
    let mut request = frame(HEADERS, END_HEADERS, 1, &head(fields));
    request.extend(frame(DATA, END_STREAM, 1, data));
    stream.write_all(&request).await.unwrap();
    while let Some(frame) = next(&mut stream).await {
        match frame.kind {
            HEADERS if frame.payload[0] == 0x88 => return "200",
            HEADERS => return "another status",
            RST_STREAM => return "reset",
            GOAWAY => return "closed",
            _ => {}
        }
    }
    "closed"
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_go_nowhere() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let with = |more: &[(&'static str, &'static str)]| [&REQUEST[..], more].concat();
    for (rule, fields, expected) in [
        ("as it should be", with(&[("content-length", "2")]), "200"),
        ("without a length", with(&[]), "200"),
        ("9113 8.1.1: a length that differs", with(&[("content-length", "5")]), "reset"),
        ("9113 8.1.1: a length that differs", with(&[("content-length", "1")]), "reset"),
        ("9113 8.2.2: connection", with(&[("connection", "close")]), "reset"),
        ("9113 8.2.2: transfer-encoding", with(&[("transfer-encoding", "chunked")]), "reset"),
        ("9113 8.2.2: te", with(&[("te", "gzip")]), "reset"),
        ("9113 8.2.1: upper case", with(&[("X-A", "b")]), "reset"),
        ("9113 8.2.1: a line feed", with(&[("x-a", "b\nx: c")]), "reset"),
        ("9113 8.2.1: a line feed in a name", with(&[("x\na", "b")]), "reset"),
        ("9112 3.2: two hosts", with(&[("host", "a"), ("host", "b")]), "another status"),
        ("9113 8.3: twice", with(&[(":path", "/metrics")]), "reset"),
        ("9113 8.3: unknown", with(&[(":port", "80")]), "reset"),
        ("9113 8.3: behind a field", [&[("x-a", "b")], &REQUEST[..]].concat(), "reset"),
        ("9113 8.3.1: no path", REQUEST.into_iter().filter(|(name, _)| *name != ":path").collect(), "reset"),
        ("9113 8.3.1: no method", REQUEST[1..].to_vec(), "reset"),
    ] {
        let before = us.served();
        let got = outcome(world.gateways[US].address, &fields, b"{}").await;
        let refused = expected == "reset" && got != "200";
        assert!(got == expected || refused, "{rule}: {got}");
        assert_eq!(us.served() - before, u64::from(expected == "200"), "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_and_more_streams_than_allowed_are_refused() {
    let us = Replica::start("us", Slot::Blue, 1, Duration::from_millis(500));
    let world = World::start(&[(US, &[&us])]).await;
    let mut stream = connect(world.gateways[US].address).await;
    stream.write_all(&frame(PING, 0, 0, b"tradewnd")).await.unwrap();
    let mut allowed = None;
    let (mut answered, mut refused, mut asked) = (0, 0, false);
    loop {
        let frame_in = next(&mut stream).await.expect("an open connection");
        match frame_in.kind {
            SETTINGS if frame_in.flags & ACK == 0 => {
                let settings = frame_in.payload.chunks_exact(6);
                let mut limit = settings.filter(|setting| setting[..2] == [0, 3]).map(|setting| setting[2..].to_vec());
                allowed = limit.next_back().map(|limit| u32::from_be_bytes(limit.try_into().unwrap()));
            }
            PING => assert_eq!((frame_in.flags & ACK, &frame_in.payload[..]), (ACK, &b"tradewnd"[..])),
            HEADERS => answered += 1,
            RST_STREAM => refused += 1,
            GOAWAY => panic!("closed"),
            _ => {}
        }
        let Some(limit) = allowed else { continue };
        if !asked {
            asked = true;
            for index in 0..limit + 3 {
                let request = frame(HEADERS, END_HEADERS | END_STREAM, 2 * index + 1, &head(&REQUEST));
                stream.write_all(&request).await.unwrap();
            }
        }
        if answered + refused >= limit + 3 {
            assert_eq!((answered, refused), (limit, 3));
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_answered_without_a_body() {
    let us = replica();
    let world = World::start(&[(US, &[&us])]).await;
    let mut stream = connect(world.gateways[US].address).await;
    for (number, path) in (1..).step_by(2).zip(["/v2/health/live", "/nothing", "/v2/models/nobody"]) {
        let fields = [(":method", "HEAD"), (":scheme", "http"), (":path", path), (":authority", "a")];
        let request = frame(HEADERS, END_HEADERS | END_STREAM, number, &head(&fields));
        stream.write_all(&request).await.unwrap();
        let mut answered = next(&mut stream).await.unwrap();
        while answered.stream != number {
            answered = next(&mut stream).await.unwrap();
        }
        assert_eq!((answered.kind, answered.flags & END_STREAM), (HEADERS, END_STREAM), "{path}");
    }
}
