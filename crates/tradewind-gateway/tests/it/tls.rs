//! Users who come with TLS.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::CertifiedKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};
use tradewind_core::Slot;
use tradewind_gateway::{Error, TlsOptions};

use crate::{
    process::listener,
    replica::Replica,
    world::{Gateway, US, World},
};

const HOST: &str = "models.example";

/// A certificate for [`HOST`] that is its own root, in files of that directory.
fn certificate(directory: &Path) -> (CertificateDer<'static>, TlsOptions) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let options = TlsOptions { certificate: directory.join("cert.pem"), key: directory.join("key.pem") };
    std::fs::write(&options.certificate, cert.pem()).unwrap();
    std::fs::write(&options.key, signing_key.serialize_pem()).unwrap();
    (cert.der().clone(), options)
}

/// A connection of somebody who trusts that certificate and offers one protocol.
async fn connect(address: SocketAddr, root: &CertificateDer<'static>, protocol: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    stream
}

fn inference() -> Request<Full<Bytes>> {
    let request = Request::post(format!("https://{HOST}/v2/models/digits/infer")).header("host", HOST);
    request.body(Full::new(Bytes::from_static(b"{}"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_with_tls_and_without_it_on_one_port() {
    let us = Replica::start("us", Slot::Blue, 1, Duration::ZERO);
    let mut world = World::start(&[(US, &[&us])]).await;
    let (root, options) = certificate(world.directory.path());
    world.gateways.get_mut(US).unwrap().stop().await;
    let directory = world.directory.path().join(US);
    let gateway =
        Gateway::with(US, listener(), world.control.url(), directory, |gateway| gateway.tls = Some(options.clone()));
    let address = gateway.address;
    world.gateways.insert(US, gateway);
    world.ready(US).await;

    let stream = connect(address, &root, "http/1.1").await;
    let (mut http1, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let stream = connect(address, &root, "h2").await;
    let (mut http2, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        http1.ready().await.unwrap();
        let answers = [http1.send_request(inference()).await.unwrap(), http2.send_request(inference()).await.unwrap()];
        for answer in answers {
            assert_eq!(
                (answer.status(), &answer.headers()["x-tradewind-region"]),
                (StatusCode::OK, &US.parse().unwrap())
            );
        }
    }
    assert_eq!(world.infer(US).send().await.unwrap().status(), StatusCode::OK, "without TLS");

    // What only looks like TLS.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\x16\x03\x01 this is no handshake").await.unwrap();
    let mut alert = Vec::new();
    // An end of any kind.
    drop(stream.read_to_end(&mut alert).await);
    assert!(!alert.starts_with(b"HTTP"), "{alert:?}");
    assert_eq!(world.metric(US, "tradewind_gateway_tls_handshakes_failed_total").await, 1);
    assert_eq!(world.infer(US).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_usable_certificate_there_is_no_gateway() {
    let directory = tempfile::tempdir().unwrap();
    let (_, options) = certificate(directory.path());
    let started = async |options: TlsOptions| {
        let data = directory.path().join("data");
        let url = "http://127.0.0.1:1".to_owned();
        let mut gateway = Gateway::with(US, listener(), url, data, |gateway| gateway.tls = Some(options));
        gateway.ended().await
    };
    let check = async |options: TlsOptions, expected: &str| match started(options).await {
        Err(Error::Tls(error)) => assert!(error.to_string().contains(expected), "{error}"),
        other => panic!("{expected}: {other:?}"),
    };
    let missing = TlsOptions { key: directory.path().join("none.pem"), ..options.clone() };
    check(missing, "cannot read").await;
    check(TlsOptions { key: options.certificate.clone(), ..options.clone() }, "holds no private key").await;
    check(TlsOptions { certificate: options.key.clone(), ..options.clone() }, "holds no certificates").await;
    let other = tempfile::tempdir().unwrap();
    let (_, stranger) = certificate(other.path());
    check(TlsOptions { key: stranger.key, ..options.clone() }, "do not go together").await;
    std::fs::write(&options.certificate, vec![b'x'; 2 << 20]).unwrap();
    check(options, "is larger than").await;
}
