//! One line on the reply queue: what the recorder stores.
//!
//! Entries travel packed: one JSON object a line, at most [`PACK_LINES`] lines or [`PACK_BYTES`]
//! to a message. Every entry is idempotent, so a repeated pack is harmless.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use spinor_executors::{Job, Report, StepReport};
use uuid::Uuid;

/// At most so many lines to a pack.
pub const PACK_LINES: usize = 500;
/// At most so many bytes to a pack, but for a single line that is larger.
pub const PACK_BYTES: usize = 1 << 20;

/// The largest line: the report of a job that is as large as a message may be.
pub const MAX_LINE: usize = crate::message::MAX_BODY + PACK_BYTES;

/// One line of a pack. Its first field is `is`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Entry {
    /// The broker has this job; the whole of it.
    Queued(Box<Job>),
    /// The broker has this job, which was edited since its first entry; the whole of it.
    Edited(Box<Job>),
    /// An execution ended, or a job was answered without one.
    Report(Box<Report>),
    /// A step of a plan ended.
    Step(Box<StepReport>),
    /// A run was announced or ended, by whoever drives it.
    Run(Box<RunReport>),
}

/// A run as it is announced and as it ends. Keyed by run; the last replay wins, and in it the end.
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
    /// 0, and one more each time the run is retried.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replay: u32,
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

const fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Entry {
    /// The line, without its newline. Serialising our own types cannot fail.
    pub fn line(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The line of an [`Entry::Report`], without taking the report.
pub fn report_line(report: &Report) -> Bytes {
    tagged("report", report)
}

/// The line of an [`Entry::Step`], without taking the report.
pub fn step_line(report: &StepReport) -> Bytes {
    tagged("step", report)
}

fn tagged<T: Serialize>(is: &'static str, entry: &T) -> Bytes {
    #[derive(Serialize)]
    struct Tagged<'a, T> {
        is: &'static str,
        #[serde(flatten)]
        entry: &'a T,
    }
    serde_json::to_vec(&Tagged { is, entry }).unwrap_or_default().into()
}

/// By hand: a derived reader of a tagged enum buffers the fields, and args and values, which are
/// kept as their own text, cannot come out of such a buffer. The tag comes first, so the rest is
/// read straight into its type.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Line;

        impl<'de> Visitor<'de> for Line {
            type Value = Entry;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object whose first field is `is`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                if map.next_key::<String>()?.as_deref() != Some("is") {
                    return Err(A::Error::custom("the first field of a line is not `is`"));
                }
                let word: String = map.next_value()?;
                let rest = MapAccessDeserializer::new(map);
                match word.as_str() {
                    "queued" => Box::deserialize(rest).map(Entry::Queued),
                    "edited" => Box::deserialize(rest).map(Entry::Edited),
                    "report" => Box::deserialize(rest).map(Entry::Report),
                    "step" => Box::deserialize(rest).map(Entry::Step),
                    "run" => Box::deserialize(rest).map(Entry::Run),
                    _ => Err(A::Error::unknown_variant(&word, &["queued", "edited", "report", "step", "run"])),
                }
            }
        }

        from.deserialize_map(Line)
    }
}

#[cfg(test)]
mod tests {
    use spinor_executors::{Json, Origin, Outcome};

    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_args_keep_their_text() -> Result<(), serde_json::Error> {
        let args = Json::new(r#"{"n": 123456789012345678901234567890, "x": 1.50}"#)?;
        let job = Job::new("image.resize", "default", args.clone());
        let origin = Origin { consumer: "c".into(), group: "g".into(), host: "h".into() };
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        report.end(Outcome::Succeeded(args));
        let line = report_line(&report);
        assert_eq!(serde_json::from_slice::<Entry>(&line)?, Entry::Report(Box::new(report.clone())));
        let run = RunReport {
            run: Uuid::now_v7(),
            name: "f.yaml".into(),
            members: 1,
            steps: 2,
            replay: 0,
            started: Timestamp::now(),
            ended: None,
            succeeded: None,
            problems: vec!["none".into()],
        };
        for entry in [Entry::Queued(Box::new(job)), Entry::Report(Box::new(report)), Entry::Run(Box::new(run))] {
            assert_eq!(serde_json::from_slice::<Entry>(&entry.line())?, entry);
        }
        Ok(())
    }

    #[test]
    fn a_line_that_is_none_is_refused_with_the_reason() {
        for (line, why) in [("{}", "first field"), (r#"{"id":1}"#, "first field"), (r#"{"is":"x"}"#, "unknown variant")]
        {
            let error = serde_json::from_str::<Entry>(line).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{line}: {error:?}");
        }
    }
}
