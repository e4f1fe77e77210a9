//! Where a replica accepts requests: a socket that the agent bound before it spawned us, or an address.

use std::{
    io,
    net::SocketAddr,
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::net::sockopt;
use tokio::net::TcpListener;

/// The first inherited descriptor, by the convention of systemd socket activation (`sd_listen_fds(3)`).
const FIRST_INHERITED: i32 = 3;

/// Where to accept requests.
#[derive(Debug)]
pub enum Listen {
    /// Descriptor 3, passed by the parent with `LISTEN_FDS=1` and `LISTEN_PID`.
    Inherited,
    Address(SocketAddr),
    /// A socket that the caller has bound already.
    Bound(std::net::TcpListener),
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("no listening socket was passed down: `{variable}` is {}, expected {expected}", found.as_deref().unwrap_or("not set"))]
    NotPassed { variable: &'static str, found: Option<String>, expected: String },
    #[error("the socket that was passed down has been taken already")]
    Taken,
    #[error("descriptor 3 is no listening TCP socket")]
    NotListening,
    #[error("could not listen on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("could not use the listening socket")]
    Socket(#[from] io::Error),
}

impl Listen {
    /// Call it once, from within a tokio runtime.
    pub(crate) async fn open(self) -> Result<TcpListener, ListenError> {
        let socket = match self {
            Self::Address(address) => {
                return TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source });
            }
            Self::Inherited => std::net::TcpListener::from(inherited()?),
            Self::Bound(socket) => socket,
        };
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from_std(socket)?)
    }
}

fn inherited() -> Result<OwnedFd, ListenError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    expect_variable("LISTEN_FDS", "1")?;
    expect_variable("LISTEN_PID", &std::process::id().to_string())?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(ListenError::Taken);
    }
    // SAFETY: the parent promised descriptor 3 to this very process (both variables were just checked), nothing here
    // opens descriptors by number, and `TAKEN` lets only one caller ever own it.
    #[expect(unsafe_code, reason = "a raw descriptor number is all that socket activation passes")]
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST_INHERITED) };
    if !sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return Err(ListenError::NotListening);
    }
    // A child of this process must not keep the port open after us.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(io::Error::from)?;
    Ok(socket)
}

fn expect_variable(variable: &'static str, expected: &str) -> Result<(), ListenError> {
    let found = std::env::var(variable).ok();
    if found.as_deref() == Some(expected) {
        return Ok(());
    }
    Err(ListenError::NotPassed { variable, found, expected: expected.to_owned() })
}
