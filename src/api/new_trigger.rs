//! A trigger as people write it: in the configuration, over the API, on the command line.
//!
//! Owns its form, and what each field may be; the first that does not hold is named. Refuses to know where
//! it is stored.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    message::MAX_BODY,
    next::MOST_MEMBERS,
    schedule::{Misfire, Overlap, Spec, Timing},
    trigger,
};
use spinor_executors::{Job, Json};
use uuid::Uuid;

use super::{Problem, Schemas, clip, new_job, new_source::NewItems};
use crate::config;

/// What a job that is fired cannot say of itself: its trigger does.
const NOT_ITS_OWN: [(&str, &str); 5] = [
    ("id", "it follows from the trigger and the instant"),
    ("delay", "the schedule says when; `jitter` puts it off"),
    ("unique", "`overlap` says what happens while another runs"),
    ("run", "it belongs to its trigger"),
    ("member", "it belongs to its trigger"),
];

/// From where an interval counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CountsFrom {
    /// From 1970: at each multiple of it.
    #[serde(rename = "1970")]
    Epoch,
    /// From the end of the job before.
    #[serde(rename = "last-end")]
    LastEnd,
}

/// A trigger as it is asked for. One of `cron`, `every` and `at`, and a `job`; the rest has defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewTrigger {
    /// Its name; in the place of an edited one it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A cron expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The time zone of the cron expression and of `blackout`; `UTC` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// An interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// From where the interval counts; `1970` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<CountsFrom>,
    /// One moment (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What is fired, as it is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Json>,
    /// A job for each item of this list; in the file also for each that a source tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<Json>,
    /// What is done about missed instants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misfire: Option<Misfire>,
    /// What is done while an earlier job runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// Nothing before this (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Nothing after this (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Windows in which nothing fires.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blackout: Vec<String>,
    /// Each instant is put off by up to so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// It ends after so many jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// It begins paused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// And why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl NewTrigger {
    /// What there is a job for.
    pub fn items(&self) -> Result<NewItems, Problem> {
        self.each.as_ref().map_or_else(|| Ok(NewItems::List(Vec::new())), NewItems::read)
    }

    /// The trigger, once every field holds.
    pub fn check(&self) -> Result<Spec, Problem> {
        let job = self.job.as_ref().ok_or_else(|| {
            Problem::field("job", "is missing; say what is fired, such as {\"kind\": \"image.sweep\"}")
        })?;
        let (each, source) = match self.items()? {
            NewItems::List(items) => (items, None),
            NewItems::Asked(source) => (Vec::new(), Some(source)),
        };
        let some = source.is_some() || !each.is_empty();
        let (job, expires_ms) = job_of(job, some).map_err(|problem| problem.within("job"))?;
        let asks = source.map(|source| source.check(&job)).transpose()?;
        if each.len() > MOST_MEMBERS {
            return Err(Problem::field("each", format!("has {} items, at most {MOST_MEMBERS}", each.len())));
        }
        let items: usize = each.iter().map(|item| item.bytes().len() + job.args.bytes().len()).sum();
        if items > MAX_BODY {
            let why = format!("has items that make args of about {items} bytes together, at most {MAX_BODY}");
            return Err(Problem::field("each", why));
        }
        let jitter = self.jitter.as_deref().map_or(Ok(Duration::ZERO), |text| duration("jitter", text))?;
        let spec = Spec {
            timing: self.timing()?,
            start: moment("start", self.start.as_deref())?,
            end: moment("end", self.end.as_deref())?,
            blackout: self.blackout.clone(),
            zone: self.zone.clone().filter(|_| self.cron.is_none()),
            jitter_ms: millis(jitter),
            max_runs: self.max_runs,
            misfire: self.misfire.unwrap_or_default(),
            overlap: self.overlap.unwrap_or_default(),
            paused: self.paused,
            job,
            each,
            asks,
            expires_ms,
            asked: self.asked()?,
        };
        let schedule = spec.schedule().map_err(|error| Problem::field(error.field, error.what))?;
        if schedule.counts_from_end() && spec.overlap != Overlap::Skip {
            let why = "is not for `from = \"last-end\"`: the next one is counted from the end";
            return Err(Problem::field("overlap", why));
        }
        let begin = spec.start.unwrap_or(Timestamp::UNIX_EPOCH);
        if !spec.blackout.is_empty() && schedule.coming(just_before(begin)).is_none() {
            return Err(Problem::field("blackout", "leaves no instant: this would never fire"));
        }
        Ok(spec)
    }

    /// Itself, without who asks and why.
    fn asked(&self) -> Result<Json, Problem> {
        let asked = Self { name: None, by: None, why: None, ..self.clone() };
        Json::of(&asked).map_err(|error| Problem::field("job", error.to_string()))
    }

    /// When, without a job.
    pub fn timing(&self) -> Result<Timing, Problem> {
        let timing = match (&self.cron, &self.every, &self.at) {
            (Some(cron), None, None) => {
                Timing::Cron { cron: cron.clone(), zone: self.zone.clone().unwrap_or_else(|| "UTC".to_owned()) }
            }
            (None, Some(every), None) => {
                let ms = millis(duration("every", every)?);
                if self.from == Some(CountsFrom::LastEnd) { Timing::AfterEnd { ms } } else { Timing::Every { ms } }
            }
            (None, None, Some(at)) => Timing::At { instant: moment("at", Some(at))?.unwrap_or(Timestamp::UNIX_EPOCH) },
            (None, None, None) => {
                return Err(Problem::field("cron", "is missing, and so are `every` and `at`; say when it fires"));
            }
            _ => {
                let field = if self.cron.is_some() { "cron" } else { "every" };
                return Err(Problem::field(field, "stands beside another of `cron`, `every` and `at`; keep one"));
            }
        };
        if self.zone.is_some() && self.cron.is_none() && self.blackout.is_empty() {
            let why = "is for `cron` and `blackout` alone; `every` counts from 1970, `at` names its own";
            return Err(Problem::field("zone", why));
        }
        if self.from.is_some() && self.every.is_none() {
            return Err(Problem::field("from", "is for `every` alone"));
        }
        Ok(timing)
    }
}

/// Refuses args that no consumer of this version would take, as far as they are known before an instant.
pub fn check_args(spec: &Spec) -> Result<(), Problem> {
    static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| Schemas::new(Arc::default(), Arc::default()));
    if trigger::has_words(&spec.job.args) {
        return Ok(());
    }
    BUILTIN.check_told(&spec.job).map_err(|problem| problem.within("job"))
}

/// The job that is fired, and for how long it is valid after its instant.
fn job_of(json: &Json, items: bool) -> Result<(Job, Option<u64>), Problem> {
    let (mut jobs, list) = new_job::read(json.bytes())?;
    let new = jobs.pop().filter(|_| !list).ok_or_else(|| Problem::field("kind", "is missing: expected one job"))?;
    let said = [new.id.is_some(), new.delay.is_some(), new.unique.is_some(), new.run.is_some(), new.member.is_some()];
    if let Some((field, why)) = NOT_ITS_OWN.into_iter().zip(said).find(|(_, said)| *said).map(|(field, _)| field) {
        return Err(Problem::field(field, format!("is not for a job that is fired: {why}")));
    }
    let lasting = new.expires.as_deref().and_then(config::duration);
    let mut job = new.check(Timestamp::UNIX_EPOCH)?.not_kept()?.job;
    (job.id, job.created) = (Uuid::nil(), Timestamp::UNIX_EPOCH);
    if lasting.is_some() {
        job.expires_at = None;
    }
    trigger::check_args(&job.args, items).map_err(|why| Problem::field("args", why))?;
    Ok((job, lasting.map(millis)))
}

fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_micros(1)).unwrap_or(at)
}

/// In milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A duration, or what is wrong with its text.
pub fn duration(field: &str, text: &str) -> Result<Duration, Problem> {
    config::duration(text).ok_or_else(|| {
        Problem::field(
            field,
            format!("`{}` is no duration; its units are ms, s, m, h and d: \"30s\", \"1h30m\", \"8d\"", clip(text)),
        )
    })
}

/// A moment, with its offset.
pub fn moment(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || {
        let expected = "expected a moment with its offset, such as 2030-01-31T12:00:00Z";
        Problem::field(field, format!("`{}`: {expected}", clip(text)))
    };
    text.trim().parse().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Spec, (String, String)> {
        let new: NewTrigger = serde_json::from_str(text).unwrap();
        new.check().map_err(|problem| (problem.field.unwrap_or_default(), problem.detail))
    }

    #[test]
    fn every_wrong_field_of_a_trigger_is_named() {
        let table = [
            (r#"{"cron":"@daily"}"#, "job"),
            (r#"{"job":{"kind":"noop"}}"#, "cron"),
            (r#"{"cron":"@daily","every":"5m","job":{"kind":"noop"}}"#, "cron"),
            (r#"{"every":"5m","at":"2030-01-01T00:00:00Z","job":{"kind":"noop"}}"#, "every"),
            (r#"{"every":"5m","zone":"UTC","job":{"kind":"noop"}}"#, "zone"),
            (r#"{"cron":"@daily","from":"last-end","job":{"kind":"noop"}}"#, "from"),
            (r#"{"every":"5m","from":"last-end","overlap":"queue","job":{"kind":"noop"}}"#, "overlap"),
            (r#"{"every":"5m","blackout":["22:00-6:00"],"job":{"kind":"noop"}}"#, "blackout"),
            (r#"{"cron":"0 3 * * *","blackout":["22:00-06:00"],"job":{"kind":"noop"}}"#, "blackout"),
            (r#"{"every":"5m","blackout":["22:00-06:00"],"zone":"Nowhere","job":{"kind":"noop"}}"#, "zone"),
            (r#"{"cron":"61 * * * *","job":{"kind":"noop"}}"#, "cron"),
            (r#"{"cron":"@daily","zone":"Nowhere","job":{"kind":"noop"}}"#, "zone"),
            (r#"{"every":"5","job":{"kind":"noop"}}"#, "every"),
            (r#"{"every":"10ms","job":{"kind":"noop"}}"#, "every"),
            (r#"{"at":"2030-01-01 00:00","job":{"kind":"noop"}}"#, "at"),
            (r#"{"every":"5m","start":"soon","job":{"kind":"noop"}}"#, "start"),
            (r#"{"every":"5m","jitter":"5m","job":{"kind":"noop"}}"#, "jitter"),
            (r#"{"every":"5m","max_runs":0,"job":{"kind":"noop"}}"#, "max_runs"),
            (r#"{"every":"5m","job":{"kind":"a b"}}"#, "job.kind"),
            (r#"{"every":"5m","job":{"kind":"noop","delay":"5m"}}"#, "job.delay"),
            (r#"{"every":"5m","job":{"kind":"noop","unique":{"key":"a"}}}"#, "job.unique"),
            (r#"{"every":"5m","job":{"kind":"noop","args":{"$trigger":"x"}}}"#, "job.args"),
            (r#"{"every":"5m","job":{"kind":"noop","args":{"$item":"x"}}}"#, "job.args"),
            (r#"{"every":"5m","each":[1],"job":{"kind":"noop","args":{"$item":""}}}"#, "job.args"),
            (r#"{"every":"5m","each":{},"job":{"kind":"noop"}}"#, "each"),
            (r#"{"every":"5m","each":{"sql":"SELECT 1","command":["a"]},"job":{"kind":"noop"}}"#, "each"),
            (r#"{"every":"5m","each":{"command":["a"],"limit":10001},"job":{"kind":"noop"}}"#, "each"),
            (r#"{"every":"5m","each":{"command":["a"],"timeout":"2h"},"job":{"kind":"noop"}}"#, "each"),
            (r#"{"every":"5m","each":{"sql":"SELECT 1","database":"db"},"job":{"kind":"noop"}}"#, "each"),
            (r#"{"every":"5m","each":{"sql":"SELECT 1","row":1},"job":{"kind":"noop"}}"#, "each"),
            (r#"{"every":"5m","each":{"command":["a"],"queue":"a b"},"job":{"kind":"noop"}}"#, "each.queue"),
            (r#"{"every":"5m","job":{"knid":"noop"}}"#, "job.knid"),
        ];
        for (text, field) in table {
            assert_eq!(check(text).map(drop).map_err(|(field, _)| field), Err(field.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let spec = check(r#"{"cron":"0 3 * * *","job":{"kind":"noop","expires":"5m","queue":"q"}}"#).unwrap();
        assert_eq!((spec.misfire, spec.overlap, spec.zone()), (Misfire::Once, Overlap::Skip, "UTC"));
        assert_eq!((spec.expires_ms, spec.job.expires_at, spec.job.queue.as_str()), (Some(300_000), None, "q"));
    }
}
