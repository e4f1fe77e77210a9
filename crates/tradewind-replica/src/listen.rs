//! Where a replica accepts requests: a socket that the agent bound before it spawned us, or an address.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// Connections that have been made and wait to be accepted. Of a burst of more than 128, which is what sockets have that
/// nobody asks for more, some would be made anew after a second.
const BACKLOG: i32 = 1024;

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
    #[error("{0} listening sockets were passed down, expected one (LISTEN_FDS=1 and LISTEN_PID of this process)")]
    Passed(usize),
    #[error("could not take over the listening socket")]
    Inherit(#[source] io::Error),
    #[error("could not listen on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("could not use the listening socket")]
    Socket(#[from] io::Error),
}

impl Listen {
    pub(crate) fn open(self) -> Result<TcpListener, ListenError> {
        let socket = match self {
            Self::Address(address) => {
                std::net::TcpListener::bind(address).map_err(|source| ListenError::Bind { address, source })?
            }
            Self::Inherited => inherited()?,
            Self::Bound(socket) => socket,
        };
        rustix::net::listen(&socket, BACKLOG).map_err(io::Error::from)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from_std(socket)?)
    }
}

fn inherited() -> Result<std::net::TcpListener, ListenError> {
    let sockets = tradewind_process::inherited_listeners().map_err(ListenError::Inherit)?;
    <[_; 1]>::try_from(sockets).map(|[socket]| socket).map_err(|sockets| ListenError::Passed(sockets.len()))
}
