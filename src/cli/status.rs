//! `spinor status`: what runs, and how it is.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, ask::Global, output::Output, queues};
use crate::api::Status;

/// Flags of `status`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor status\n  spinor status --json | jq .link.state")]
pub struct StatusCommand {}

impl StatusCommand {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let status = global.client()?.status().await?;
        output.value(&status, text)
    }
}

fn text(status: &Status) -> String {
    let Status { info, broker, link, results, results_problem, search, data, queues } = status;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9}{value}");
    };
    line("spinor", format!("{}, process {} on {}", info.version, info.pid, info.host));
    line("parts", info.parts.join(", "));
    line("started", super::table::moment(info.started));
    let why = link.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    line("broker", format!("{broker}, {}{why}", link.state));
    line("results", results_problem.as_ref().map_or_else(|| results.clone(), |why| format!("{results}: {why}")));
    line("search", search.clone());
    line("data", data.clone());
    format!("{text}\n{}", queues::text(queues))
}
