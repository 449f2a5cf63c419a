//! One document a job: what people search by. Its version is the job's place in the record, so
//! that an older one never overwrites a newer one, whichever comes first.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use spinor_executors::{Job, Json, Output, Report, State};
use uuid::Uuid;

use crate::{
    entry::Entry,
    hidden::Hidden,
    results::{Tracked, cause, clip, place},
};

/// Characters kept of texts that people search in.
const TEXT: usize = 4096;

/// A job as the index has it.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The job.
    pub id: Uuid,
    kind: String,
    queue: String,
    state: State,
    attempt: u32,
    replay: u32,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    /// Seconds of the last execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

/// Adds the documents of a pack. A line that is no entry is the recorder's to bury: it has the
/// same pack.
pub fn read(pack: &[u8], hidden: &Hidden, into: &mut Vec<Document>) {
    let entries = pack.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    into.extend(entries.filter_map(|entry| Document::of(entry, hidden)));
}

/// One document a job: the newest.
pub fn merge(documents: Vec<Document>) -> Vec<Document> {
    let mut newest: HashMap<Uuid, Document> = HashMap::with_capacity(documents.len());
    for document in documents {
        match newest.get_mut(&document.id) {
            Some(known) if known.version() >= document.version() => {}
            Some(known) => *known = document,
            None => {
                newest.insert(document.id, document);
            }
        }
    }
    newest.into_values().collect()
}

impl Document {
    fn of(entry: Entry, hidden: &Hidden) -> Option<Self> {
        match entry {
            Entry::Queued(mut job) => {
                hidden.hide_in(&mut job);
                Some(Self::queued(&job))
            }
            Entry::Report(mut report) => {
                report.whole.iter_mut().for_each(|job| hidden.hide_in(job));
                Some(Self::reported(&report))
            }
            Entry::Edited(_) | Entry::Step(_) | Entry::Run(_) => None,
        }
    }

    fn queued(job: &Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind.clone(),
            queue: job.queue.clone(),
            state: State::Queued,
            attempt: job.attempt,
            replay: job.replay,
            created: job.created,
            started: None,
            ended: None,
            retry_at: None,
            duration: None,
            consumer: None,
            host: None,
            run: job.run,
            error: None,
            cause: None,
            args: args(&job.args),
            value: None,
            output: None,
        }
    }

    fn reported(report: &Report) -> Self {
        Self {
            id: report.job,
            kind: report.kind.clone(),
            queue: report.queue.clone(),
            state: report.state,
            attempt: report.attempt,
            replay: report.replay,
            created: report.created,
            started: Some(report.started),
            ended: Some(report.ended),
            retry_at: report.retry_at,
            duration: Some(report.ended.duration_since(report.started).as_secs_f64()),
            consumer: Some(report.origin.consumer.clone()),
            host: Some(report.origin.host.clone()),
            run: report.run,
            error: report.failure.as_ref().map(|failure| clip(&failure.message, TEXT)),
            cause: report.failure.as_ref().map(|failure| cause(failure.cause)),
            args: report.whole.as_ref().and_then(|job| args(&job.args)),
            value: report.value.as_ref().map(|value| clip(value.text(), TEXT)),
            output: output(&report.stdout, &report.stderr),
        }
    }

    /// Out of the record.
    pub fn tracked(tracked: Tracked, hidden: &Hidden) -> Self {
        let Tracked { row, mut job, report, .. } = tracked;
        job.iter_mut().for_each(|job| hidden.hide_in(job));
        let from_report = report.as_ref().map(Self::reported);
        Self {
            id: row.id,
            kind: row.kind,
            queue: row.queue,
            state: row.state,
            attempt: row.attempt,
            replay: row.replay,
            created: row.created,
            started: row.started,
            ended: row.ended,
            retry_at: row.retry_at,
            consumer: row.consumer,
            run: row.run,
            args: job.as_ref().and_then(|job| args(&job.args)),
            error: from_report.as_ref().and_then(|known| known.error.clone()).or(row.error),
            duration: from_report.as_ref().and_then(|known| known.duration),
            host: from_report.as_ref().and_then(|known| known.host.clone()),
            cause: from_report.as_ref().and_then(|known| known.cause),
            value: from_report.as_ref().and_then(|known| known.value.clone()),
            output: from_report.and_then(|known| known.output),
        }
    }

    /// Greater = newer.
    pub fn version(&self) -> i64 {
        place(self.replay, self.attempt, self.state)
    }

    /// The index it belongs to: that of the month it was created in.
    pub fn index(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.created.strftime("%Y.%m"))
    }

    /// Takes out what a mapping may refuse; was there any?
    pub fn strip(&mut self) -> bool {
        let args = self.args.take().is_some();
        let value = self.value.take().is_some();
        args || value
    }
}

/// Args as an object, whatever they are: the field takes nothing else.
fn args(args: &Json) -> Option<Box<RawValue>> {
    let text = match args.text().trim_start() {
        "null" => return None,
        object if object.starts_with('{') => object.to_owned(),
        other => format!("{{\"value\":{other}}}"),
    };
    // A line break would end the document's line.
    RawValue::from_string(if text.contains('\n') { text.replace(['\n', '\r'], " ") } else { text }).ok()
}

fn output(stdout: &Output, stderr: &Output) -> Option<String> {
    let both = format!("{}{}", stdout.head, stderr.head);
    (!both.is_empty()).then(|| clip(&both, TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn args_become_one_line_and_an_object() {
        let text = |from: &str| Json::new(from.to_owned()).ok().and_then(|json| args(&json)).map(|raw| raw.to_string());
        assert_eq!(text("{\n\"a\": \"x\\ny\"\n}").as_deref(), Some("{ \"a\": \"x\\ny\" }"));
        assert_eq!(text("[1,2]").as_deref(), Some("{\"value\":[1,2]}"));
        assert_eq!(text("null"), None);
    }

    #[test]
    fn the_month_of_creation_names_the_index() {
        let mut job = Job::new("k", "q", Json::empty());
        job.created = Timestamp::UNIX_EPOCH;
        assert_eq!(Document::queued(&job).index("p"), "p-1970.01");
    }
}
