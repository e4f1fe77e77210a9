//! The receiving side of socket activation, as sd_listen_fds(3) lays it down: sockets that are already bound and
//! listening arrive as descriptors 3 and up, counted by `LISTEN_FDS` and meant for the process named by `LISTEN_PID`.

use std::{
    env, io,
    net::TcpListener,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    io::{Errno, FdFlags},
    net::{AddressFamily, SocketType, sockopt},
};

/// The most sockets that are passed to one process.
pub const LISTENERS_LIMIT: usize = 64;

/// The first passed descriptor (`SD_LISTEN_FDS_START`).
pub(crate) const FIRST: RawFd = 3;

/// Takes the listening sockets that this process was given, in the order in which they were given. Empty when
/// there are none, or when they were meant for another process (`LISTEN_PID` is another's, or missing: a grandchild
/// inherits the variables, and they mean nothing to it). An error when what arrived is not a listening TCP socket.
///
/// Call it early and once: the sockets are handed out once, later calls return none. They are closed on exec.
pub fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| env::var(name).ok();
    let count = passed(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id())?;
    if count == 0 || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    // All are checked before any is owned, so that a refusal closes nothing that belongs to somebody else.
    let descriptors = FIRST..FIRST + count as RawFd;
    descriptors.clone().try_for_each(check)?;
    Ok(descriptors.map(take).collect())
}

/// How many sockets the environment announces for the process `pid`.
fn passed(listen_pid: Option<String>, listen_fds: Option<String>, pid: u32) -> io::Result<usize> {
    let (Some(listen_pid), Some(listen_fds)) = (listen_pid, listen_fds) else { return Ok(0) };
    if listen_pid.parse() != Ok(pid) {
        return Ok(0);
    }
    match listen_fds.parse() {
        Ok(count) if count <= LISTENERS_LIMIT => Ok(count),
        _ => Err(invalid(format!("LISTEN_FDS is `{listen_fds}`, which is not a number up to {LISTENERS_LIMIT}"))),
    }
}

fn check(descriptor: RawFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "a descriptor that the environment names by number has no owner to borrow from")]
    // SAFETY: not -1, and used only for calls that report a closed descriptor as EBADF.
    let fd = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let listens = || -> Result<bool, Errno> {
        let family = sockopt::socket_domain(fd)?;
        Ok(matches!(family, AddressFamily::INET | AddressFamily::INET6)
            && sockopt::socket_type(fd)? == SocketType::STREAM
            && sockopt::socket_acceptconn(fd)?)
    };
    if listens().unwrap_or(false) {
        return Ok(rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?);
    }
    Err(invalid(format!("descriptor {descriptor}, announced by LISTEN_FDS, is not a listening TCP socket")))
}

fn take(descriptor: RawFd) -> TcpListener {
    #[expect(unsafe_code, reason = "a descriptor that was passed over exec can be owned only by its number")]
    // SAFETY: it is open, it was passed to this very process to own (LISTEN_PID), and it is taken once.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    owned.into()
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_taken_only_by_the_process_they_were_meant_for() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(passed(some("7"), some("2"), 7).unwrap(), 2);
        assert_eq!(passed(some("8"), some("2"), 7).unwrap(), 0);
        assert_eq!(passed(None, some("2"), 7).unwrap(), 0);
        assert_eq!(passed(some("7"), None, 7).unwrap(), 0);
        for bad in ["", "-1", "two", "65"] {
            assert!(passed(some("7"), some(bad), 7).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(check(file.as_raw_fd()).is_err());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(check(udp.as_raw_fd()).is_err());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(check(listener.as_raw_fd()).is_ok());
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(check(client.as_raw_fd()).is_err());
    }
}
