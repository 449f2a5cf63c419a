//! `spinor runs publish`: jobs that need each other, from a file of YAML or JSON.
//!
//! Owns how the file is read, and what a wait for the end tells. Refuses to check the run: the server does,
//! and names the field.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use spinor_consumers::results::RunRow;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Failure,
    failure::{DONE, FAILED},
    output::Output,
    publish::{duration, told},
};
use crate::{
    api::{Problem, new_run},
    client::{Client, ClientError},
};

/// Flags of `runs publish`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PublishRun {
    /// A file of YAML or JSON
    file: PathBuf,
    /// Instead of the name in the file
    #[arg(long)]
    name: Option<String>,
    /// Wait for the end; 0 = every member succeeded
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
}

const EXAMPLES: &str = "\
Examples:
  spinor runs publish nightly.yaml
  spinor runs publish nightly.json --name 'nightly, by hand' --wait --timeout 1h

A file:
  name: nightly
  on_failure: stop            # or go_on, or compensate
  members:
    - {name: fetch, kind: data.fetch, args: {day: yesterday}}
    - {name: count, kind: data.count, needs: [fetch], args: {data: {$from: fetch}}}
  finally: {kind: mail.send}";

/// What was published, and how it went when that was waited for.
#[derive(Debug, Serialize)]
struct PublishedRun {
    run: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<RunRow>,
}

impl PublishRun {
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let mut new = self.read()?;
        if let Some(name) = &self.name {
            new.name.clone_from(name);
        }
        let submitted = told(client, client.publish_run(&new)).await?;
        let mut published = PublishedRun { run: submitted.run, ended: None };
        if self.wait {
            published.ended = Some(ended(client, submitted.run, 0, self.timeout).await?);
        }
        output.value(&published, |published| match &published.ended {
            None => published.run.to_string(),
            Some(row) => end_text(row),
        })?;
        Ok(published.ended.as_ref().map_or(DONE, code_of))
    }

    fn read(&self) -> Result<new_run::NewJobRun, Failure> {
        let place = self.file.display();
        let text = std::fs::read_to_string(&self.file).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        let wrong = |problem: Problem| {
            let field = problem.field.map(|field| format!("`{field}`: ")).unwrap_or_default();
            Failure::usage(format!("{place}: {field}{}", problem.detail))
        };
        if text.trim_start().starts_with('{') {
            return new_run::read(text.as_bytes()).map_err(wrong);
        }
        let tree: serde_json::Value =
            serde_saphyr::from_str(&text).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        new_run::read(tree.to_string().as_bytes()).map_err(wrong)
    }
}

/// How it went, in a line.
pub(super) fn end_text(row: &RunRow) -> String {
    let how = if row.succeeded == Some(true) { "succeeded" } else { "failed" };
    format!("run {} {how}; `spinor runs show {}` lists its members", row.id, row.id)
}

/// What a wait for its end exits with.
pub(super) fn code_of(row: &RunRow) -> u8 {
    if row.succeeded == Some(true) { DONE } else { FAILED }
}

/// The run once it has ended, in this replay or a later one.
pub(super) async fn ended(
    client: &Client,
    run: Uuid,
    replay: u32,
    timeout: Option<Duration>,
) -> Result<RunRow, Failure> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let mut pause = Duration::from_millis(50);
    loop {
        match client.run(run).await {
            Ok(record) if record.row.replay >= replay && record.row.ended.is_some() => return Ok(record.row),
            Ok(_) => {}
            // Not on record yet, or the record does not answer: it is looked for again.
            Err(ClientError::Refused(problem)) if matches!(problem.status, 404 | 503) => {}
            Err(error) => {
                return Err(Failure::unreachable(format!(
                    "run {run} was accepted, but how it went is not known: {error}"
                )));
            }
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(Failure::unreachable(format!(
                "run {run} has not ended in time and goes on; `spinor runs show {run}` tells more"
            )));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
