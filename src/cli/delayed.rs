//! `spinor jobs edit`, and the list of jobs that wait in the database for their time.

use clap::Args;
use spinor_consumers::results::{DelayedFilter, Page, Waiting};
use uuid::Uuid;

use super::{
    Failure,
    jobs::id_of,
    output::Output,
    pages::{Which, more},
    publish::args_of,
    steer::Why,
    table::{Table, clean, moment},
};
use crate::{api::EditJob, client::Client};

/// Flags of `jobs edit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  spinor jobs edit 0198f1d2-0000-7000-8000-000000000000 --in 2h
  spinor jobs edit 0198f1d2-0000-7000-8000-000000000000 --at 2030-01-01T00:00:00Z --priority 8
  spinor jobs edit 0198f1d2-0000-7000-8000-000000000000 --args '{\"width\": 300}'

Only while it waits in the database: `spinor jobs ls --state delayed` lists those that do. Exit code 1
when it waits no more, or somebody else edited it at the same moment.")]
pub struct Edit {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
    /// Start it at this moment
    #[arg(long, value_name = "MOMENT", conflicts_with = "within")]
    at: Option<String>,
    /// Start it so long from now
    #[arg(long = "in", id = "within", value_name = "DURATION")]
    within: Option<String>,
    /// Other arguments: JSON, @FILE with JSON, or - for standard input
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// 7 to 9: before others; 0 to 2: after them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// It must have started before this moment, or within this duration from now
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
}

impl Edit {
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let args = self.args.as_deref().map(args_of).transpose()?;
        let Self { id, at, within, priority, expires, .. } = self;
        let edit = EditJob { at, within, args, priority, expires, by: Why::default().asked().by };
        if (EditJob { by: None, ..edit.clone() }) == EditJob::default() {
            return Err(Failure::usage("say what shall be different: --at, --in, --args, --priority or --expires"));
        }
        let row = client.edit_job(id, &edit).await?;
        output.value(&row, |row| clean(&format!("{} is due at {}", row.id, row.due)))
    }
}

/// Those that wait, the next one first.
pub async fn list(
    client: &Client,
    queue: Option<String>,
    kind: Option<String>,
    Which { limit, cursor }: Which,
    output: Output,
) -> Result<u8, Failure> {
    let page = client.delayed(&DelayedFilter { queue, kind, limit, cursor }).await?;
    output.value(&page, text)
}

fn text(page: &Page<Waiting>) -> String {
    let mut table = Table::new(&["ID", "DUE", "KIND", "QUEUE", "EDITED"]);
    for row in &page.rows {
        table.row(vec![
            row.id.to_string(),
            moment(row.due),
            row.kind.clone(),
            row.queue.clone(),
            if row.revision == 0 { String::new() } else { format!("by {} {}", row.changed_by, moment(row.changed)) },
        ]);
    }
    table.text("no jobs wait for their time") + &more(page)
}
