//! `spinor jobs`: list, show, wait, why; edit, cancel and replay are in files of their own.

use std::{fmt::Write as _, time::Duration};

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use spinor_consumers::results::{JobFilter, JobRecord, JobRow, Page};
use spinor_executors::{Output as Captured, Report, State};
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    cancel::CancelJobs,
    dead::Anew,
    delayed::{self, Edit},
    output::Output,
    pages::{Which, more},
    publish::{code_of, duration, until_ended},
    table::{Table, clean, maybe, moment},
};

/// What to do with jobs.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor jobs ls --queue images\n  spinor jobs show ID\n  spinor jobs why ID\n  spinor jobs cancel ID --wait"
)]
pub enum Jobs {
    /// List them, newest first
    Ls(Ls),
    /// One job with all its executions
    Show(One),
    /// Wait for a job's end; 0 = it succeeded
    Wait(Wait),
    /// The one reason why a job is not running
    Why(One),
    /// Start an ended job anew, as it was or with other arguments
    Replay(Anew),
    /// Change a delayed job while it waits
    Edit(Edit),
    /// Let jobs not run, or end
    Cancel(CancelJobs),
}

/// Flags of `jobs ls`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor jobs ls --state failed --kind 'image.resize'\n  spinor jobs ls --state delayed --queue mail\n  spinor jobs ls --since 2h --limit 500 --json"
)]
pub struct Ls {
    /// In this state: queued, running, retrying, succeeded, failed, discarded, cancelled, expired, dead, lost; or delayed: those that wait in the database, the next one first
    #[arg(long, value_parser = state)]
    state: Option<InState>,
    /// On this queue
    #[arg(long)]
    queue: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Of this run
    #[arg(long, value_name = "ID", value_parser = id_of)]
    run: Option<Uuid>,
    /// That failed in this way
    #[arg(long)]
    fingerprint: Option<String>,
    /// With each of these words in kind, queue, error, name within a run, consumer or args
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// Created at this instant or later, or so long ago at most
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    /// Created at this instant or earlier, or so long ago at least
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Timestamp>,
    #[command(flatten)]
    page: Which,
}

/// One job.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor jobs show 0198f1d2-0000-7000-8000-000000000000\n  spinor jobs why 0198f1d2-0000-7000-8000-000000000000"
)]
pub struct One {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
}

/// Flags of `jobs wait`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor jobs wait 0198f1d2-0000-7000-8000-000000000000 --timeout 5m && echo done")]
pub struct Wait {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
    /// No longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

/// For clap: an id of a job or a run.
pub(super) fn id_of(text: &str) -> Result<Uuid, String> {
    Uuid::parse_str(text).map_err(|_| format!("`{}` is no id; ids are UUIDs", clean(text)))
}

/// Which jobs to list: by the record, or those that wait for their time.
#[derive(Clone, Copy, Debug)]
enum InState {
    Recorded(State),
    Delayed,
}

/// For clap: an instant, or how long ago.
fn past(text: &str) -> Result<Timestamp, String> {
    let ago = || SignedDuration::try_from(duration(text).ok()?).ok();
    let at = text.parse().ok().or_else(|| Timestamp::now().checked_sub(ago()?).ok());
    at.ok_or_else(|| "expected an instant such as 2030-01-31T12:00:00Z, or how long ago, such as 2h".to_owned())
}

fn state(text: &str) -> Result<InState, String> {
    if text == "delayed" {
        return Ok(InState::Delayed);
    }
    State::of(text).map(InState::Recorded).ok_or_else(|| {
        let words: Vec<_> = State::ALL.iter().map(|state| state.word()).collect();
        format!("expected one of {}, delayed", words.join(", "))
    })
}

impl Jobs {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls { state: Some(InState::Delayed), queue, kind, run, fingerprint, text, since, until, page }) => {
                if run.is_some() || fingerprint.is_some() || text.is_some() || since.is_some() || until.is_some() {
                    return Err(Failure::usage("--state delayed goes with --queue and --kind alone"));
                }
                delayed::list(&client, queue, kind, page, output).await
            }
            Self::Ls(Ls {
                state,
                queue,
                kind,
                run,
                fingerprint,
                text,
                since,
                until,
                page: Which { limit, cursor },
            }) => {
                let state = state.and_then(|state| match state {
                    InState::Recorded(state) => Some(state),
                    InState::Delayed => None,
                });
                let filter = JobFilter { state, queue, kind, run, fingerprint, text, since, until, limit, cursor };
                let page = client.jobs(&filter).await?;
                output.value(&page, list_text)
            }
            Self::Show(One { id }) => output.value(&client.job(id).await?, record_text),
            Self::Wait(Wait { id, timeout }) => {
                let report = until_ended(&client, id, timeout, false).await?;
                let code = code_of(report.state);
                output.value(&report, |report| report_text(report))?;
                Ok(code)
            }
            Self::Replay(anew) => anew.run(&client, output, false).await,
            Self::Edit(edit) => edit.run(&client, output).await,
            Self::Cancel(cancel) => cancel.run(&client, output).await,
            Self::Why(One { id }) => {
                let why = client.why(id).await?;
                let code = if why.reason == "unknown" { super::failure::FAILED } else { super::failure::DONE };
                output.value(&why, |why| clean(&why.detail))?;
                Ok(code)
            }
        }
    }
}

fn list_text(page: &Page<JobRow>) -> String {
    let mut table = Table::new(&["ID", "STATE", "KIND", "QUEUE", "ATTEMPT", "CREATED", "ERROR"]);
    for row in &page.rows {
        table.row(vec![
            row.id.to_string(),
            if row.cancel_requested.is_some() {
                format!("{}, cancel", row.state.word())
            } else {
                row.state.word().to_owned()
            },
            row.kind.clone(),
            row.queue.clone(),
            row.attempt.to_string(),
            moment(row.created),
            row.error.clone().unwrap_or_default(),
        ]);
    }
    table.text("no jobs") + &more(page)
}

fn record_text(record: &JobRecord) -> String {
    let row = &record.row;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9}{}", clean(&value));
    };
    line("job", row.id.to_string());
    line("state", row.state.word().to_owned());
    if let Some(wish) = &row.cancel_requested {
        line("cancel", format!("requested {wish}"));
    }
    line("kind", row.kind.clone());
    line("queue", row.queue.clone());
    line("created", moment(row.created));
    if row.replay > 0 {
        line("replay", format!("{} (started anew so many times)", row.replay));
    }
    line("ended", maybe(row.ended));
    if let Some(at) = row.retry_at {
        line(if row.state == State::Queued { "due" } else { "retry" }, moment(at));
    }
    if let Some(run) = row.run {
        line("run", run.to_string());
    }
    if let Some(job) = &record.job {
        line("args", job.args.text().chars().take(500).collect());
    }
    for why in &record.unread {
        line("unread", why.clone());
    }
    for attempt in &record.attempts {
        let _ = write!(
            text,
            "\n{}attempt {} by {} on {}\n{}",
            if attempt.report.replay > 0 { format!("replay {}, ", attempt.report.replay) } else { String::new() },
            attempt.report.attempt,
            clean(&attempt.report.origin.consumer),
            clean(&attempt.report.origin.host),
            report_text(&attempt.report)
        );
    }
    text
}

/// One execution: what it wrote, then how it ended.
pub(super) fn report_text(report: &Report) -> String {
    let mut text = String::new();
    for (captured, name) in [(&report.stdout, "standard output"), (&report.stderr, "standard error")] {
        text.push_str(&captured_text(captured, name));
    }
    let took = report.ended.duration_since(report.started);
    let exit = match report.exit {
        Some(exit) => match (exit.code, exit.signal) {
            (Some(code), _) => format!(", exit status {code}"),
            (None, Some(signal)) => format!(", ended by signal {signal}"),
            (None, None) => String::new(),
        },
        None => String::new(),
    };
    if report.execution.is_nil() {
        // Answered without an execution: cancelled, expired, lost, dead before it started.
        let _ = writeln!(text, "{}, not run by this attempt", report.state.word());
    } else {
        let _ = writeln!(text, "{} after {:.3} s{exit}", report.state.word(), took.as_secs_f64());
    }
    if report.maybe_rerun {
        text.push_str("it may have run before: an execution that started earlier left no report\n");
    }
    if let Some(failure) = &report.failure {
        let _ = writeln!(text, "{}", lines(&failure.message));
    }
    if let Some(value) = &report.value {
        let _ = writeln!(text, "value {}", clean(value.text()));
    }
    text
}

fn captured_text(captured: &Captured, name: &str) -> String {
    let mut text = lines(&captured.head);
    if captured.dropped > 0 {
        let _ = write!(text, "\n[{} bytes of {name} were not kept]\n{}", captured.dropped, lines(&captured.tail));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Text of several lines, with nothing in it that moves the cursor.
fn lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}
