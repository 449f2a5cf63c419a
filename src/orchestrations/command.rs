//! `spinor run FILE...`: from the arguments to the exit code.
//!
//! Owns the arguments, the order (read all files, compile, run, tell) and what is told at the end.
//! Refuses to know whether nodes live in this process: a [`Runner`] does.

use std::{fmt::Write as _, io::IsTerminal as _, path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use spinor_executors::{State, StepReport, StepState};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    analysis::{Analysis, analyse},
    compile::{Nodes, compile, needs_answering},
    parse::{File, named, parse},
    progress::{Display, failed_step, printable},
    view::{Member, RunEnd, RunError, RunRequest, Runner, Update},
};

/// At most so many steps that did not succeed are shown.
const MOST_FAILURES: u32 = 20;

/// Done.
pub const DONE: u8 = 0;
/// A step failed, or a node was not there.
pub const FAILED: u8 = 1;
/// The file or an argument is wrong: nothing was started.
pub const USAGE: u8 = 2;
/// Broker or server cannot be reached: nothing was started.
pub const UNREACHABLE: u8 = 3;

/// Runs orchestration files on nodes.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Orchestration files, run in this order as one run
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Start so many nodes (node-1, node-2, ...) in this process and run on them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub local: Option<u16>,
    /// Run on these nodes instead of those the orchestrations name
    #[arg(long, value_name = "NODE", value_delimiter = ',', value_parser = node)]
    pub target: Vec<String>,
    /// Show no progress, only problems and failed steps
    #[arg(long)]
    pub no_progress: bool,
    /// Give the run up after this long, such as 90s or 10m; on nodes elsewhere what runs goes on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// A plan that its node has not started after this long never starts
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    pub expires: Duration,
}

fn node(text: &str) -> Result<String, String> {
    named(text).map(str::to_owned)
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a time such as 90s, 10m or 2h".to_owned())
}

/// Reads all files; the problems of all of them, as lines, when any has one.
pub fn load(args: &RunArgs) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    let mut wrong = Vec::new();
    for path in &args.files {
        let name = path.display().to_string();
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes),
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        match text {
            Ok(text) => match parse(&name, &text) {
                Ok(file) => files.push(file),
                Err(problems) => wrong.push(problems.to_string()),
            },
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                wrong.push(format!("{name}:{line}: found bytes that are no UTF-8, expected text"));
            }
        }
    }
    if wrong.is_empty() { Ok(files) } else { Err(wrong.join("\n")) }
}

/// Runs what was loaded as run `id` and tells how it went, as JSON if asked; gives the exit code. `leave` is
/// the first Ctrl-C: the run is left alone and its id told.
pub async fn run_command<R: Runner>(
    id: Uuid,
    args: &RunArgs,
    as_json: bool,
    files: &[File],
    runner: &R,
    leave: &CancellationToken,
) -> u8 {
    match run(id, args, as_json, files, runner, leave).await {
        Ok(code) => code,
        Err(Stop { code, why }) => {
            eprintln!("{why}");
            code
        }
    }
}

struct Stop {
    code: u8,
    why: String,
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        let code = match error {
            RunError::NotStarted(_) => UNREACHABLE,
            RunError::LostSight(_) => FAILED,
        };
        Self { code, why: error.to_string() }
    }
}

async fn run<R: Runner>(
    id: Uuid,
    args: &RunArgs,
    as_json: bool,
    files: &[File],
    runner: &R,
    leave: &CancellationToken,
) -> Result<u8, Stop> {
    let answering = if needs_answering(files, &args.target) { runner.answering().await? } else { Vec::new() };
    let plans = compile(files, Nodes { chosen: &args.target, answering: &answering })
        .map_err(|problems| Stop { code: USAGE, why: problems.join("\n") })?;
    let run = id;
    let request = RunRequest { id, name: name(args), plans, expires: args.expires, timeout: args.timeout };
    let nodes = request.plans.iter().map(|ready| (ready.plan.node.as_str(), ready.steps));
    let mut display = Display::new(std::io::stderr().is_terminal(), !args.no_progress, nodes);
    let mut shown: Vec<(Uuid, u32)> = Vec::new();
    let end = runner
        .run(
            request,
            &mut |update| {
                if let Update::Step(step) = &update {
                    shown.push((step.job, step.step));
                }
                display.update(&update);
            },
            leave,
        )
        .await;
    display.finish();
    let end = end?;
    if end.left {
        if args.local.is_some() {
            eprintln!("run {run} was given up: its nodes end with this process; what they did is in the record");
        } else {
            eprintln!("left run {run}: it goes on; follow it with `spinor runs show {run}`");
        }
        return Ok(FAILED);
    }
    let failures =
        if end.report.succeeded == Some(true) { Vec::new() } else { runner.failures(run, MOST_FAILURES).await? };
    // Live events are lossy: what they did not bring is told now.
    for step in failures.iter().filter(|step| ended_badly(step) && !shown.contains(&(step.job, step.step))) {
        eprintln!("{}", failed_step(step));
    }
    let analysis = analyse(run, end.report.started, &end.steps);
    let text = if as_json { json(&end, &analysis, &failures) } else { printable(&table(&end, &analysis)) };
    print(&text);
    Ok(if end.report.succeeded == Some(true) { DONE } else { FAILED })
}

fn ended_badly(step: &StepReport) -> bool {
    matches!(step.state, StepState::Failed | StepState::Interrupted)
}

/// A closed pipe is a reader that has seen enough.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn name(args: &RunArgs) -> String {
    let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    names.join(" ")
}

/// The analysis, then the one line that says it all.
fn table(end: &RunEnd, analysis: &Analysis) -> String {
    let mut text = analysis.table();
    _ = writeln!(text, "\n{}", verdict(end, analysis));
    text
}

/// The one line that says it all.
pub fn verdict(end: &RunEnd, analysis: &Analysis) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let head = format!("{} on {}", count(analysis.total_jobs, "step"), count(end.members.len(), "node"));
    if end.report.succeeded == Some(true) {
        return format!("{head}: all succeeded");
    }
    let mut parts = Vec::new();
    for Member { node, state, error } in &end.members {
        let steps: Vec<&StepReport> = end.steps.iter().filter(|step| step.node == *node).collect();
        if let Some(step) = steps.iter().find(|step| ended_badly(step)) {
            let skipped = steps.iter().filter(|step| step.state == StepState::Skipped).count();
            parts.push(format!("{node} failed at step {}.{} ({skipped} skipped)", step.part, step.item));
        } else if let Some(state) = state.filter(|state| *state != State::Succeeded) {
            let why = error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
            parts.push(format!("{node} {}{why}", state.word()));
        }
    }
    parts.extend(end.report.problems.iter().cloned());
    format!("{head}: failed: {}", parts.join("; "))
}

/// The result as JSON, with the names of the table in small letters.
fn json(end: &RunEnd, analysis: &Analysis, failures: &[StepReport]) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        run: &'a spinor_consumers::entry::RunReport,
        nodes: Vec<NodeLine<'a>>,
        analysis: &'a Analysis,
        failures: &'a [StepReport],
    }
    #[derive(Serialize)]
    struct NodeLine<'a> {
        node: &'a str,
        state: Option<State>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    let nodes = end
        .members
        .iter()
        .map(|member| NodeLine { node: &member.node, state: member.state, error: member.error.as_deref() })
        .collect();
    let whole = Whole { run: &end.report, nodes, analysis, failures };
    serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
}
