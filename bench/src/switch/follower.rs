//! Who follows the changes of users' routes, as a gateway would that has a route for each of its users: a process with a
//! concurrent map, fed over a connection.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{PoisonError, RwLock},
};

use anyhow::{Context, Result};

use crate::memory::resident_bytes;

/// Readers of one part do not wait for a writer of another.
const PARTS: usize = 64;

/// What each user gets.
#[derive(Debug)]
struct Routes {
    parts: Vec<RwLock<HashMap<Box<[u8]>, u8>>>,
    hasher: RandomState,
}

impl Routes {
    fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| RwLock::default()).collect(), hasher: RandomState::new() }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is a small number")]
    fn set(&self, user: &[u8], slot: u8) {
        let part = (self.hasher.hash_one(user) % PARTS as u64) as usize;
        let mut part = self.parts[part].write().unwrap_or_else(PoisonError::into_inner);
        match part.get_mut(user) {
            Some(known) => *known = slot,
            None => drop(part.insert(user.into(), slot)),
        }
    }
}

/// Follows one writer until it closes the connection. Each message is the number of users and, for each, the slot, the
/// length of the key and the key; none of them asks for how many have been applied and how much memory that takes.
pub(crate) fn run() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    println!("{}", listener.local_addr()?.port());
    let (stream, _) = listener.accept().context("waiting for the writer")?;
    stream.set_nodelay(true)?;
    let (mut messages, mut answers) = (BufReader::with_capacity(1 << 20, stream.try_clone()?), stream);
    let routes = Routes::new();
    let mut applied = 0_u64;
    let mut key = [0; 256];
    while !messages.fill_buf()?.is_empty() {
        let mut count = [0; 4];
        messages.read_exact(&mut count)?;
        let count = u32::from_le_bytes(count);
        if count == 0 {
            answers.write_all(&applied.to_le_bytes())?;
            answers.write_all(&resident_bytes(std::process::id())?.to_le_bytes())?;
        }
        for _ in 0..count {
            let mut head = [0; 2];
            messages.read_exact(&mut head)?;
            let key = &mut key[..head[1].into()];
            messages.read_exact(key)?;
            routes.set(key, head[0]);
            applied += 1;
        }
    }
    Ok(())
}

/// The writer's end. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Follower {
    child: Child,
    messages: BufWriter<TcpStream>,
    answers: TcpStream,
    /// Of all that was sent.
    sent: u64,
}

impl Follower {
    pub(super) fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe().context("finding this program")?)
            .arg("switch-follower")
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a follower")?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("its output is read")?).read_line(&mut port)?;
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port.trim().parse()?)).context("reaching the follower")?;
        stream.set_nodelay(true)?;
        Ok(Self { child, messages: BufWriter::with_capacity(64 << 10, stream.try_clone()?), answers: stream, sent: 0 })
    }

    /// Sends at once what these users get.
    pub(super) fn tell(&mut self, users: &[String], slot: u8) -> Result<()> {
        self.messages.write_all(&u32::try_from(users.len())?.to_le_bytes())?;
        for user in users {
            self.messages.write_all(&[slot, u8::try_from(user.len())?])?;
            self.messages.write_all(user.as_bytes())?;
        }
        self.sent += users.len() as u64;
        Ok(self.messages.flush()?)
    }

    /// Waits until it has applied everything; how much memory it takes then, in bytes.
    pub(super) fn settle(&mut self) -> Result<u64> {
        self.messages.write_all(&0_u32.to_le_bytes())?;
        self.messages.flush()?;
        let mut numbers = [0; 16];
        self.answers.read_exact(&mut numbers)?;
        let (applied, resident) = numbers.split_at(8);
        let applied = u64::from_le_bytes(applied.try_into()?);
        anyhow::ensure!(applied == self.sent, "the follower has applied {applied} of {}", self.sent);
        Ok(u64::from_le_bytes(resident.try_into()?))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
