//! What is said over the socket: the JSON of each frame, both ways.
//!
//! Owns the fields and their bounds. An unknown type is no error, nor is an unknown field; a known
//! field of a wrong form is one, with the field named. `docs/protocol.md` is the specification.

use std::{collections::BTreeMap, time::Duration};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::frame;
use crate::{Cancelled, Cause, Context, Failure, HeaderValue, Job, Json, Outcome, Progress};

/// The version of the protocol that is spoken.
pub const PROTOCOL: u32 = 1;
/// A message for people is cut to so many bytes.
const MESSAGE: usize = 8 * 1024;
/// No retry is later than this.
const LATEST: f64 = 30.0 * 86_400.0;

/// What a program says of itself, first of all.
#[derive(Clone, Debug, Deserialize)]
pub struct Hello {
    /// The version of the protocol it speaks.
    pub protocol: u32,
    /// Its name and version.
    #[serde(default)]
    pub program: String,
    /// What it serves.
    #[serde(default)]
    pub kinds: Vec<HelloKind>,
    /// Does it answer a ping while it runs a job?
    #[serde(default)]
    pub answers_pings_while_running: bool,
}

/// A kind it serves.
#[derive(Clone, Debug, Deserialize)]
pub struct HelloKind {
    /// Its name.
    pub kind: String,
    /// The JSON Schema of its args.
    #[serde(default)]
    pub schema: Option<Json>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}

/// What a program says.
pub enum Said {
    /// The first frame.
    Hello(Hello),
    /// The end of a job.
    Result(Ended),
    /// How far it is.
    Progress(String, Progress),
    /// A line for the job's log.
    Log(String, String),
    /// Jobs to leave with this one's success.
    Publish(Published),
    /// It lives.
    Sign,
    /// It takes no more jobs.
    Bye,
}

/// The end of a job by a program's word.
pub struct Ended {
    /// Of which execution.
    pub execution: String,
    /// How.
    pub outcome: Outcome,
    /// A long text for the log.
    pub detail: Option<String>,
}

/// Jobs that a job publishes.
#[derive(Deserialize)]
pub struct Published {
    /// By which execution.
    pub execution: String,
    /// Echoed in the answer.
    #[serde(default)]
    pub number: u64,
    /// As the API takes them.
    pub jobs: Json,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    word: String,
}

#[derive(Deserialize)]
struct ResultFrame {
    execution: String,
    outcome: String,
    value: Option<Json>,
    message: Option<String>,
    cause: Option<String>,
    detail: Option<String>,
    after: Option<f64>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ProgressFrame {
    execution: String,
    done: f64,
    of: Option<f64>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct LogFrame {
    execution: String,
    level: Option<String>,
    text: String,
}

/// Reads a frame's body; the error says what is wrong with it, for people.
pub fn read(body: &[u8]) -> Result<Said, String> {
    let head: Head = serde_json::from_slice(body)
        .map_err(|error| format!("a frame that is no JSON object with a `type`: {error}"))?;
    Ok(match head.word.as_str() {
        "hello" => Said::Hello(one("hello", body)?),
        "result" => Said::Result(result(one("result", body)?)?),
        "progress" => {
            let ProgressFrame { execution, done, of, note } = one("progress", body)?;
            Said::Progress(execution, Progress { done, of, note: clip(note.unwrap_or_default()) })
        }
        "log" => {
            let LogFrame { execution, level, text } = one("log", body)?;
            let level = level.unwrap_or_else(|| "info".to_owned()).to_uppercase();
            Said::Log(execution, format!("{} {text}\n", clip(level)))
        }
        "publish" => Said::Publish(one("publish", body)?),
        "bye" => Said::Bye,
        _ => Said::Sign,
    })
}

fn one<'a, T: Deserialize<'a>>(word: &str, body: &'a [u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| format!("a `{word}` frame with a wrong field `{}`: {}", error.path(), error.inner()))
}

fn result(frame: ResultFrame) -> Result<Ended, String> {
    let ResultFrame { execution, outcome, value, message, cause, detail, after, reason } = frame;
    let reason = clip(reason.or_else(|| message.clone()).unwrap_or_default());
    let outcome = match outcome.as_str() {
        "succeeded" => Outcome::Succeeded(value.unwrap_or_else(Json::null)),
        "failed" => {
            let cause = if cause.as_deref() == Some("args") { Cause::Args } else { Cause::Error };
            Outcome::Failed(Failure { cause, message: clip(message.unwrap_or_default()) })
        }
        "retry" => {
            let after = after.map(|after| Duration::try_from_secs_f64(after.min(LATEST)));
            let after =
                after.transpose().map_err(|error| format!("a `result` frame with a wrong field `after`: {error}"))?;
            Outcome::Retry { after, reason }
        }
        "discard" => Outcome::Discard { reason },
        other => {
            let other = clip(other.to_owned());
            return Err(format!(
                "a `result` frame with the outcome `{other}`; there are succeeded, failed, retry, discard"
            ));
        }
    };
    Ok(Ended { execution, outcome, detail })
}

fn clip(mut text: String) -> String {
    if text.len() > MESSAGE {
        let end = (0..=MESSAGE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What a program is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told<'a> {
    /// Run a job.
    Run(Box<Run<'a>>),
    /// End it soon.
    Cancel {
        /// Which.
        execution: &'a str,
        /// A word.
        why: &'static str,
        /// For people.
        message: String,
    },
    /// Are you there?
    Ping {
        /// Echoed.
        n: u64,
    },
    /// The answer to `publish`.
    Published {
        /// By whom.
        execution: &'a str,
        /// Which.
        number: u64,
        /// The ids of its jobs.
        #[serde(skip_serializing_if = "Option::is_none")]
        ids: Option<Vec<Uuid>>,
        /// Why none was taken.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// End.
    Bye {},
}

/// A job, and how it runs.
#[derive(Serialize)]
pub struct Run<'a> {
    execution: &'a str,
    job: RunJob<'a>,
    last_attempt: bool,
    maybe_rerun: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    soft_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_seconds: Option<f64>,
}

#[derive(Serialize)]
struct RunJob<'a> {
    id: Uuid,
    kind: &'a str,
    queue: &'a str,
    args: &'a RawValue,
    attempt: u32,
    replay: u32,
    created: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Uuid>,
    headers: BTreeMap<&'a str, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
}

/// A job's frame.
pub fn run(job: &Job, context: &Context, execution: &str, out: &mut BytesMut) -> Result<(), String> {
    let args = job.args.read().map_err(|error| format!("its args cannot be read: {error}"))?;
    let frame = Run {
        execution,
        job: RunJob {
            id: job.id,
            kind: &job.kind,
            queue: &job.queue,
            args,
            attempt: job.attempt,
            replay: job.replay,
            created: job.created,
            correlation_id: job.correlation_id.as_deref(),
            run: job.run,
            headers: job.headers.iter().map(|(name, value)| (name.as_str(), plain(value))).collect(),
            trace: job.trace.as_deref(),
        },
        last_attempt: context.last_attempt,
        maybe_rerun: context.maybe_rerun,
        soft_seconds: context.limits.map(|limits| limits.soft.as_secs_f64()),
        hard_seconds: context.limits.map(|limits| limits.hard.as_secs_f64()),
    };
    tell(&Told::Run(Box::new(frame)), out)
}

/// Why an execution is to end.
pub fn cancel<'a>(execution: &'a str, why: &Cancelled) -> Told<'a> {
    let (word, message) = match why {
        Cancelled::Timeout => ("timeout", "its time limit has passed".to_owned()),
        Cancelled::Person(wish) => ("cancelled", wish.clone()),
        Cancelled::Drain => ("drain", "the consumer stops".to_owned()),
    };
    Told::Cancel { execution, why: word, message }
}

/// Appends a frame.
pub fn tell(told: &Told<'_>, out: &mut BytesMut) -> Result<(), String> {
    let body = serde_json::to_vec(told).map_err(|error| error.to_string())?;
    if body.len() > frame::MAX_BODY {
        return Err(format!("a frame of {} bytes; at most {} are carried", body.len(), frame::MAX_BODY));
    }
    frame::write(&body, out);
    Ok(())
}

/// A header as plain JSON; bytes that are no text are written as such.
fn plain(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Null => Value::Null,
        HeaderValue::Bool(flag) => (*flag).into(),
        HeaderValue::Int(number) => (*number).into(),
        HeaderValue::Float(number) => (*number).into(),
        HeaderValue::Text(text) => text.as_str().into(),
        HeaderValue::Bytes(bytes) => crate::process::readable(bytes).into(),
        HeaderValue::Time(seconds) => (*seconds).into(),
        HeaderValue::List(items) => items.iter().map(plain).collect(),
        HeaderValue::Table(table) => table.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
    }
}
