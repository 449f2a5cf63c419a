//! `spinor publish`: one job, or many alike.
//!
//! Owns how args are given: JSON, a file, standard input, or the words of a command.

use std::{
    io::{IsTerminal as _, Read as _},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use spinor_executors::{Json, Report, State};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    failure::{DONE, FAILED},
    jobs::report_text,
    output::Output,
};
use crate::{
    api::{BatchItem, new_job::NewJob},
    client::Client,
    config,
};

/// Flags of `publish`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Publish {
    /// What the job does: a kind that a consumer serves
    kind: String,
    /// The queue
    #[arg(long, default_value = "default")]
    queue: String,
    /// Arguments: JSON, @FILE with JSON, or - for standard input
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// Wait for the job's end and tell how it went; 0 = it succeeded
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    /// Publish so many jobs alike
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "wait", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// For the kind `command`: the program and its arguments
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  spinor publish noop
  spinor publish command --wait -- sh -c 'echo hello'
  spinor publish image.resize --queue images --args '{\"width\": 300}'
  spinor publish image.resize --args @job.json --wait --timeout 5m
  echo '{\"width\": 300}' | spinor publish image.resize --args -";

/// For clap: a duration of ours.
pub fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "expected a duration such as 250ms, 60s or 5m".to_owned())
}

/// What is printed when a job was waited for.
#[derive(Debug, Serialize)]
struct Published {
    id: Uuid,
    queue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Box<Report>>,
}

/// What is printed for many.
#[derive(Debug, Serialize)]
struct Many {
    published: usize,
    refused: usize,
    jobs: Vec<BatchItem>,
}

impl Publish {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let mut job = NewJob::new(&self.kind);
        job.queue = Some(self.queue.clone());
        job.args = self.read_args()?;
        let client = global.client()?;
        if self.count > 1 {
            return publish_many(&client, &job, self.count, output).await;
        }
        let accepted = client.publish(&job).await?;
        if !self.wait {
            let published = Published { id: accepted.id, queue: accepted.queue, report: None };
            return output.value(&published, |published| published.id.to_string());
        }
        let report = until_ended(&client, accepted.id, self.timeout, true).await?;
        let code = code_of(report.state);
        let published = Published { id: accepted.id, queue: accepted.queue, report: Some(report) };
        output.value(&published, |published| published.report.as_deref().map(report_text).unwrap_or_default())?;
        Ok(code)
    }

    fn read_args(&self) -> Result<Option<Json>, Failure> {
        if !self.argv.is_empty() {
            if self.kind != "command" {
                return Err(Failure::usage(format!(
                    "words after `--` are for the kind `command`, not for `{}`; use --args",
                    self.kind
                )));
            }
            if self.args.is_some() {
                return Err(Failure::usage("give --args or words after `--`, not both"));
            }
            let args = serde_json::json!({"argv": self.argv});
            return Json::of(&args).map(Some).map_err(|error| Failure::usage(error.to_string()));
        }
        let Some(given) = &self.args else {
            return Ok(None);
        };
        let (text, place) = match given.strip_prefix('@') {
            Some(path) => {
                let text = std::fs::read(path).map_err(|error| Failure::usage(format!("--args @{path}: {error}")))?;
                (text, format!("{path}:"))
            }
            None if given == "-" => (standard_input()?, "standard input:".to_owned()),
            None => (given.clone().into_bytes(), "--args, ".to_owned()),
        };
        Json::new(text).map(Some).map_err(|error| {
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            Failure::usage(format!("{place}{}:{}: this is no JSON: {why}", error.line(), error.column()))
        })
    }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        return Err(Failure::usage("--args - reads standard input, which is a terminal; pipe JSON into it"));
    }
    let mut text = Vec::new();
    stdin.read_to_end(&mut text).map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    Ok(text)
}

/// Waits for a job's end, in steps the server allows.
pub async fn until_ended(
    client: &Client,
    id: Uuid,
    timeout: Option<Duration>,
    published: bool,
) -> Result<Box<Report>, Failure> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = end.map_or(Duration::from_secs(60), |end| end.saturating_duration_since(Instant::now()));
        let waited = client.wait(id, left.min(Duration::from_secs(60)), published).await?;
        if let Some(report) = waited.report {
            return Ok(report);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(Failure::failed(format!("job {id} has not ended in time; `spinor jobs why {id}` tells more")));
        }
    }
}

/// 0 only for success.
pub const fn code_of(state: State) -> u8 {
    if matches!(state, State::Succeeded) { DONE } else { FAILED }
}

async fn publish_many(client: &Client, job: &NewJob, count: u32, output: Output) -> Result<u8, Failure> {
    let mut jobs = Vec::new();
    let mut left = count;
    while left > 0 {
        let batch = left.min(1000);
        let alike: Vec<NewJob> = (0..batch).map(|_| job.clone()).collect();
        jobs.extend(client.publish_batch(&alike).await?.jobs);
        left -= batch;
    }
    let refused = jobs.iter().filter(|job| job.problem.is_some()).count();
    let first = jobs.iter().find_map(|job| job.problem.clone());
    let many = Many { published: jobs.len() - refused, refused, jobs };
    output.value(&many, |many| format!("{} jobs published", many.published))?;
    match first {
        None => Ok(DONE),
        Some(problem) => Err(Failure::failed(format!("{refused} of {count} jobs were refused; the first: {problem}"))),
    }
}
