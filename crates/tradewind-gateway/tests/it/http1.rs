//! What HTTP/1 allows users and upstreams to do, beside what is usual.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    framing::{exchange, statuses},
    process::{Process, listener},
    replica::Replica,
    world::{DEADLINE, US, World},
};

const INFER: &str = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\n";

/// A server that answers every request with the same bytes, and then closes the connection or not.
#[derive(Debug, Clone, Default)]
struct Script {
    answer: Arc<Mutex<(String, bool)>>,
}

impl Script {
    fn replica(&self) -> Replica {
        let script = self.clone();
        let process = Process::run(listener(), move |listener| async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(script.clone().serve(stream));
            }
        });
        Replica::of("us", process).probed("tcp")
    }

    fn set(&self, answer: impl Into<String>, close: bool) {
        *self.answer.lock().unwrap() = (answer.into(), close);
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while read_request(&mut stream).await {
            let (answer, close) = self.answer.lock().unwrap().clone();
            if stream.write_all(answer.as_bytes()).await.is_err() || close {
                return;
            }
        }
    }
}

/// Reads up to the end of a head and two bytes of a body; `false` when there is none.
async fn read_request(stream: &mut BufReader<TcpStream>) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n{}") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

async fn world(script: &Script) -> (Replica, World) {
    let us = script.replica();
    let world = World::start(&[(US, &[&us])]).await;
    (us, world)
}

fn address(world: &World) -> SocketAddr {
    world.gateways[US].address
}

/// Reads until what has come ends so.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = timeout(DEADLINE, stream.read_u8()).await.unwrap_or_else(|_| panic!("{}", read.escape_ascii()));
        read.push(byte.unwrap_or_else(|error| panic!("{error} after {}", read.escape_ascii())));
    }
    String::from_utf8(read).unwrap()
}

/// What a user gets who asks for an inference: the status and the body, or that it did not come whole.
async fn asked(world: &World) -> (u16, Option<String>) {
    let response = world.infer(US).send().await.unwrap();
    (response.status().as_u16(), response.text().await.ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_end_where_upstreams_say() {
    let script = Script::default();
    let (_us, world) = world(&script).await;
    let ok = "HTTP/1.1 200 OK\r\n";
    for (answer, close, status, body) in [
        (format!("{ok}Content-Length: 3\r\n\r\nabc"), false, 200, Some("abc")),
        (format!("{ok}Content-Length: 3\r\nConnection: close\r\n\r\nabc"), true, 200, Some("abc")),
        (format!("{ok}Content-Length: 0\r\n\r\n"), false, 200, Some("")),
        (
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: x\r\n\r\n"),
            false,
            200,
            Some("abc"),
        ),
        (format!("{ok}\r\nabc"), true, 200, Some("abc")),
        ("HTTP/1.0 200 OK\r\n\r\nabc".to_owned(), true, 200, Some("abc")),
        (format!("HTTP/1.1 100 Continue\r\n\r\n{ok}Content-Length: 3\r\n\r\nabc"), false, 200, Some("abc")),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), false, 204, Some("")),
        (format!("{ok}Content-Length: 3\r\n\r\nabc, and what nobody asked for"), false, 200, Some("abc")),
        (format!("{ok}Content-Length: 3\r\n\r\nab"), true, 200, None),
        (format!("{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), true, 200, None),
        (format!("{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"), false, 200, None),
        (format!("{ok}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), false, 502, None),
        (format!("{ok}Content-Le"), true, 502, None),
        ("SSH-2.0-server\r\n\r\n".to_owned(), false, 502, None),
    ] {
        script.set(answer.clone(), close);
        let (had, read) = asked(&world).await;
        assert_eq!(had, status, "{answer:?}");
        if status != 502 {
            assert_eq!(read.as_deref(), body, "{answer:?}");
        }
        script.set(format!("{ok}Content-Length: 4\r\n\r\nnext"), false);
        for _ in 0..2 {
            assert_eq!(asked(&world).await, (200, Some("next".to_owned())), "after {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_waits_to_be_told_to_go_on_is_told_only_when_the_body_is_wanted() {
    let script = Script::default();
    let (_us, world) = world(&script).await;
    script.set("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false);
    let mut user = TcpStream::connect(address(&world)).await.unwrap();
    for _ in 0..2 {
        let head = format!("{INFER}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
        user.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut user, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        user.write_all(b"{}").await.unwrap();
        let answer = read_until(&mut user, "\r\n\r\nabc").await;
        assert_eq!(statuses(&answer), ["200"], "{answer}");
    }
    let unwanted = "POST /nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    user.write_all(unwanted.as_bytes()).await.unwrap();
    let answer = read_until(&mut user, "\r\n\r\n").await;
    assert_eq!(statuses(&answer), ["404"], "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn older_and_briefer_users_are_answered_as_they_can_take_it() {
    let script = Script::default();
    let (_us, world) = world(&script).await;
    let gateway = address(&world);
    let answer = exchange(gateway, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("connection: close\r\n") && answer.contains("content-length: "), "{answer}");

    let mut user = TcpStream::connect(gateway).await.unwrap();
    for _ in 0..2 {
        user.write_all(b"HEAD /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = read_until(&mut user, "\r\n\r\n").await;
        assert!(answer.contains("connection: keep-alive\r\n") && answer.contains("content-length: "), "{answer}");
    }

    script.set("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false);
    let old = INFER.replace("HTTP/1.1", "HTTP/1.0");
    let answer = exchange(gateway, format!("{old}Content-Length: 2\r\n\r\n{{}}").as_bytes()).await;
    assert!(answer.ends_with("\r\n\r\nabc") && !answer.contains("transfer-encoding"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_while_he_sends_reads_why() {
    let script = Script::default();
    let (_us, world) = world(&script).await;
    let (mut reading, mut writing) = TcpStream::connect(address(&world)).await.unwrap().into_split();
    writing.write_all(format!("{INFER}Content-Length: 67108865\r\n\r\n").as_bytes()).await.unwrap();
    let sent = tokio::spawn(async move {
        // More than the sockets hold.
        for _ in 0..16 {
            writing.write_all(&[b'x'; 1 << 20]).await.unwrap();
        }
    });
    sent.await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, reading.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(statuses(&answer), ["413"], "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_answer_before_it_has_the_whole_request() {
    const BODY: usize = 1 << 20;
    let process = Process::run(listener(), |listener| async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut some = vec![0; 70 << 10];
                if stream.read_exact(&mut some).await.is_ok() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbef").await.unwrap();
                    while !some.ends_with(b"end") {
                        some.truncate(3);
                        some.rotate_left(1);
                        some[2] = stream.read_u8().await.unwrap();
                    }
                    stream.write_all(b"ore").await.unwrap();
                }
            });
        }
    });
    let us = Replica::of("us", process).probed("tcp");
    let world = World::start(&[(US, &[&us])]).await;
    let mut user = TcpStream::connect(address(&world)).await.unwrap();
    user.write_all(format!("{INFER}Content-Length: {BODY}\r\n\r\n").as_bytes()).await.unwrap();
    user.write_all(&[b'x'; BODY / 2]).await.unwrap();
    let begun = read_until(&mut user, "\r\n\r\nbef").await;
    assert_eq!(statuses(&begun), ["200"], "{begun}");
    user.write_all(&[b'x'; BODY / 2 - 3]).await.unwrap();
    user.write_all(b"end").await.unwrap();
    assert_eq!(read_until(&mut user, "ore").await, "ore");
    user.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(statuses(&read_until(&mut user, "\r\n\r\n").await), ["200"], "the connection goes on");
}
