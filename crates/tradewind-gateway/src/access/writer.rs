//! Writes the lines of the access log.

use std::{
    fs::Metadata,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt,
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Destination, line::Line};
use crate::world::World;

/// Lines that are written at once.
const BATCH_LIMIT: usize = 256;
/// Whether the file was moved away is looked at this often at most; as long a pause follows a failure.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Writer {
    destination: Destination,
    lines: mpsc::Receiver<Line>,
    dropped: Arc<AtomicU64>,
    out: Option<Out>,
    /// When `out` was looked at, or could not be opened or written.
    looked: Option<Instant>,
    failed: bool,
}

#[derive(Debug)]
struct Out {
    file: File,
    metadata: Metadata,
}

impl Writer {
    pub(super) fn new(destination: Destination, lines: mpsc::Receiver<Line>, dropped: Arc<AtomicU64>) -> Self {
        Self { destination, lines, dropped, out: None, looked: None, failed: false }
    }

    /// Writes until told to stop, and then what still waits.
    pub(crate) async fn run(mut self, world: Arc<ArcSwapOption<World>>, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_LIMIT);
        loop {
            let received = shutdown.run_until_cancelled(self.lines.recv_many(&mut batch, BATCH_LIMIT)).await;
            if received.is_none() {
                self.lines.close();
                while self.lines.recv_many(&mut batch, BATCH_LIMIT).await > 0 {
                    self.write(&mut batch, &world).await;
                }
                return;
            }
            if batch.is_empty() {
                return;
            }
            self.write(&mut batch, &world).await;
        }
    }

    async fn write(&mut self, batch: &mut Vec<Line>, world: &ArcSwapOption<World>) {
        let secret = world.load().as_ref().map(|world| world.snapshot.mesh_token.clone());
        let count = batch.len() as u64;
        let mut text = Vec::new();
        for mut line in batch.drain(..) {
            if let Some(secret) = &secret {
                line.user.hide(secret);
            }
            serde_json::to_writer(&mut text, &line).expect("lines have string keys and no floats");
            text.push(b'\n');
        }
        match self.put(&text).await {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                self.out = None;
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(%error, "the access log cannot be written; its lines are dropped until it can");
                }
            }
        }
    }

    async fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL) {
            self.looked = Some(Instant::now());
            if !self.in_place().await {
                self.out = Some(open(&self.destination).await?);
            }
        }
        // It failed a moment ago.
        let out = self.out.as_mut().ok_or(io::ErrorKind::WouldBlock)?;
        out.file.write_all(text).await?;
        out.file.flush().await
    }

    /// Whether what is open is what the destination names.
    async fn in_place(&self) -> bool {
        let Some(out) = &self.out else { return false };
        let Destination::File(path) = &self.destination else { return true };
        let id = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        fs::metadata(path).await.is_ok_and(|found| id(&found) == id(&out.metadata))
    }
}

async fn open(destination: &Destination) -> io::Result<Out> {
    let file = match destination {
        Destination::Stdout => File::from_std(io::stdout().as_fd().try_clone_to_owned()?.into()),
        Destination::File(path) => OpenOptions::new().create(true).append(true).open(path).await?,
    };
    let metadata = file.metadata().await?;
    Ok(Out { file, metadata })
}
