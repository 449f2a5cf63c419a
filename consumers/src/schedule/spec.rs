//! A trigger as it is stored: when, what, and the policies; and its schedule, ready to be asked.
//!
//! Owns the rules between these fields. Refuses to know names and tables.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::{Job, Json};
use uuid::Uuid;

use super::{Blackout, Cron};

/// No interval is shorter.
const SHORTEST: Duration = Duration::from_secs(1);
/// So many blackouts in a row are looked through for an instant that fires.
const LOOKED_THROUGH: usize = 1000;
/// Instants of one blackout are counted up to this.
const COUNTED: usize = 10_000;

/// What is done about instants that nobody fired in their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// Nothing.
    Skip,
    /// The last of them fires.
    #[default]
    Once,
    /// Each of them fires, the last hundred at most.
    All,
}

/// What is done at an instant when the job of an earlier one has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Both run.
    Allow,
    /// The instant is skipped.
    #[default]
    Skip,
    /// One waits for the end, further ones are skipped.
    Queue,
}

/// When, as it was written: one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// A cron expression in a time zone of the IANA's list.
    Cron {
        /// The expression.
        cron: String,
        /// The zone.
        zone: String,
    },
    /// An interval in milliseconds, counted from 1970.
    Every {
        /// Its length.
        ms: u64,
    },
    /// An interval in milliseconds, counted from the end of the job before.
    AfterEnd {
        /// Its length.
        ms: u64,
    },
    /// One moment.
    At {
        /// It.
        instant: Timestamp,
    },
}

/// A trigger as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// When.
    pub timing: Timing,
    /// Nothing before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// And nothing after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// Nothing in these windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blackout: Vec<String>,
    /// Their time zone, where the timing has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Each instant is put off by up to so many milliseconds.
    #[serde(default)]
    pub jitter_ms: u64,
    /// It ends after so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// What was missed.
    #[serde(default)]
    pub misfire: Misfire,
    /// What still runs.
    #[serde(default)]
    pub overlap: Overlap,
    /// It begins paused.
    #[serde(default)]
    pub paused: bool,
    /// What it fires: without an id, created at the epoch.
    pub job: Job,
    /// A job for each of these, in a run of the instant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<Json>,
    /// Or for each item that a job asks for, by what the configuration file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// The job expires so long after its instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// The whole as it was asked for, for people.
    pub asked: Json,
}

/// The job that asks for the items of an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// Its queue.
    pub queue: String,
    /// For how long it may ask, in milliseconds.
    pub timeout_ms: u64,
}

/// What is wrong with a trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {what}")]
pub struct SpecError {
    /// The field to mend.
    pub field: &'static str,
    /// For people.
    pub what: String,
}

/// When a trigger fires, ready to be asked.
#[derive(Clone, Debug)]
pub struct Schedule {
    when: When,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    jitter: Duration,
    blackout: Vec<Blackout>,
    zone: TimeZone,
}

#[derive(Clone, Debug)]
enum When {
    Cron(Box<Cron>, TimeZone),
    Every(i64),
    AfterEnd(i64),
    At(Timestamp),
}

fn wrong(field: &'static str, what: impl Into<String>) -> SpecError {
    SpecError { field, what: what.into() }
}

impl Timing {
    fn when(&self) -> Result<When, SpecError> {
        match self {
            Self::Cron { cron, zone } => {
                let cron = cron.parse::<Cron>().map_err(|error| wrong("cron", error.to_string()))?;
                Ok(When::Cron(Box::new(cron), zone_of(zone)?))
            }
            Self::Every { ms } => Ok(When::Every(micros(*ms)?)),
            Self::AfterEnd { ms } => Ok(When::AfterEnd(micros(*ms)?)),
            // As exact as what is stored.
            Self::At { instant } => {
                Ok(When::At(Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(*instant)))
            }
        }
    }
}

fn zone_of(name: &str) -> Result<TimeZone, SpecError> {
    let why = || format!("`{name}` is no time zone here; write a name such as `Europe/Berlin` or `UTC`");
    TimeZone::get(name).map_err(|_| wrong("zone", why()))
}

/// An interval that is long enough; ten thousand years are enough, too.
fn micros(ms: u64) -> Result<i64, SpecError> {
    if Duration::from_millis(ms) < SHORTEST {
        return Err(wrong("every", "is shorter than 1s"));
    }
    Ok(i64::try_from(ms).unwrap_or(i64::MAX).min(315_576_000_000_000) * 1000)
}

impl Spec {
    /// A trigger without policies of its own.
    pub fn new(timing: Timing, job: Job) -> Self {
        Self {
            timing,
            start: None,
            end: None,
            blackout: Vec::new(),
            zone: None,
            jitter_ms: 0,
            max_runs: None,
            misfire: Misfire::default(),
            overlap: Overlap::default(),
            paused: false,
            job,
            each: Vec::new(),
            asks: None,
            expires_ms: None,
            asked: Json::null(),
        }
    }

    /// The zone people think in.
    pub fn zone(&self) -> &str {
        match &self.timing {
            Timing::Cron { zone, .. } => zone,
            _ => self.zone.as_deref().unwrap_or("UTC"),
        }
    }

    /// Its schedule, once every rule holds.
    pub fn schedule(&self) -> Result<Schedule, SpecError> {
        let when = self.timing.when()?;
        if let (Some(start), Some(end)) = (self.start, self.end)
            && end <= start
        {
            return Err(wrong("end", format!("{end} is not after `start` {start}")));
        }
        if self.max_runs == Some(0) {
            return Err(wrong("max_runs", "is 0: it would never fire; pause it instead"));
        }
        let jitter = Duration::from_millis(self.jitter_ms);
        if let Timing::Every { ms } | Timing::AfterEnd { ms } = self.timing
            && self.jitter_ms >= ms
        {
            return Err(wrong("jitter", "is not shorter than `every`"));
        }
        let mut blackout = Vec::with_capacity(self.blackout.len());
        for (place, text) in self.blackout.iter().enumerate() {
            let window = Blackout::read(text);
            let why = |error| wrong("blackout", format!("window {}, `{text}`: {error}", place + 1));
            blackout.push(window.map_err(why)?);
        }
        Ok(Schedule { when, start: self.start, end: self.end, jitter, blackout, zone: zone_of(self.zone())? })
    }

    /// Do both fire at the same instants?
    pub fn same_times(&self, other: &Self) -> bool {
        let times = |spec: &Self| (spec.timing.clone(), spec.start, spec.end, spec.jitter_ms, spec.max_runs);
        times(self) == times(other) && (&self.blackout, &self.zone) == (&other.blackout, &other.zone)
    }
}

impl Schedule {
    /// The first instant after another, also one in a blackout.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        // An instant that is the start itself counts.
        let after = self.start.map_or(after, |start| after.max(just_before(start)));
        let next = match &self.when {
            When::Cron(cron, zone) => cron.next(after, zone),
            When::Every(every) => {
                let next = (after.as_microsecond().div_euclid(*every) + 1).checked_mul(*every)?;
                Timestamp::from_microsecond(next).ok()
            }
            When::AfterEnd(every) => after.checked_add(SignedDuration::from_micros(*every)).ok(),
            When::At(at) => (*at > after).then_some(*at),
        }?;
        self.end.is_none_or(|end| next <= end).then_some(next)
    }

    /// The blackout that an instant lies in, and when that ends.
    pub fn blackout(&self, instant: Timestamp) -> Option<(&str, Timestamp)> {
        if self.blackout.is_empty() {
            return None;
        }
        let local = self.zone.to_datetime(instant);
        let (window, end) = self.blackout.iter().find_map(|window| Some((window, window.end(local)?)))?;
        let end = self.zone.to_ambiguous_timestamp(end).compatible().ok()?;
        // In an hour that comes twice the clock shows an end that is past.
        Some((window.text(), end.max(instant.checked_add(SignedDuration::from_micros(1)).ok()?)))
    }

    /// How many instants there are from one on and before `until`, and the last of them.
    pub fn count(&self, first: Timestamp, until: Timestamp) -> (usize, Timestamp) {
        let (mut count, mut last) = (1, first);
        while let Some(next) = self.next(last).filter(|next| *next < until) {
            if count == COUNTED {
                return (count, just_before(until));
            }
            (count, last) = (count + 1, next);
        }
        (count, last)
    }

    /// The first instant after another that is in no blackout; none when there is none for long.
    pub fn coming(&self, after: Timestamp) -> Option<Timestamp> {
        let mut at = self.next(after)?;
        for _ in 0..LOOKED_THROUGH {
            let Some((_, until)) = self.blackout(at) else { return Some(at) };
            at = match self.when {
                When::AfterEnd(_) => self.next(self.count(at, until).1)?,
                _ => self.next(just_before(until))?,
            };
        }
        None
    }

    /// This instant, or the first one after it that is in no blackout.
    pub fn first_from(&self, planned: Timestamp) -> Option<Timestamp> {
        match self.blackout(planned) {
            Some((_, until)) => self.coming(self.count(planned, until).1),
            None => Some(planned),
        }
    }

    /// Is the interval counted from the end of the job before? Then one instant is known at most.
    pub const fn counts_from_end(&self) -> bool {
        matches!(self.when, When::AfterEnd(_))
    }

    /// Nothing comes after this.
    pub const fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// When an instant is fired: it, put off by its share of the jitter, which is the same for whoever asks.
    pub fn fire_at(&self, schedule: Uuid, instant: Timestamp) -> Timestamp {
        let micros = u64::try_from(self.jitter.as_micros()).unwrap_or(0);
        if micros == 0 {
            return instant;
        }
        let drawn = Uuid::new_v5(&tick_id(schedule, instant), b"jitter").as_u64_pair().1 % (micros + 1);
        let off = SignedDuration::from_micros(i64::try_from(drawn).unwrap_or(0));
        instant.checked_add(off).unwrap_or(instant)
    }
}

fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_micros(1)).unwrap_or(at)
}

/// The id of the job that follows another, where the interval is counted from that one's end.
pub fn following_id(schedule: Uuid, previous: Uuid) -> Uuid {
    Uuid::new_v5(&schedule, previous.as_bytes())
}

/// The id of the job of an instant: the same for whoever fires it.
pub fn tick_id(schedule: Uuid, instant: Timestamp) -> Uuid {
    Uuid::new_v5(&schedule, instant.to_string().as_bytes())
}
