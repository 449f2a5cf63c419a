//! A job: what is to be done, and everything that travels with it.
//!
//! Owns the field list of a job. Refuses to know how it is carried: the wire
//! form lives in `spinor-consumers`.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{BlobRef, RetryPolicy};

/// One job, addressed to a queue, at one attempt of its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// UUIDv7 for ours; UUIDv5 of queue and `external_id` for a foreign id that is no UUID.
    pub id: Uuid,
    /// The name of what it does.
    pub kind: String,
    /// The work queue's short name, without prefix.
    pub queue: String,
    /// Arguments: JSON text, unread until an executor reads it.
    pub args: Json,
    /// Where they lie when they are large: then `args` is `null` until somebody loads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_ref: Option<BlobRef>,
    /// Counted from 1 within one replay.
    pub attempt: u32,
    /// 0, and one more each time a person starts the ended job anew.
    #[serde(default)]
    pub replay: u32,
    /// When it was first seen; set once and carried on every copy.
    pub created: Timestamp,
    /// Not before this instant, when its publisher asked for a delay; told to the record, not carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Must have started before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Its own time limits, over those of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Its own retry policy, over that of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// Its name within the run (for a plan: the node).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Something waits for its end, which is told to the part `trigger`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub next: bool,
    /// Its args are an envelope, and values that lie elsewhere are put into them before it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inputs: bool,
    /// Queue that gets the report as an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The publisher's own mark, echoed in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// 0 to 9; 4 when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The publishing program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The unique key it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// Limits it counts against, beside those of its kind: `name`, or `name:key` for a count of its own under
    /// the same bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// The id a foreign publisher gave, when it was no UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Headers that are not ours, kept on every copy.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
}

impl Job {
    /// A first attempt with a fresh id and no limits of its own.
    pub fn new(kind: impl Into<String>, queue: impl Into<String>, args: Json) -> Self {
        Self {
            id: Uuid::now_v7(),
            kind: kind.into(),
            queue: queue.into(),
            args,
            args_ref: None,
            attempt: 1,
            replay: 0,
            created: Timestamp::now(),
            due: None,
            expires_at: None,
            timeout: None,
            retry: None,
            run: None,
            member: None,
            next: false,
            inputs: false,
            reply_to: None,
            correlation_id: None,
            priority: None,
            app_id: None,
            trace: None,
            unique: None,
            limits: Vec::new(),
            external_id: None,
            headers: Headers::new(),
        }
    }

    /// The job as it is carried and recorded: without args that lie elsewhere.
    #[must_use]
    pub fn carried(&self) -> Self {
        let mut job = self.clone();
        if job.args_ref.is_some() {
            job.args = Json::null();
        }
        job
    }
}

/// A key that no second job may have while this one has it. Who publishes takes it; who ends the job
/// gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// The key, across all queues and kinds.
    pub key: String,
    /// Is it given back at the job's end? Otherwise it is kept until its time.
    pub until_end: bool,
}

/// How long one execution may take: asked to stop at `soft`, ended at `hard`. Milliseconds on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// SIGTERM, or the context's cancellation.
    #[serde(rename = "soft_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub soft: Duration,
    /// SIGKILL of the whole process tree.
    #[serde(rename = "hard_ms", with = "millis")]
    #[schemars(with = "u64")]
    pub hard: Duration,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// Headers by name; the order is the name's.
pub type Headers = BTreeMap<String, HeaderValue>;

/// A header's value, as wide as what brokers carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// Any whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes that are no UTF-8 text.
    Bytes(Bytes),
    /// Seconds since 1970.
    Time(u64),
    /// A list.
    List(Vec<HeaderValue>),
    /// A nested table.
    Table(BTreeMap<String, HeaderValue>),
}

/// As people read it: text as it is, the others as JSON would have them.
impl fmt::Display for HeaderValue {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => to.write_str("null"),
            Self::Bool(value) => value.fmt(to),
            Self::Int(value) => value.fmt(to),
            Self::Float(value) => value.fmt(to),
            Self::Text(text) => to.write_str(text),
            Self::Bytes(bytes) => bytes.escape_ascii().fmt(to),
            Self::Time(seconds) => match i64::try_from(*seconds).map(Timestamp::from_second) {
                Ok(Ok(at)) => at.fmt(to),
                _ => seconds.fmt(to),
            },
            Self::List(values) => {
                to.write_str("[")?;
                for (place, value) in values.iter().enumerate() {
                    if place > 0 {
                        to.write_str(", ")?;
                    }
                    value.fmt(to)?;
                }
                to.write_str("]")
            }
            Self::Table(values) => {
                to.write_str("{")?;
                for (place, (name, value)) in values.iter().enumerate() {
                    if place > 0 {
                        to.write_str(", ")?;
                    }
                    write!(to, "{name}: {value}")?;
                }
                to.write_str("}")
            }
        }
    }
}

/// JSON text that was checked to be JSON and is otherwise left as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// Takes bytes that are one JSON value; the error names the place.
    pub fn new(text: impl Into<Bytes>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_slice::<&RawValue>(&text)?;
        Ok(Self(text))
    }

    /// Serialises a value; fails only for maps whose keys are no text.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// `null`.
    pub const fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// `{}`.
    pub const fn empty() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// The text.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The text as a string slice.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// Reads it as `T`; the error names the field and the place.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(&self.0);
        // Nothing can follow the value: that was seen when this was built.
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            // The path of the whole is a dot.
            let path = error.path().to_string();
            let field = if path == "." { "`args`".to_owned() } else { format!("`{path}`") };
            let why = error.into_inner();
            let text = why.to_string();
            // What is unknown or missing is named already.
            if text.contains(&field) || text.starts_with("unknown field") || text.starts_with("missing field") {
                return why;
            }
            serde_json::Error::custom(format!("{field}: {why}"))
        })
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.text())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Checked when built, so this parse cannot fail; `RawValue` needs it to splice the text.
        serde_json::from_slice::<&RawValue>(&self.0).map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

impl JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from).map_err(D::Error::custom)?;
        Ok(Self(Bytes::from(String::from(Box::<str>::from(raw)))))
    }
}

#[cfg(test)]
mod tests {
    use super::HeaderValue as Value;

    #[test]
    fn a_headers_value_is_shown_as_people_write_it() {
        let table = Value::Table([("a".to_owned(), Value::Text("b c".to_owned()))].into());
        let list = Value::List(vec![Value::Int(-1), Value::Bool(true), Value::Null, table]);
        assert_eq!(list.to_string(), "[-1, true, null, {a: b c}]");
        let shown = [Value::Text("plain".to_owned()), Value::Bytes(b"\xff\n".as_slice().into()), Value::Time(0)];
        assert_eq!(shown.map(|value| value.to_string()), ["plain", "\\xff\\n", "1970-01-01T00:00:00Z"]);
    }
}
