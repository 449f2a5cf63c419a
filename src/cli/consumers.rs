//! `spinor consumers`: who is alive, what it runs; drain, slots and the wanted number of a group.

use std::fmt::Write as _;

use clap::{ArgGroup, Args, Subcommand};

use super::{
    Failure,
    ask::Global,
    output::Output,
    steer::Why,
    table::{Table, clean, moment},
};
use crate::{
    api::{Asked, ConsumerRow, ConsumersMarked, GroupRow, NewScale, NewSlots},
    client::Client,
};

/// What to do with consumers.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor consumers ls\n  spinor consumers groups --json\n  spinor consumers drain --group images\n  spinor consumers scale images --replicas 5"
)]
pub enum Consumers {
    /// List those that are alive
    Ls(Ls),
    /// One of them, with the jobs it runs
    Show(Show),
    /// List groups: how many are wanted, running and draining, and what waits for them
    Groups(Groups),
    /// Let one, or all of a group, take no more jobs and end
    Drain(Drain),
    /// How many jobs a consumer, or each of a group, runs at once
    Slots(Slots),
    /// How many consumers a group shall have
    Scale(Scale),
}

/// Flags of `consumers ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor consumers ls\n  spinor consumers ls --json | jq '.[].running'")]
pub struct Ls {}

/// Flags of `consumers groups`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor consumers groups\n  spinor consumers groups --json")]
pub struct Groups {}

/// Flags of `consumers show`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor consumers show images@web-1-8c1f02ab77de")]
pub struct Show {
    /// Its name, as `consumers ls` lists it
    name: String,
}

/// Flags of `consumers drain`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true).args(["name", "group"]),
    after_help = "Examples:\n  spinor consumers drain images@web-1-8c1f02ab77de --why 'new kernel'\n  spinor consumers drain --group images\n\nWhat runs gets its grace; what has not started goes back. One that is started anew takes jobs again."
)]
pub struct Drain {
    /// Its name, as `consumers ls` lists it
    name: Option<String>,
    /// All of this group that are alive now
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    why: Why,
}

/// Flags of `consumers slots`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true).args(["slots", "clear"]),
    after_help = "Examples:\n  spinor consumers slots images 4\n  spinor consumers slots images@web-1-8c1f02ab77de 1\n  spinor consumers slots images --clear\n\nOf a group it holds for those that start later, too; that of one consumer counts before its group's."
)]
pub struct Slots {
    /// A group, or a consumer: its name has an `@`
    name: String,
    /// So many
    slots: Option<u32>,
    /// What the configuration says
    #[arg(long)]
    clear: bool,
    #[command(flatten)]
    why: Why,
}

/// Flags of `consumers scale`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true).args(["replicas", "clear"]),
    after_help = "Examples:\n  spinor consumers scale images --replicas 5 --why 'the big import'\n  spinor consumers scale images --clear\n\nThe number is noted; who starts and drains consumers follows it. `consumers groups` shows how far it is."
)]
pub struct Scale {
    /// The group
    group: String,
    /// So many
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Nobody cares any more
    #[arg(long)]
    clear: bool,
    #[command(flatten)]
    why: Why,
}

impl Consumers {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls {}) => output.value(&client.consumers().await?, |rows| list_text(rows)),
            Self::Groups(Groups {}) => output.value(&client.groups().await?, |rows| groups_text(rows)),
            Self::Show(Show { name }) => output.value(&client.consumer(&name).await?, show_text),
            Self::Drain(Drain { name, group, why }) => {
                let marked = match (name, group) {
                    (Some(name), _) => client.drain_consumer(&name, &why.asked()).await?,
                    (None, Some(group)) => client.drain_group(&group, &why.asked()).await?,
                    (None, None) => return Err(Failure::usage("name a consumer, or a group with --group")),
                };
                output.value(&marked, |marked| marked_text(marked, "drains"))
            }
            Self::Slots(slots) => slots.run(&client, output).await,
            Self::Scale(Scale { group, replicas, why, .. }) => {
                let Asked { by, why } = why.asked();
                let row = client.scale(&group, &NewScale { replicas, by, why }).await?;
                output.value(&row, |row| clean(&scale_text(row)))
            }
        }
    }
}

impl Slots {
    async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let Asked { by, why } = self.why.asked();
        let new = NewSlots { slots: self.slots, by, why };
        let marked = if self.name.contains('@') {
            client.set_consumer_slots(&self.name, &new).await?
        } else {
            client.set_group_slots(&self.name, &new).await?
        };
        let what = match self.slots {
            Some(slots) => format!("runs {slots} at once"),
            None => "runs as many at once as its configuration says".to_owned(),
        };
        output.value(&marked, |marked| marked_text(marked, &what))
    }
}

fn marked_text(marked: &ConsumersMarked, what: &str) -> String {
    if marked.consumers.is_empty() {
        return "noted; no consumer is alive that it concerns now\n".to_owned();
    }
    let lines = marked.consumers.iter().map(|consumer| format!("{consumer} {what}"));
    lines.chain(marked.note.clone()).map(|line| clean(&line) + "\n").collect()
}

fn scale_text(row: &GroupRow) -> String {
    let silent = if row.silent > 0 { format!(", {} silent", row.silent) } else { String::new() };
    let note = row.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let now = format!("{} running, {} draining{silent}{note}", row.running, row.draining);
    match row.wanted {
        Some(wanted) => format!("{}: {wanted} wanted, {now}", row.group),
        None => format!("{}: no number wanted, {now}", row.group),
    }
}

/// `3 s`, as it was at the answer.
fn silent(row: &ConsumerRow) -> String {
    format!("{} s", row.silent_ms / 1000)
}

fn slots_text(row: &ConsumerRow) -> String {
    match row.slots_wanted.filter(|wanted| *wanted != row.slots) {
        Some(wanted) => format!("{}/{} ({wanted} wanted)", row.busy, row.slots),
        None => format!("{}/{}", row.busy, row.slots),
    }
}

fn list_text(rows: &[ConsumerRow]) -> String {
    let mut table = Table::new(&["CONSUMER", "GROUP", "HOST", "PID", "VERSION", "BUSY", "SILENT", "INTAKE", "QUEUES"]);
    for row in rows {
        let intake = if row.draining { "draining" } else { row.intake.as_str() };
        table.row(vec![
            row.consumer.clone(),
            row.group.clone(),
            row.host.clone(),
            row.pid.to_string(),
            row.version.clone(),
            slots_text(row),
            silent(row),
            intake.to_owned(),
            row.queues.join(", "),
        ]);
    }
    table.text("no consumer is alive")
}

fn show_text(row: &ConsumerRow) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9}{}", clean(&value));
    };
    line("consumer", row.consumer.clone());
    line("group", row.group.clone());
    line("host", format!("{}, process {}", row.host, row.pid));
    line("version", row.version.clone());
    for (name, value) in &row.labels {
        line("label", format!("{name}={value}"));
    }
    line("queues", row.queues.join(", "));
    line("kinds", row.kinds.join(", "));
    line("busy", slots_text(row));
    line("intake", row.intake.clone());
    if let Some(wish) = &row.drain_requested {
        line("drain", format!("requested {wish}"));
    }
    line("started", moment(row.started));
    line("silent", silent(row));
    let mut table = Table::new(&["JOB", "KIND", "SINCE"]);
    for running in &row.running {
        table.row(vec![running.job.to_string(), running.kind.clone(), moment(running.since)]);
    }
    text + "\n" + &table.text("runs nothing")
}

fn groups_text(rows: &[GroupRow]) -> String {
    let mut table = Table::new(&["GROUP", "WANTED", "RUNNING", "DRAINING", "BUSY", "QUEUE", "READY", "OLDEST"]);
    for row in rows {
        let wanted = row.wanted.map_or_else(|| "-".to_owned(), |wanted| wanted.to_string());
        let own = [
            row.group.clone(),
            wanted,
            if row.silent > 0 { format!("{} ({} silent)", row.running, row.silent) } else { row.running.to_string() },
            row.draining.to_string(),
            format!("{}/{}", row.busy, row.slots),
        ];
        if row.queues.is_empty() {
            table.row(own.to_vec());
        }
        for (place, queue) in row.queues.iter().enumerate() {
            let own = if place == 0 { own.clone() } else { Default::default() };
            let name = if queue.paused.is_some() { format!("{} (paused)", queue.queue) } else { queue.queue.clone() };
            let ready = queue.ready.map_or_else(|| "not known".to_owned(), |ready| ready.to_string());
            let oldest = queue.oldest_seconds.map_or_else(|| "-".to_owned(), |age| format!("{age} s"));
            table.row(own.into_iter().chain([name, ready, oldest]).collect());
        }
    }
    table.text("no group has a consumer")
}
