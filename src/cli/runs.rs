//! `spinor runs`: list, show, analyze, retry; publish and cancel are in files of their own.

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use clap::{Args, Subcommand};
use spinor_consumers::results::{JobRow, Page, RunRecord, RunRow};
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    cancel::CancelRun,
    jobs::id_of,
    output::Output,
    pages::{Which, more},
    publish::{duration, note},
    publish_run::{PublishRun, code_of, end_text, ended},
    steer::Why,
    table::{Table, clean, maybe, moment},
};
use crate::{
    client::{Client, StepQuery},
    orchestrations::{
        analysis::{Analysis, analyse},
        jobs_analysis::{JobAnalysis, of_jobs},
    },
};

/// What to do with runs.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor runs publish nightly.yaml --wait\n  spinor runs ls\n  spinor runs show ID\n  spinor runs analyze ID --json\n  spinor runs cancel ID\n  spinor runs retry ID"
)]
pub enum Runs {
    /// Publish jobs that need each other, from a file
    Publish(PublishRun),
    /// List them, newest first
    Ls(Ls),
    /// One run with its nodes
    Show(One),
    /// The figures of a run: how long, where, which steps
    Analyze(One),
    /// Let every job of a run not run, or end
    Cancel(CancelRun),
    /// Do again what did not succeed of a run of jobs that has ended
    Retry(Retry),
}

/// Flags of `runs ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor runs ls --limit 10")]
pub struct Ls {
    #[command(flatten)]
    page: Which,
}

/// One run.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor runs show 0198f1d2-0000-7000-8000-000000000000\n  spinor runs analyze 0198f1d2-0000-7000-8000-000000000000"
)]
pub struct One {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
}

/// Flags of `runs retry`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor runs retry 0198f1d2-0000-7000-8000-000000000000\n  spinor runs retry 0198f1d2-0000-7000-8000-000000000000 --wait --why 'the disk has room again'"
)]
pub struct Retry {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
    /// Wait for the end; 0 = every member succeeded
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    why: Why,
}

impl Retry {
    async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let Self { id, wait, timeout, why } = self;
        let retried = client.retry_run(id, &why.asked()).await?;
        let text = format!("run {} goes on; this is its replay {}", retried.run, retried.replay);
        if !wait {
            return output.value(&retried, |_| text);
        }
        note(&text);
        let row = ended(client, id, retried.replay, timeout).await?;
        output.value(&row, end_text)?;
        Ok(code_of(&row))
    }
}

impl Runs {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Cancel(cancel) => cancel.run(global, output).await,
            Self::Publish(publish) => publish.run(&client, output).await,
            Self::Retry(retry) => retry.run(&client, output).await,
            Self::Ls(Ls { page: Which { limit, cursor } }) => {
                output.value(&client.runs(limit, cursor.as_deref()).await?, list_text)
            }
            Self::Show(One { id }) => output.value(&client.run(id).await?, record_text),
            Self::Analyze(One { id }) => {
                let run = client.run(id).await?;
                if !run.member_list.is_empty() {
                    return output.value(&of_jobs(&run), JobAnalysis::table);
                }
                let steps = client.steps(id, &StepQuery::default()).await?;
                output.value(&analyse(id, run.row.started, &steps), Analysis::table)
            }
        }
    }
}

fn word(row: &RunRow) -> &'static str {
    match row.succeeded {
        None => "running",
        Some(true) => "succeeded",
        Some(false) => "failed",
    }
}

fn list_text(page: &Page<RunRow>) -> String {
    let mut table = Table::new(&["ID", "STATE", "MEMBERS", "STEPS", "STARTED", "ENDED", "NAME"]);
    for row in &page.rows {
        table.row(vec![
            row.id.to_string(),
            word(row).to_owned(),
            row.members.to_string(),
            row.steps.to_string(),
            moment(row.started),
            maybe(row.ended),
            row.name.clone(),
        ]);
    }
    table.text("no runs") + &more(page)
}

fn record_text(record: &RunRecord) -> String {
    let row = &record.row;
    let mut text = format!("run {} {}: {}\n", row.id, clean(&row.name), word(row));
    let _ = writeln!(text, "started {}, ended {}", moment(row.started), maybe(row.ended));
    if let Some(wish) = &row.cancel_requested {
        let _ = writeln!(text, "cancel requested {}", clean(&wish.to_string()));
    }
    for problem in &row.problems {
        let _ = writeln!(text, "problem: {}", clean(problem));
    }
    if !record.member_list.is_empty() {
        return text + "\n" + &members_text(record);
    }
    let mut table = Table::new(&["MEMBER", "STATE", "JOB", "ERROR"]);
    for (name, job) in &record.jobs {
        let error = job.error.clone().unwrap_or_default();
        table.row(vec![name.clone(), job.state.word().to_owned(), job.id.to_string(), error]);
    }
    text + "\n" + &table.text("no members are recorded yet")
}

/// Every member, those that wait or were skipped included; the record knows which of them runs.
fn members_text(record: &RunRecord) -> String {
    let recorded: HashMap<Uuid, &JobRow> = record.jobs.iter().map(|(_, job)| (job.id, job)).collect();
    let mut table = Table::new(&["MEMBER", "STATE", "NEEDS", "JOB", "ERROR"]);
    for member in &record.member_list {
        let job = recorded.get(&member.job);
        let state = match (member.state.as_str(), job) {
            ("due" | "published", Some(job)) if !job.state.is_final() => job.state.word(),
            ("due" | "published", _) => "queued",
            (word, _) => word,
        };
        let needs = match member.needs.as_slice() {
            [] => String::new(),
            few @ [_] | few @ [_, _] | few @ [_, _, _] => few.join(", "),
            [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
        };
        let error = member.error.as_deref().and_then(|error| error.lines().next()).unwrap_or_default().to_owned();
        let job = job.map(|job| job.id.to_string()).unwrap_or_default();
        table.row(vec![member.name.clone(), state.to_owned(), needs, job, error]);
    }
    table.text("no members")
}
