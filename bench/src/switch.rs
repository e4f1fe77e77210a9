//! How long it takes until all users get another revision, over the number of users that are known: Tradewind, and what is
//! done where each user has a route of its own.

pub(crate) mod follower;
mod peer;
mod plot;
mod report;
mod scene;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use self::{
    peer::{Moved, Peer},
    report::Row,
    scene::{Scene, Taken},
};
use crate::{
    findings, machine,
    progress::{say, until_interrupted},
    spread::Spread,
};

/// How many users a peer moves in one transaction, and for how many times the time of all switches one may last before
/// it is given up.
const BATCHES: [(usize, u32); 2] = [(1000, 10), (1, 1)];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// Users that are known
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000, 100_000, 10_000_000])]
    users: Vec<usize>,
    /// Switches of each; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// A peer whose switches take longer makes fewer of them. One by one, a switch is given up then; by the thousand, after
    /// ten times as long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Whether it all works, in two minutes: 10 and 1000 users, two switches
    #[arg(long, conflicts_with_all = ["rounds", "users", "seconds"])]
    quick: bool,
    /// Where to put the table (between its markers) and, beside it, the plot
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (users, rounds) = if options.quick { (&[10, 1000][..], 2) } else { (&*options.users, options.rounds) };
    let limit = Duration::from_secs(if options.quick { 5 } else { options.seconds });
    ensure!(rounds > 0 && users.iter().all(|users| *users > 0), "there is nothing to tell of no switches or users");
    let program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let mut rows = runtime.block_on(until_interrupted(of_tradewind(&program, users, rounds)))?;
    for &users in users {
        for (batch, times) in BATCHES {
            rows.push(of_peer(users, batch, rounds, limit, limit * times)?);
        }
    }
    rows.sort_by_key(Row::users);
    let caption = format!(
        "By `cargo xtask bench switch`: {rounds} switches of each, or as many as fit into {} s. {}.",
        limit.as_secs(),
        machine::describe()
    );
    let text = format!("{}\n\n{caption}", report::table(&rows));
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "switch", &text, Some(&plot::svg(&rows))),
        None => Ok(()),
    }
}

async fn of_tradewind(program: &Path, users: &[usize], rounds: usize) -> Result<Vec<Row>> {
    let mut scene = Scene::start(program).await?;
    let mut rows = Vec::new();
    for &users in users {
        let pinned = scene.pin(users).await?;
        let mut all = Vec::new();
        for _ in 0..rounds {
            all.push(scene.switch().await?);
        }
        let spread = |of: fn(&Taken) -> Duration| Spread::of(all.iter().map(|taken| seconds(of(taken))).collect());
        let row = Row::Tradewind {
            users,
            rounds,
            committed: spread(|taken| taken.committed),
            acknowledged: spread(|taken| taken.acknowledged),
            seen: spread(|taken| taken.seen),
            pinned,
            space: scene.space()?,
        };
        say(&report::line(&row));
        rows.push(row);
        scene.unpin().await?;
    }
    Ok(rows)
}

fn of_peer(users: usize, batch: usize, rounds: usize, together: Duration, limit: Duration) -> Result<Row> {
    let mut peer = Peer::start(users)?;
    let (mut all, mut left): (Vec<Moved>, Duration) = (Vec::new(), together);
    while all.len() < rounds && (all.is_empty() || !left.is_zero()) {
        let moved = peer.switch(batch, limit)?;
        left = left.saturating_sub(moved.took);
        all.push(moved);
    }
    let (stored, resident) = peer.space()?;
    let whole: Vec<f64> = all.iter().filter(|moved| moved.users == users).map(|moved| seconds(moved.took)).collect();
    let took = (!whole.is_empty()).then(|| Spread::of(whole));
    let row = Row::Peer { users, batch, rounds: all.len(), took, first: all[0], stored, resident };
    say(&report::line(&row));
    Ok(row)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The key of a user.
fn user(number: usize) -> String {
    format!("user-{number:08}")
}

/// The sum of the sizes of all files below a directory whose path has `part` in it.
fn stored_bytes(directory: &Path, part: &str) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if metadata.is_dir() {
            sum += stored_bytes(&path, part)?;
        } else if path.to_str().is_some_and(|path| path.contains(part)) {
            sum += metadata.len();
        }
    }
    Ok(sum)
}
