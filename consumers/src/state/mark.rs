//! Marks: durable facts that every consumer obeys, with who set them, when and why.
//!
//! Owns what a mark is about and how that is written as text, which is stable: it is stored, and
//! commands and pages show it. Refuses to know what a value means: that belongs to who obeys it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a mark is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// This job shall not run, or shall end.
    Cancel(Uuid),
    /// The same for every job of a run.
    CancelRun(Uuid),
    /// No jobs are taken from this queue.
    Pause(String),
    /// This consumer takes no more jobs and ends.
    Drain(String),
    /// How many jobs this group or consumer runs at once.
    Slots(String),
    /// How many consumers this group shall have.
    Replicas(String),
    /// What the limit of this name is.
    Limit(String),
    /// What programs that serve this kind said of it, all of those that told the same schema.
    Served {
        /// The kind.
        kind: String,
        /// Stands for the schema.
        form: Uuid,
    },
}

/// The word before the colon of a [`Subject`]'s text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Of one job.
    Cancel,
    /// Of a run.
    CancelRun,
    /// Of a queue.
    Pause,
    /// Of a consumer.
    Drain,
    /// Of a group or consumer.
    Slots,
    /// Of a group.
    Replicas,
    /// Of a limit.
    Limit,
    /// Of a kind.
    Served,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Cancel,
        Self::CancelRun,
        Self::Pause,
        Self::Drain,
        Self::Slots,
        Self::Replicas,
        Self::Limit,
        Self::Served,
    ];

    /// As it is stored.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::CancelRun => "cancel-run",
            Self::Pause => "pause",
            Self::Drain => "drain",
            Self::Slots => "slots",
            Self::Replicas => "replicas",
            Self::Limit => "limit",
            Self::Served => "served",
        }
    }
}

impl Subject {
    /// Which of them it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Cancel(_) => Kind::Cancel,
            Self::CancelRun(_) => Kind::CancelRun,
            Self::Pause(_) => Kind::Pause,
            Self::Drain(_) => Kind::Drain,
            Self::Slots(_) => Kind::Slots,
            Self::Replicas(_) => Kind::Replicas,
            Self::Limit(_) => Kind::Limit,
            Self::Served { .. } => Kind::Served,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.kind().word();
        match self {
            Self::Cancel(id) | Self::CancelRun(id) => write!(to, "{word}:{id}"),
            Self::Pause(name) | Self::Drain(name) | Self::Slots(name) | Self::Replicas(name) | Self::Limit(name) => {
                write!(to, "{word}:{name}")
            }
            Self::Served { kind, form } => write!(to, "{word}:{form}:{kind}"),
        }
    }
}

/// The text is that of no subject this program knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mark's subject; expected one such as `pause:QUEUE`")]
pub struct NoSubject(String);

impl FromStr for Subject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        let wrong = || NoSubject(text.to_owned());
        let (word, name) = text.split_once(':').ok_or_else(wrong)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(wrong)?;
        let id = || name.parse::<Uuid>().map_err(|_| wrong());
        Ok(match kind {
            Kind::Cancel => Self::Cancel(id()?),
            Kind::CancelRun => Self::CancelRun(id()?),
            Kind::Pause => Self::Pause(name.to_owned()),
            Kind::Drain => Self::Drain(name.to_owned()),
            Kind::Slots => Self::Slots(name.to_owned()),
            Kind::Replicas => Self::Replicas(name.to_owned()),
            Kind::Limit => Self::Limit(name.to_owned()),
            Kind::Served => {
                let (form, kind) = name.split_once(':').ok_or_else(wrong)?;
                Self::Served { kind: kind.to_owned(), form: form.parse().map_err(|_| wrong())? }
            }
        })
    }
}

/// A durable fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it is about.
    pub subject: Subject,
    /// What is said; `None` when the mark was cleared.
    pub value: Option<serde_json::Value>,
    /// Who said so last.
    pub by: String,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Why, in that person's words.
    pub why: Option<String>,
    /// Its place among all changes of marks.
    pub version: u64,
}

/// Who wanted something, when and why: what people are shown of a [`Mark`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wish {
    /// Who.
    pub by: String,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Why, in that person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<Mark> for Wish {
    fn from(mark: Mark) -> Self {
        Self { by: mark.by, at: mark.at, why: mark.why }
    }
}

/// `by ann at 2030-01-31 12:00:00Z (the disk is full)`.
impl fmt::Display for Wish {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "by {} at {}", self.by, self.at.strftime("%Y-%m-%d %H:%M:%SZ"))?;
        self.why.as_ref().map_or(Ok(()), |why| write!(to, " ({why})"))
    }
}

/// What happened to the marks.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// Ask for what comes after this next time.
    pub version: u64,
    /// Are these all marks that hold, to be put in place of what was known? Otherwise they are what
    /// changed, cleared ones included.
    pub whole: bool,
    /// The marks, by version.
    pub marks: Vec<Mark>,
}

/// What a store keeps of a mark as text, beside its version and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Body {
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Body {
    /// Of a mark that is set, or cleared without a value.
    pub fn text(subject: &Subject, value: Option<serde_json::Value>, by: &str, why: Option<&str>) -> String {
        let body = Self { subject: subject.to_string(), value, by: by.to_owned(), why: why.map(str::to_owned) };
        // Text and JSON values always have a JSON form.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The mark; `None` when a newer program wrote it about something unknown here.
    pub fn mark(text: &str, cleared: bool, at: Timestamp, version: u64) -> Option<Mark> {
        let body: Self = serde_json::from_str(text).ok()?;
        let subject = body.subject.parse().ok()?;
        let value = if cleared { None } else { Some(body.value.unwrap_or(serde_json::Value::Null)) };
        Some(Mark { subject, value, by: body.by, at, why: body.why, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_the_same_after_its_text() {
        let id = Uuid::now_v7();
        for subject in [
            Subject::Cancel(id),
            Subject::CancelRun(id),
            Subject::Pause("images".into()),
            Subject::Drain("h:1:2".into()),
            Subject::Slots("g".into()),
            Subject::Replicas("g".into()),
            Subject::Limit("a:b c".into()),
            Subject::Served { kind: "image.resize:x".into(), form: id },
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        for text in ["", "pause", "cancel:x", "stop:x", "served:image.resize"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        assert_eq!(Subject::CancelRun(Uuid::nil()).to_string(), "cancel-run:00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn a_wish_is_told_with_who_when_and_why() {
        let wish = Wish { by: "ann".into(), at: Timestamp::UNIX_EPOCH, why: Some("the disk is full".into()) };
        assert_eq!(wish.to_string(), "by ann at 1970-01-01 00:00:00Z (the disk is full)");
        assert_eq!(Wish { why: None, ..wish }.to_string(), "by ann at 1970-01-01 00:00:00Z");
    }

    #[test]
    fn a_mark_of_a_newer_program_is_passed_over() {
        let text = r#"{"subject":"later:x","value":1,"by":"me"}"#;
        assert_eq!(Body::mark(text, false, Timestamp::UNIX_EPOCH, 1), None);
    }
}
