//! Marks as rows. Whoever changes one holds the row of the counter until its commit, so that
//! versions become visible in their order and a reader that has seen one has seen all before it.

use super::{Step, Tables};
use crate::{
    database::{Column, Value},
    results::ResultsError,
    state::{Changes, Kind, Mark, StateError, mark::Body, time},
};

const VERSION: &str = "marks";
const FORGOTTEN: &str = "marks.forgotten";

impl Step<'_> {
    pub(super) async fn set_mark(&mut self, subject: &str, kind: Kind, body: &str) -> Result<u64, ResultsError> {
        let version = self.next_version().await?;
        self.set_counter(VERSION, version).await?;
        let row =
            vec![super::name(subject), super::name(kind.word()), Value::Int(version), Value::Text(body.to_owned())];
        self.writing.run(&self.texts.put_mark, row).await?;
        Ok(version.unsigned_abs())
    }

    pub(super) async fn clear_mark(&mut self, subject: &str, body: &str) -> Result<Option<u64>, ResultsError> {
        let version = self.next_version().await?;
        if self.writing.fetch(&self.texts.mark_is_set, vec![super::name(subject)]).await?.is_empty() {
            return Ok(None);
        }
        self.set_counter(VERSION, version).await?;
        let row = vec![Value::Int(version), Value::Text(body.to_owned()), super::name(subject)];
        self.writing.run(&self.texts.clear_mark, row).await?;
        Ok(Some(version.unsigned_abs()))
    }

    /// Locks the counter until the commit.
    async fn next_version(&mut self) -> Result<i64, ResultsError> {
        let rows = self.writing.fetch(&self.texts.lock_versions, vec![super::name(VERSION)]).await?;
        match rows.first() {
            Some(row) => Ok(row.int(0)? + 1),
            None => Err(ResultsError::Misconfigured("the counter of the marks is gone from state_counters".to_owned())),
        }
    }

    async fn set_counter(&mut self, counter: &str, value: i64) -> Result<(), ResultsError> {
        self.writing.run(&self.texts.set_counter, vec![Value::Int(value), super::name(counter)]).await.map(drop)
    }

    /// Forgets marks that were cleared long ago. The counter says up to which version: whoever asks
    /// with an older one is told everything.
    pub(super) async fn forget_marks(&mut self) -> Result<u64, ResultsError> {
        let rows = self.writing.fetch(&self.texts.forgettable_marks, Vec::new()).await?;
        let Some(last) = rows.last() else { return Ok(0) };
        let last = last.int(1)?;
        self.next_version().await?;
        let known = self.writing.fetch(&self.texts.lock_versions, vec![super::name(FORGOTTEN)]).await?;
        let known = known.first().map_or(Ok(0), |row| row.int(0))?;
        self.set_counter(FORGOTTEN, known.max(last)).await?;
        let mut gone = 0;
        for row in rows {
            let key = vec![Value::Blob(row.blob(0)?), Value::Int(row.int(1)?)];
            gone += self.writing.run(&self.texts.forget_mark, key).await?;
        }
        Ok(gone)
    }
}

const COLUMNS: &str = "body, cleared, at, version";

impl Tables {
    pub(super) async fn marks_since(&self, version: u64) -> Result<Changes, StateError> {
        let asked = i64::try_from(version).unwrap_or(i64::MAX);
        if asked > 0 {
            let sql = format!("SELECT {COLUMNS} FROM state_marks WHERE version > ? ORDER BY version");
            let rows = self.database.ask(sql, vec![Value::Int(asked)]).await?;
            // Asked after the rows: what was forgotten before they were read shows here.
            let (newest, forgotten) = self.counters().await?;
            if asked <= newest && asked >= forgotten {
                let seen = rows.last().map_or(Ok(asked), |row| row.int(3))?;
                return Ok(Changes { version: seen.unsigned_abs(), whole: false, marks: marks(&rows)? });
            }
        }
        // Asked before the rows, which then hold every change up to it.
        let (newest, _) = self.counters().await?;
        let sql = format!("SELECT {COLUMNS} FROM state_marks WHERE cleared = 0 ORDER BY version");
        let rows = self.database.ask(sql, Vec::new()).await?;
        Ok(Changes { version: newest.unsigned_abs(), whole: true, marks: marks(&rows)? })
    }

    pub(super) async fn marks(&self, kind: Kind) -> Result<Vec<Mark>, StateError> {
        let sql = format!("SELECT {COLUMNS} FROM state_marks WHERE kind = ? AND cleared = 0 ORDER BY version");
        let rows = self.database.ask(sql, vec![super::name(kind.word())]).await?;
        Ok(marks(&rows)?)
    }

    /// The newest version, and the newest that was forgotten.
    async fn counters(&self) -> Result<(i64, i64), ResultsError> {
        let sql = "SELECT name, value FROM state_counters".to_owned();
        let (mut newest, mut forgotten) = (0, 0);
        for row in self.database.ask(sql, Vec::new()).await? {
            match row.text(0)?.as_str() {
                VERSION => newest = row.int(1)?,
                FORGOTTEN => forgotten = row.int(1)?,
                _ => {}
            }
        }
        Ok((newest, forgotten))
    }
}

fn marks(rows: &[Column]) -> Result<Vec<Mark>, ResultsError> {
    let mut marks = Vec::with_capacity(rows.len());
    for row in rows {
        let (text, cleared, at, version) = (row.text(0)?, row.int(1)? != 0, row.int(2)?, row.int(3)?);
        marks.extend(Body::mark(&text, cleared, time(at), version.unsigned_abs()));
    }
    Ok(marks)
}
