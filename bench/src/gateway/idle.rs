//! What a connection costs that nothing happens on: resident memory of the proxy's processes.

use anyhow::{Context, Result, ensure};

use super::{
    report::{Better, Row},
    scene::Scene,
};
use crate::{
    client::Connection,
    contender::{Contender, turns},
    memory::resident_kib,
};

pub(super) async fn measure(scene: &mut Scene<'_>, rounds: usize, connections: usize) -> Result<Vec<Row>> {
    let mut each = Row::new(&format!("{connections} idle connections: KiB each"), Better::Less, 2);
    let mut fresh = Row::new("resident memory without them, MiB", Better::Less, 1);
    for round in 0..rounds {
        for contender in turns(&Contender::PROXIES, round) {
            // A new process, since an old one keeps memory that it once needed.
            scene.start_again(contender).await?;
            let (before, after) = hold(scene, contender, connections).await.with_context(|| contender.name())?;
            let kib = (after - before) / connections as f64;
            crate::progress::say(&format!("idle, round {}: {} {kib:.2} KiB a connection", round + 1, contender.name()));
            each.add(contender, kib);
            fresh.add(contender, before / 1024.0);
        }
    }
    Ok(vec![each, fresh])
}

/// The memory of a proxy in KiB, without connections and with so many.
async fn hold(scene: &Scene<'_>, contender: Contender, count: usize) -> Result<(f64, f64)> {
    let address = scene.door(contender)?;
    let before = resident_kib(&scene.pids(contender)?)?;
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(address).await?;
        connection.ask(&scene.question).await?;
        connections.push(connection);
    }
    let after = resident_kib(&scene.pids(contender)?)?;
    ensure!(connections.iter().all(Connection::is_open), "connections were closed");
    Ok((before as f64, after as f64))
}
