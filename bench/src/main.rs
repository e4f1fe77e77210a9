//! Benchmarks. `cargo xtask bench NAME` builds and runs them; what they find stands in `docs/benchmarks.md`.
#![expect(clippy::print_stdout, reason = "a command line program talks on stdout")]

mod agent;
mod alerts;
mod autoscale;
mod bars;
mod batches;
mod client;
mod contender;
mod cores;
mod cost;
mod deploy;
mod failover;
mod findings;
mod gateway;
mod grpc;
mod h2load;
mod machine;
mod marked;
mod memory;
mod progress;
mod repository;
mod samples;
mod server;
mod serving;
mod spike;
mod spread;
mod stall;
mod switch;
mod ticks;
mod users;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "tradewind-bench", about = "Benchmarks of Tradewind")]
enum Command {
    /// What a rollout costs the control plane, over 10, 100 and 1000 regions
    Deploy(deploy::Options),
    /// Tradewind's gateway against nginx and HAProxy, on the same core
    Gateway(gateway::Options),
    /// What users see of faults: Tradewind against HAProxy
    Failover(failover::Options),
    /// Ten times as much load as there is capacity: Tradewind against HAProxy
    Spike(spike::Options),
    /// How soon real faults are told of, and whether nothing is told without one
    Alerts(alerts::Options),
    /// A day of users in three regions: replicas that follow them against as many as the peak needs
    Autoscale(autoscale::Options),
    /// What metrics and monitors cost a gateway
    Cost(cost::Options),
    /// A switch of all users, over 10 to 10,000,000 of them: Tradewind against an update of each user's own route
    Switch(switch::Options),
    /// A model served: Tradewind's replica against Triton and servers in Python
    Serving(serving::Options),
    /// A pipeline over 10, 100 and 1000 batches: Tradewind against Ray, Dask, Metaflow and plain Python
    Batches(batches::Options),
    /// One sample of `deploy`, as JSON
    #[command(hide = true)]
    DeploySample(deploy::sample::Options),
    /// ONNX Runtime in a loop, for `serving`
    #[command(hide = true)]
    ServingLoop(serving::LoopOptions),
    /// Who follows the changes of users' routes in `switch`
    #[command(hide = true)]
    SwitchFollower,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Deploy(options) => deploy::run(&options),
        Command::Gateway(options) => gateway::run(&options),
        Command::Failover(options) => failover::run(&options),
        Command::Spike(options) => spike::run(&options),
        Command::Alerts(options) => alerts::run(&options),
        Command::Autoscale(options) => autoscale::run(&options),
        Command::Cost(options) => cost::run(&options),
        Command::Switch(options) => switch::run(&options),
        Command::Serving(options) => serving::run(&options),
        Command::Batches(options) => batches::run(&options),
        Command::ServingLoop(options) => serving::run_loop(&options),
        Command::DeploySample(options) => deploy::sample::run(&options),
        Command::SwitchFollower => switch::follower::run(),
    }
}
