//! Dead letters: messages that could not be handled, whole, each with its reason.
//!
//! Owns which of them are listed, read and removed. The recorder alone adds them; they are removed
//! when their job is replayed, or when a person says so.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Found, Page, ResultsError, Store,
    change::clip,
    database::{Column, Value},
    fingerprint::fingerprint,
    read::{Where, cursor, json, page, rows_asked, small, time},
};
use crate::message::Message;

const LETTER: &str = "job, replay, attempt, kind, queue, reason, at, consumer, fingerprint, version";
const LETTER_COLUMNS: usize = 10;
/// Letters are removed so many to a transaction.
const CHUNK: u32 = 500;

/// A message that could not be handled, with its reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The job; a fresh id when the message named none.
    pub job: Uuid,
    /// Its replay count.
    pub replay: u32,
    /// Its attempt; 0 for a line of a pack of reports, which is no job.
    pub attempt: u32,
    /// Its kind, as far as known.
    pub kind: String,
    /// The queue it came from.
    pub queue: String,
    /// Why it is dead.
    pub reason: String,
    /// When it died.
    pub at: Timestamp,
    /// Who buried it; empty when the broker or the recorder did.
    pub consumer: String,
    /// What groups it with others like it.
    pub fingerprint: String,
    /// The version of the program that buried it.
    pub version: String,
}

/// Which dead letters. Empty means all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadFilter {
    /// From this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this fingerprint.
    pub fingerprint: Option<String>,
    /// Whose reason starts with this text.
    pub reason: Option<String>,
    /// Dead at this time or later.
    pub since: Option<Timestamp>,
    /// Dead at this time or earlier.
    pub until: Option<Timestamp>,
    /// At most so many; 0 means 50, at most 1000. Removing and counting do not ask for it.
    pub limit: u32,
    /// Where a page before this one ended.
    pub cursor: Option<String>,
}

impl DeadFilter {
    fn test(&self) -> Result<Where, ResultsError> {
        let mut asked = Where::default();
        for (test, name) in
            [("queue = ?", &self.queue), ("kind = ?", &self.kind), ("fingerprint = ?", &self.fingerprint)]
        {
            if let Some(name) = name {
                asked.and(test, [Value::Text(clip(name, 255))]);
            }
        }
        if let Some(reason) = &self.reason {
            let length = i64::try_from(reason.chars().count()).unwrap_or(i64::MAX);
            asked.and("SUBSTR(reason, 1, ?) = ?", [Value::Int(length), Value::Text(reason.clone())]);
        }
        for (test, at) in [("at >= ?", self.since), ("at <= ?", self.until)] {
            if let Some(at) = at {
                asked.and(test, [Value::Int(at.as_microsecond())]);
            }
        }
        asked.before("at", "job", self.cursor.as_deref())?;
        Ok(asked)
    }
}

impl Store {
    pub(super) async fn dead(&self, filter: &DeadFilter) -> Result<Page<DeadLetter>, ResultsError> {
        let asked = filter.test()?;
        let limit = rows_asked(filter.limit);
        let sql = format!(
            "SELECT {LETTER} FROM dead{asked} ORDER BY at DESC, job DESC, replay DESC, attempt DESC LIMIT {}",
            limit + 1
        );
        let rows = self.database.ask(sql, asked.values).await?;
        page(&rows, limit, letter, |row| cursor(row.at, row.job))
    }

    pub(super) async fn letter(&self, job: Uuid) -> Result<Option<(Message, DeadLetter)>, ResultsError> {
        let sql = format!(
            "SELECT {LETTER}, properties, body FROM dead WHERE job = ? ORDER BY replay DESC, attempt DESC LIMIT 1"
        );
        let rows = self.database.ask(sql, vec![Value::Id(job)]).await?;
        let read = |row: &Column| {
            let properties = json(&row.text(LETTER_COLUMNS)?)?;
            let message = Message { properties, body: row.blob(LETTER_COLUMNS + 1)?.into() };
            Ok((message, letter(row)?))
        };
        rows.first().map(read).transpose()
    }

    /// Removes the letters of each job up to a replay; tells how many there were.
    pub(super) async fn unbury(&self, of: &[Found]) -> Result<u64, ResultsError> {
        let mut writing = self.database.begin().await?;
        let mut gone = 0;
        for (job, replay) in of {
            let values = vec![Value::Id(*job), Value::Int((*replay).into())];
            gone += writing.run(&self.statements.unbury, values).await?;
        }
        writing.commit().await?;
        Ok(gone)
    }

    /// How many letters match, counted no further than `cap`.
    pub(super) async fn dead_count(&self, filter: &DeadFilter, cap: u32) -> Result<u64, ResultsError> {
        let asked = filter.test()?;
        let sql = format!("SELECT COUNT(*) FROM (SELECT job FROM dead{asked} LIMIT {cap}) AS some");
        let rows = self.database.ask(sql, asked.values).await?;
        let count = rows.first().map_or(Ok(0), |row| row.int(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Removes some of the letters that match, the newest first; 0 = there are none any more.
    pub(super) async fn remove_dead(&self, filter: &DeadFilter) -> Result<u64, ResultsError> {
        let page = self.dead(&DeadFilter { limit: CHUNK, cursor: None, ..filter.clone() }).await?;
        if page.rows.is_empty() {
            return Ok(0);
        }
        let mut writing = self.database.begin().await?;
        let mut gone = 0;
        for row in &page.rows {
            let key = [Value::Id(row.job), Value::Int(row.replay.into()), Value::Int(row.attempt.into())];
            gone += writing.run(&self.statements.remove_dead, key.into()).await?;
        }
        writing.commit().await?;
        // Removed by somebody else meanwhile is removed, too.
        Ok(gone.max(1))
    }
}

fn letter(row: &Column) -> Result<DeadLetter, ResultsError> {
    let (kind, reason, known) = (row.text(3)?, row.text(5)?, row.text(8)?);
    // One that was buried before there were fingerprints.
    let fingerprint = if known.is_empty() { fingerprint(&kind, &reason) } else { known };
    Ok(DeadLetter {
        job: row.id(0)?,
        replay: small(row.int(1)?),
        attempt: small(row.int(2)?),
        kind,
        queue: row.text(4)?,
        reason,
        at: time(row.int(6)?)?,
        consumer: row.text(7)?,
        fingerprint,
        version: row.text(9)?,
    })
}
