//! Job to message and back. Total: any message becomes a job or [`Rubbish`] with its reason.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use spinor_executors::{HeaderValue, Headers, Job, Json};
use uuid::Uuid;

use super::{MAX_BODY, Message, Properties, celery, header};

/// A message that is no job: it becomes a dead letter with this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rubbish(pub String);

/// A job out of a message, and what must still happen to it.
#[derive(Debug)]
pub struct Decoded {
    /// The job.
    pub job: Job,
    /// It had no `message_id`: it is republished once with this one before it runs.
    pub unnamed: bool,
    /// A `queued` report was sent for it.
    pub journaled: bool,
    /// It may be a copy of a message that was stored already: the claim is taken before it runs.
    pub claimed: bool,
}

/// Never kept on a copy: they double it, close the channel, or are the broker's own count.
const DROPPED: [&str; 5] = ["CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"];

/// The message of a job that may be a copy of another one: it is claimed before it runs.
pub fn encode_claimed(job: &Job, journaled: bool) -> Message {
    let mut message = encode(job, journaled);
    message.properties.headers.insert(header::CLAIM.to_owned(), HeaderValue::Bool(true));
    message
}

/// The message that carries a job: standard properties where they fit, else our headers.
pub fn encode(job: &Job, journaled: bool) -> Message {
    let mut headers = job.headers.clone();
    let mut set = |name: &str, value: HeaderValue| {
        headers.insert(name.to_owned(), value);
    };
    set(header::CREATED, HeaderValue::Int(job.created.as_microsecond()));
    set(header::ATTEMPT, HeaderValue::Int(job.attempt.into()));
    if job.replay > 0 {
        set(header::REPLAY, HeaderValue::Int(job.replay.into()));
    }
    if let Some(at) = job.expires_at {
        set(header::EXPIRES_AT, HeaderValue::Int(at.as_microsecond()));
    }
    if let Some(timeout) = &job.timeout {
        set(header::TIMEOUT, json_text(timeout));
    }
    if let Some(retry) = &job.retry {
        set(header::RETRY, json_text(retry));
    }
    if let Some(unique) = &job.unique {
        set(header::UNIQUE, json_text(unique));
    }
    if !job.limits.is_empty() {
        set(header::LIMITS, json_text(&job.limits));
    }
    if let Some(blob) = &job.args_ref {
        set(header::ARGS_REF, json_text(blob));
    }
    if let Some(run) = job.run {
        set(header::RUN, HeaderValue::Text(run.to_string()));
    }
    for (name, value) in
        [(header::MEMBER, &job.member), (header::TRACE, &job.trace), (header::EXTERNAL_ID, &job.external_id)]
    {
        if let Some(text) = value {
            set(name, HeaderValue::Text(text.clone()));
        }
    }
    for (name, is_so) in [(header::JOURNALED, journaled), (header::NEXT, job.next), (header::INPUTS, job.inputs)] {
        if is_so {
            set(name, HeaderValue::Bool(true));
        }
    }
    Message {
        properties: Properties {
            id: Some(job.id.to_string()),
            kind: Some(job.kind.clone()),
            correlation_id: job.correlation_id.clone(),
            reply_to: job.reply_to.clone(),
            priority: job.priority,
            timestamp: u64::try_from(job.created.as_second()).ok(),
            content_type: Some("application/json".to_owned()),
            app_id: job.app_id.clone(),
            expiration: None,
            headers,
        },
        // Args that lie elsewhere are not carried, even when somebody loaded them.
        body: if job.args_ref.is_some() { Json::null().bytes().clone() } else { job.args.bytes().clone() },
    }
}

/// The job in a message that came from `queue`; `default_kind` stands in for a missing `type`. Celery's own form
/// is read as well.
pub fn decode(message: &Message, queue: &str, default_kind: Option<&str>, now: Timestamp) -> Result<Decoded, Rubbish> {
    let size = message.body.len();
    if size > MAX_BODY {
        // It could not be sent again, whatever becomes of it.
        return Err(Rubbish(format!(
            "the body has {size} bytes, at most {MAX_BODY} are taken; Spinor's own clients put large args aside"
        )));
    }
    if !celery::is_own_form(&message.properties) {
        return decode_ours(message, queue, default_kind, now);
    }
    let celery::Translated { message, due } = celery::translate(message)?;
    let mut decoded = decode_ours(&message, queue, None, now)?;
    decoded.job.due = due;
    Ok(decoded)
}

fn decode_ours(message: &Message, queue: &str, default_kind: Option<&str>, now: Timestamp) -> Result<Decoded, Rubbish> {
    let properties = &message.properties;
    let kind = properties
        .kind
        .as_deref()
        .or(default_kind)
        .filter(|kind| !kind.is_empty())
        .ok_or_else(|| no_kind(&message.body))?;
    let args = if message.body.is_empty() {
        Json::null()
    } else {
        Json::new(message.body.clone()).map_err(|error| Rubbish(format!("the body is no JSON: {error}")))?
    };
    let (id, external_id) = identity(properties, queue);
    let created = match time(properties, header::CREATED)? {
        Some(created) => created,
        None => properties.timestamp.and_then(seconds).unwrap_or(now),
    };
    let job = Job {
        id,
        kind: kind.to_owned(),
        queue: queue.to_owned(),
        args,
        args_ref: json(properties, header::ARGS_REF)?,
        attempt: count(properties, header::ATTEMPT)?.unwrap_or(1).max(1),
        replay: count(properties, header::REPLAY)?.unwrap_or(0),
        created,
        due: None,
        expires_at: match time(properties, header::EXPIRES_AT)? {
            Some(at) => Some(at),
            None => expiration(properties, now)?,
        },
        timeout: json(properties, header::TIMEOUT)?,
        retry: json(properties, header::RETRY)?,
        run: match text(properties, header::RUN)? {
            Some(run) => Some(Uuid::parse_str(run).map_err(|_| refused(header::RUN, "a UUID", run))?),
            None => None,
        },
        member: text(properties, header::MEMBER)?.map(str::to_owned),
        next: properties.headers.contains_key(header::NEXT),
        inputs: properties.headers.contains_key(header::INPUTS),
        reply_to: properties.reply_to.clone().filter(|to| !to.is_empty()),
        correlation_id: properties.correlation_id.clone(),
        priority: properties.priority,
        app_id: properties.app_id.clone(),
        trace: text(properties, header::TRACE)?.map(str::to_owned),
        unique: json(properties, header::UNIQUE)?,
        limits: json(properties, header::LIMITS)?.unwrap_or_default(),
        external_id,
        headers: others(&properties.headers),
    };
    Ok(Decoded {
        job,
        unnamed: name_of(properties).is_none(),
        journaled: properties.headers.contains_key(header::JOURNALED),
        claimed: properties.headers.contains_key(header::CLAIM),
    })
}

fn no_kind(body: &[u8]) -> Rubbish {
    Rubbish(if celery::is_protocol_1(body) {
        "the message is of Celery's protocol 1, which is not read: set `task_protocol = 2`".to_owned()
    } else {
        "the message has no `type`, and its queue names no default kind".to_owned()
    })
}

/// The kind a message names, without reading the rest.
pub fn kind_of(properties: &Properties) -> Option<&str> {
    properties.kind.as_deref().or_else(|| celery::kind(properties)).filter(|kind| !kind.is_empty())
}

/// Which attempt of which job a message is of, without reading the rest; none without an id.
pub fn attempt_of(message: &Message, queue: &str) -> Option<(Uuid, u32, u32)> {
    let properties = &message.properties;
    name_of(properties)?;
    let count = |name| count(properties, name).ok();
    let (id, _) = identity(properties, queue);
    let attempt = count(header::ATTEMPT)?.or_else(|| celery::attempt(properties)).unwrap_or(1).max(1);
    Some((id, count(header::REPLAY)?.unwrap_or(0), attempt))
}

/// The run a message belongs to, without reading the rest.
pub fn run_of(message: &Message) -> Option<Uuid> {
    Uuid::parse_str(message.properties.text(header::RUN)?).ok()
}

/// A UUID stays; another id becomes UUIDv5(queue, id) and is kept; none becomes a fresh one.
pub(crate) fn identity(properties: &Properties, queue: &str) -> (Uuid, Option<String>) {
    let external = properties.text(header::EXTERNAL_ID).map(str::to_owned);
    match name_of(properties) {
        None => (Uuid::now_v7(), external),
        Some(id) => Uuid::parse_str(id).map_or_else(
            |_| {
                let space = Uuid::new_v5(&Uuid::NAMESPACE_OID, queue.as_bytes());
                (Uuid::new_v5(&space, id.as_bytes()), Some(id.to_owned()))
            },
            |id| (id, external),
        ),
    }
}

/// The id its publisher gave it.
fn name_of(properties: &Properties) -> Option<&str> {
    let celery = || celery::id(properties);
    // Celery sets no `message_id`, and what a proxy set is not what its client waits for.
    celery().or(properties.id.as_deref()).filter(|id| !id.is_empty())
}

/// Headers that are not ours and may travel on.
fn others(headers: &Headers) -> BTreeMap<String, HeaderValue> {
    headers
        .iter()
        .filter(|(name, _)| {
            let ours = name.starts_with(header::PREFIX) || name.as_str() == header::TRACE;
            let dropped = DROPPED.contains(&name.as_str())
                || name.starts_with("x-first-death-")
                || name.starts_with("x-last-death-");
            !ours && !dropped
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn expiration(properties: &Properties, now: Timestamp) -> Result<Option<Timestamp>, Rubbish> {
    let Some(text) = properties.expiration.as_deref() else {
        return Ok(None);
    };
    let millis: i64 = text.parse().map_err(|_| refused("expiration", "milliseconds", text))?;
    Ok(now.checked_add(jiff::SignedDuration::from_millis(millis)).ok())
}

fn seconds(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

fn time(properties: &Properties, name: &str) -> Result<Option<Timestamp>, Rubbish> {
    match properties.headers.get(name) {
        None => Ok(None),
        Some(HeaderValue::Int(micros)) => Timestamp::from_microsecond(*micros)
            .map(Some)
            .map_err(|_| refused(name, "microseconds since 1970", &micros.to_string())),
        Some(other) => Err(refused(name, "microseconds since 1970", &format!("{other:?}"))),
    }
}

fn count(properties: &Properties, name: &str) -> Result<Option<u32>, Rubbish> {
    match properties.headers.get(name) {
        None => Ok(None),
        Some(HeaderValue::Int(number)) => {
            u32::try_from(*number).map(Some).map_err(|_| refused(name, "a small whole number", &number.to_string()))
        }
        Some(other) => Err(refused(name, "a whole number", &format!("{other:?}"))),
    }
}

fn text<'a>(properties: &'a Properties, name: &str) -> Result<Option<&'a str>, Rubbish> {
    match properties.headers.get(name) {
        None => Ok(None),
        Some(HeaderValue::Text(text)) => Ok(Some(text)),
        Some(other) => Err(refused(name, "text", &format!("{other:?}"))),
    }
}

fn json<T: DeserializeOwned>(properties: &Properties, name: &str) -> Result<Option<T>, Rubbish> {
    let Some(text) = text(properties, name)? else {
        return Ok(None);
    };
    serde_json::from_str(text).map(Some).map_err(|error| Rubbish(format!("header `{name}`: {error}, in `{text}`")))
}

pub(super) fn json_text<T: serde::Serialize>(value: &T) -> HeaderValue {
    HeaderValue::Text(serde_json::to_string(value).unwrap_or_default())
}

pub(super) fn refused(name: &str, expected: &str, got: &str) -> Rubbish {
    let got: String = got.chars().take(80).collect();
    Rubbish(format!("`{name}`: expected {expected}, got `{got}`"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spinor_executors::{BlobRef, RetryPolicy, Sha256, Timeout, Unique};

    use super::*;

    fn full() -> Result<Job, String> {
        let mut job = Job::new("image.resize", "images", Json::new(r#"{"w":[1,2]}"#).map_err(|e| e.to_string())?);
        job.created = Timestamp::from_microsecond(1_700_000_000_123_456).map_err(|e| e.to_string())?;
        job.attempt = 3;
        job.replay = 1;
        job.expires_at = Some(job.created);
        job.timeout = Some(Timeout { soft: Duration::from_secs(3), hard: Duration::from_secs(4) });
        job.retry = Some(RetryPolicy::new(5, Duration::from_secs(10), 2.0, 0.2)?);
        job.run = Some(Uuid::now_v7());
        job.member = Some("node-1".into());
        (job.next, job.inputs) = (true, true);
        job.reply_to = Some("answers".into());
        job.correlation_id = Some("c-1".into());
        job.priority = Some(9);
        job.app_id = Some("shop".into());
        job.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
        job.unique = Some(Unique { key: "order-7".into(), until_end: true });
        job.limits = vec!["shop".into(), "tenant:blue".into()];
        job.external_id = Some("order-7".into());
        job.headers.insert("x-tenant".into(), HeaderValue::Text("blue".into()));
        job.headers.insert("x-deep".into(), HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Float(0.5)]));
        Ok(job)
    }

    #[test]
    fn every_field_survives_the_way_there_and_back() -> Result<(), Box<dyn std::error::Error>> {
        let job = full()?;
        let decoded = decode(&encode(&job, true), "images", None, Timestamp::now())?;
        assert_eq!(decoded.job, job);
        assert!(decoded.journaled && !decoded.unnamed);
        Ok(())
    }

    #[test]
    fn args_that_lie_elsewhere_are_not_carried_and_a_wrong_reference_is_rubbish() -> Result<(), Rubbish> {
        let mut job = Job::new("noop", "q", Json::new("[1]").map_err(|error| Rubbish(error.to_string()))?);
        job.created = Timestamp::from_second(1).map_err(|error| Rubbish(error.to_string()))?;
        job.args_ref = Some(BlobRef { sha256: Sha256([7; 32]), size: 3 });
        let mut message = encode(&job, false);
        assert_eq!(&message.body[..], b"null");
        assert_eq!(decode(&message, "q", None, Timestamp::now())?.job, job.carried());
        let wrong = HeaderValue::Text(r#"{"sha256": "../../etc", "size": 3}"#.into());
        message.properties.headers.insert(header::ARGS_REF.into(), wrong);
        let why = decode(&message, "q", None, Timestamp::now()).map(|_| ());
        assert!(why.is_err_and(|why| why.0.contains(header::ARGS_REF)));
        Ok(())
    }

    #[test]
    fn a_type_and_a_body_are_enough() -> Result<(), Rubbish> {
        let properties = Properties { kind: Some("noop".into()), ..Properties::default() };
        let message = Message { properties, body: "[1]".into() };
        let decoded = decode(&message, "default", None, Timestamp::now())?;
        assert!(decoded.unnamed && !decoded.journaled);
        assert_eq!((decoded.job.attempt, decoded.job.args.text()), (1, "[1]"));
        Ok(())
    }

    #[test]
    fn a_foreign_id_gets_the_same_uuid_each_time_and_is_kept() -> Result<(), Rubbish> {
        let properties = Properties { id: Some("order-7".into()), kind: Some("noop".into()), ..Properties::default() };
        let message = Message { properties, body: "{}".into() };
        let first = decode(&message, "default", None, Timestamp::now())?.job;
        let second = decode(&message, "default", None, Timestamp::now())?.job;
        let elsewhere = decode(&message, "other", None, Timestamp::now())?.job;
        assert_eq!(first.id, second.id);
        assert_ne!(first.id, elsewhere.id);
        assert_eq!(first.external_id.as_deref(), Some("order-7"));
        Ok(())
    }

    #[test]
    fn the_brokers_own_headers_are_not_kept_and_expiration_becomes_an_instant() -> Result<(), Rubbish> {
        let mut properties =
            Properties { kind: Some("noop".into()), expiration: Some("1500".into()), ..Properties::default() };
        for name in ["CC", "BCC", "x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count"] {
            properties.headers.insert(name.into(), HeaderValue::Int(1));
        }
        properties.headers.insert("mine".into(), HeaderValue::Int(1));
        let now = Timestamp::now();
        let job = decode(&Message { properties, body: "{}".into() }, "q", None, now)?.job;
        assert_eq!(job.headers.keys().collect::<Vec<_>>(), ["mine"]);
        assert_eq!(job.expires_at.map(|at| at.duration_since(now).as_millis()), Some(1500));
        assert_eq!(encode(&job, false).properties.expiration, None);
        Ok(())
    }

    #[test]
    fn rubbish_is_named_by_field() {
        let table: [(&str, HeaderValue, &str); 4] = [
            (header::ATTEMPT, HeaderValue::Text("two".into()), "spinor-attempt"),
            (header::ATTEMPT, HeaderValue::Int(-1), "spinor-attempt"),
            (header::RUN, HeaderValue::Text("x".into()), "spinor-run"),
            (header::RETRY, HeaderValue::Text("{".into()), "spinor-retry"),
        ];
        for (name, value, field) in table {
            let mut properties = Properties { kind: Some("noop".into()), ..Properties::default() };
            properties.headers.insert(name.into(), value);
            let why = decode(&Message { properties, body: "{}".into() }, "q", None, Timestamp::now()).map(|_| ());
            assert!(why.is_err_and(|why| why.0.contains(field)));
        }
        let bare = Message { properties: Properties::default(), body: "{}".into() };
        assert!(decode(&bare, "q", None, Timestamp::now()).is_err_and(|why| why.0.contains("type")));
        let torn = Message {
            properties: Properties { kind: Some("noop".into()), ..Properties::default() },
            body: vec![0xff, 0xfe, b'{'].into(),
        };
        assert!(decode(&torn, "q", None, Timestamp::now()).is_err_and(|why| why.0.contains("JSON")));
    }

    #[test]
    fn a_hundred_deep_body_is_a_job_like_any_other() {
        let body = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let properties = Properties { kind: Some("noop".into()), ..Properties::default() };
        assert!(decode(&Message { properties, body: body.into() }, "q", None, Timestamp::now()).is_ok());
    }
}
