//! The bytes of a job and of its report, exactly as the product writes them.
//!
//! They are made once, by the product's own types; for each job only the ids are patched in, which
//! is the least that a worker written by hand would do.

use anyhow::{Context, Result};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use spinor_consumers::{entry::Entry, message};
use spinor_executors::{HeaderValue, Job, Json, Origin, Outcome, Report};
use uuid::Uuid;

/// JSON text of `size` bytes: what a job carries.
pub fn payload(size: usize) -> Result<Json> {
    let text = format!("\"{}\"", "x".repeat(size.max(2) - 2));
    Json::new(text.into_bytes()).context("the payload is no JSON")
}

/// The properties of a job's message, its id left out.
pub fn properties(job: &Job, journaled: bool) -> BasicProperties {
    let from = message::encode(job, journaled).properties;
    let mut headers = FieldTable::default();
    for (name, value) in &from.headers {
        let value = match value {
            HeaderValue::Int(number) => AMQPValue::LongLongInt(*number),
            HeaderValue::Bool(flag) => AMQPValue::Boolean(*flag),
            HeaderValue::Text(text) => AMQPValue::LongString(text.as_str().into()),
            _ => AMQPValue::Void,
        };
        headers.insert(name.as_str().into(), value);
    }
    let mut to = BasicProperties::default()
        .with_delivery_mode(2)
        .with_type(job.kind.as_str().into())
        .with_content_type("application/json".into())
        .with_headers(headers);
    if let Some(seconds) = from.timestamp {
        to = to.with_timestamp(seconds);
    }
    if let Some(reply_to) = &job.reply_to {
        to = to.with_reply_to(reply_to.as_str().into());
    }
    to
}

/// A line of a pack in which only ids differ from job to job.
pub struct Template {
    line: Vec<u8>,
    ids: Vec<usize>,
    executions: Vec<usize>,
}

const ID: usize = 36;

impl Template {
    /// The report of a success; it carries the whole job when no `queued` line announced it.
    pub fn report(job: &Job, whole: bool) -> Self {
        let origin =
            Origin { consumer: Uuid::now_v7().to_string(), group: "default".to_owned(), host: "floor".to_owned() };
        let execution = Uuid::now_v7();
        let mut report = Report::of(job, &origin, execution, Timestamp::now());
        report.end(Outcome::Succeeded(Json::null()));
        report.ended = Timestamp::now();
        report.whole = whole.then(|| Box::new(job.clone()));
        Self::new(Entry::Report(Box::new(report)).line().to_vec(), job.id, execution)
    }

    /// The announcement of a job.
    pub fn queued(job: &Job) -> Self {
        Self::new(Entry::Queued(Box::new(job.clone())).line().to_vec(), job.id, Uuid::nil())
    }

    /// Other bytes that hold a job's id.
    pub fn of(line: Vec<u8>, id: Uuid) -> Self {
        Self::new(line, id, Uuid::nil())
    }

    fn new(line: Vec<u8>, id: Uuid, execution: Uuid) -> Self {
        Self { ids: places(&line, id), executions: places(&line, execution), line }
    }

    /// Appends the line for a job, without a newline.
    pub fn write(&self, to: &mut Vec<u8>, id: &[u8]) {
        let start = to.len();
        to.extend_from_slice(&self.line);
        for place in &self.ids {
            to[start + place..start + place + ID].copy_from_slice(id);
        }
        if let Some(first) = self.executions.first() {
            let mut buffer = [0; ID];
            let text = Uuid::now_v7().hyphenated().encode_lower(&mut buffer).as_bytes();
            to[start + first..start + first + ID].copy_from_slice(text);
        }
    }

    /// The length of one line.
    pub fn len(&self) -> usize {
        self.line.len()
    }
}

fn places(line: &[u8], id: Uuid) -> Vec<usize> {
    let text = id.to_string();
    line.windows(ID).enumerate().filter(|(_, window)| *window == text.as_bytes()).map(|(place, _)| place).collect()
}
