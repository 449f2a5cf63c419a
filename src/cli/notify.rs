//! `spinor notify`: do notices reach who wants to hear of what ended badly?
//!
//! `test` sends from here, by the configuration that counts here; no Spinor needs to run. `ls` asks one that runs.

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde::Serialize;
use spinor_consumers::{
    notices,
    results::{NoticeFilter, NoticeRow, Outcome},
};

use super::{
    Failure,
    ask::Global,
    output::Output,
    table::{Table, moment},
};

/// Verbs of `notify`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor notify ls\n  spinor notify test ops\n  spinor notify test ops --config /etc/spinor/config.toml"
)]
pub enum Notify {
    /// List notices: what was told, what waits, what was given up and why; the newest first
    Ls(Ls),
    /// Send a made-up notice to a receiver of the configuration, now and from here
    Test(Test),
}

/// Flags of `notify ls`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor notify ls\n  spinor notify ls --name ops --outcome given-up --limit 1000 --json"
)]
pub struct Ls {
    /// Of this receiver: NAME of `[notify.NAME]`
    #[arg(long)]
    name: Option<String>,
    /// With this outcome
    #[arg(long, value_parser = PossibleValuesParser::new(Outcome::ALL.map(Outcome::word)))]
    outcome: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Flags of `notify test`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor notify test ops\n\nExit codes: 0 the receiver took it; 1 it did not; 2 no receiver has this name."
)]
pub struct Test {
    /// The receiver: NAME of `[notify.NAME]`
    name: String,
}

#[derive(Serialize)]
struct Sent {
    sent: String,
}

impl Notify {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let Test { name } = match self {
            Self::Test(test) => test,
            Self::Ls(Ls { name, outcome, limit }) => {
                let outcome = outcome.and_then(|word| Outcome::ALL.into_iter().find(|of| of.word() == word));
                let rows = global.client()?.notices(&NoticeFilter { name, outcome, limit }).await?;
                return output.value(&rows, |rows| text(rows));
            }
        };
        let config = global.load()?.config;
        let Some(of) = config.notify.get(&name) else {
            let known: Vec<&str> = config.notify.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            return Err(Failure::usage(format!("no receiver of notices is named `{name}`; {known}")));
        };
        notices::try_out(&name, &of.to)
            .await
            .map_err(|why| Failure::failed(format!("`{name}` did not take the notice: {why}")))?;
        output.value(&Sent { sent: name }, |sent| format!("`{}` took a made-up notice", sent.sent))
    }
}

fn text(rows: &[NoticeRow]) -> String {
    let mut table = Table::new(&["AT", "NAME", "OUTCOME", "TRIES", "STATE", "KIND", "QUEUE", "TIMES", "JOB", "WHY"]);
    for row in rows {
        // Why it is not sent counts before what it tells.
        let why = row.problem.as_ref().map_or_else(|| row.error.clone(), |problem| format!("not taken: {problem}"));
        table.row(vec![
            moment(row.at),
            row.name.clone(),
            row.outcome.word().to_owned(),
            row.tries.to_string(),
            row.state.word().to_owned(),
            row.kind.clone(),
            row.queue.clone(),
            row.times.to_string(),
            row.job.to_string(),
            why,
        ]);
    }
    table.text("nothing was to be told")
}
