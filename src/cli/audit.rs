//! `spinor audit`: what was done, by whom, from where, and what came of it.

use clap::{Args, Subcommand};
use spinor_consumers::results::{AuditFilter, AuditRow, Page};

use super::{
    Failure,
    ask::Global,
    output::Output,
    pages::{Which, more},
    table::{Table, moment},
};

/// What to do with it.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Audit {
    /// List actions, the newest first
    Ls(Ls),
}

const EXAMPLES: &str = "Examples:\n  spinor audit ls\n  spinor audit ls --who ann --limit 1000 --json\n  spinor audit ls --action pauseQueue";

/// Flags of `audit ls`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Ls {
    /// By this user, token or name
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// This operation, such as cancelJob
    #[arg(long, value_name = "OPERATION")]
    action: Option<String>,
    #[command(flatten)]
    page: Which,
}

impl Audit {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let Self::Ls(Ls { who, action, page: Which { limit, cursor } }) = self;
        let page = global.client()?.actions(&AuditFilter { who, action, limit, cursor }).await?;
        output.value(&page, text)
    }
}

fn text(page: &Page<AuditRow>) -> String {
    let mut table = Table::new(&["AT", "WHO", "HOW", "FROM", "ACTION", "ON", "OUTCOME"]);
    for AuditRow { at, who, how, place, action, target, outcome, .. } in &page.rows {
        let words = [who, how, place, action, target, outcome].map(String::clone);
        table.row([vec![moment(*at)], words.to_vec()].concat());
    }
    format!("{}{}", table.text("nothing was done"), more(page))
}
