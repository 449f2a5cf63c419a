//! The floors of `spinor bench`: raw loops with the same bytes as the product, as fast as they can
//! be made by hand.
//!
//! A program of its own, so that nothing of the product runs in it but its message and report
//! types, which make the bytes. Each floor prints one JSON line; `spinor bench` runs floor and
//! product in turns and compares them. Refuses to be fair to anything but speed: no retries, no
//! reconnects, any fault ends it.

mod amqp;
mod amqp_idle;
mod amqp_latency;
mod amqp_noop;
mod amqp_sweep;
mod bytes;
mod insert;
mod measure;
mod ping_pong;
mod players;
mod rows;
mod spawn;
mod statements;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The same as the product's: what is compared is the work.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "spinor-floor", about = "Raw loops that `spinor bench` compares the product with")]
struct Args {
    #[command(subcommand)]
    floor: Floor,
}

#[derive(Subcommand)]
enum Floor {
    /// Publish, consume and report jobs that do nothing, straight on AMQP.
    AmqpNoop(amqp_noop::Args),
    /// One job at a time, from publish to reply.
    AmqpLatency(amqp_latency::Args),
    /// Two connections and a consumer, at rest.
    AmqpIdle(amqp_idle::Args),
    /// Removes what a benchmark left on the broker.
    Sweep(amqp_sweep::Args),
    /// Frames to a program in Python and back.
    PingPong(ping_pong::Args),
    /// The same command, spawned on all cores.
    Spawn(spawn::Args),
    /// The rows of the record, inserted raw.
    Insert(insert::Args),
    /// The statements of the embedded broker and its record, run raw.
    Statements(statements::Args),
}

fn main() -> Result<()> {
    let args = Args::parse();
    let line = match args.floor {
        Floor::AmqpNoop(args) => amqp_noop::run(&args),
        Floor::AmqpLatency(args) => amqp_latency::run(&args),
        Floor::AmqpIdle(args) => amqp_idle::run(&args),
        Floor::Sweep(args) => amqp_sweep::run(&args),
        Floor::PingPong(args) => ping_pong::run(&args),
        Floor::Spawn(args) => spawn::run(&args),
        Floor::Insert(args) => insert::run(&args),
        Floor::Statements(args) => statements::run(&args),
    }?;
    println!("{line}");
    Ok(())
}
