//! Ports for a world, which no other test's world takes meanwhile.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};

/// Below the ephemeral ports, which outgoing connections take at any time.
const FIRST: u16 = 10_000;
/// The ports of one world: control's, then its gateways' from 10 on and its agents' from 110 on.
const BLOCK: u16 = 200;
const BLOCKS: u16 = 110;
const GATEWAYS: u16 = 10;
const AGENTS: u16 = 110;
/// The last port of a block is held by whoever has claimed it, so that worlds of other processes stay away even from
/// ports that nobody listens on for a moment, because what did was just killed.
const CLAIM: u16 = BLOCK - 1;
const REGIONS_LIMIT: u16 = CLAIM - AGENTS;

/// A range of ports that is this process's as long as this lives.
#[derive(Debug)]
pub struct Ports {
    pub base: u16,
    _claim: TcpListener,
}

impl Ports {
    pub fn claim(regions: u16) -> Result<Self> {
        ensure!(regions <= REGIONS_LIMIT, "a world of a test has at most {REGIONS_LIMIT} regions");
        // Any place to begin at; the kernel's choice of a port is as good as a random number.
        let start = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let blocks = (0..BLOCKS).map(|n| FIRST + (start % BLOCKS + n) % BLOCKS * BLOCK);
        blocks.into_iter().find_map(|base| Self::take(base, regions)).context("no free range of ports was found")
    }

    fn take(base: u16, regions: u16) -> Option<Self> {
        let claim = listen(base + CLAIM)?;
        let places = (0..regions).flat_map(|n| [base + GATEWAYS + n, base + AGENTS + n]);
        std::iter::once(base).chain(places).all(|port| listen(port).is_some()).then_some(Self { base, _claim: claim })
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}
