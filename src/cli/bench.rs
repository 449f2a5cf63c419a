//! `spinor bench`: measures on this machine, on whatever the configuration names.

use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{Failure, ask::Global, output::Output};
use crate::bench::{self, Request, Seed, Workload};

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  spinor bench record                     embedded: jobs a second, durable and recorded\n  \
                  spinor bench noop --preloaded --jobs 1000000 --config production.toml\n  spinor bench command"
)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Jobs that do nothing, not recorded
    #[command(after_help = "Examples:\n  spinor bench noop --preloaded")]
    Noop(Flags),
    /// Jobs that do nothing, recorded
    #[command(after_help = "Examples:\n  spinor bench record --journal")]
    Record(Flags),
    /// The same for jobs of several sizes
    #[command(after_help = "Examples:\n  spinor bench payload --rounds 3")]
    Payload(Flags),
    /// One job at a time, from publish to reply
    #[command(after_help = "Examples:\n  spinor bench latency --jobs 1000")]
    Latency(Flags),
    /// 1000 shells in order on each of 6 nodes of this machine
    #[command(after_help = "Examples:\n  spinor bench command --jobs 100")]
    Command(Flags),
    /// Jobs that do nothing, run by a program in Python: what the consumer adds to it
    #[command(
        after_help = "Examples:\n  spinor bench programs --config production.toml\n  spinor bench programs --slots 2 --jobs 50000"
    )]
    Programs(Flags),
    /// Unique keys beside ten thousand others, and beside a million
    #[command(after_help = "Examples:\n  spinor bench keys --jobs 100000")]
    Keys(Flags),
    /// Jobs that do nothing, beside ten thousand delayed ones, and beside a million
    #[command(after_help = "Examples:\n  spinor bench delayed --jobs 100000")]
    Delayed(Flags),
    /// A run of ten thousand members: from the end of the last to the start of what needs all
    #[command(after_help = "Examples:\n  spinor bench runs --jobs 1000 --rounds 3")]
    Runs(Flags),
    /// A million delayed jobs and 100 000 triggers: the cost while none is due, lateness at 1000 a second, a take-over
    #[command(
        after_help = "Examples:\n  spinor bench triggers\n  spinor bench triggers --jobs 10000 --rounds 1\n\nOn servers what it fills in stays: give it a database of its own."
    )]
    Triggers(Flags),
    /// Jobs that do nothing, recorded, without an event stream and beside 200 open ones
    #[command(after_help = "Examples:\n  spinor bench streams --rounds 5")]
    Streams(Flags),
    /// Fills a results database of its own with jobs as a busy site leaves them, for `lists`
    #[command(
        after_help = "Examples:\n  spinor bench seed --rows 5000000 --config big.toml\n  spinor bench seed --rows 20000 --days 1\n\nWhat is written stays, and looks like real jobs: give it a database of its own."
    )]
    Seed(SeedFlags),
    /// How long the Spinor that runs takes for each list, facet, group and figure
    #[command(
        after_help = "Examples:\n  spinor up --config big.toml &\n  spinor bench lists --config big.toml\n  spinor bench lists --rounds 50 --only failures --json"
    )]
    Lists(ListFlags),
    /// A round's child; started by `bench`, not by people
    #[command(hide = true, after_help = "Examples:\n  (started by `spinor bench`)")]
    Inside {
        #[arg(long)]
        request: String,
    },
}

#[derive(Args, Debug)]
struct Flags {
    /// Jobs a round; for `command`: steps on each node [default: the workload's own]
    #[arg(long)]
    jobs: Option<usize>,
    /// Bytes of each job
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// How many jobs run at once [default: 32; for `programs`, where each has a process: 4]
    #[arg(long)]
    slots: Option<usize>,
    /// How often product and floors take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Every job is on its queue before the consumer starts
    #[arg(long)]
    preloaded: bool,
    /// Jobs are also listed and recorded while they are queued
    #[arg(long)]
    journal: bool,
}

#[derive(Args, Clone, Copy, Debug)]
struct SeedFlags {
    /// How many jobs
    #[arg(long, default_value_t = 5_000_000)]
    rows: u64,
    /// Over the last so many days
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// Also into a database that holds jobs already
    #[arg(long)]
    more: bool,
}

#[derive(Args, Debug)]
struct ListFlags {
    /// How often each is asked
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Only those in whose name this text is
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Flags {
    fn of(self, workload: Workload) -> Request {
        let Self { jobs, payload, slots, rounds, preloaded, journal } = self;
        let slots = slots.unwrap_or(if workload == Workload::Programs { 4 } else { 32 });
        Request { workload, jobs, payload, slots, rounds, preloaded, journal }
    }
}

impl Bench {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let config = Arc::new(global.load()?.config);
        let failed = |error: anyhow::Error| Failure::failed(format!("{error:#}"));
        let request = match self.what {
            What::Noop(flags) => flags.of(Workload::Noop),
            What::Record(flags) => flags.of(Workload::Record),
            What::Payload(flags) => flags.of(Workload::Payload),
            What::Latency(flags) => flags.of(Workload::Latency),
            What::Command(flags) => flags.of(Workload::Command),
            What::Programs(flags) => flags.of(Workload::Programs),
            What::Keys(flags) => flags.of(Workload::Keys),
            What::Delayed(flags) => flags.of(Workload::Delayed),
            What::Runs(flags) => flags.of(Workload::Runs),
            What::Triggers(flags) => flags.of(Workload::Triggers),
            What::Streams(flags) => flags.of(Workload::Streams),
            What::Seed(SeedFlags { rows, days, more }) => {
                crate::log::start(&config.log);
                let seeded = bench::run_seed(Seed { rows, days, more }, &config).await.map_err(failed)?;
                return output.value(&seeded, ToString::to_string);
            }
            What::Lists(ListFlags { rounds, only }) => {
                let client = global.client_of(&config)?;
                let lists = bench::run_lists(&client, rounds, only.as_deref()).await.map_err(failed)?;
                return output.value(&lists, ToString::to_string);
            }
            What::Inside { request } => {
                let request = serde_json::from_str(&request).map_err(|error| Failure::usage(error.to_string()))?;
                let sample = bench::run_inside(&request, config).await.map_err(failed)?;
                let text = serde_json::to_string(&sample).map_err(|error| Failure::failed(error.to_string()))?;
                return output.text(&text);
            }
        };
        let summaries = bench::run(&request, config).await.map_err(failed)?;
        output.value(&summaries, |all| all.iter().map(|one| format!("{one}\n")).collect())
    }
}
