//! `spinor triggers backfill`: what did not fire of a span that is past is fired, a step at a time.
//!
//! Owns the pace and the progress. What has fired does not fire again, so that a backfill that was stopped goes on
//! with the same command.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use spinor_consumers::results::{Backfilled, Filled};

use super::{Failure, Global, Output, Why};
use crate::{api::NewBackfill, cli::table::Table};

/// A dry run lists so many.
const LISTED: usize = 1000;

/// Flags of `triggers backfill`.
#[derive(Args, Debug)]
#[command(
    after_help = "What has fired does not fire again. Where jobs must not overlap (`overlap` skip or queue) the next one is fired when the last has ended; with allow, `--rate` says how fast.\n\nExamples:\n  spinor triggers backfill nightly --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --dry-run\n  spinor triggers backfill nightly --from 2026-01-01T00:00:00Z --rate 2 --why 'the import was broken'"
)]
pub struct BackfillCommand {
    /// Its name
    name: String,
    /// From this instant on
    #[arg(long, value_name = "INSTANT")]
    from: String,
    /// Up to this one [default: now]
    #[arg(long, value_name = "INSTANT")]
    to: Option<String>,
    /// List the instants, the first 1000, and fire nothing
    #[arg(long)]
    dry_run: bool,
    /// Fire at most so many a second
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    #[command(flatten)]
    why: Why,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// So many fired.
    fired: usize,
    /// So many had fired before.
    fired_before: usize,
    /// So many lie in blackouts.
    blackout: usize,
}

impl BackfillCommand {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        let asked = self.why.asked();
        let to = self.to.clone().unwrap_or_else(|| {
            Timestamp::now()
                .round(jiff::Unit::Second)
                .map_or_else(|_| Timestamp::now().to_string(), |now| (now - Duration::from_secs(1)).to_string())
        });
        let limit = if self.dry_run { LISTED } else { self.rate as usize };
        let mut step = NewBackfill {
            from: Some(self.from.clone()),
            to: Some(to),
            limit: Some(limit),
            dry_run: self.dry_run,
            by: asked.by,
            why: asked.why,
        };
        if self.dry_run {
            return output.value(&client.backfill_trigger(&self.name, &step).await?, listed);
        }
        let mut done = Done::default();
        let work = async {
            // Of this second.
            let mut fired = 0;
            loop {
                step.limit = Some(limit - fired);
                let some = client.backfill_trigger(&self.name, &step).await?;
                fired += done.add(&some);
                let at = some.instants.last().map_or_else(|| "-".to_owned(), |last| last.instant.to_string());
                if !some.instants.is_empty() {
                    eprintln!("{at}: {}", done.text());
                }
                let Some(next) = some.next else { return Ok(()) };
                step.from = Some(next.to_string());
                if fired >= limit || some.waits.is_some() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    fired = 0;
                }
            }
        };
        let ended: Option<Result<(), Failure>> = tokio::select! {
            ended = work => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(ended) = ended else {
            let told = done.text();
            return Err(Failure::failed(format!("stopped: {told}; the same command goes on from there")));
        };
        ended?;
        output.value(&done, Done::text)
    }
}

impl Done {
    /// Tells how many of these fired.
    fn add(&mut self, some: &Backfilled) -> usize {
        let count = |of: Filled| some.instants.iter().filter(|one| one.done == of).count();
        self.fired += count(Filled::Fires);
        self.fired_before += count(Filled::FiredBefore);
        self.blackout += count(Filled::Blackout);
        count(Filled::Fires)
    }

    fn text(&self) -> String {
        let Self { fired, fired_before, blackout } = self;
        format!("{fired} fired, {fired_before} had fired before, {blackout} lie in blackouts")
    }
}

fn listed(some: &Backfilled) -> String {
    let mut table = Table::new(&["INSTANT", "JOB", ""]);
    for one in &some.instants {
        let word = match one.done {
            Filled::Fires => "would fire",
            Filled::FiredBefore => "has fired before",
            Filled::Blackout => "lies in a blackout",
        };
        table.row(vec![one.instant.to_string(), one.job.to_string(), word.to_owned()]);
    }
    let cut = some.next.map(|next| format!("\nThere are more, from {next} on.\n")).unwrap_or_default();
    format!("{}{cut}", table.text("no instants in this span"))
}
