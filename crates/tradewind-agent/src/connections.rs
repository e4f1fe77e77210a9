//! How many connections a server of the author's own has: whether it is still of use to anybody, as the kernel sees it,
//! since the server cannot be asked.

use std::{fs, io, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};

use crate::decide::DRAIN_TIME;

/// Connections are counted this often.
const INTERVAL: Duration = Duration::from_millis(200);
/// `TCP_ESTABLISHED` in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// Returns when nobody is connected to `port` any more, but not before the drain time, nor after `limit`. Gateways
/// close the connections that they kept within a second of hearing that a server is out of use.
pub(crate) async fn ended(port: u16, limit: Duration) {
    let last = Instant::now() + limit;
    tokio::time::sleep(DRAIN_TIME.min(limit)).await;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < last {
        ticks.tick().await;
        match tokio::task::spawn_blocking(move || count(port)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return,
            Ok(Err(error)) => {
                tracing::warn!(%error, "connections cannot be counted: waiting for the drain limit");
                tokio::time::sleep_until(last).await;
            }
            Err(_) => return,
        }
    }
}

fn count(port: u16) -> io::Result<usize> {
    let four = established(&fs::read_to_string("/proc/self/net/tcp")?, port);
    match fs::read_to_string("/proc/self/net/tcp6") {
        Ok(table) => Ok(four + established(&table, port)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(four),
        Err(error) => Err(error),
    }
}

/// See proc_pid_net(5): the second column is the local address with its port, in hexadecimal, the fourth the state.
fn established(table: &str, port: u16) -> usize {
    let end = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (local, _, state) = (columns.next(), columns.next(), columns.next());
        local.is_some_and(|local| local.ends_with(&end)) && state == Some(ESTABLISHED)
    };
    table.lines().filter(is_one).count()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_the_servers_own_end_of_a_connection_that_stands_is_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:1F90 0100007F:C350 01 00000000:00000000\n\
            2: 0100007F:C350 0100007F:1F90 01 00000000:00000000\n\
            3: 0100007F:1F90 0100007F:C351 06 00000000:00000000\n";
        assert_eq!(established(table, 8080), 1);
        assert_eq!(established(table, 50_000), 1);
        assert_eq!(established(table, 80), 0);
    }

    #[test]
    fn the_kernel_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(count(address.port()).unwrap(), 0);
        let connection = TcpStream::connect(address).unwrap();
        assert_eq!(count(address.port()).unwrap(), 1);
        drop(connection);
        drop(listener);
    }
}
