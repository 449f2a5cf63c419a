//! The table of notices: what ended badly and somebody wants to hear of.
//!
//! Owns its rows. They are written in the transaction that records the ends they tell of, so that none is lost;
//! what is alike within a window of time is one row, which counts. Refuses to send.

mod list;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use spinor_executors::{KindPattern, State};
use tokio::sync::futures::Notified;
use uuid::Uuid;

pub use list::{NoticeFilter, NoticeRow, Outcome};

use super::{
    DeadLetter, Results, ResultsError,
    change::clip,
    database::{Sql, Value},
    figures::Key,
    fingerprint::fingerprint,
    read::{foreign, time},
};
use crate::{entry::Entry, message::Message};

/// Sent ones are listed for so long, in microseconds.
const KEPT: i64 = 30 * 86_400_000_000;
/// So many are read at once.
const SOME: u32 = 50;

/// What somebody wants to hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Whose notices they are.
    pub name: String,
    /// How a job ended.
    pub states: Vec<State>,
    /// Of these kinds; of all when empty.
    pub kinds: Vec<KindPattern>,
    /// From these queues; from all when empty.
    pub queues: Vec<String>,
    /// Run by consumers of these groups; of all when empty. Dead letters name no group.
    pub groups: Vec<String>,
    /// What is alike is told once in each such time.
    pub window: Duration,
}

/// Ends that are alike, to be told once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// Whose notice it is.
    pub name: String,
    /// How the jobs ended.
    pub state: State,
    /// What groups them.
    pub fingerprint: String,
    /// When the window began.
    pub since: Timestamp,
    /// The kind.
    pub kind: String,
    /// The queue of the first one.
    pub queue: String,
    /// The first one.
    pub job: Uuid,
    /// When it ended.
    pub at: Timestamp,
    /// What it said.
    pub error: String,
    /// How many there are by now.
    pub times: u64,
    /// How often it could not be sent.
    #[serde(skip)]
    pub tries: u32,
}

/// What ended, as far as a notice tells it.
#[derive(Clone, Copy)]
struct End<'a> {
    state: State,
    kind: &'a str,
    queue: &'a str,
    group: &'a str,
    job: Uuid,
    at: Timestamp,
    error: &'a str,
}

/// The rows for these ends that are not yet `known`, in the order of their key.
pub fn of_entries(wanted: &[Wanted], entries: &[Entry], known: &HashSet<Key>) -> Vec<Vec<Value>> {
    let mut seen = HashSet::new();
    let ends = entries.iter().filter_map(|entry| {
        let Entry::Report(report) = entry else { return None };
        let key = (report.job, report.replay, report.attempt, report.execution);
        // A dead one is told by its letter.
        let told = report.state.is_final() && report.state != State::Dead && !known.contains(&key) && seen.insert(key);
        told.then(|| End {
            state: report.state,
            kind: &report.kind,
            queue: &report.queue,
            group: &report.origin.group,
            job: report.job,
            at: report.ended,
            error: report.failure.as_ref().map_or("", |failure| &failure.message),
        })
    });
    rows(wanted, ends)
}

/// The same for dead letters.
pub fn of_letters(wanted: &[Wanted], letters: &[(Message, DeadLetter)], known: &HashSet<Key>) -> Vec<Vec<Value>> {
    let mut seen = HashSet::new();
    let ends = letters.iter().filter_map(|(_, letter)| {
        let key = (letter.job, letter.replay, letter.attempt, Uuid::nil());
        (!known.contains(&key) && seen.insert(key)).then(|| End {
            state: State::Dead,
            kind: &letter.kind,
            queue: &letter.queue,
            group: "",
            job: letter.job,
            at: letter.at,
            error: &letter.reason,
        })
    });
    rows(wanted, ends)
}

fn rows<'a>(wanted: &[Wanted], ends: impl Iterator<Item = End<'a>>) -> Vec<Vec<Value>> {
    let mut rows: BTreeMap<(&str, &str, String, i64), (End<'a>, i64)> = BTreeMap::new();
    if wanted.is_empty() {
        return Vec::new();
    }
    for end in ends {
        for of in wanted.iter().filter(|of| of.takes(&end)) {
            let window = i64::try_from(of.window.as_secs()).unwrap_or(i64::MAX).max(1);
            let since = end.at.as_second().div_euclid(window) * window;
            let key = (of.name.as_str(), end.state.word(), fingerprint(end.kind, end.error), since);
            rows.entry(key).or_insert((end, 0)).1 += 1;
        }
    }
    let row = |((name, state, fingerprint, since), (end, times)): ((&str, &str, String, i64), (End<'_>, i64))| {
        vec![
            Value::Text(name.to_owned()),
            Value::Text(state.to_owned()),
            Value::Text(fingerprint),
            Value::Int(since),
            Value::Text(clip(end.kind, 255)),
            Value::Text(clip(end.queue, 255)),
            Value::Id(end.job),
            Value::Int(end.at.as_microsecond()),
            Value::Text(clip(end.error.lines().next().unwrap_or_default(), 500)),
            Value::Int(times),
        ]
    };
    rows.into_iter().map(row).collect()
}

impl Wanted {
    fn takes(&self, end: &End<'_>) -> bool {
        let any = |names: &[String], name: &str| names.is_empty() || names.iter().any(|of| of == name);
        self.states.contains(&end.state)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.matches(end.kind)))
            && any(&self.queues, end.queue)
            && any(&self.groups, end.group)
    }
}

impl Results {
    /// From now on what this process records is held against these; the first word counts.
    pub fn want_notices(&self, wanted: Vec<Wanted>) {
        let _ = self.0.wanted.set(wanted);
    }

    /// Ends when this process has recorded something to be told.
    pub fn noticed(&self) -> Notified<'_> {
        self.0.noticed.notified()
    }

    /// Notices that wait and are due, the longest due first.
    pub async fn due_notices(&self, name: &str) -> Result<Vec<Notice>, ResultsError> {
        let sql = format!(
            "SELECT state, fingerprint, since, kind, queue, job, at, error, times, tries FROM notices \
             WHERE name = ? AND stage = 0 AND due <= ? ORDER BY due LIMIT {SOME}"
        );
        let values = vec![Value::Text(name.to_owned()), Value::Int(Timestamp::now().as_microsecond())];
        let mut found = Vec::new();
        for row in self.0.database.ask(sql, values).await? {
            found.push(Notice {
                name: name.to_owned(),
                state: state(row.text(0)?)?,
                fingerprint: row.text(1)?,
                since: time(row.int(2)?.saturating_mul(1_000_000))?,
                kind: row.text(3)?,
                queue: row.text(4)?,
                job: row.id(5)?,
                at: time(row.int(6)?)?,
                error: row.text(7)?,
                times: row.int(8)?.unsigned_abs(),
                tries: u32::try_from(row.int(9)?).unwrap_or(u32::MAX),
            });
        }
        Ok(found)
    }

    /// It was sent; those that were sent long ago go.
    pub async fn notice_sent(&self, notice: &Notice) -> Result<(), ResultsError> {
        self.set_notice(notice, 1, 0, None).await?;
        let old: Sql = "DELETE FROM notices WHERE name = ? AND stage > 0 AND due < ?".into();
        let mut writing = self.0.database.begin().await?;
        let before = Timestamp::now().as_microsecond() - KEPT;
        writing.run(&old, vec![Value::Text(notice.name.clone()), Value::Int(before)]).await?;
        writing.commit().await
    }

    /// It could not be sent: it is tried again after a while, or never when there is none.
    pub async fn notice_failed(&self, notice: &Notice, again: Option<Duration>, why: &str) -> Result<(), ResultsError> {
        let stage = if again.is_some() { 0 } else { 2 };
        let wait = again.map_or(0, |wait| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
        self.set_notice(notice, stage, wait, Some(clip(why, 500))).await
    }

    async fn set_notice(
        &self,
        notice: &Notice,
        stage: i64,
        wait: i64,
        problem: Option<String>,
    ) -> Result<(), ResultsError> {
        let set: Sql = "UPDATE notices SET stage = ?, tries = tries + 1, due = ?, problem = ? \
                        WHERE name = ? AND state = ? AND fingerprint = ? AND since = ?"
            .into();
        let values = vec![
            Value::Int(stage),
            Value::Int(Timestamp::now().as_microsecond().saturating_add(wait)),
            Value::MaybeText(problem),
            Value::Text(notice.name.clone()),
            Value::Text(notice.state.word().to_owned()),
            Value::Text(notice.fingerprint.clone()),
            Value::Int(notice.since.as_second()),
        ];
        let mut writing = self.0.database.begin().await?;
        writing.run(&set, values).await?;
        writing.commit().await
    }
}

fn state(word: String) -> Result<State, ResultsError> {
    let problem = format!("the state {word}");
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| foreign(&problem))
}
