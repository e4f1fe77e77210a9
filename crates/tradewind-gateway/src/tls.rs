//! TLS towards users, on the port that also takes requests without it: by the certificate and the key that two files hold,
//! which are read again when they change.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken};

/// Who has not agreed on keys by then is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The files are looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The most bytes of one of the files.
const FILE_LIMIT: u64 = 1 << 20;
/// What is offered, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// A client's connection, without TLS or with it.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Where the certificate and the key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM: the gateway's certificate, then those that lead from it to one that clients trust.
    pub certificate: PathBuf,
    /// PEM: its private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {FILE_LIMIT} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} holds no certificates that can be read as PEM")]
    Certificate { path: PathBuf },
    #[error("{path} holds no private key that can be read as PEM")]
    Key { path: PathBuf },
    #[error("the certificate and the key do not go together")]
    Pair(#[source] rustls::Error),
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What connections are accepted with.
pub(crate) struct Tls {
    options: TlsOptions,
    config: ArcSwap<ServerConfig>,
    read: ArcSwap<Files>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn open(options: TlsOptions) -> Result<Self, TlsError> {
        let files = Files::read(&options)?;
        let config = files.config(&options)?;
        Ok(Self { options, config: ArcSwap::from_pointee(config), read: ArcSwap::from_pointee(files) })
    }

    /// Agrees on keys with a client; whether both speak HTTP/2 then. `None` if they do not come to terms.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<(Box<TlsStream<TcpStream>>, bool)> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await.ok()? {
            Ok(stream) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
                Some((Box::new(stream), http2))
            }
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
        }
    }

    /// Takes up new files until `over`. Those that cannot be used are counted and change nothing.
    pub(crate) async fn follow(&self, refused: &AtomicU64, over: &CancellationToken) {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while over.run_until_cancelled(look.tick()).await.is_some() {
            if let Err(error) = self.look() {
                refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = &error as &dyn std::error::Error, "keeps the last certificate");
            }
        }
    }

    fn look(&self) -> Result<(), TlsError> {
        let files = Files::read(&self.options)?;
        if files != **self.read.load() {
            self.config.store(Arc::new(files.config(&self.options)?));
            self.read.store(Arc::new(files));
            tracing::info!(path = %self.options.certificate.display(), "took up a new certificate");
        }
        Ok(())
    }
}

impl Files {
    fn read(options: &TlsOptions) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(&options.certificate)?, key: read(&options.key)? })
    }

    fn config(&self, options: &TlsOptions) -> Result<ServerConfig, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| TlsError::Certificate { path: options.certificate.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|_| TlsError::Key { path: options.key.clone() })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Pair)?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_LIMIT => Err(TlsError::TooLarge { path: path.to_owned() }),
        Ok(_) => Ok(bytes),
        Err(source) => Err(TlsError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use rcgen::CertifiedKey;
    use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
    use tokio::net::TcpSocket;
    use tokio_rustls::{TlsConnector, client};

    use super::*;

    const HOST: &str = "models.example";

    struct Issued {
        root: CertificateDer<'static>,
        files: Files,
    }

    fn issue() -> Issued {
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let files = Files { certificate: cert.pem().into_bytes(), key: signing_key.serialize_pem().into_bytes() };
        Issued { root: cert.der().clone(), files }
    }

    fn write(files: &Files, options: &TlsOptions) {
        fs::write(&options.certificate, &files.certificate).unwrap();
        fs::write(&options.key, &files.key).unwrap();
    }

    /// Both ends of a connection, if a client that trusts `root` comes to terms with the server.
    async fn try_connect(
        tls: &Tls,
        root: &CertificateDer<'static>,
    ) -> Option<(client::TlsStream<TcpStream>, Box<TlsStream<TcpStream>>)> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        // The kernel holds little, so that what TLS holds shows.
        let (client, server) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
        client.set_recv_buffer_size(4096).unwrap();
        server.set_send_buffer_size(4096).unwrap();
        server.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = server.listen(1).unwrap();
        let stream = client.connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(ServerName::try_from(HOST).unwrap(), stream);
        let (connected, accepted) = tokio::join!(connected, tls.accept(accepted));
        Some((connected.ok()?, accepted?.0))
    }

    /// Both ends of a connection with TLS.
    pub(crate) async fn connection() -> (client::TlsStream<TcpStream>, Stream) {
        let directory = tempfile::tempdir().unwrap();
        let options = TlsOptions { certificate: directory.path().join("cert"), key: directory.path().join("key") };
        let issued = issue();
        write(&issued.files, &options);
        let tls = Tls::open(options).unwrap();
        let (client, server) = try_connect(&tls, &issued.root).await.unwrap();
        (client, Stream::Right(server))
    }

    #[tokio::test]
    async fn new_files_are_taken_up_and_bad_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let options = TlsOptions { certificate: directory.path().join("cert"), key: directory.path().join("key") };
        let (first, second) = (issue(), issue());
        write(&first.files, &options);
        let tls = Tls::open(options.clone()).unwrap();
        let serves = async |issued: &Issued| try_connect(&tls, &issued.root).await.is_some();
        tls.look().unwrap();
        assert!(serves(&first).await && !serves(&second).await);

        fs::write(&options.certificate, &second.files.certificate).unwrap();
        assert!(tls.look().is_err());
        assert!(serves(&first).await, "the key to the new certificate has not come yet");
        fs::write(&options.key, &second.files.key).unwrap();
        tls.look().unwrap();
        assert!(serves(&second).await && !serves(&first).await);

        fs::write(&options.certificate, "no certificate").unwrap();
        assert!(tls.look().is_err());
        assert!(serves(&second).await);
        fs::remove_file(&options.key).unwrap();
        assert!(tls.look().is_err());
        assert!(serves(&second).await);
    }
}
