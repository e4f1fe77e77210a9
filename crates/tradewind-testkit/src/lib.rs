//! Worlds of real processes, for tests, the demo and benchmarks: `tradewind up` on ports of its own, its command line,
//! its processes to be killed, and users who keep asking. With the feature `fleet`, a control plane's reconcilers among
//! agents and gateways of one process.
//!
//! Nothing here waits by sleeping: [`eventually`] asks until the answer is right, up to a deadline.

mod caller;
mod disk;
mod fallen;
mod faulty;
#[cfg(feature = "fleet")]
pub mod fleet;
mod hosts;
mod load;
mod ports;
mod roles;
mod wait;
mod world;

pub use caller::{Caller, Reply};
pub use disk::Disk;
pub use fallen::{Fallen, Felled, terminate};
pub use faulty::{Ailment, Faulty};
pub use hosts::{Host, Loss, Network};
pub use load::{Answer, Load, Report, Tally, Users};
pub use ports::Ports;
pub use roles::{Part, Roles};
pub use tradewind_process::Signal;
pub use wait::{eventually, eventually_ok};
pub use world::{Listed, Options, Output, World, WorldFile, processes_below, signal};
