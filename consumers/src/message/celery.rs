//! A message of Celery's protocol 2, read as a job's message of ours: what it means, and what of it is refused.
//!
//! Owns the names of its fields. Nothing of a message is left out silently: what is not honoured here is refused
//! with its name. Refuses to know how a job of Celery's is answered: `consumer/celery` does.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use spinor_executors::{HeaderValue, Headers, Timeout};

use super::{
    Message, Properties, Rubbish, header,
    wire::{json_text, refused},
};

/// The task's name: the kind.
const TASK: &str = "task";
/// The task's id.
const ID: &str = "id";
/// Headers whose meaning is carried otherwise, or that mean nothing to us.
const READ: [&str; 10] = [
    "lang",
    "argsrepr",
    "kwargsrepr",
    "eta",
    "expires",
    "timelimit",
    "retries",
    "ignore_result",
    "replaced_task_nesting",
    "shadow",
];
/// The only content type that is read.
const JSON: &str = "application/json";
/// No time limit is longer: about thirty years, in seconds.
const LONGEST: f64 = 1e9;

/// A message as ours would be, and when it is due.
pub struct Translated {
    /// With kind, id, args and our headers.
    pub message: Message,
    /// Not to run before.
    pub due: Option<Timestamp>,
}

/// Is it Celery's own form? A copy of ours names its `type`.
pub fn is_own_form(properties: &Properties) -> bool {
    let has = |name| properties.headers.contains_key(name);
    properties.kind.is_none() && has(TASK) && (has(ID) || has("lang"))
}

/// The task's name in Celery's own form.
pub fn kind(properties: &Properties) -> Option<&str> {
    is_own_form(properties).then(|| properties.text(TASK)).flatten()
}

/// The task's id in Celery's own form.
pub fn id(properties: &Properties) -> Option<&str> {
    is_own_form(properties).then(|| properties.text(ID)).flatten()
}

/// The attempt in Celery's own form: its `retries` count from 0.
pub fn attempt(properties: &Properties) -> Option<u32> {
    let retries = is_own_form(properties).then(|| properties.int("retries")).flatten()?;
    u32::try_from(retries).ok()?.checked_add(1)
}

/// The id a Celery client waits for, by the headers that every copy of its job keeps.
pub fn task_id(headers: &Headers) -> Option<&str> {
    match (headers.get(TASK), headers.get(ID)) {
        (Some(HeaderValue::Text(_)), Some(HeaderValue::Text(id))) => Some(id),
        _ => None,
    }
}

/// Does a message of Celery's own form want no answer?
pub fn ignores_result(properties: &Properties) -> bool {
    is_own_form(properties) && matches!(properties.headers.get("ignore_result"), Some(HeaderValue::Bool(true)))
}

/// Is this body one of Celery's protocol 1, which has all of a task in the body?
pub fn is_protocol_1(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "that they are there is all")]
    struct First {
        task: String,
        id: String,
        args: IgnoredAny,
        kwargs: IgnoredAny,
    }
    serde_json::from_slice::<First>(body).is_ok()
}

/// Reads Celery's own form.
pub fn translate(message: &Message) -> Result<Translated, Rubbish> {
    let from = &message.properties;
    let task = text(from, TASK)?.filter(|task| !task.is_empty()).ok_or_else(|| missing(TASK))?;
    let id = text(from, ID)?.filter(|id| !id.is_empty()).ok_or_else(|| missing(ID))?;
    plain_json(from)?;
    let args = args(&message.body)?;
    let retries = retries(from)?;
    let mut headers = kept(&from.headers);
    let mut unless_ours = |name: &str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.entry(name.to_owned()).or_insert(value);
        }
    };
    unless_ours(header::ATTEMPT, Some(HeaderValue::Int(retries + 1)));
    unless_ours(header::EXPIRES_AT, time(from, "expires")?.map(|at| HeaderValue::Int(at.as_microsecond())));
    unless_ours(header::TIMEOUT, time_limit(from)?.map(|limit| json_text(&limit)));
    let properties = Properties {
        id: Some(id.to_owned()),
        kind: Some(task.to_owned()),
        reply_to: from.reply_to.clone().filter(|_| !ignores_result(from)),
        headers,
        ..from.clone()
    };
    Ok(Translated { message: Message { properties, body: args.into() }, due: time(from, "eta")? })
}

/// Only JSON that is not compressed is read.
fn plain_json(from: &Properties) -> Result<(), Rubbish> {
    if let Some(other) = from.content_type.as_deref().filter(|one| !one.eq_ignore_ascii_case(JSON)) {
        return Err(Rubbish(format!("`content_type`: of Celery's serializers only `{JSON}` is read, not `{other}`")));
    }
    match from.headers.get("compression") {
        None | Some(HeaderValue::Null) => Ok(()),
        Some(HeaderValue::Text(how)) => Err(Rubbish(format!("`compression`: a compressed body is not read (`{how}`)"))),
        Some(other) => Err(refused("compression", "nothing", &format!("{other:?}"))),
    }
}

/// `[args, kwargs, embed]` as our args: the kwargs, or `{"args": [..], "kwargs": {..}}` when there are positional
/// ones, or when the kwargs alone would be taken for that.
fn args(body: &[u8]) -> Result<String, Rubbish> {
    let wrong = |error| Rubbish(format!("the body is no `[args, kwargs, embed]` of Celery's: {error}"));
    let parts: Vec<&RawValue> = serde_json::from_slice(body).map_err(wrong)?;
    let [args, kwargs, embed] = parts.as_slice() else {
        return Err(Rubbish(format!(
            "the body is no `[args, kwargs, embed]` of Celery's: it has {} elements",
            parts.len()
        )));
    };
    let no = |name: &str, expected: &str| {
        let expected = expected.to_owned();
        let name = name.to_owned();
        move |_| Rubbish(format!("the body's `{name}` is no {expected}"))
    };
    let positional: Vec<IgnoredAny> = serde_json::from_str(args.get()).map_err(no("args", "list"))?;
    let named: HashMap<String, IgnoredAny> = serde_json::from_str(kwargs.get()).map_err(no("kwargs", "object"))?;
    let embed: Option<BTreeMap<String, &RawValue>> =
        serde_json::from_str(embed.get()).map_err(no("embed", "object"))?;
    nothing_follows(&embed.unwrap_or_default())?;
    let like_a_call = named.len() == 2 && named.contains_key("args") && named.contains_key("kwargs");
    Ok(if positional.is_empty() && !like_a_call {
        kwargs.get().to_owned()
    } else {
        format!(r#"{{"args":{},"kwargs":{}}}"#, args.get(), kwargs.get())
    })
}

/// What Celery's worker would do after the task is not done here, so a task that asks for it is refused.
fn nothing_follows(embed: &BTreeMap<String, &RawValue>) -> Result<(), Rubbish> {
    for (name, value) in embed {
        let value: String = value.get().split_ascii_whitespace().collect();
        if ["null", "[]", "{}", "false"].contains(&value.as_str()) {
            continue;
        }
        let what = match name.as_str() {
            "callbacks" => "callbacks (`link`) are",
            "errbacks" => "errbacks (`link_error`) are",
            "chain" => "a chain is",
            "chord" => "a chord is",
            other => return Err(Rubbish(format!("the body's `embed.{other}` is not known here"))),
        };
        return Err(Rubbish(format!("{what} not honoured: the body's `embed.{name}` names tasks that are to follow")));
    }
    Ok(())
}

/// Headers that travel on.
fn kept(headers: &Headers) -> Headers {
    let empty = |value: &HeaderValue| match value {
        HeaderValue::Null => true,
        HeaderValue::List(list) => list.is_empty(),
        HeaderValue::Table(table) => table.is_empty(),
        _ => false,
    };
    let kept = headers.iter().filter(|(name, value)| !READ.contains(&name.as_str()) && !empty(value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn missing(name: &str) -> Rubbish {
    Rubbish(format!("`{name}`: a message of Celery's must have it"))
}

fn text<'a>(from: &'a Properties, name: &str) -> Result<Option<&'a str>, Rubbish> {
    match from.headers.get(name) {
        None | Some(HeaderValue::Null) => Ok(None),
        Some(HeaderValue::Text(text)) => Ok(Some(text)),
        Some(other) => Err(refused(name, "text", &format!("{other:?}"))),
    }
}

/// ISO 8601; without a zone it is UTC.
fn time(from: &Properties, name: &str) -> Result<Option<Timestamp>, Rubbish> {
    let Some(text) = text(from, name)? else { return Ok(None) };
    let with_zone = text.parse::<Timestamp>().ok();
    let without = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    with_zone.or_else(without).map(Some).ok_or_else(|| refused(name, "a time in ISO 8601", text))
}

fn retries(from: &Properties) -> Result<i64, Rubbish> {
    match from.headers.get("retries") {
        None | Some(HeaderValue::Null) => Ok(0),
        Some(HeaderValue::Int(number)) if (0..i64::from(u32::MAX)).contains(number) => Ok(*number),
        Some(other) => Err(refused("retries", "a small whole number", &format!("{other:?}"))),
    }
}

/// `[hard, soft]` in seconds. One alone counts as both: the job is asked to end then, and ended soon after.
fn time_limit(from: &Properties) -> Result<Option<Timeout>, Rubbish> {
    let wrong = || {
        let got = from.headers.get("timelimit");
        refused("timelimit", "a list of two numbers of seconds", &format!("{got:?}"))
    };
    let list = match from.headers.get("timelimit") {
        None | Some(HeaderValue::Null) => return Ok(None),
        Some(HeaderValue::List(list)) => list,
        Some(_) => return Err(wrong()),
    };
    let [hard, soft] = list.as_slice() else { return Err(wrong()) };
    let hard = seconds(hard).ok_or_else(wrong)?;
    let soft = seconds(soft).ok_or_else(wrong)?;
    Ok(hard.or(soft).map(|hard| Timeout { soft: soft.unwrap_or(hard).min(hard), hard }))
}

/// Zero means none, as with Celery; the outer `None`: it is no time.
fn seconds(value: &HeaderValue) -> Option<Option<Duration>> {
    let seconds = match value {
        HeaderValue::Null => return Some(None),
        HeaderValue::Int(seconds) => *seconds as f64,
        HeaderValue::Float(seconds) => *seconds,
        _ => return None,
    };
    (0.0..=LONGEST).contains(&seconds).then(|| Some(Duration::from_secs_f64(seconds)).filter(|one| !one.is_zero()))
}

#[cfg(test)]
mod tests;
