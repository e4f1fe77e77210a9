//! A program that does one job after the other: told of each by a line on its standard input, it answers with a line on
//! its standard output. What it prints meanwhile comes by standard error.

use std::{io, os::fd::OwnedFd, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::{Receiver, Sender},
    time::timeout,
};
use tradewind_core::pipeline::contract::{Order, REPLY_BYTES_LIMIT, Reply};
use tradewind_process::{Family, Group, Spawn};

use super::{
    Failed,
    log::Log,
    running::{CHUNK, Running},
};

/// How long a worker that closed its output may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A program that waits for orders.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) running: Running,
    orders: Sender,
    replies: Receiver,
    /// What was read of a reply that is not whole yet.
    begun: Vec<u8>,
}

impl Worker {
    pub(super) fn start(spawn: Spawn, family: Family, group: Option<Group>) -> io::Result<Self> {
        let (input, orders) = io::pipe()?;
        let (replies, output) = io::pipe()?;
        let running = Running::start(spawn.input(input).output(output), family, group, false)?;
        let orders = Sender::from_owned_fd(OwnedFd::from(orders))?;
        let replies = Receiver::from_owned_fd(OwnedFd::from(replies))?;
        Ok(Self { running, orders, replies, begun: Vec::new() })
    }

    /// Gives an order and waits for the reply to it. After an error of the outer kind the worker is of no more use.
    pub(super) async fn ask(&mut self, order: &Order, log: &mut Log) -> Result<Result<(), Failed>, Failed> {
        let mut line = serde_json::to_vec(order).expect("an order is plain data");
        line.push(b'\n');
        if self.orders.write_all(&line).await.is_err() {
            return Err(self.gone(log).await);
        }
        match self.reply(log).await {
            Ok(Some(reply)) => {
                let logged = self.running.drain(log);
                logged.map_err(|error| Failed::new(format!("cannot keep its log: {error}")))?;
                Ok(judge(reply))
            }
            Ok(None) => Err(self.gone(log).await),
            Err(failed) => Err(failed),
        }
    }

    /// The next reply; `None` once there can be no more.
    async fn reply(&mut self, log: &mut Log) -> Result<Option<Reply>, Failed> {
        let broken = |error: io::Error| Failed::new(format!("cannot hear its worker: {error}"));
        let mut chunk = vec![0; CHUNK];
        let mut prints = true;
        loop {
            if let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                return read_reply(&line).map(Some);
            }
            if self.begun.len() > REPLY_BYTES_LIMIT {
                return Err(Failed::hopeless(format!("its worker's reply is longer than {REPLY_BYTES_LIMIT} bytes")));
            }
            tokio::select! {
                ready = self.replies.readable() => {
                    ready.map_err(broken)?;
                    match self.replies.try_read(&mut chunk) {
                        Ok(0) => return Ok(None),
                        Ok(count) => self.begun.extend_from_slice(&chunk[..count]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(broken(error)),
                    }
                }
                more = self.running.read(log), if prints => prints = more.map_err(broken)?,
            }
        }
    }

    /// Tells it that there are no more orders, and waits for its end; kills it when that takes too long.
    pub(super) async fn end(self, grace: Duration) {
        let Self { running, orders, .. } = self;
        drop(orders);
        // Whether it ended by itself does not matter: what is left is killed.
        let _ = timeout(grace, running.process().exited()).await;
        running.kill().await;
    }

    /// Says how it ended, for it has.
    async fn gone(&mut self, log: &mut Log) -> Failed {
        // It closed its output, so it ends now, or is ended.
        let exit = timeout(END_LIMIT, self.running.finish(log)).await;
        let how = match exit {
            Ok(Ok(exit)) => exit.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output".to_owned(),
        };
        Failed::new(match log.last_line() {
            Some(line) => format!("its worker ended: {how}: {line}"),
            None => format!("its worker ended: {how}"),
        })
    }
}

fn read_reply(line: &[u8]) -> Result<Reply, Failed> {
    serde_json::from_slice(line).map_err(|error| {
        let shown: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(80).collect();
        Failed::hopeless(format!("its worker answered `{shown}`, which is no reply: {error}"))
    })
}

fn judge(reply: Reply) -> Result<(), Failed> {
    if reply.ok {
        return Ok(());
    }
    let error = reply.error.unwrap_or_else(|| "its worker does not say why".to_owned());
    Err(Failed { error, hopeless: reply.hopeless })
}
