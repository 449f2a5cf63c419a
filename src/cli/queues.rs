//! `spinor queues`: what waits where.

use clap::{Args, Subcommand};
use spinor_consumers::broker::LaneStats;

use super::{Failure, ask::Global, output::Output, table::Table};
use crate::api::QueueRow;

/// What to do with queues.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Queues {
    /// List them
    Ls(Ls),
}

/// Flags of `queues ls`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Ls {}

const EXAMPLES: &str = "Examples:\n  spinor queues ls\n  spinor queues ls --json";

impl Queues {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let Self::Ls(Ls {}) = self;
        let queues = global.client()?.queues().await?;
        output.value(&queues, |queues| text(queues))
    }
}

/// A line for each queue on which jobs wait for nobody.
pub(super) fn nobody_on(queues: &[QueueRow]) -> Vec<String> {
    let line = |QueueRow { stats, .. }: &QueueRow| {
        let (name, ready) = (&stats.name, stats.ready);
        let jobs = if ready == 1 { "1 job waits".to_owned() } else { format!("{ready} jobs wait") };
        format!("{jobs} on `{name}`, where no consumer is; start one, or name the queue in `consumer.queues`\n")
    };
    queues.iter().filter(|row| row.stats.consumers == 0 && row.stats.ready > 0).map(line).collect()
}

/// The table; HIGH and LOW are those of READY that wait in these lanes.
pub(super) fn text(queues: &[QueueRow]) -> String {
    let mut table = Table::new(&["QUEUE", "READY", "HIGH", "LOW", "UNACKED", "CONSUMERS"]);
    for QueueRow { stats, .. } in queues {
        let unacked = stats.unacked.map_or_else(|| "not known".to_owned(), |unacked| unacked.to_string());
        let lane = |count: fn(&LaneStats) -> u64| {
            stats.lanes.as_ref().map_or_else(|| "-".to_owned(), |lanes| count(lanes).to_string())
        };
        let (high, low) = (lane(|lanes| lanes.high), lane(|lanes| lanes.low));
        let (ready, consumers) = (stats.ready.to_string(), stats.consumers.to_string());
        table.row(vec![stats.name.clone(), ready, high, low, unacked, consumers]);
    }
    table.text("no queues")
}
