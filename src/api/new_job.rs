//! A job as a publisher writes it.
//!
//! Owns the JSON form of `POST /jobs`: everything but the kind has a default. Refuses unknown
//! fields and wrong types by name; what the values may be is `check`'s.

mod check;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use spinor_executors::Json;
use uuid::Uuid;

use super::{NewUnique, Problem};

pub use check::Checked;
pub(super) use check::check_limit;
pub(super) use check::{check_expiry, instant, moment, name, priority, queue_name};

/// A job as it is asked for. What is absent gets its default.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NewJob {
    /// The name of what it does.
    pub kind: String,
    /// The queue; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Arguments; `null` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Json>,
    /// Its id; a fresh UUIDv7 when absent. The same id again is the same job, and one that has ended does not run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Must have started before this instant (RFC 3339), or within this duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Not before this long from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// At this instant (RFC 3339); it waits in the database until then, listed and editable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The same, this long from now.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// A duration, or `{"soft": .., "hard": ..}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Limits>,
    /// Retries of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// 0 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9))]
    pub priority: Option<u8>,
    /// The publisher's own mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The queue that gets the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The publishing program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// W3C `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The run it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// Its name within the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// A key that no other job may have meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<NewUnique>,
    /// Limits it counts against: `name`, or `name:key` for a count of its own under the same bounds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(max = 16))]
    pub limits: Vec<String>,
    /// Headers of the publisher's own: text, numbers, true or false.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub headers: BTreeMap<String, Value>,
}

/// Time limits as people write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limits {
    /// One limit for both.
    Hard(String),
    /// Both.
    Both {
        /// Asked to end.
        soft: String,
        /// Ended.
        hard: String,
    },
}

/// Retries as people write them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How many at most.
    pub max: u32,
    /// The first wait; 10 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Each wait is so many times the one before; 2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The share each wait is drawn from; 0.2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// Every field there is.
pub const FIELDS: [&str; 20] = [
    "kind",
    "queue",
    "args",
    "id",
    "expires",
    "delay",
    "at",
    "in",
    "timeout",
    "retry",
    "priority",
    "correlation_id",
    "reply_to",
    "app_id",
    "trace",
    "run",
    "member",
    "unique",
    "limits",
    "headers",
];

/// Reads one job, or a list of them. The flag tells which it was.
pub fn read(body: &[u8]) -> Result<(Vec<NewJob>, bool), Problem> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let items: Vec<&RawValue> = parse(body)?;
        if items.is_empty() {
            return Err(Problem::new(422, "A field is wrong", "the list of jobs is empty"));
        }
        let jobs = items.iter().enumerate().map(|(place, item)| {
            read_one(item.get().as_bytes()).map_err(|problem| problem.within(&format!("[{place}]")))
        });
        return Ok((jobs.collect::<Result<_, _>>()?, true));
    }
    Ok((vec![read_one(body)?], false))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(Problem::new(400, "The body is no JSON", "the body is empty; expected a job or a list of jobs"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::new(400, "The body is no JSON", error.to_string()))
}

fn read_one(body: &[u8]) -> Result<NewJob, Problem> {
    of_fields(&fields(body, "a job")?)
}

/// The fields of an object, each as its text.
pub(super) fn fields<'a>(body: &'a [u8], what: &str) -> Result<BTreeMap<String, &'a RawValue>, Problem> {
    // Well-formed first, so that "no JSON" and "no job" are told apart.
    let whole: &RawValue = parse(body)?;
    serde_json::from_str(whole.get()).map_err(|_| {
        let needed = if what == "a job" { "kind" } else { "members" };
        Problem::new(422, format!("Not {what}"), format!("expected a JSON object with at least the field `{needed}`"))
    })
}

/// A job of these fields.
pub(super) fn of_fields(fields: &BTreeMap<String, &RawValue>) -> Result<NewJob, Problem> {
    let mut job = NewJob::default();
    for (name, raw) in fields {
        set(&mut job, name, raw)?;
    }
    if !fields.contains_key("kind") {
        return Err(Problem::field("kind", "is missing; name what the job does"));
    }
    Ok(job)
}

fn set(job: &mut NewJob, name: &str, raw: &RawValue) -> Result<(), Problem> {
    match name {
        "kind" => job.kind = one(name, raw, "text")?,
        "queue" => job.queue = one(name, raw, "text")?,
        "args" => job.args = Some(one(name, raw, "JSON")?),
        "id" => job.id = one(name, raw, "a UUID")?,
        "expires" => {
            job.expires = one(name, raw, "an instant such as 2030-01-31T12:00:00Z, or a duration such as \"5m\"")?;
        }
        "delay" => job.delay = one(name, raw, "a duration such as \"5m\"")?,
        "at" => job.at = one(name, raw, "an instant such as 2030-01-31T12:00:00Z")?,
        "in" => job.within = one(name, raw, "a duration such as \"3d\"")?,
        "timeout" => {
            job.timeout = one(name, raw, "a duration such as \"5m\", or {\"soft\": \"4m\", \"hard\": \"5m\"}")?;
        }
        "retry" => job.retry = one(name, raw, "{\"max\": 5, \"first\": \"10s\", \"factor\": 2.0, \"jitter\": 0.2}")?,
        "priority" => job.priority = one(name, raw, "a whole number from 0 to 9")?,
        "correlation_id" => job.correlation_id = one(name, raw, "text")?,
        "reply_to" => job.reply_to = one(name, raw, "text")?,
        "app_id" => job.app_id = one(name, raw, "text")?,
        "trace" => job.trace = one(name, raw, "a W3C traceparent")?,
        "run" => job.run = one(name, raw, "a UUID")?,
        "member" => job.member = one(name, raw, "text")?,
        "unique" => {
            job.unique = one(
                name,
                raw,
                "{\"key\": \"order-7\", \"for\": \"1h\", \"until\": \"end\", \"on_conflict\": \"reject\"}",
            )?;
        }
        "limits" => job.limits = one(name, raw, "a list of names such as [\"mail\", \"tenant:blue\"]")?,
        "headers" => job.headers = one(name, raw, "an object of text, numbers, true and false")?,
        other => {
            let known = FIELDS.iter().map(|name| (*name).to_owned()).collect();
            let problem = Problem::field(super::clip(other), "is no field of a job");
            return Err(Problem { known, ..problem });
        }
    }
    Ok(())
}

/// The value of one field.
pub(super) fn one<'a, T: Deserialize<'a>>(name: &str, raw: &'a RawValue, expected: &str) -> Result<T, Problem> {
    serde_json::from_str(raw.get()).map_err(|error| {
        // serde's own words end with a place that means nothing to the sender of a single field.
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        Problem::field(name, format!("expected {expected}: {why}"))
    })
}

impl NewJob {
    /// A job of a kind, everything else by default.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{NewJob, read};

    fn check(body: &str) -> Result<super::Checked, super::Problem> {
        let (mut jobs, _) = read(body.as_bytes())?;
        jobs.pop().ok_or_else(|| super::Problem::not_found("no job"))?.check(Timestamp::now())
    }

    #[test]
    fn every_wrong_field_is_named() {
        let table = [
            (r#"{"kind":1}"#, "kind"),
            (r#"{"args":{}}"#, "kind"),
            (r#"{"kind":""}"#, "kind"),
            (r#"{"kind":"a b"}"#, "kind"),
            (r#"{"kind":".."}"#, "kind"),
            (r#"{"kind":"noop","queue":"a/b"}"#, "queue"),
            (r#"{"kind":"noop","queue":"images.high"}"#, "queue"),
            (r#"{"kind":"noop","id":"x"}"#, "id"),
            (r#"{"kind":"noop","id":"00000000-0000-0000-0000-000000000000"}"#, "id"),
            (r#"{"kind":"noop","expires":"soon"}"#, "expires"),
            (r#"{"kind":"noop","delay":"60"}"#, "delay"),
            (r#"{"kind":"noop","delay":"31d"}"#, "delay"),
            (r#"{"kind":"noop","at":"tomorrow"}"#, "at"),
            (r#"{"kind":"noop","at":"2200-01-01T00:00:00Z"}"#, "at"),
            (r#"{"kind":"noop","at":"2030-01-01T00:00:00Z","in":"3d"}"#, "in"),
            (r#"{"kind":"noop","in":"3d","delay":"3d"}"#, "delay"),
            (r#"{"kind":"noop","in":"3 days"}"#, "in"),
            (r#"{"kind":"noop","in":"36501d"}"#, "in"),
            (r#"{"kind":"noop","in":"3d","expires":"2d"}"#, "expires"),
            (r#"{"kind":"noop","timeout":{"soft":"5m"}}"#, "timeout"),
            (r#"{"kind":"noop","timeout":{"soft":"5m","hard":"4m"}}"#, "timeout"),
            (r#"{"kind":"noop","retry":{"max":1,"frist":"1s"}}"#, "retry"),
            (r#"{"kind":"noop","retry":{"max":1,"factor":0.5}}"#, "retry"),
            (r#"{"kind":"noop","priority":10}"#, "priority"),
            (r#"{"kind":"noop","trace":"x"}"#, "trace"),
            (r#"{"kind":"noop","headers":{"spinor-run":"x"}}"#, "headers.spinor-run"),
            (r#"{"kind":"noop","headers":{"a":[1]}}"#, "headers.a"),
            (r#"{"kind":"noop","unique":"x"}"#, "unique"),
            (r#"{"kind":"noop","unique":{"key":""}}"#, "unique.key"),
            (r#"{"kind":"noop","unique":{"key":"a\u0007"}}"#, "unique.key"),
            (r#"{"kind":"noop","unique":{"key":"a","for":"31d"}}"#, "unique.for"),
            (r#"{"kind":"noop","unique":{"key":"a","for":"0s"}}"#, "unique.for"),
            (r#"{"kind":"noop","unique":{"key":"a","until":"later"}}"#, "unique"),
            (r#"{"kind":"noop","unique":{"key":"a","on_conflict":"ask"}}"#, "unique"),
            (r#"{"kind":"noop","limits":"mail"}"#, "limits"),
            (r#"{"kind":"noop","limits":["ma il"]}"#, "limits"),
            (r#"{"kind":"noop","limits":["mail:"]}"#, "limits"),
            (r#"{"kind":"noop","knid":1}"#, "knid"),
            (r#"[{"kind":"noop"},{"kind":"noop","queue":7}]"#, "[1].queue"),
        ];
        for (body, field) in table {
            let problem = check(body).map(|_| ()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{body}: {problem}");
            assert_eq!(problem.status, 422, "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_what_is_no_job() {
        for (body, status) in [("", 400), ("{", 400), ("\u{1}rubbish", 400), ("7", 422), ("\"noop\"", 422), ("[]", 422)]
        {
            assert_eq!(check(body).map(|_| ()).unwrap_err().status, status, "{body}");
        }
        assert_eq!(read(&[0xff, 0xfe]).map(|_| ()).unwrap_err().status, 400);
    }

    #[test]
    fn args_are_kept_byte_for_byte_however_deep() {
        let args = format!("{}1e2{}", "[ ".repeat(100), " ]".repeat(100));
        let checked = check(&format!(r#"{{"kind":"noop","args":{args}}}"#)).unwrap();
        assert_eq!(checked.job.args.text(), args);
        assert_eq!(checked.job.queue, "default");
    }

    #[test]
    fn what_a_client_writes_is_what_the_server_reads() {
        let mut job = NewJob::new("noop");
        job.expires = Some("5m".to_owned());
        job.timeout = Some(super::Limits::Hard("3s".to_owned()));
        job.retry = Some(super::Retry { max: 2, ..Default::default() });
        job.unique = Some(super::NewUnique { lasting: Some("1h".to_owned()), ..super::NewUnique::new("order 7/ä") });
        job.limits = vec!["mail".to_owned(), "tenant:blue green".to_owned()];
        let text = serde_json::to_string(&job).unwrap();
        let checked = check(&text).unwrap();
        assert_eq!(checked.job.timeout.map(|t| t.hard.as_secs()), Some(3));
        assert!(checked.job.expires_at > Some(checked.job.created));
        assert_eq!(checked.job.retry.map(|r| r.max()), Some(2));
        assert_eq!(
            checked.job.unique.map(|unique| (unique.key, unique.until_end)),
            Some(("order 7/ä".to_owned(), true))
        );
        assert_eq!(checked.wanted.map(|wanted| (wanted.lasting.as_secs(), wanted.named)), Some((3600, false)));
        assert_eq!(checked.job.limits, ["mail", "tenant:blue green"]);
    }
}
