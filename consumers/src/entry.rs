//! One line on the reply queue: what the recorder stores.
//!
//! Entries travel packed: one JSON object a line, at most [`PACK_LINES`] lines or [`PACK_BYTES`]
//! to a message. Every entry is idempotent, so a repeated pack is harmless.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;
use spinor_executors::{Job, Report, StepReport};
use uuid::Uuid;

/// At most so many lines to a pack.
pub const PACK_LINES: usize = 500;
/// At most so many bytes to a pack, but for a single line that is larger.
pub const PACK_BYTES: usize = 1 << 20;

/// One line of a pack.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Entry {
    /// The broker has this job; the whole of it.
    Queued(Box<Job>),
    /// An execution ended, or a job was answered without one.
    Report(Box<Report>),
    /// A step of a plan ended.
    Step(Box<StepReport>),
    /// A run was announced or ended, by whoever drives it.
    Run(Box<RunReport>),
}

impl<'de> Deserialize<'de> for Entry {
    /// The tag is read first and then the whole line again: a derived reader would take the line
    /// apart into a tree, which args as raw text do not survive and deep ones must not cost.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Tag<'a> {
            #[serde(borrow)]
            is: Cow<'a, str>,
        }
        let line = <&RawValue>::deserialize(from)?.get();
        let tag: Tag<'_> = serde_json::from_str(line).map_err(D::Error::custom)?;
        match &*tag.is {
            "queued" => serde_json::from_str(line).map(Self::Queued),
            "report" => serde_json::from_str(line).map(Self::Report),
            "step" => serde_json::from_str(line).map(Self::Step),
            "run" => serde_json::from_str(line).map(Self::Run),
            other => {
                return Err(D::Error::custom(format!("`is`: expected queued, report, step or run, got `{other}`")));
            }
        }
        .map_err(D::Error::custom)
    }
}

/// A run as it is announced and as it ends. Keyed by run; the end wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The run's id, UUIDv7.
    pub run: Uuid,
    /// For people: the file, or the batch's name.
    pub name: String,
    /// How many jobs (for an orchestration: plans) belong to it.
    pub members: u32,
    /// How many steps they have in all; 0 when they are no plans.
    pub steps: u32,
    /// When it was announced.
    pub started: Timestamp,
    /// When it ended; `None` in the announcement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Did every member succeed? `None` in the announcement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
    /// What went wrong outside the members: unknown targets, unreachable nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl Entry {
    /// The line, without its newline. Serialising our own types cannot fail.
    pub fn line(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The line of an [`Entry::Report`], without taking the report.
pub fn report_line(report: &Report) -> Bytes {
    #[derive(Serialize)]
    struct Tagged<'a> {
        is: &'static str,
        #[serde(flatten)]
        report: &'a Report,
    }
    serde_json::to_vec(&Tagged { is: "report", report }).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use spinor_executors::{Json, Origin};

    use super::*;

    #[test]
    fn a_borrowed_report_makes_the_same_line() {
        let origin = Origin { consumer: "c".into(), group: "g".into(), host: "h".into() };
        let job = Job::new("noop", "default", Json::empty());
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
        report.value = Json::new(deep).ok();
        report.whole = Some(Box::new(job));
        let owned = Entry::Report(Box::new(report.clone()));
        let line = report_line(&report);
        assert_eq!(serde_json::from_slice::<Entry>(&line).ok(), Some(owned));
    }
}
