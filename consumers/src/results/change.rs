//! What an entry means for the row of its job, and the rule by which rows move.
//!
//! Pure. The same rule is written once more as SQL in `statements`; a test holds the two together.
//! Entries of one job in one batch are merged here first, so that a statement has one row a job.

use std::collections::HashMap;

use jiff::Timestamp;
use spinor_executors::{Cause, Job, Report, State};
use uuid::Uuid;

use super::{DeadLetter, database::Value, fingerprint::fingerprint};
use crate::message::{self, Message};

/// The longest text kept in a column by which people filter; the JSON beside it has the whole.
const NAME: usize = 255;
const LINE: usize = 500;
/// And of the version of a program.
pub const VERSION: usize = 100;

/// (replay, attempt, rank) as one number, in the order of the record; also the version of the
/// job's document in the search index. Positive.
pub fn place(replay: u32, attempt: u32, state: State) -> i64 {
    let replay = i64::from(replay.min((1 << 28) - 1));
    (replay << 34) | (i64::from(attempt) << 2) | i64::from(state.rank())
}

/// Where a job stands by one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand {
    /// What it is.
    pub state: State,
    /// The replay.
    pub replay: u32,
    /// The attempt.
    pub attempt: u32,
    /// The last execution's start.
    pub started: Option<i64>,
    /// Its end.
    pub ended: Option<i64>,
    /// When it runs again.
    pub retry_at: Option<i64>,
    /// The error's first line.
    pub error: Option<String>,
    /// The error's class.
    pub cause: Option<&'static str>,
    /// The run.
    pub run: Option<Uuid>,
    /// The name within the run.
    pub member: Option<String>,
    /// Who ran it.
    pub consumer: Option<String>,
    /// On which machine.
    pub host: Option<String>,
    /// Which execution said so.
    pub execution: Option<Uuid>,
    /// What groups it with others that ended badly like it.
    pub fingerprint: Option<String>,
    /// The version of the program that said so.
    pub version: Option<String>,
}

impl Stand {
    fn place(&self) -> i64 {
        place(self.replay, self.attempt, self.state)
    }
}

/// A change of one job's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The job.
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// When it was created; the first word stands.
    pub created: i64,
    /// Where it stands.
    pub stand: Stand,
    /// The job as published, and of which replay.
    pub whole: Option<(String, u32)>,
}

impl Change {
    /// By a `queued` report.
    pub fn queued(job: &Job) -> Self {
        Self {
            id: job.id,
            kind: clip(&job.kind, NAME),
            queue: clip(&job.queue, NAME),
            created: job.created.as_microsecond(),
            stand: Stand {
                state: State::Queued,
                replay: job.replay,
                attempt: job.attempt,
                started: None,
                ended: None,
                retry_at: job.due.map(Timestamp::as_microsecond),
                error: None,
                cause: None,
                run: job.run,
                member: job.member.as_deref().map(|member| clip(member, NAME)),
                consumer: None,
                host: None,
                execution: None,
                fingerprint: None,
                version: None,
            },
            whole: Some(whole(job)),
        }
    }

    /// By the report of an execution.
    pub fn reported(report: &Report) -> Self {
        let failure = report.failure.as_ref();
        let error = failure.map_or("", |failure| &failure.message);
        let bad = report.state.is_final() && report.state != State::Succeeded;
        Self {
            id: report.job,
            kind: clip(&report.kind, NAME),
            queue: clip(&report.queue, NAME),
            created: report.created.as_microsecond(),
            stand: Stand {
                state: report.state,
                replay: report.replay,
                attempt: report.attempt,
                started: Some(report.started.as_microsecond()),
                ended: (report.state.rank() > 1).then(|| report.ended.as_microsecond()),
                retry_at: report.retry_at.map(Timestamp::as_microsecond),
                error: failure.map(|failure| clip(failure.message.lines().next().unwrap_or_default(), LINE)),
                cause: failure.map(|failure| cause(failure.cause)),
                run: report.run,
                member: report.member.as_deref().map(|member| clip(member, NAME)),
                consumer: Some(clip(&report.origin.consumer, NAME)),
                host: Some(clip(&report.origin.host, NAME)),
                execution: Some(report.execution),
                fingerprint: bad.then(|| fingerprint(&report.kind, error)),
                version: report.version.as_deref().map(|version| clip(version, VERSION)),
            },
            whole: report.whole.as_deref().map(whole),
        }
    }

    /// By a dead letter whose message is a job; `None` for rubbish and for lines of packs, which
    /// are no jobs and get no row.
    pub fn buried(message: &Message, letter: &DeadLetter) -> Option<Self> {
        let mut job = message::decode(message, &letter.queue, None, letter.at).ok()?.job;
        job.id = letter.job;
        job.replay = letter.replay;
        job.attempt = letter.attempt;
        let mut change = Self::queued(&job);
        change.stand.state = State::Dead;
        change.stand.ended = Some(letter.at.as_microsecond());
        change.stand.error = Some(clip(letter.reason.lines().next().unwrap_or_default(), LINE));
        change.stand.cause = Some(cause(Cause::Error));
        change.stand.consumer = (!letter.consumer.is_empty()).then(|| clip(&letter.consumer, NAME));
        change.stand.execution = Some(Uuid::nil());
        change.stand.fingerprint = Some(fingerprint(&job.kind, &letter.reason));
        change.stand.version = (!letter.version.is_empty()).then(|| clip(&letter.version, VERSION));
        Some(change)
    }

    /// Takes a later word over, by the rule: only forward, a final state is left only by a replay,
    /// and the whole job fills in whenever it comes.
    pub fn then(&mut self, next: Self) {
        let forward = next.stand.place() > self.stand.place()
            && (!self.stand.state.is_final() || next.stand.replay > self.stand.replay);
        if let Some((text, replay)) = next.whole
            && self.whole.as_ref().is_none_or(|(_, of)| replay > *of)
        {
            self.whole = Some((text, replay));
        }
        if forward || self.kind.is_empty() {
            self.kind = next.kind;
        }
        if forward || self.queue.is_empty() {
            self.queue = next.queue;
        }
        if forward {
            self.stand = next.stand;
        }
    }

    /// The row, in the order of [`super::statements::JOB_COLUMNS`].
    pub fn values(self, updated: i64) -> Vec<Value> {
        let place = self.stand.place();
        let stand = self.stand;
        let (job, job_replay) = match self.whole {
            Some((text, replay)) => (Some(text), i64::from(replay)),
            None => (None, -1),
        };
        vec![
            Value::Id(self.id),
            Value::Int(updated),
            Value::MaybeText(job),
            Value::Int(job_replay),
            Value::Text(self.kind),
            Value::Text(self.queue),
            Value::Text(stand.state.word().to_owned()),
            Value::Int(stand.replay.into()),
            Value::Int(stand.attempt.into()),
            Value::Int(self.created),
            Value::MaybeInt(stand.started),
            Value::MaybeInt(stand.ended),
            Value::MaybeInt(stand.retry_at),
            Value::MaybeText(stand.error),
            Value::MaybeText(stand.cause.map(str::to_owned)),
            Value::MaybeId(stand.run),
            Value::MaybeText(stand.member),
            Value::MaybeText(stand.consumer),
            Value::MaybeText(stand.host),
            Value::MaybeId(stand.execution),
            Value::MaybeText(stand.fingerprint),
            Value::MaybeText(stand.version),
            Value::Int(place),
        ]
    }
}

/// What an edit says of a job that has its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    id: Uuid,
    whole: (String, u32),
    due: Option<i64>,
}

impl Edit {
    /// By an `edited` entry.
    pub fn of(job: &Job) -> Self {
        Self { id: job.id, whole: whole(job), due: job.due.map(Timestamp::as_microsecond) }
    }

    /// For [`super::statements::Statements::edit`].
    pub fn values(self, updated: i64) -> Vec<Value> {
        let (text, replay) = self.whole;
        vec![
            Value::Text(text),
            Value::MaybeInt(self.due),
            Value::Int(updated),
            Value::Id(self.id),
            Value::Int(replay.into()),
        ]
    }
}

/// One change a job, sorted by key, so that two recorders take their locks in the same order.
pub fn merge(changes: impl Iterator<Item = Change>) -> Vec<Change> {
    let mut merged: Vec<Change> = Vec::with_capacity(changes.size_hint().0);
    let mut seen: HashMap<Uuid, usize> = HashMap::with_capacity(changes.size_hint().0);
    for change in changes {
        match seen.get(&change.id) {
            Some(&at) => merged[at].then(change),
            None => {
                seen.insert(change.id, merged.len());
                merged.push(change);
            }
        }
    }
    merged.sort_unstable_by_key(|change| change.id);
    merged
}

/// At most `limit` characters, so that no column refuses it.
pub fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

/// The word of a failure's class.
pub const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Error => "error",
        Cause::Args => "args",
        Cause::Exit => "exit",
        Cause::Signal => "signal",
        Cause::Timeout => "timeout",
        Cause::Memory => "memory",
        Cause::Panic => "panic",
        Cause::Crash => "crash",
        Cause::Interrupted => "interrupted",
        Cause::Cancelled => "cancelled",
    }
}

/// The job as it was published: at its first attempt, whichever copy it is taken from.
fn whole(job: &Job) -> (String, u32) {
    let text = if job.attempt == 1 {
        serde_json::to_string(job)
    } else {
        let mut first = job.clone();
        first.attempt = 1;
        serde_json::to_string(&first)
    };
    // Serialising our own types cannot fail.
    (text.unwrap_or_default(), job.replay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_by_replay_then_attempt_then_rank() {
        let ordered = [
            place(0, 1, State::Queued),
            place(0, 1, State::Retrying),
            place(0, 2, State::Queued),
            place(0, u32::MAX, State::Failed),
            place(1, 1, State::Queued),
            place(u32::MAX, 1, State::Dead),
        ];
        assert!(ordered.is_sorted() && ordered.iter().all(|place| *place > 0));
    }

    #[test]
    fn clipping_counts_characters_and_never_cuts_one() {
        assert_eq!(clip("aé😀b", 3), "aé😀");
        assert_eq!(clip("ab", 3), "ab");
    }
}
