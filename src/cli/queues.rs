//! `spinor queues`: what waits where, and whether it is held back.

use clap::{Args, Subcommand};
use spinor_consumers::broker::LaneStats;

use super::{
    Failure,
    ask::Global,
    output::Output,
    steer::Why,
    table::{Table, clean},
};
use crate::api::QueueRow;

/// What to do with queues.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Queues {
    /// List them
    Ls(Ls),
    /// Hold back the jobs of a queue; what runs goes on
    Pause(One),
    /// Hand them out again
    Resume(One),
}

/// Flags of `queues ls`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Ls {}

/// Flags of `queues pause` and `queues resume`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor queues pause images --why 'the disk is full'\n  spinor queues resume images\n\nIt holds across all consumers and restarts. Jobs can still be published there."
)]
pub struct One {
    /// The queue
    name: String,
    #[command(flatten)]
    why: Why,
}

const EXAMPLES: &str = "Examples:\n  spinor queues ls\n  spinor queues ls --json\n  spinor queues pause images";

impl Queues {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls {}) => output.value(&client.queues().await?, |queues| text(queues)),
            Self::Pause(One { name, why }) => {
                output.value(&client.pause_queue(&name, &why.asked()).await?, |answer| match &answer.paused {
                    Some(wish) => clean(&format!("`{}` is paused {wish}", answer.queue)),
                    None => format!("`{}` is not paused", answer.queue),
                })
            }
            Self::Resume(One { name, why }) => {
                output.value(&client.resume_queue(&name, &why.asked()).await?, |answer| match answer.changed {
                    true => format!("`{}` goes on", answer.queue),
                    false => format!("`{}` was not paused", answer.queue),
                })
            }
        }
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

/// The table; HIGH and LOW are those of READY that wait in these lanes. Of CONSUMERS those are silent that the
/// broker still counts and nobody has heard for 20 s.
pub(super) fn text(queues: &[QueueRow]) -> String {
    let mut table = Table::new(&["QUEUE", "READY", "HIGH", "LOW", "UNACKED", "CONSUMERS", "PAUSED"]);
    for QueueRow { stats, paused, heard, .. } in queues {
        let unacked = stats.unacked.map_or_else(|| "not known".to_owned(), |unacked| unacked.to_string());
        let lane = |count: fn(&LaneStats) -> u64| {
            stats.lanes.as_ref().map_or_else(|| "-".to_owned(), |lanes| count(lanes).to_string())
        };
        let (high, low) = (lane(|lanes| lanes.high), lane(|lanes| lanes.low));
        // The broker counts subscriptions, of which a consumer may have several.
        let consumers = match heard {
            Some(heard) if *heard > 0 => heard.to_string(),
            Some(_) if stats.consumers > 0 => format!("{} (silent)", stats.consumers),
            _ => stats.consumers.to_string(),
        };
        let ready = stats.ready.to_string();
        let paused = paused.as_ref().map_or_else(|| "no".to_owned(), ToString::to_string);
        table.row(vec![stats.name.clone(), ready, high, low, unacked, consumers, paused]);
    }
    table.text("no queues")
}
