//! `spinor publish`: one job, or many alike.
//!
//! Owns how args are given (JSON, a file, standard input, or the words of a command), and what is
//! said when a wait breaks off after the job was accepted: its id, so that nobody publishes it twice.

use std::{
    convert::Infallible,
    io::{IsTerminal as _, Read as _, Write as _},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use spinor_executors::{Json, Report, State};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    failure::{DONE, FAILED},
    jobs::report_text,
    many::{self, Many},
    output::Output,
    table::clean,
};
use crate::{
    api::{NewUnique, OnConflict, Until, new_job::NewJob},
    client::{Client, ClientError},
    config::{self, Endpoint},
    signals::Signals,
};

/// So long without an answer, and a look is taken at what it waits for.
const QUIET: Duration = Duration::from_secs(1);

/// Flags of `publish`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Publish {
    /// What the job does: a kind that a consumer serves
    #[arg(required_unless_present = "batch", default_value = "", hide_default_value = true)]
    kind: String,
    /// Publish the jobs of a file, each a line of JSON with the fields of `POST /api/v1/jobs`; each has a result of its own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "args", "delay", "at", "within", "priority", "unique", "limits", "count", "argv"])]
    batch: Option<std::path::PathBuf>,
    /// The queue
    #[arg(long, default_value = "default")]
    queue: String,
    /// Arguments: JSON, @FILE with JSON, or - for standard input
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// Start no sooner than this long from now
    #[arg(long, value_name = "DURATION")]
    delay: Option<String>,
    /// Keep it in the database until this moment: listed, edited and cancelled there
    #[arg(long, value_name = "MOMENT", conflicts_with_all = ["delay", "within"])]
    at: Option<String>,
    /// The same for this long from now, up to years
    #[arg(long = "in", id = "within", value_name = "DURATION", conflicts_with = "delay")]
    within: Option<String>,
    /// 7 to 9: before others; 0 to 2: after them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Only if no other job has this key
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Keep the key so long at most [default: 24h]
    #[arg(long, value_name = "DURATION", requires = "unique")]
    unique_for: Option<String>,
    /// Keep the key to the job's end, or for its whole time
    #[arg(long, value_name = "WHEN", requires = "unique", value_parser = ["end", "window"], default_value = "end")]
    unique_until: String,
    /// When another job has the key: refuse this one, replace that one, or tell that one
    #[arg(long, value_name = "WHAT", requires = "unique", value_parser = ["reject", "replace", "return"], default_value = "reject")]
    on_conflict: String,
    /// Count against this limit; may be given again
    #[arg(long = "limit", value_name = "NAME")]
    limits: Vec<String>,
    /// Wait for the end and tell how it went; 0 = it succeeded, or all of them did
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    /// Publish so many jobs alike
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// For the kind `command`: the program and its arguments
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  spinor publish noop
  spinor publish noop --count 1000 --wait
  spinor publish command --wait -- sh -c 'echo hello'
  spinor publish image.resize --queue images --args '{\"width\": 300}'
  spinor publish image.resize --args @job.json --wait --timeout 5m
  spinor publish --batch jobs.ndjson --wait
  spinor publish report.make --unique report-2030-01 --unique-for 1h --on-conflict return
  spinor publish mail.send --limit mail --limit tenant:blue --delay 10m
  spinor publish report.make --at 2030-01-01T00:00:00Z
  spinor publish mail.remind --in 3d
  echo '{\"width\": 300}' | spinor publish image.resize --args -

A broker that is away or takes nothing is waited for, 15 s; then it fails and says whether the job
may have been stored.";

/// For clap: a duration of ours.
pub fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "expected a duration such as 250ms, 60s or 5m".to_owned())
}

/// What is printed when a job was waited for.
#[derive(Debug, Serialize)]
struct Published {
    id: Uuid,
    queue: String,
    /// It was there before, with the unique key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    existing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Box<Report>>,
}

impl Publish {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let mut job = NewJob::new(self.kind.as_str());
        job.queue = Some(self.queue.clone());
        job.args = self.read_args()?;
        job.delay.clone_from(&self.delay);
        job.at.clone_from(&self.at);
        job.within.clone_from(&self.within);
        job.priority = self.priority;
        job.limits.clone_from(&self.limits);
        job.unique = self.unique();
        let client = global.client()?;
        if let Some(file) = &self.batch {
            let many = Many::publish_all(&client, &many::read(file)?).await;
            return if self.wait { many?.wait(&client, self.timeout, output).await } else { many?.tell(output) };
        }
        if self.count > 1 {
            let many = Many::publish(&client, &job, self.count).await;
            return if self.wait { many?.wait(&client, self.timeout, output).await } else { many?.tell(output) };
        }
        let accepted = told(&client, client.publish(&job)).await?;
        if accepted.existing {
            note(&format!("nothing was published: job {} has the key", accepted.id));
        }
        if !self.wait {
            let published =
                Published { id: accepted.id, queue: accepted.queue, existing: accepted.existing, report: None };
            return output.value(&published, |published| published.id.to_string());
        }
        let report = until_ended(&client, accepted.id, self.timeout, true).await?;
        let code = code_of(report.state);
        let published =
            Published { id: accepted.id, queue: accepted.queue, existing: accepted.existing, report: Some(report) };
        output.value(&published, |published| published.report.as_deref().map(report_text).unwrap_or_default())?;
        Ok(code)
    }

    fn unique(&self) -> Option<NewUnique> {
        let until = if self.unique_until == "window" { Until::Window } else { Until::End };
        let on_conflict = match self.on_conflict.as_str() {
            "replace" => OnConflict::Replace,
            "return" => OnConflict::Return,
            _ => OnConflict::Reject,
        };
        let key = self.unique.clone()?;
        Some(NewUnique { key, lasting: self.unique_for.clone(), until, on_conflict })
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
            if self.kind == "command" {
                return Err(Failure::usage(
                    "the kind `command` needs its program after `--`, or --args; for example `spinor publish command -- echo hello`",
                ));
            }
            return Ok(None);
        };
        args_of(given).map(Some)
    }
}

/// Arguments as they are given: JSON, `@FILE` with JSON, or `-` for standard input.
pub(super) fn args_of(given: &str) -> Result<Json, Failure> {
    let (text, place) = match given.strip_prefix('@') {
        Some(path) => {
            let text = std::fs::read(path).map_err(|error| Failure::usage(format!("--args @{path}: {error}")))?;
            (text, format!("{path}:"))
        }
        None if given == "-" => (standard_input()?, "standard input:".to_owned()),
        None => (given.as_bytes().to_vec(), "--args, ".to_owned()),
    };
    Json::new(text).map_err(|error| {
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        Failure::usage(format!("{place}{}:{}: this is no JSON: {why}", error.line(), error.column()))
    })
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

/// Does the work; when the answering process waits for its broker meanwhile, the user is told so.
pub(super) async fn told<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut last = String::new();
    loop {
        let look = async {
            sleep(QUIET).await;
            client.status().await
        };
        tokio::select! {
            done = &mut work => return done,
            looked = look => if let Ok(status) = looked && status.link.state != "up" {
                let hosts = Endpoint::new(status.broker).hosts().to_owned();
                let why = status.link.why.unwrap_or(status.link.state);
                let line = format!("waiting for the broker at {hosts}: {why}");
                if line != last {
                    // Nothing is left to do when standard error is closed.
                    let _ = writeln!(std::io::stderr().lock(), "spinor: {line}");
                    last = line;
                }
            },
        }
    }
}

/// Waits for a job's end. `published`: it was just published, so that a failure says that it was.
pub async fn until_ended(
    client: &Client,
    id: Uuid,
    timeout: Option<Duration>,
    published: bool,
) -> Result<Box<Report>, Failure> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let mut reasons = Reasons::default();
    let mut signals = Signals::listen();
    let ended = tokio::select! {
        biased;
        ended = ending(client, id, end, published) => ended,
        never = reasons.follow(client, id) => match never {},
        () = signals.next() => {
            return Err(Failure::unreachable(format!("left job {id}: it goes on; `spinor jobs wait {id}` waits for its end")));
        }
    };
    match ended {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Err(Failure::unreachable(format!(
            "job {id} has not ended in time and goes on; `spinor jobs why {id}` tells more"
        ))),
        Err(error) if published => Err(Failure::unreachable(format!(
            "job {id} was accepted, but how it went is not known: {error}\n\
             Do not publish it again; `spinor jobs wait {id}` waits for its end"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// The last report of a job, asked for in steps the server allows; `None` when the time is over.
/// A record that does not answer for a while is waited for as well.
pub(super) async fn ending(
    client: &Client,
    id: Uuid,
    end: Option<Instant>,
    published: bool,
) -> Result<Option<Box<Report>>, ClientError> {
    let mut patience = Patience::default();
    loop {
        let left = end.map_or(Duration::from_secs(60), |end| end.saturating_duration_since(Instant::now()));
        let waited = client.wait(id, left.min(Duration::from_secs(60)), published).await;
        let over = end.is_some_and(|end| Instant::now() >= end);
        let waited = patience.after(waited, over, &format!("job {id}")).await?;
        match waited.and_then(|waited| waited.report) {
            None if !over => {}
            report => return Ok(report),
        }
    }
}

/// A wait that lasts this long is explained.
const EXPLAIN: Duration = Duration::from_secs(2);

/// Tells why a wait lasts, each time the reason changes. That a consumer has the job is no news.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    told: Option<String>,
}

impl Reasons {
    /// Asks again and again, for ever.
    async fn follow(&mut self, client: &Client, id: Uuid) -> Infallible {
        let mut pause = EXPLAIN;
        loop {
            sleep(pause).await;
            self.ask(client, id).await;
            pause = (pause * 2).min(Duration::from_secs(15));
        }
    }

    /// Asks once and tells what is new.
    pub(super) async fn ask(&mut self, client: &Client, id: Uuid) {
        let Ok(why) = client.why(id).await else { return };
        let expected = matches!(why.reason.as_str(), "running" | "starting" | "ended");
        if self.told.as_ref().map_or(!expected, |told| *told != why.reason) && why.reason != "ended" {
            note(&format!("job {id}: {}", clean(&why.detail)));
            self.told = Some(why.reason);
        }
    }
}

/// Waits on while the record does not answer, and says so once.
#[derive(Debug, Default)]
pub(super) struct Patience {
    told: bool,
}

impl Patience {
    /// The answer; `None` after a pause when there was none yet and the time is not over.
    pub(super) async fn after<T>(
        &mut self,
        answer: Result<T, ClientError>,
        over: bool,
        what: &str,
    ) -> Result<Option<T>, ClientError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(ClientError::Refused(problem)) if problem.status == 503 && !over => {
                if !std::mem::replace(&mut self.told, true) {
                    note(&format!("{what}: {}; waiting on", problem.detail));
                }
                sleep(Duration::from_secs(1)).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A line on standard error; nothing is left to do when that is closed.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "spinor: {text}");
}

/// 0 only for success.
pub const fn code_of(state: State) -> u8 {
    if matches!(state, State::Succeeded) { DONE } else { FAILED }
}
