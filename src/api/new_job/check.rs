//! The check of a job that is asked for, field by field.
//!
//! Owns what each field may be and what it means; the first that does not hold is named. Refuses to
//! read JSON and to publish.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use spinor_consumers::broker::{RESERVED, is_reserved};
use spinor_executors::{HeaderValue, Headers, Job, Json, RetryPolicy, Timeout, Unique};

use super::{Limits, NewJob, Retry};
use crate::{
    api::{
        Problem, clip,
        unique::{self, NewUnique, Until, Wanted},
    },
    config::{self, keys},
};

/// No job waits longer.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 86_400);
/// No job waits longer in the database.
const LONGEST_WAIT: Duration = Duration::from_secs(36_500 * 86_400);
/// What one delay tier of the broker carries: a longer `delay` waits in the database, where the API publishes.
const LONGEST_TIER: Duration = Duration::from_secs(15 * 60);

/// A unique key is kept so long unless it is said otherwise.
const KEY_KEPT: Duration = Duration::from_secs(86_400);
/// No key is kept longer.
const LONGEST_KEY: Duration = LONGEST_DELAY;
/// No job counts against more limits.
const MOST_LIMITS: usize = 16;

/// A job that may be published.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The job.
    pub job: Job,
    /// Not before this long from now.
    pub delay: Option<Duration>,
    /// It waits in the database until its `due`.
    pub kept: bool,
    /// How its unique key is taken, when it has one.
    pub wanted: Option<Wanted>,
}

impl NewJob {
    /// The job, once every field holds.
    pub fn check(self, now: Timestamp) -> Result<Checked, Problem> {
        name("kind", &self.kind)?;
        let queue = self.queue.unwrap_or_else(|| "default".to_owned());
        queue_name(&queue)?;
        let mut job = Job::new(self.kind, queue, self.args.unwrap_or_else(Json::null));
        job.created = now;
        if let Some(id) = self.id {
            if id.is_nil() {
                return Err(Problem::field("id", "is the nil UUID, which names nothing"));
            }
            job.id = id;
        }
        job.expires_at = self.expires.map(|text| instant(&text, now)).transpose()?;
        job.timeout = self.timeout.map(|limits| timeout(&limits)).transpose()?;
        job.retry = self.retry.map(|retry| policy(&retry)).transpose()?;
        job.priority = priority(self.priority)?;
        job.correlation_id = short("correlation_id", self.correlation_id)?;
        job.reply_to = short("reply_to", self.reply_to)?;
        job.app_id = short("app_id", self.app_id)?;
        job.trace = short("trace", self.trace)?;
        if let Some(trace) = job.trace.as_deref().filter(|trace| !is_traceparent(trace)) {
            return Err(Problem::field("trace", format!("`{}` is no W3C traceparent", clip(trace))));
        }
        job.run = self.run;
        job.member = short("member", self.member)?;
        job.headers = headers(self.headers)?;
        let delay = self.delay.map(|text| duration("delay", &text)).transpose()?;
        if delay.is_some_and(|delay| delay > LONGEST_DELAY) {
            return Err(Problem::field("delay", "is longer than 30d; `in` and `at` go further"));
        }
        let after = delay.filter(|delay| !delay.is_zero()).and_then(|delay| SignedDuration::try_from(delay).ok());
        job.due = after.and_then(|after| now.checked_add(after).ok());
        let moment = moment(self.at.as_deref(), self.within.as_deref(), now)?;
        if moment.is_some() && delay.is_some() {
            return Err(Problem::field("delay", "stands beside `at` or `in`; keep one"));
        }
        job.due = moment.or(job.due);
        if moment.is_some() {
            check_expiry(&job)?;
        }
        let named = self.id.is_some();
        let (unique, wanted) = self.unique.map(|unique| key(unique, named)).transpose()?.unzip();
        job.unique = unique;
        job.limits = limits(self.limits)?;
        Ok(Checked { job, delay, kept: moment.is_some(), wanted })
    }
}

impl Checked {
    /// The same where the API publishes: what waits longer than a delay tier does so in the database, and its
    /// unique key is its own for as long.
    pub fn at_the_api(mut self, now: Timestamp) -> Result<Self, Problem> {
        if self.delay.is_some_and(|delay| delay > LONGEST_TIER) {
            (self.kept, self.delay) = (true, None);
            check_expiry(&self.job)?;
        }
        if let (true, Some(due), Some(wanted)) = (self.kept, self.job.due, &mut self.wanted) {
            wanted.lasting += Duration::try_from(due.duration_since(now)).unwrap_or_default();
        }
        Ok(self)
    }

    /// The same where nothing can be kept: in a run, an outbox, a trigger, a job's own publishes.
    pub fn not_kept(self) -> Result<Self, Problem> {
        if self.kept {
            let why = "and `in` are for jobs that the API or the command line publishes; `delay` goes up to 30d here";
            return Err(Problem::field("at", why));
        }
        Ok(self)
    }
}

/// The instant that `at` or `in` names.
pub fn moment(at: Option<&str>, within: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let latest = SignedDuration::try_from(LONGEST_WAIT).ok().and_then(|wait| now.checked_add(wait).ok());
    let too_late = |at: &Timestamp| latest.is_some_and(|latest| *at > latest);
    match (at, within) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Problem::field("in", "stands beside `at`; keep one")),
        (Some(text), None) => {
            let expected = "expected a moment with its offset, such as 2030-01-31T12:00:00Z, within 36500 days";
            let at = text.trim().parse::<Timestamp>().ok().filter(|at| !too_late(at));
            at.map(Some).ok_or_else(|| Problem::field("at", format!("`{}`: {expected}", clip(text))))
        }
        (None, Some(text)) => {
            let wait = duration("in", text)?;
            let at = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
            let at = at.filter(|at| !too_late(at));
            at.map(Some).ok_or_else(|| Problem::field("in", "is longer than 36500d"))
        }
    }
}

/// A job that would expire before its time never runs.
pub fn check_expiry(job: &Job) -> Result<(), Problem> {
    match (job.expires_at, job.due) {
        (Some(end), Some(due)) if end <= due => Err(Problem::field(
            "expires",
            format!("{end} is not after {due}, when the job is due: it would never run; a duration counts from now"),
        )),
        _ => Ok(()),
    }
}

/// 0 to 9.
pub fn priority(priority: Option<u8>) -> Result<Option<u8>, Problem> {
    match priority {
        Some(priority) if priority > 9 => Err(Problem::field("priority", format!("is {priority}, expected 0 to 9"))),
        priority => Ok(priority),
    }
}

fn key(new: NewUnique, named: bool) -> Result<(Unique, Wanted), Problem> {
    unique::check_key(&new.key)?;
    let lasting = new.lasting.map_or(Ok(KEY_KEPT), |text| duration("unique.for", &text))?;
    if lasting.is_zero() || lasting > LONGEST_KEY {
        return Err(Problem::field("unique.for", "expected a duration above 0, at most 30d"));
    }
    let wanted = Wanted { lasting, on_conflict: new.on_conflict, named };
    Ok((Unique { key: new.key, until_end: new.until == Until::End }, wanted))
}

fn limits(names: Vec<String>) -> Result<Vec<String>, Problem> {
    if names.len() > MOST_LIMITS {
        return Err(Problem::field("limits", format!("are {}, expected at most {MOST_LIMITS}", names.len())));
    }
    names.iter().try_for_each(|name| check_limit("limits", name))?;
    Ok(names)
}

/// The name of a limit, or `name:key`.
pub fn check_limit(field: &str, text: &str) -> Result<(), Problem> {
    let (name, key) = text.split_once(':').map_or((text, None), |(name, key)| (name, Some(key)));
    let is_key = |key: &str| !key.is_empty() && key.len() <= 100 && !key.chars().any(char::is_control);
    if keys::is_name(name) && key.is_none_or(is_key) {
        return Ok(());
    }
    let expected = "expected the name of a limit, or `name:key` with a key of at most 100 bytes";
    Err(Problem::field(field, format!("`{}`: {expected}", clip(text))))
}

/// A queue that jobs may be published to.
pub fn queue_name(queue: &str) -> Result<(), Problem> {
    name("queue", queue)?;
    if is_reserved(queue) {
        let why = format!("`{queue}` is the name of a lane; {RESERVED}, and a `priority`");
        return Err(Problem::field("queue", why));
    }
    Ok(())
}

/// A name of ours in a field.
pub fn name(field: &str, text: &str) -> Result<(), Problem> {
    if keys::is_name(text) {
        return Ok(());
    }
    Err(Problem::field(field, format!("`{}`: expected {}", clip(text), keys::Form::Name.expected())))
}

/// AMQP carries these as short strings: at most 255 bytes.
fn short(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.len() > 255 => Err(Problem::field(field, "is longer than 255 bytes")),
        Some(text) if text.contains('\0') => Err(Problem::field(field, "holds a zero byte")),
        text => Ok(text),
    }
}

fn duration(field: &str, text: &str) -> Result<Duration, Problem> {
    config::duration(text).ok_or_else(|| {
        Problem::field(
            field,
            format!("`{}` is no duration; its units are ms, s, m, h and d: \"250ms\", \"1h30m\", \"3d\"", clip(text)),
        )
    })
}

/// When a job expires: an instant, or a duration from now.
pub fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let expected = "expected an instant such as 2030-01-31T12:00:00Z, or a duration such as \"5m\"";
    config::duration(text)
        .and_then(|time| SignedDuration::try_from(time).ok())
        .and_then(|time| now.checked_add(time).ok())
        .ok_or_else(|| Problem::field("expires", format!("`{}`: {expected}", clip(text))))
}

fn timeout(limits: &Limits) -> Result<Timeout, Problem> {
    let (soft, hard) = match limits {
        Limits::Hard(hard) => (hard, hard),
        Limits::Both { soft, hard } => (soft, hard),
    };
    let (soft, hard) = (duration("timeout", soft)?, duration("timeout", hard)?);
    if hard.is_zero() || soft > hard {
        return Err(Problem::field("timeout", "`hard` must be longer than nothing, and not before `soft`"));
    }
    Ok(Timeout { soft, hard })
}

fn policy(retry: &Retry) -> Result<RetryPolicy, Problem> {
    let first = retry.first.as_deref().map_or(Ok(Duration::from_secs(10)), |text| duration("retry", text))?;
    if retry.max > 1000 {
        return Err(Problem::field("retry", format!("`max` is {}, expected at most 1000", retry.max)));
    }
    RetryPolicy::new(retry.max, first, retry.factor.unwrap_or(2.0), retry.jitter.unwrap_or(0.2))
        .map_err(|why| Problem::field("retry", why))
}

fn headers(given: BTreeMap<String, Value>) -> Result<Headers, Problem> {
    let convert = |(name, value): (String, Value)| {
        let field = format!("headers.{}", clip(&name));
        if name.is_empty() || name.len() > 255 || name.starts_with("spinor-") {
            return Err(Problem::field(field, "a header's name has 1 to 255 bytes and does not start with `spinor-`"));
        }
        let value = match value {
            Value::Null => HeaderValue::Null,
            Value::Bool(flag) => HeaderValue::Bool(flag),
            Value::String(text) => HeaderValue::Text(text),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => HeaderValue::Int(number),
                (None, Some(number)) => HeaderValue::Float(number),
                (None, None) => return Err(Problem::field(field, "is too large a number")),
            },
            _ => return Err(Problem::field(field, "expected text, a number, true or false")),
        };
        Ok((name, value))
    };
    given.into_iter().map(convert).collect()
}

/// `version-traceid-parentid-flags`, hexadecimal.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
